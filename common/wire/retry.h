/* Symfony's MultiplierRetryStrategy: whether and when. Pure. */
#ifndef COMMON_WIRE_RETRY_H
#define COMMON_WIRE_RETRY_H

#include <stdbool.h>
#include <stdint.h>

/* No wait is longer, whatever the settings say: a century, so that a time of day plus a wait always
 * fits. */
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

#endif
