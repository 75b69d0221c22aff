/* How much one append may carry, how many may be in flight, and how long an answer is waited for, so that
 * also a link to Redis that takes little in the connection's time-out takes something. A slow link is
 * noticed by this alone: by appends that are not answered in time.
 *
 * | event                                   | bytes of an append      | answer time-out      |
 * |-----------------------------------------|-------------------------|----------------------|
 * | normal                                  | 1 MB, two in flight     | the connection's     |
 * | late                                    | half of what was late   |                      |
 * | late, and few bytes or one message only |                         | twice as long        |
 * | answered within a third of the time-out | twice as many           | half as long         |
 * | answered within two thirds              | an eighth more          | half as long         |
 * | answered in time                        |                         | half as long         |
 * | answered, but after the time-out        |                         |                      |
 *
 * Neither goes beyond normal, nor below 16 kB and above an hour. One late append may be a server that stood
 * still; the link is degraded when a second one is late before all is normal again. Pure. */
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
    int64_t answer_timeout_ms; /* an append's: that, or more */
    size_t bytes;              /* an append that has so many is full; one message always may go */
    unsigned late;             /* appends, since all was normal */
    size_t late_bytes;         /* the last one's */
    int64_t late_ms;
};

void append_limit_init(struct append_limit *limit, int64_t timeout_ms);
/* The oldest append under way, of so many messages, was not answered in time. */
void append_limit_timed_out(struct append_limit *limit, size_t bytes, size_t messages);
void append_limit_answered(struct append_limit *limit, int64_t took_ms);

/* Appends that may be under way at once. */
size_t append_limit_in_flight(const struct append_limit *limit);
bool append_limit_is_degraded(const struct append_limit *limit);
/* What was late at place and what is done about it; and the mend, where the link is degraded. */
void append_limit_explain(const struct append_limit *limit, const char *place, struct error *err);

#endif
