#include "worker/breaker.h"

void breaker_init(struct breaker *breaker, int64_t minimum_ms, int64_t maximum_ms)
{
    *breaker = (struct breaker){.backoff = {.minimum_ms = minimum_ms, .maximum_ms = maximum_ms}};
}

void breaker_failed(struct breaker *breaker, int64_t now_ms, int64_t after_ms)
{
    int64_t maximum_ms = breaker->backoff.maximum_ms;
    int64_t until_ms = now_ms + (after_ms < maximum_ms ? after_ms : maximum_ms);

    /* Else it is one of those that were under way when it opened. */
    if (breaker->state != BREAKER_OPEN)
        breaker->until_ms = now_ms + clock_backoff_next(&breaker->backoff);
    breaker->state = BREAKER_OPEN;
    if (breaker->until_ms < until_ms)
        breaker->until_ms = until_ms;
}

bool breaker_passed(struct breaker *breaker)
{
    switch (breaker->state) {
    case BREAKER_CLOSED:
        return false;
    case BREAKER_OPEN:
        return false; /* sent before it opened: says nothing about now */
    case BREAKER_HALF_OPEN:
        breaker->state = BREAKER_CLOSED;
        /* It stands at twice this pause. */
        breaker->backoff.next_ms = breaker->backoff.next_ms * 3 / 8;
        return true;
    }
    return false;
}

void breaker_works(struct breaker *breaker)
{
    clock_backoff_reset(&breaker->backoff);
}

bool breaker_probe_due(struct breaker *breaker, int64_t now_ms)
{
    if (breaker->state != BREAKER_OPEN || now_ms < breaker->until_ms)
        return false;
    breaker->state = BREAKER_HALF_OPEN;
    return true;
}
