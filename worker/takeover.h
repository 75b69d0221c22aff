/* Finds entries that others have pending and work on no longer: those of names without a lease, and those that
 * were idle for `redeliver_timeout` with anybody. They are ours then, and their ids join the source's `unread`. What others
 * have acknowledged and not removed is removed (queue_sweep), where that is what the DSN says of such. */
#ifndef WORKER_TAKEOVER_H
#define WORKER_TAKEOVER_H

#include "worker/source.h"

struct takeover {
    struct source *source;
    size_t names_left; /* whose answer is not here yet; not 0: a round is under way */
    size_t count;      /* of each name, in this round */
    int64_t dead_ms;   /* names are looked through then; monotonic */
    bool searching;    /* for idle ones */
    size_t search_count;
    size_t pages_left;      /* in this search */
    struct stream_id after; /* where the search goes on; 0: at the start */
    int64_t idle_ms;        /* the next search */
    bool sweeping;
    int64_t sweep_ms; /* the next one */
    char swept_until[QUEUE_UNTIL_SIZE];
    bool
        unanswered; /* what was asked since takeover_begin: it may have brought some all the same */
};

void takeover_begin(struct takeover *takeover); /* a new connection */
/* Does what is due: up to count entries. */
void takeover_step(struct takeover *takeover, int64_t now_ms, size_t count);
/* Entries may be ours by now that we have not been told of. */
bool takeover_is_in_doubt(const struct takeover *takeover);
/* Of the search for idle ones, monotonic; -1: an answer is waited for. Whatever wakes us looks for names. */
int64_t takeover_deadline_ms(const struct takeover *takeover);

#endif
