/* Formats requests to Redis and classifies error answers. Pure. hiredis only formats requests and parses replies. The
 * header of hiredis is included in client/redis* and, through this header, in client/queue*, which read replies. */
#ifndef COMMON_CLIENT_REDIS_RESP_H
#define COMMON_CLIENT_REDIS_RESP_H

#include "common/base/buf.h"
#include "common/base/error.h"

#include <hiredis/hiredis.h>
#include <stdarg.h>

/* The format has arguments separated by blanks, as for hiredis: %s a text, %b bytes (REDIS_BYTES), %d, %ld and
 * others. An argument may have several parts: "(%s". */
void redis_format(struct buf *resp, const char *format, va_list arguments);
#define REDIS_BYTES(b) (b).data, (b).len

/* A request without a format: redis_write_count, then so many times redis_write_argument. */
void redis_write_count(struct buf *resp, size_t count);
void redis_write_argument(struct buf *resp, struct bytes argument);
void redis_write_number(struct buf *resp, int64_t number); /* one argument; not negative */

/* What an error answer means: -ERR_UNREACHABLE where waiting may help, else -ERR_REFUSED. Waiting may help after
 * LOADING, READONLY, MASTERDOWN, OOM, BUSY, MISCONF, NOREPLICAS, UNBLOCKED and too many clients. Of a Cluster it may
 * after MOVED, ASK, TRYAGAIN and CLUSTERDOWN. */
enum error_code redis_classify(struct bytes text);
/* The answer says that the server is the wrong one: a replica, or a node without our slot. */
bool redis_is_elsewhere(struct bytes text);

static inline struct bytes redis_text(const redisReply *reply)
{
    return (struct bytes){reply->str, (size_t)reply->len};
}

/* The value behind a name in a flat list of names and values, as XINFO and CONFIG GET answer; NULL: there is none. */
const redisReply *redis_member(const redisReply *list, const char *name);
struct bytes redis_member_text(const redisReply *list, const char *name);
int64_t redis_member_number(const redisReply *list, const char *name); /* -1: there is none */
/* The group of that name in an answer of XINFO GROUPS, or NULL. */
const redisReply *redis_find_group(const redisReply *groups, const char *name);

/* A bulk or a simple string. */
static inline bool redis_is_string(const redisReply *reply)
{
    return reply->type == REDIS_REPLY_STRING || reply->type == REDIS_REPLY_STATUS;
}

#endif
