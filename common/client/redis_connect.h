/* For programs that may wait (the monitor, the command line): one request after the other. */
#ifndef COMMON_CLIENT_REDIS_CONNECT_H
#define COMMON_CLIENT_REDIS_CONNECT_H

#include "common/client/redis.h"

#define REDIS_TIMEOUT_MS 5000

/* Connect and answer time-out of a DSN in ms. */
int64_t redis_dsn_timeout_ms(const struct dsn_redis *dsn);

/* Waits for one answer; NULL with err when there is none or it is an error. Free with
 * freeReplyObject through redis_reply_free. */
redisReply *redis_call(struct redis *redis, const struct bytes *arguments, size_t count,
                       struct error *err);
void redis_reply_free(redisReply *reply);

#endif
