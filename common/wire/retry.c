#include "common/wire/retry.h"

#include <math.h>

bool retry_is_allowed(const struct retry_strategy *strategy, int64_t retry_count)
{
    return retry_count < strategy->max_retries;
}

int64_t retry_delay_ms(const struct retry_strategy *strategy, int64_t retry_count, uint64_t random)
{
    double delay = (double)strategy->delay_ms * pow(strategy->multiplier, (double)retry_count);

    /* Symfony draws a whole number of ms from [-spread, spread]. */
    double spread = floor(delay * strategy->jitter);
    double share = (double)(random >> 11) * 0x1p-53; /* [0, 1) */

    if (spread > 0)
        delay += floor(share * (2 * spread + 1)) - spread;
    /* Asked so that a delay beyond all numbers (NaN) is taken for too long. */
    if (strategy->max_delay_ms > 0 && !(delay <= (double)strategy->max_delay_ms))
        return strategy->max_delay_ms;
    if (!(delay < (double)RETRY_DELAY_MAX_MS))
        return RETRY_DELAY_MAX_MS;
    return delay > 0 ? (int64_t)ceil(delay) : 0;
}
