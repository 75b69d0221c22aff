/* Exponential back-off with jitter: minimum, doubling up to maximum, each wait moved at random by up
 * to a quarter either way so that a fleet does not come back in step. Plain values, no clock. */
#ifndef COMMON_BASE_BACKOFF_H
#define COMMON_BASE_BACKOFF_H

#include <stdint.h>

struct backoff {
    int64_t minimum_ms;
    int64_t maximum_ms;
    int64_t next_ms; /* 0 until the first wait */
};

/* How long to wait now, in ms; the next wait will be twice as long. Never above maximum_ms. */
int64_t backoff_next(struct backoff *backoff);
void backoff_reset(struct backoff *backoff); /* it worked: begin at the minimum again */

#endif
