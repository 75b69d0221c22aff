/* Consumer groups on a transport's Redis: another one on its stream, which loses what is acknowledged here; and other
 * streams that have one, for a DSN that lacks what messenger.yaml says (stream, group, dbindex). Looks only; what the
 * server does not tell is passed over. */
#ifndef CLI_CHECK_GROUPS_H
#define CLI_CHECK_GROUPS_H

#include "cli/check_server.h"
#include "common/client/redis.h"
#include "common/settings/settings.h"
#include "common/wire/dsn.h"

/* The last thing that is asked over the connection: another database may be selected behind it. */
void check_groups(struct redis *redis, const struct settings *settings, const struct dsn_redis *dsn,
                  struct check_server *server);

#endif
