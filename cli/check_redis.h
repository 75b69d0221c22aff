/* Checks that Redis allows the commands of the consumer, the workers and the monitor, or those for the stream of a
 * failure transport.
 *
 * Each command is tried in a form that changes nothing. On the stream and the delayed set it has an id, a member or a
 * group that can't exist. Other commands use one key of our own, `{<stream>}__check:<random>`, which is deleted again.
 * Redis applies its access rules before anything else, so the answer says whether the command is allowed. The commands
 * come from common/client/queue*.c and monitor/main.c. If all are allowed, check_redis looks for other consumer
 * groups. */
#ifndef CLI_CHECK_REDIS_H
#define CLI_CHECK_REDIS_H

#include "cli/check_server.h"
#include "common/settings/settings.h"
#include "common/wire/dsn.h"

void check_redis(const struct settings *settings, const struct settings_transport *transport,
                 const struct dsn_redis *dsn, struct check_server *server);

/* dsn: of the failure transport. */
void check_redis_failed(const struct dsn_redis *dsn, struct check_server *server);

#endif
