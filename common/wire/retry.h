/* Symfony's MultiplierRetryStrategy: whether and when. Pure. */
#ifndef COMMON_WIRE_RETRY_H
#define COMMON_WIRE_RETRY_H

#include <stdbool.h>
#include <stdint.h>

struct retry_strategy {
    int64_t max_retries;
    int64_t delay_ms;
    double multiplier;
    int64_t max_delay_ms; /* 0: none */
    double jitter;        /* 0.1: up to a tenth either way */
};

bool retry_is_allowed(const struct retry_strategy *strategy, int64_t retry_count);
/* The wait before retry number retry_count + 1. `random` is any 64-bit number: the jitter's source. */
int64_t retry_delay_ms(const struct retry_strategy *strategy, int64_t retry_count, uint64_t random);

#endif
