#include "worker/breaker.h"

void breaker_init(struct breaker *breaker, int64_t minimum_ms, int64_t maximum_ms)
{
    *breaker = (struct breaker){.backoff = {.minimum_ms = minimum_ms, .maximum_ms = maximum_ms}};
}

void breaker_failed(struct breaker *breaker, int64_t now_ms)
{
    if (breaker->state == BREAKER_OPEN)
        return; /* others that were under way when it opened */
    breaker->state = BREAKER_OPEN;
    breaker->until_ms = now_ms + backoff_next(&breaker->backoff);
}

bool breaker_passed(struct breaker *breaker)
{
    switch (breaker->state) {
    case BREAKER_CLOSED:
        backoff_reset(&breaker->backoff);
        return false;
    case BREAKER_OPEN:
        return false; /* sent before it opened: says nothing about now */
    case BREAKER_HALF_OPEN:
        breaker->state = BREAKER_CLOSED;
        return true;
    }
    return false;
}

bool breaker_probe_due(struct breaker *breaker, int64_t now_ms)
{
    if (breaker->state != BREAKER_OPEN || now_ms < breaker->until_ms)
        return false;
    breaker->state = BREAKER_HALF_OPEN;
    return true;
}
