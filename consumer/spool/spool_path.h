/* Where a consumer's spool lies: <state dir>/spool/<client id>, a client id being a directory's name with
 * every byte but letters, digits, `_`, `-` and `.` (not in front) as %XX. What would be longer than a
 * directory's name may be ends early, in `~` and a hash of the client id. */
#ifndef CONSUMER_SPOOL_SPOOL_PATH_H
#define CONSUMER_SPOOL_SPOOL_PATH_H

#include "common/base/error.h"
#include "common/base/settings.h"

char *spool_path(const struct settings *settings, const char *client_id); /* to be freed */
/* Makes what is above it. */
MUST_CHECK int spool_path_make(const struct settings *settings, struct error *err);

#endif
