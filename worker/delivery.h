/* What of one transport reaches the publisher. One thread. It comes
 *
 *   from a reading       which becomes entries, and is handed on: to the lane that had left them, or to the publisher
 *   from the delayed set whose members that are due move into the stream, where they are read like any other
 *   from others          who have it pending and work on it no longer: names without a lease, and what was idle for
 *                        `redeliver_timeout` with anybody. It is ours then, and its ids join the source's `unread`
 *
 * What a worker may have died of is handled one at a time, each counted before (source.h). An entry that merely waits for
 * the hub, or that a handler has, holds up the next one no longer. What others have acknowledged and not removed is removed
 * (queue_sweep), where that is what the DSN says of such. */
#ifndef WORKER_DELIVERY_H
#define WORKER_DELIVERY_H

#include "worker/publisher.h"
#include "worker/source.h"

struct delivery_due {
    bool moving;
    bool refused; /* something in this round */
    size_t moved; /* in this round */
};

struct delivery_takeover {
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
    /* What was asked since delivery_begin was not answered: it may have brought some all the same. */
    bool unanswered;
};

struct delivery {
    struct source *source;
    struct publisher *publisher;
    struct entry *head; /* redelivered, ENTRY_QUEUED, in their order */
    bool active;        /* the entries at hand are redelivered ones */
    struct delivery_due due;
    struct delivery_takeover takeover;
};

void delivery_begin(
    struct delivery *delivery); /* a new connection: what is due and of others is looked for anew */

/* To `lane`, which had left them; NULL: to be handled one at a time if redelivered, else to the publisher.
 * Returns how many came before the first that the reading left out. */
size_t delivery_hand_on(struct delivery *delivery, const struct queue_entry *entries, size_t len,
                        bool redelivered, struct lane *lane);

/* Redelivered ones: one more. */
void delivery_redeliver(struct delivery *delivery, struct entry *entry);
/* Hands on the next one, or those above `delivery_limit` to the failure transport. */
void delivery_step(struct delivery *delivery, int64_t now_ms);
int64_t delivery_deadline_ms(const struct delivery *delivery); /* monotonic; -1: none */
/* Some are at hand: nothing else is to be read. */
bool delivery_is_busy(struct delivery *delivery);
/* Something that is pending and was read here is one. */
bool delivery_has_redelivered(const struct delivery *delivery);
void delivery_forget(struct delivery *delivery);

/* Begins to move what is due if it is time: members of so many bytes, one at the least. */
void delivery_move_due(struct delivery *delivery, int64_t now_ms, size_t bytes);
int64_t
delivery_due_ms(const struct delivery *delivery); /* monotonic; -1: an answer is waited for */

/* Looks for what others have left, if it is time: up to count entries. */
void delivery_take_over(struct delivery *delivery, int64_t now_ms, size_t count);
/* Entries may be ours by now that we have not been told of. */
bool delivery_is_in_doubt(const struct delivery *delivery);
/* Of the search for idle ones, monotonic; -1: an answer is waited for. Whatever wakes us looks for names. */
int64_t delivery_search_ms(const struct delivery *delivery);

#endif
