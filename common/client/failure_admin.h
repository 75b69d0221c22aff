/* Questions about the failure transport from programs that may wait (the monitor, the command line).
 * Blocking. The connection is opened at the first question and kept for the next. One thread. */
#ifndef COMMON_CLIENT_FAILURE_ADMIN_H
#define COMMON_CLIENT_FAILURE_ADMIN_H

#include "common/base/error.h"
#include "common/base/settings.h"

#include <stdint.h>

struct failure_admin;

/* settings are kept, not copied. Connects to nothing yet. -ERR_USAGE. */
MUST_CHECK int failure_admin_new(struct failure_admin **admin,
                                 const struct settings_failure *settings, struct error *err);
void failure_admin_free(struct failure_admin *admin);

/* The rows of the settings' queue, 0 if there is no table yet. -ERR_UNREACHABLE (also: no answer within
 * timeout_ms), -ERR_REFUSED. What a host's name is looked up to serves the next call if it comes too late
 * for this one. */
MUST_CHECK int failure_admin_count(struct failure_admin *admin, int64_t timeout_ms, int64_t *count,
                                   struct error *err);

#endif
