/* How many requests may be on the wire at once. All connections while nothing fails; after an answer that
 * means "not now" one, twice as many with each round that passes up to half of what was too many, then one
 * more each round: a limiter is met gently, and a hub that was merely away has all of them again within
 * milliseconds. Pure. */
#ifndef WORKER_PACE_H
#define WORKER_PACE_H

#include <stdbool.h>
#include <stddef.h>

struct pace {
    size_t most;
    size_t window;    /* as many now */
    size_t threshold; /* no more doubling from here on */
    size_t passed;    /* in this round */
};

void pace_init(struct pace *pace, size_t most);
/* Once for all that wait together. */
void pace_waited(struct pace *pace);
/* Returns true with the last of a round: this many at once work. */
bool pace_passed(struct pace *pace);
bool pace_is_full(const struct pace *pace);

#endif
