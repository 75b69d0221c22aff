/* Questions about the failure transport from programs that may wait (the monitor, the command line).
 * Blocking, a connection for each. */
#ifndef COMMON_CLIENT_FAILURE_ADMIN_H
#define COMMON_CLIENT_FAILURE_ADMIN_H

#include "common/base/error.h"
#include "common/base/settings.h"

#include <stdint.h>

/* The rows of the settings' queue, 0 if there is no table yet. -ERR_UNREACHABLE (also: no answer within
 * timeout_ms), -ERR_REFUSED, -ERR_USAGE. */
MUST_CHECK int failure_admin_count(const struct settings_failure *settings, int64_t timeout_ms,
                                   int64_t *count, struct error *err);

#endif
