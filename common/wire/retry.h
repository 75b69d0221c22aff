/* Retries: whether and when, by Symfony's MultiplierRetryStrategy, and the member of the delayed set in which a message
 * waits for its retry. Pure. */
#ifndef COMMON_WIRE_RETRY_H
#define COMMON_WIRE_RETRY_H

#include "common/base/arena.h"
#include "common/base/buf.h"
#include "common/base/error.h"

/* The longest wait, whatever the settings say: a century, so that the time of day plus a wait never overflows. */
#define RETRY_DELAY_MAX_MS (INT64_C(100) * 366 * 24 * 3600 * 1000)

struct retry_strategy {
    int64_t max_retries;
    int64_t delay_ms;
    double multiplier;
    int64_t max_delay_ms; /* 0: none */
    double jitter;        /* 0.1: up to a tenth either way */
};

/* retry_count: how often it has been retried before. */
bool retry_is_allowed(const struct retry_strategy *strategy, int64_t retry_count);
/* The wait before retry number retry_count + 1: delay * multiplier ^ retry_count, jittered, at most
 * max_delay. `random` is any 64-bit number: the jitter's source. */
int64_t retry_delay_ms(const struct retry_strategy *strategy, int64_t retry_count, uint64_t random);

/* A member of the delayed set `<stream>__queue`: {"body":…,"headers":…,"uniqid":"…"}, bare JSON; its score is the due
 * time in ms. Source: Symfony's Redis transport, Connection::add. uniqid, any short ASCII text, distinguishes members
 * that are otherwise equal. body and headers as in struct envelope (headers is raw JSON). */
MUST_CHECK int retry_member_encode(struct buf *member, struct bytes body, struct bytes headers,
                                   struct bytes uniqid, struct error *err);

/* The stream entry's `message` value for a member: without uniqid, wrapped or not. -ERR_FORMAT: the member is no JSON
 * object with a string `body`. */
MUST_CHECK int retry_member_to_value(struct buf *value, struct bytes member, bool redis_serialized,
                                     struct arena *arena);

#endif
