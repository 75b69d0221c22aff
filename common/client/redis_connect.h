/* A connection as a DSN describes it: which host, who we are, which database. And the blocking form for
 * programs that may wait (the monitor, the command line). */
#ifndef COMMON_CLIENT_REDIS_CONNECT_H
#define COMMON_CLIENT_REDIS_CONNECT_H

#include "common/client/redis.h"
#include "common/wire/dsn.h"

#define REDIS_TIMEOUT_MS 5000

/* Connect and answer time-out of a DSN in ms. */
int64_t redis_dsn_timeout_ms(const struct dsn_redis *dsn);

/* Opens and sends AUTH and SELECT as needed; their failure closes the connection with the server's words
 * (never the password), and so does a name that has no address or is not looked up in time. What this
 * build can't do (TLS, cluster, sentinel) is -ERR_USAGE with the reason. */
MUST_CHECK int redis_open_dsn(struct redis *redis, const struct dsn_redis *dsn, struct error *err);

/* Waits for one answer; NULL with err when there is none or it is an error. Free with
 * freeReplyObject through redis_reply_free. */
redisReply *redis_call(struct redis *redis, const struct bytes *arguments, size_t count,
                       struct error *err);
void redis_reply_free(redisReply *reply);

#endif
