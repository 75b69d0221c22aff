#include "worker/breaker.h"

void breaker_init(struct breaker *breaker, int64_t minimum_ms, int64_t maximum_ms)
{
    *breaker = (struct breaker){.backoff = {.minimum_ms = minimum_ms, .maximum_ms = maximum_ms}};
}

void breaker_failed(struct breaker *breaker, int64_t now_ms, int64_t after_ms)
{
    int64_t maximum_ms = breaker->backoff.maximum_ms;
    int64_t until_ms = now_ms + (after_ms < maximum_ms ? after_ms : maximum_ms);

    /* An open breaker gets answers to requests that were in flight when it opened: they lengthen no pause. */
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
        /* next_ms is twice the pause that has just ended: the next pause is three quarters of that pause. */
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

#define ROUNDS      4 /* a round has the answers of so many windows: fewer would say too little */
#define ROUND_LEAST 16
#define OVERDUE_MS  100
#define SHORT_MS    2000
/* One good message in so many may be blamed by mistake. */
#define BLAMED_ONE_OF 100000
#define STRIKES_LEAST 3
#define STRIKES_MAX   10
#define TRIES         64 /* the share of failures is about that of the last so many tries */

void breaker_window_init(struct breaker_window *window, size_t maximum)
{
    *window = (struct breaker_window){.maximum = maximum, .size = maximum};
}

static void begin_round(struct breaker_window *window)
{
    window->answers = 0;
    window->limited = 0;
}

void breaker_window_shrink(struct breaker_window *window)
{
    window->size = window->size > 1 ? window->size / 2 : 1;
    begin_round(window);
}

void breaker_window_answered(struct breaker_window *window, bool limited)
{
    size_t round = window->size * ROUNDS;

    window->answers++;
    window->limited += limited;
    if (window->answers < (round > ROUND_LEAST ? round : ROUND_LEAST))
        return;
    if (window->limited * 3 > window->answers)
        breaker_window_shrink(window);
    else if (window->size < window->maximum)
        window->size++;
    begin_round(window);
}

void breaker_window_took(struct breaker_window *window, int64_t took_us)
{
    if (window->smoothed_us == 0)
        window->smoothed_us = took_us;
    window->smoothed_us += (took_us - window->smoothed_us) / 8;
}

void breaker_window_tried(struct breaker_window *window, bool failed)
{
    window->failing += ((failed ? 1 : 0) - window->failing) / TRIES;
}

void breaker_window_forget_failing(struct breaker_window *window)
{
    window->failing = 0;
}

unsigned breaker_window_strikes(const struct breaker_window *window)
{
    unsigned strikes = 0;
    double chance = 1;

    while (strikes < STRIKES_LEAST || (strikes < STRIKES_MAX && chance * BLAMED_ONE_OF > 1)) {
        chance *= window->failing;
        strikes++;
    }
    return strikes;
}

int64_t breaker_window_overdue_ms(const struct breaker_window *window)
{
    int64_t overdue_ms = window->smoothed_us * 4 / 1000;

    return overdue_ms > OVERDUE_MS ? overdue_ms : OVERDUE_MS;
}

int64_t breaker_window_short_timeout_ms(const struct breaker_window *window, unsigned doubled,
                                        int64_t limit_ms)
{
    int64_t short_ms = 2 * breaker_window_overdue_ms(window);

    if (short_ms < SHORT_MS)
        short_ms = SHORT_MS;
    for (unsigned i = 0; i < doubled && short_ms < limit_ms; i++)
        short_ms *= 2;
    return short_ms < limit_ms ? short_ms : limit_ms;
}
