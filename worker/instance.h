/* Who this worker is: the instance id of the service, kept in the state directory so that a container
 * with a new host name is still the same one, and the lock that makes sure that nobody else works in
 * this slot. */
#ifndef WORKER_INSTANCE_H
#define WORKER_INSTANCE_H

#include "common/base/error.h"
#include "common/settings/settings.h"

/* [supervisor] instance, or the random id in <state_dir>/instance, made and synced at the first start, and
 * anew where the file holds none (a power cut). Free it. */
MUST_CHECK int instance_read(char **instance, const struct settings_supervisor *settings,
                             struct error *err);
/* Locks <state_dir>/locks/worker-<slot>.lock until the process ends. -ERR_LOCKED: another has it. */
MUST_CHECK int instance_lock(const struct settings_supervisor *settings, int slot,
                             struct error *err);

#endif
