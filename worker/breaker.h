/* The circuit breaker before the hub: after an answer that means "not now" nothing is sent for a while,
 * then one probe, and only if that passes everything again. Pure: no clock, no I/O.
 *
 *     closed --wait--> open --time--> half-open --probe passed--> closed
 *                        ^---------- probe failed ----'
 *
 * What the probe is, and who is to blame, is the publisher's business. */
#ifndef WORKER_BREAKER_H
#define WORKER_BREAKER_H

#include "common/base/clock.h"

#include <stdbool.h>

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

#endif
