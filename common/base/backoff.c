#include "common/base/backoff.h"

#include "common/base/sys.h"

int64_t backoff_next(struct backoff *backoff)
{
    int64_t wait = backoff->next_ms;

    if (wait < backoff->minimum_ms)
        wait = backoff->minimum_ms;
    if (wait > backoff->maximum_ms)
        wait = backoff->maximum_ms;
    backoff->next_ms = wait * 2;

    int64_t quarter = wait / 4;
    if (quarter > 0)
        wait += (int64_t)(sys_random_u64() % (uint64_t)(2 * quarter + 1)) - quarter;
    return wait > backoff->maximum_ms ? backoff->maximum_ms : wait;
}

void backoff_reset(struct backoff *backoff)
{
    backoff->next_ms = 0;
}
