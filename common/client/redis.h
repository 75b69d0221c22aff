/* One connection to Redis: non-blocking, requests answered in order, each by its callback.
 *
 * hiredis as a plain context with the caller's poll, not its async API: a FIFO of callbacks is all that
 * is missing, and this way time-outs and breaks have one place. hiredis.h is included in client/redis*
 * and, through this header, by client/queue*, which read replies. One thread.
 *
 * Nothing here blocks: a host's name is looked up by a thread (resolve.h), and then its addresses are tried
 * one after the other, IPv4 first, before the connection counts as failed.
 *
 * A frozen server is noticed by the deadline of the oldest request; the connection is then broken by us. The
 * deadline is about silence: while its answer still comes in, its time begins anew. How long a large request
 * may take on its way there, the caller says (extra_ms).
 * When it breaks, every outstanding callback runs with reply NULL and err saying why, oldest first, and
 * after them the `broken` callback. Nothing reconnects by itself. */
#ifndef COMMON_CLIENT_REDIS_H
#define COMMON_CLIENT_REDIS_H

#include "common/base/buf.h"
#include "common/base/error.h"

#include <hiredis/hiredis.h>
#include <stdarg.h>

struct redis;

/* reply is freed after the callback. err is NULL when all is well; set when the connection broke (reply
 * NULL), and when the server answered an error (reply is that error), classified by redis_classify. */
typedef void redis_replied(void *context, const redisReply *reply, const struct error *err);
typedef void redis_broken(void *context, const struct error *err);

/* address: "redis://host:6379/messages", for messages. timeout_ms: for the name's
 * look-up, for connecting (to all its addresses together) and for each answer. */
struct redis *redis_new(const char *address, int64_t timeout_ms, redis_broken *broken,
                        void *context);
void redis_free(struct redis *redis); /* outstanding callbacks run first */

/* Exactly one of host (a name or an address) and path. Not while it is open. Requests may be given at once: they wait for the connection. */
MUST_CHECK int redis_open(struct redis *redis, const char *host, int port, const char *path,
                          struct error *err);
/* Outstanding callbacks run with that code. */
void redis_close(struct redis *redis, enum error_code code, const char *why);
bool redis_is_open(const struct redis *redis); /* looking up and connecting count */

/* A request. extra_ms: how much longer than timeout_ms it may take (a blocking read); done NULL: the
 * answer does not matter. */
void redis_command(struct redis *redis, int64_t extra_ms, redis_replied *done, void *context,
                   const char *format, ...);
/* Words between blanks, as hiredis formats them: %s a text, %b bytes (REDIS_BYTES), %d, %ld and the like. A word may be
 * made of several: "(%s". */
void redis_format(struct buf *resp, const char *format, va_list arguments);
#define REDIS_BYTES(b) (b).data, (b).len
/* The same from words. */
void redis_send(struct redis *redis, const struct bytes *arguments, size_t count, int64_t extra_ms,
                redis_replied *done, void *context);
/* The values of one reading, all its requests together: what goes beyond `left` bytes is not kept. The first one
 * is, whatever its size, and small ones always. */
struct redis_budget {
    size_t left;
    bool used;
};
/* Of the next request. A string that is not kept comes with its length, and str NULL. */
void redis_limit_next(struct redis *redis, struct redis_budget *budget);

/* From RESP that is already written: redis_write_count, then so many times redis_write_argument. */
void redis_write_count(struct buf *resp, size_t count);
void redis_write_argument(struct buf *resp, struct bytes argument);
void redis_send_formatted(struct redis *redis, struct bytes resp, int64_t extra_ms,
                          redis_replied *done, void *context);
/* The connection ended, and not by itself: an answer was not there in time. */
bool redis_timed_out(const struct redis *redis);

int redis_fd(const struct redis *redis); /* -1: none; another one after redis_process */
short redis_events(const struct redis *redis);
int64_t redis_deadline_ms(const struct redis *redis); /* monotonic; -1: none */
void redis_process(struct redis *redis, short revents);

/* The error of a command within a script, which Redis before 7 wraps ("ERR Error running script (call to
 * f_…): @user_script:10: @user_script: 10: -OOM …"): from "OOM" on. Any other text as it is. */
struct bytes redis_inner_error(struct bytes text);
/* What an error answer means: -ERR_UNREACHABLE where waiting may help (LOADING, READONLY, MASTERDOWN,
 * OOM, BUSY, TRYAGAIN, CLUSTERDOWN, MISCONF, NOREPLICAS, UNBLOCKED), else -ERR_REFUSED. */
enum error_code redis_classify(struct bytes text);

/* Of the callback that runs: the reply is its own from now on. Free it with freeReplyObject. */
redisReply *redis_keep_reply(struct redis *redis);

static inline struct bytes redis_text(const redisReply *reply)
{
    return (struct bytes){reply->str, (size_t)reply->len};
}

/* What PHP's client and ours put in front of a string: nothing more. */
static inline bool redis_is_string(const redisReply *reply)
{
    return reply->type == REDIS_REPLY_STRING || reply->type == REDIS_REPLY_STATUS;
}

#endif
