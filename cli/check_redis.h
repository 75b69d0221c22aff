/* Does Redis let us do what the consumer, the workers and the monitor do there, or what is done with the stream of a
 * failure transport?
 *
 * Each of their commands is tried in a form that changes nothing: on the stream and the delayed set with an
 * id, a member or a group that can't exist, and on one key of our own, `{<stream>}__check:<random>`, which is
 * deleted again. Redis asks its access rules before it looks at the rest, so the answer tells. Which commands
 * those are: common/client/queue*.c, monitor/main.c. Where all are allowed, check_redis looks for other consumer groups. */
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
