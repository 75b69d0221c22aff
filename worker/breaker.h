/* The circuit breaker before the hub. After an answer that means "not now" nothing is sent for a while, then one probe.
 * Only if the probe passes, everything is sent again. Pure: no clock, no I/O.
 *
 *     closed --wait--> open --time--> half-open --probe passed--> closed
 *                        ^---------- probe failed ----'
 *
 * Beside the breaker stands the window of requests: how many may be in flight at once, and after how long a request is
 * overdue. The window also says how often in a row a message must fail before chance does not explain it. The window
 * starts at the settings' maximum. A round of answers with more than a third of 429 or 503 halves it; any other round
 * adds one request.
 *
 * What the probe is, and which message is blamed for a failure, is the publisher's business. */
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
/* The hub's answer means "wait": for after_ms (Retry-After, never above the maximum), or for the back-off if it is
 * 0. */
void breaker_failed(struct breaker *breaker, int64_t now_ms, int64_t after_ms);
/* The hub took an update or a probe. Returns true if this closed the breaker. The next pause is then a little shorter
 * than the last one: behind a rate limiter the pauses so approach what the limiter asks for. */
bool breaker_passed(struct breaker *breaker);
/* Updates pass, not only a probe: the next pause starts at the minimum again. */
void breaker_works(struct breaker *breaker);
/* True once when it is time for a probe: the state is half-open from then on. */
bool breaker_probe_due(struct breaker *breaker, int64_t now_ms);

struct breaker_window {
    size_t maximum;
    size_t size;
    size_t answers;      /* in this round */
    size_t limited;      /* answers of this round that were 429 or 503 */
    int64_t smoothed_us; /* time to an answer, moving average */
    double failing;      /* share of first tries that failed, moving average */
};

void breaker_window_init(struct breaker_window *window, size_t maximum);
void breaker_window_answered(struct breaker_window *window, bool limited);
/* Halves the window at once, without waiting for the end of the round. */
void breaker_window_shrink(struct breaker_window *window);
/* An update passed, and its answer took that long. */
void breaker_window_took(struct breaker_window *window, int64_t took_us);
/* The first try of a message, sent among others, was answered. */
void breaker_window_tried(struct breaker_window *window, bool failed);
/* The hub was down: the failures of that time say nothing about single messages. */
void breaker_window_forget_failing(struct breaker_window *window);
/* How often a message must fail before it is blamed: 3 where next to none fail, 10 at the most. */
unsigned breaker_window_strikes(const struct breaker_window *window);
/* A request is overdue after four times the average answer time, and after 100 ms at the least. */
int64_t breaker_window_overdue_ms(const struct breaker_window *window);
/* The time-out of our own probe and of a message that is tried alone: twice the overdue time, and 2 s at the least.
 * It is then doubled `doubled` times, up to limit_ms. */
int64_t breaker_window_short_timeout_ms(const struct breaker_window *window, unsigned doubled,
                                        int64_t limit_ms);

#endif
