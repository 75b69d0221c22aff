/* What the answers of late say of the next ones. Pure.
 *
 * How many requests may be in flight at once: all that the settings allow while no limiter refuses many; halved
 * after a round of answers of which more than a third were 429 or 503, else one more each round. After how long a
 * request is overdue. How often in a row a message must fail before chance does not explain it. */
#ifndef WORKER_WINDOW_H
#define WORKER_WINDOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct window {
    size_t maximum;
    size_t size;
    size_t answers; /* in this round */
    size_t limited; /* of them */
    int64_t smoothed_us;
    double failing; /* the share of first tries that failed */
};

void window_init(struct window *window, size_t maximum);
void window_answered(struct window *window, bool limited);
void window_shrink(struct window *window); /* at once: nothing but refusals came */
/* Of an update that passed. */
void window_took(struct window *window, int64_t took_us);
/* Of the first try of a message, among others. */
void window_tried(struct window *window, bool failed);
/* Nothing passed for a while: that says nothing of single messages. */
void window_forget_failing(struct window *window);
/* Three where next to none fail, ten at the most. */
unsigned window_strikes(const struct window *window);
/* Four times what answers take of late, and 100 ms at the least. */
int64_t window_overdue_ms(const struct window *window);
/* The time-out of our own probe and of what is tried alone: twice that, and 2 s at the least; doubled so often, up to
 * limit_ms. */
int64_t window_short_timeout_ms(const struct window *window, unsigned doubled, int64_t limit_ms);

#endif
