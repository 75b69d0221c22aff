/* Limits of an append: how many bytes it carries, how many appends are in flight, how long an answer is waited
 * for. A slow link to Redis is noticed by appends that are late, and by nothing else. Appends then get smaller,
 * so that some are answered within the connection's time-out.
 *
 * | event                                   | bytes of an append      | answer time-out      |
 * |-----------------------------------------|-------------------------|----------------------|
 * | normal                                  | 1 MB, two in flight     | the connection's     |
 * | late                                    | half of what was late   |                      |
 * | late, and few bytes or one message only |                         | twice as long        |
 * | answered within a third of the time-out | twice as many           | half as long         |
 * | answered within two thirds              | an eighth more          | half as long         |
 * | answered in time                        |                         | half as long         |
 * | answered after the time-out             |                         |                      |
 *
 * Bytes stay between 16 kB and 1 MB, the answer time-out between the connection's and an hour. One late append
 * may be due to a server that stood still: the link is degraded from the second one until all is normal. Pure. */
#ifndef CONSUMER_DISPATCH_APPEND_LIMIT_H
#define CONSUMER_DISPATCH_APPEND_LIMIT_H

#include "common/base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define APPEND_LIMIT_IN_FLIGHT   2
#define APPEND_LIMIT_BYTES       1000000
#define APPEND_LIMIT_BYTES_MIN   16384
#define APPEND_LIMIT_TIMEOUT_MAX 3600000 /* ms */

struct append_limit {
    int64_t timeout_ms;        /* the connection's */
    int64_t answer_timeout_ms; /* an append's; not below timeout_ms */
    size_t bytes;      /* an append is full when it has so many; one message may have more */
    unsigned late;     /* late appends since all was normal */
    size_t late_bytes; /* of the last late append */
    int64_t late_ms;   /* the answer time-out that it had */
};

void append_limit_init(struct append_limit *limit, int64_t timeout_ms);
/* The oldest append in flight, of so many messages, was not answered in time. */
void append_limit_timed_out(struct append_limit *limit, size_t bytes, size_t messages);
void append_limit_answered(struct append_limit *limit, int64_t took_ms);

/* Appends that may be in flight at once. */
size_t append_limit_in_flight(const struct append_limit *limit);
bool append_limit_is_degraded(const struct append_limit *limit);
/* What was late, and the limits now; for a degraded link also the option of the DSN that helps. */
void append_limit_explain(const struct append_limit *limit, const char *destination,
                          struct error *err);

#endif
