/* Where spools lie: <state dir>/spool/<client id>/<destination>. A client id or destination is a folder's name
 * with every byte but letters, digits, `_`, `-` and `.` (not in front) as %XX. What would be longer than a
 * folder's name may be ends early, in `~` and a hash of the text. */
#ifndef CONSUMER_SPOOL_SPOOL_PATH_H
#define CONSUMER_SPOOL_SPOOL_PATH_H

#include "common/base/settings.h"

/* To be freed, both. */
char *spool_path(const struct settings *settings, const char *client_id, const char *destination);
/* The folder above: what belongs to the broker's session lies there. */
char *spool_client_path(const struct settings *settings, const char *client_id);

#endif
