/* The user that the bridge runs as. The supervisor gives up root before it opens anything: what follows, and all
 * children, have that user's rights alone.
 *
 * Root makes what the settings name and the user can't make: the folders of state, socket, pid file and log, and these
 * two files. What it has made it gives to the user, and nothing else: a folder that was there and is not the user's is
 * refused by whoever opens it. Root makes things only where nobody else could have put a link: see account.c. */
#ifndef SUPERVISOR_ACCOUNT_H
#define SUPERVISOR_ACCOUNT_H

#include "common/base/error.h"
#include "common/settings/settings.h"

/* Makes the folders, gives up root if [supervisor] user is set, and the right to gain any more by a program. HOME becomes
 * that user's. -ERR_USAGE: there is no such user, or we are not root and not that user. */
MUST_CHECK int account_become(const struct settings *settings, struct error *err);

/* -ERR_USAGE with the mend, if what is at path, which we may not use, belongs to another user; else 0. A version that
 * stayed root may have left it. */
MUST_CHECK int account_refuse_foreign(const char *key, const char *path, struct error *err);

#endif
