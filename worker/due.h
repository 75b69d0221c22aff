/* Moves the members of the delayed set that are due into the stream, where they are read like any other. */
#ifndef WORKER_DUE_H
#define WORKER_DUE_H

#include "worker/source.h"

struct due {
    struct source *source;
    bool moving;
    bool refused; /* something in this round */
    size_t moved; /* in this round */
};

void due_begin(struct due *due); /* a new connection */
/* Begins a round if it is time: members of so many bytes, one at the least. */
void due_step(struct due *due, int64_t now_ms, size_t bytes);
int64_t due_deadline_ms(const struct due *due); /* monotonic; -1: an answer is waited for */

#endif
