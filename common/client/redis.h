/* One connection to Redis: non-blocking, requests answered in order, each by its callback.
 *
 * How the server is found, connected and greeted: redis_dial.h. Nothing here blocks but redis_wait and redis_call, for
 * programs that may wait (the monitor, the command line). One thread uses it.
 *
 * A frozen server is noticed by the deadline of the oldest request; we then close the connection. The deadline measures
 * silence: each part of an answer that comes in begins it anew. A caller with a large request adds the time that
 * sending it takes (extra_ms).
 * When the connection breaks, every outstanding callback runs with reply NULL and err saying why, oldest first. The
 * `broken` callback comes last. Nothing reconnects by itself.
 *
 * A server may turn out to be the wrong one: a replica (READONLY, MASTERDOWN), or a Cluster's node that no longer has
 * our slot (MOVED). After such an answer we close the connection, and redis_open_dsn finds the right server. ASK, for
 * a slot that is moving, is followed for that request alone: it is sent again, to the other node, while later
 * requests wait. */
#ifndef COMMON_CLIENT_REDIS_H
#define COMMON_CLIENT_REDIS_H

#include "common/client/redis_resp.h"
#include "common/wire/dsn.h"

#define REDIS_TIMEOUT_MS 5000
/* Connect and answer time-out of a DSN in ms. */
int64_t redis_dsn_timeout_ms(const struct dsn_redis *dsn);

struct redis;

/* reply is freed after the callback. err is NULL on success. It is set when the connection broke (reply NULL), and when
 * the server answered an error (reply is that error), classified by redis_classify. */
typedef void redis_replied(void *context, const redisReply *reply, const struct error *err);
typedef void redis_broken(void *context, const struct error *err);

/* address: "redis://host:6379/messages", for error texts. timeout_ms: for each answer, and for redis_dial_new. */
struct redis *redis_new(const char *address, int64_t timeout_ms, redis_broken *broken,
                        void *context);
void redis_free(struct redis *redis); /* outstanding callbacks run first */

/* Only while closed. dsn must live until redis_close. Requests may be given at once: they wait for the connection. */
MUST_CHECK int redis_open_dsn(struct redis *redis, const struct dsn_redis *dsn, struct error *err);
/* Closes the connection; outstanding callbacks run with that code. */
void redis_close(struct redis *redis, enum error_code code, const char *why);
bool redis_is_open(const struct redis *redis); /* also true while it is connecting */

/* A request; redis_resp.h has the format. extra_ms: how much longer than timeout_ms it may take (a blocking read);
 * done NULL: the answer does not matter. */
void redis_command(struct redis *redis, int64_t extra_ms, redis_replied *done, void *context,
                   const char *format, ...);
/* Bounds the memory of one reading, over all its requests: values beyond `left` bytes are not kept. The first value is
 * kept whatever its size, with the other fields of its entry, and so are small values. */
struct redis_budget {
    size_t left;
    bool used;
    const void *first; /* the entry with the first value, while its reply comes in */
};
/* Sets the budget of the next request. A string that is not kept comes with its length, and str NULL. */
void redis_limit_next(struct redis *redis, struct redis_budget *budget);

/* Sends a request that is formatted as RESP already. */
void redis_send_formatted(struct redis *redis, struct bytes resp, int64_t extra_ms,
                          redis_replied *done, void *context);
/* Adds a request that is sent first to a node that an ASK names: it loads a script. The answer to the request does not
 * matter. */
void redis_prepare_aside(struct redis *redis, const char *format, ...);
/* The last connection was closed by us because an answer did not come in time. */
bool redis_timed_out(const struct redis *redis);

int redis_fd(const struct redis *redis); /* -1: none; may change with redis_process */
short redis_events(const struct redis *redis);
int64_t redis_deadline_ms(const struct redis *redis); /* monotonic; -1: none */
void redis_process(struct redis *redis, short revents);

/* Waits for input or the deadline, and processes it. Not while closed. */
void redis_wait(struct redis *redis);
/* Waits for the answer to one request; NULL with err (may be NULL) when there is none or it is an error. Free it with
 * redis_reply_free. */
redisReply *redis_call(struct redis *redis, const struct bytes *arguments, size_t count,
                       struct error *err);
/* redis_call with the arguments listed: REDIS_CALL(redis, &err, BYTES("XLEN"), bytes_of(stream)) */
#define REDIS_CALL(redis, err, ...)                                                                \
    redis_call((redis), (const struct bytes[]){__VA_ARGS__},                                       \
               sizeof((const struct bytes[]){__VA_ARGS__}) / sizeof(struct bytes), (err))
void redis_reply_free(redisReply *reply);

/* Called in a callback: takes the reply's ownership. Free it with freeReplyObject. */
redisReply *redis_keep_reply(struct redis *redis);

#endif
