/* The identity of this worker: the instance id of the service, and a lock on the worker's slot. The id is kept in the
 * state directory, so that a container with a new host name keeps it. The lock keeps a second worker out of the
 * slot. */
#ifndef WORKER_INSTANCE_H
#define WORKER_INSTANCE_H

#include "common/base/error.h"
#include "common/settings/settings.h"

/* [supervisor] instance, or the random id in <state_dir>/instance. That file is made and synced at the first start, and
 * again if it is empty (a power cut). To be freed. */
MUST_CHECK int instance_read(char **instance, const struct settings_supervisor *settings,
                             struct error *err);
/* Locks <state_dir>/locks/worker-<slot>.lock until the process ends. -ERR_LOCKED: another has it. */
MUST_CHECK int instance_lock(const struct settings_supervisor *settings, int slot,
                             struct error *err);

#endif
