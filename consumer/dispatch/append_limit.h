/* How much one append may carry, how many may be under way, and how long one is waited for, so that also a
 * link to Redis that takes little in the connection's time-out takes something.
 *
 * Normally full batches, two at once. After a time-out one at once, with half of what was too much, down to a
 * few messages: less can't be what takes so long. What is late then, or one message that is late by itself,
 * is waited for twice as long the next time, up to some minutes. With answers in time both go back, step by
 * step: what took longer than the time-out shows that the patience is needed; an answer within a third of it
 * leaves room for twice as much, one within two thirds for a little more, as it may be the way that is long.
 * Pure. */
#ifndef CONSUMER_DISPATCH_APPEND_LIMIT_H
#define CONSUMER_DISPATCH_APPEND_LIMIT_H

#include "common/base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define APPEND_LIMIT_IN_FLIGHT   2
#define APPEND_LIMIT_BYTES       1000000
#define APPEND_LIMIT_BYTES_MIN   16384
#define APPEND_LIMIT_TIMEOUT_MAX 300000 /* ms */

struct append_limit {
    int64_t timeout_ms;        /* the connection's */
    int64_t answer_timeout_ms; /* an append's: that, or more */
    size_t bytes;              /* an append that has so many is full; one message always may go */
    unsigned late;             /* appends, since all was normal */
    size_t late_bytes;         /* the last one's */
    int64_t late_ms;
};

void append_limit_init(struct append_limit *pace, int64_t timeout_ms);
/* The oldest append under way, of so many messages, was not answered in time. */
void append_limit_timed_out(struct append_limit *pace, size_t bytes, size_t messages);
void append_limit_answered(struct append_limit *pace, int64_t took_ms);

/* Appends that may be under way at once. */
size_t append_limit_in_flight(const struct append_limit *pace);
/* More than one was late since all was normal: that is the link, not a server that stood still once. */
bool append_limit_is_degraded(const struct append_limit *pace);
/* What was late at place, what is done about it, and the mend. */
void append_limit_explain(const struct append_limit *pace, const char *place, struct error *err);

#endif
