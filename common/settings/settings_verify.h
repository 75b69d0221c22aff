/* Rules of settings that the clients ask for as well, which may be given settings that nobody has checked
 * (tests, a hub without workers). Their errors name section and key. Pure. */
#ifndef COMMON_SETTINGS_SETTINGS_VERIFY_H
#define COMMON_SETTINGS_SETTINGS_VERIFY_H

#include "common/settings/settings.h"

/* That there is a jwt_secret, long enough for jwt_algorithm. Good where a jwt is given, or the algorithm
 * has no secret. -ERR_USAGE. */
MUST_CHECK int settings_verify_secret(const struct settings_mercure *mercure, struct error *err);
/* The failure transport's dsn. Good where it is empty. overlooked: as of dsn_postgres_to_conninfo. */
MUST_CHECK int settings_verify_failure(const struct settings_failure *failure,
                                       struct buf *overlooked, struct error *err);

#endif
