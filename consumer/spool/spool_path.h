/* Where spools lie: <state dir>/spool/<client id>/<destination>. A client id or destination is a folder's name
 * with every byte but letters, digits, `_`, `-` and `.` (not in front) as %XX. What would be longer than a
 * folder's name may be ends early, in `~` and a hash of the text. A spool of an earlier version lies directly
 * in its client id's folder. */
#ifndef CONSUMER_SPOOL_SPOOL_PATH_H
#define CONSUMER_SPOOL_SPOOL_PATH_H

#include "common/settings/settings.h"

/* destination NULL: the client id's folder, for what belongs to the broker's session. To be freed. */
char *spool_path(const struct settings *settings, const char *client_id, const char *destination);

/* In the client id's folder: the name of the folder that receives, or received last. */
#define SPOOL_CURRENT "current"

/* Where the spool of the same client id lies, or lay, that received before the one in dir, which takes over from
 * it. NULL: there is none, or dir has received last. To be freed. */
char *spool_path_previous(const char *dir);
/* The one in dir has taken over. -1 and errno. */
MUST_CHECK int spool_path_set_current(const char *dir);

/* True if the folder has a segment, or the file of one to come. */
bool spool_path_holds_spool(const char *dir);

#endif
