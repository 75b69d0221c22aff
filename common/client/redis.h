/* One connection to Redis: non-blocking, requests answered in order, each by its callback.
 *
 * How the server is found, connected and greeted: redis_dial.h. Nothing here blocks but redis_wait and redis_call, for
 * programs that may wait (the monitor, the command line). One thread uses it.
 *
 * A frozen server is noticed by the deadline of the oldest request; the connection is then broken by us. The
 * deadline is about silence: while its answer still comes in, its time begins anew. How long a large request
 * may take on its way there, the caller says (extra_ms).
 * When it breaks, every outstanding callback runs with reply NULL and err saying why, oldest first, and
 * after them the `broken` callback. Nothing reconnects by itself.
 *
 * A server that turns out to be the wrong one (a replica: READONLY, MASTERDOWN; a Cluster's node that has our slot no
 * longer: MOVED) is left by us after that answer: whoever opens anew finds the right one. ASK, of a slot that moves,
 * is followed for that request alone: it is sent once more, to the other node, and what stands behind it waits. */
#ifndef COMMON_CLIENT_REDIS_H
#define COMMON_CLIENT_REDIS_H

#include "common/client/redis_resp.h"
#include "common/wire/dsn.h"

#define REDIS_TIMEOUT_MS 5000
/* Connect and answer time-out of a DSN in ms. */
int64_t redis_dsn_timeout_ms(const struct dsn_redis *dsn);

struct redis;

/* reply is freed after the callback. err is NULL when all is well; set when the connection broke (reply
 * NULL), and when the server answered an error (reply is that error), classified by redis_classify. */
typedef void redis_replied(void *context, const redisReply *reply, const struct error *err);
typedef void redis_broken(void *context, const struct error *err);

/* address: "redis://host:6379/messages", for messages. timeout_ms: for each answer, and as redis_dial.h has it. */
struct redis *redis_new(const char *address, int64_t timeout_ms, redis_broken *broken,
                        void *context);
void redis_free(struct redis *redis); /* outstanding callbacks run first */

/* Not while it is open. dsn must live as long as it is open. Requests may be given at once: they wait for the
 * connection. */
MUST_CHECK int redis_open_dsn(struct redis *redis, const struct dsn_redis *dsn, struct error *err);
/* Outstanding callbacks run with that code. */
void redis_close(struct redis *redis, enum error_code code, const char *why);
bool redis_is_open(const struct redis *redis); /* finding it and connecting count */

/* A request; redis_resp.h has the format. extra_ms: how much longer than timeout_ms it may take (a blocking read);
 * done NULL: the answer does not matter. */
void redis_command(struct redis *redis, int64_t extra_ms, redis_replied *done, void *context,
                   const char *format, ...);
/* The values of one reading, all its requests together: what goes beyond `left` bytes is not kept. The first one
 * is, whatever its size, and with it what stands in one list with it, an entry's other fields; and small ones
 * always. */
struct redis_budget {
    size_t left;
    bool used;
    const void *first; /* the list of the first one, while its reply comes in */
};
/* Of the next request. A string that is not kept comes with its length, and str NULL. */
void redis_limit_next(struct redis *redis, struct redis_budget *budget);

/* From RESP that is already written. */
void redis_send_formatted(struct redis *redis, struct bytes resp, int64_t extra_ms,
                          redis_replied *done, void *context);
/* A request that each further node is told before an ASK sends it another: the scripts. Its answer does not matter. */
void redis_prepare_aside(struct redis *redis, const char *format, ...);
/* The connection ended, and not by itself: an answer was not there in time. */
bool redis_timed_out(const struct redis *redis);

int redis_fd(const struct redis *redis); /* -1: none; another one after redis_process */
short redis_events(const struct redis *redis);
int64_t redis_deadline_ms(const struct redis *redis); /* monotonic; -1: none */
void redis_process(struct redis *redis, short revents);

/* Waits for what comes next, or the deadline, and processes it. Not while it is closed. */
void redis_wait(struct redis *redis);
/* Waits for the answer to one request; NULL with err (may be NULL) when there is none or it is an error. Free it with
 * redis_reply_free. */
redisReply *redis_call(struct redis *redis, const struct bytes *arguments, size_t count,
                       struct error *err);
/* The same with its words: REDIS_CALL(redis, &err, BYTES("XLEN"), bytes_of(stream)) */
#define REDIS_CALL(redis, err, ...)                                                                \
    redis_call((redis), (const struct bytes[]){__VA_ARGS__},                                       \
               sizeof((const struct bytes[]){__VA_ARGS__}) / sizeof(struct bytes), (err))
void redis_reply_free(redisReply *reply);

/* Of the callback that runs: the reply is its own from now on. Free it with freeReplyObject. */
redisReply *redis_keep_reply(struct redis *redis);

#endif
