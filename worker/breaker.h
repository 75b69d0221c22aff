/* The circuit breaker before the hub: after an answer that means "not now" nothing is sent for a while,
 * then one probe, and only if that passes everything again. Pure: no clock, no I/O.
 *
 *     closed --wait--> open --time--> half-open --probe passed--> closed
 *                        ^---------- probe failed ----'
 *
 * Beside it the window of requests: how many may be in flight at once, after how long one is overdue, and how often in a
 * row a message must fail before chance does not explain it. All that the settings allow are in flight while no limiter
 * refuses many; half as many after a round of answers of which more than a third were 429 or 503; else one more each round.
 *
 * What the probe is, and who is to blame, is the publisher's business. */
#ifndef WORKER_BREAKER_H
#define WORKER_BREAKER_H

#include "common/base/clock.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum breaker_state { BREAKER_CLOSED, BREAKER_OPEN, BREAKER_HALF_OPEN };

struct breaker {
    enum breaker_state state;
    struct clock_backoff backoff;
    int64_t until_ms; /* while open: when to probe */
};

void breaker_init(struct breaker *breaker, int64_t minimum_ms, int64_t maximum_ms);
/* An answer that means wait, for after_ms if it says for how long (Retry-After; never above the maximum). */
void breaker_failed(struct breaker *breaker, int64_t now_ms, int64_t after_ms);
/* An answer that shows the hub at work. Returns true if this closed the breaker: the next pause is then a
 * little shorter than this one was, so that with a limiter the pauses come near what it asks for. */
bool breaker_passed(struct breaker *breaker);
/* More than a probe passes: the next pause is a short one again. */
void breaker_works(struct breaker *breaker);
/* True once when it is time for a probe: the state is half-open from then on. */
bool breaker_probe_due(struct breaker *breaker, int64_t now_ms);

/* The window -------------------------------------------------------------------------------------- */

struct breaker_window {
    size_t maximum;
    size_t size;
    size_t answers; /* in this round */
    size_t limited; /* of them */
    int64_t smoothed_us;
    double failing; /* the share of first tries that failed */
};

void breaker_window_init(struct breaker_window *window, size_t maximum);
void breaker_window_answered(struct breaker_window *window, bool limited);
void breaker_window_shrink(struct breaker_window *window); /* at once: nothing but refusals came */
/* Of an update that passed. */
void breaker_window_took(struct breaker_window *window, int64_t took_us);
/* Of the first try of a message, among others. */
void breaker_window_tried(struct breaker_window *window, bool failed);
/* Nothing passed for a while: that says nothing of single messages. */
void breaker_window_forget_failing(struct breaker_window *window);
/* Three where next to none fail, ten at the most. */
unsigned breaker_window_strikes(const struct breaker_window *window);
/* Four times what answers take of late, and 100 ms at the least. */
int64_t breaker_window_overdue_ms(const struct breaker_window *window);
/* The time-out of our own probe and of what is tried alone: twice that, and 2 s at the least; doubled so often, up to
 * limit_ms. */
int64_t breaker_window_short_timeout_ms(const struct breaker_window *window, unsigned doubled,
                                        int64_t limit_ms);

#endif
