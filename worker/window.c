#include "worker/window.h"

#define ROUNDS      4 /* answers of so many windows: fewer would say too little */
#define ROUND_LEAST 16
#define OVERDUE_MS  100
#define SHORT_MS    2000
/* Of so many messages that would pass one may be blamed. */
#define BLAMED_ONE_OF 100000
#define STRIKES_LEAST 3
#define STRIKES_MAX   10
#define TRIES         64 /* that the share is of, about */

void window_init(struct window *window, size_t maximum)
{
    *window = (struct window){.maximum = maximum, .size = maximum};
}

static void begin_round(struct window *window)
{
    window->answers = 0;
    window->limited = 0;
}

void window_shrink(struct window *window)
{
    window->size = window->size > 1 ? window->size / 2 : 1;
    begin_round(window);
}

void window_answered(struct window *window, bool limited)
{
    size_t round = window->size * ROUNDS;

    window->answers++;
    window->limited += limited;
    if (window->answers < (round > ROUND_LEAST ? round : ROUND_LEAST))
        return;
    if (window->limited * 3 > window->answers)
        window_shrink(window);
    else if (window->size < window->maximum)
        window->size++;
    begin_round(window);
}

void window_took(struct window *window, int64_t took_us)
{
    if (window->smoothed_us == 0)
        window->smoothed_us = took_us;
    window->smoothed_us += (took_us - window->smoothed_us) / 8;
}

void window_tried(struct window *window, bool failed)
{
    window->failing += ((failed ? 1 : 0) - window->failing) / TRIES;
}

void window_forget_failing(struct window *window)
{
    window->failing = 0;
}

unsigned window_strikes(const struct window *window)
{
    unsigned strikes = 0;
    double chance = 1;

    while (strikes < STRIKES_LEAST || (strikes < STRIKES_MAX && chance * BLAMED_ONE_OF > 1)) {
        chance *= window->failing;
        strikes++;
    }
    return strikes;
}

int64_t window_overdue_ms(const struct window *window)
{
    int64_t overdue_ms = window->smoothed_us * 4 / 1000;

    return overdue_ms > OVERDUE_MS ? overdue_ms : OVERDUE_MS;
}

int64_t window_short_timeout_ms(const struct window *window, unsigned doubled, int64_t limit_ms)
{
    int64_t short_ms = 2 * window_overdue_ms(window);

    if (short_ms < SHORT_MS)
        short_ms = SHORT_MS;
    for (unsigned i = 0; i < doubled && short_ms < limit_ms; i++)
        short_ms *= 2;
    return short_ms < limit_ms ? short_ms : limit_ms;
}
