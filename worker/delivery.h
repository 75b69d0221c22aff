/* How the messages of one transport reach the publisher. One thread. They come
 *
 *   from a reading        values become entries, and go to the lane that had left them in Redis, or to the publisher
 *   from the delayed set  members that are due move into the stream, and are read there like any other entry
 *   from other consumers  entries that are pending with a consumer that has no lease, or that were idle for
 *                         `redeliver_timeout` with any, are claimed; their ids join the source's `unread`
 *
 * A redelivered entry may have killed its worker: such entries are handled one at a time, each counted first
 * (source.h). One that merely waits for the hub, or that a handler has in hand, does not hold up the next.
 * Entries that other consumers have acknowledged and not removed are removed (queue_sweep), if the DSN asks for
 * that. */
#ifndef WORKER_DELIVERY_H
#define WORKER_DELIVERY_H

#include "worker/publisher.h"
#include "worker/source.h"

struct delivery_due {
    bool moving;
    bool refused; /* Redis refused a command of this round */
    size_t moved; /* members, in this round */
};

struct delivery_takeover {
    size_t names_left;      /* consumers without an answer yet; not 0: a round is under way */
    size_t count;           /* entries claimed of each consumer, in this round */
    int64_t dead_ms;        /* next look for consumers without a lease; monotonic */
    bool searching;         /* for idle entries */
    size_t search_count;    /* entries a page of the search */
    size_t pages_left;      /* in this search */
    struct stream_id after; /* where the search goes on; 0: at the start */
    int64_t idle_ms;        /* next search for idle entries; monotonic */
    bool sweeping;
    int64_t sweep_ms; /* next sweep; monotonic */
    char swept_until[QUEUE_UNTIL_SIZE];
    /* A claim since delivery_begin failed: Redis may have given us entries without our knowing. */
    bool unanswered;
};

struct delivery {
    struct source *source;
    struct publisher *publisher;
    struct entry *head; /* redelivered entries that wait for their turn (ENTRY_QUEUED), in order */
    bool active;        /* redelivered entries are being handled: nothing else is read */
    struct delivery_due due;
    struct delivery_takeover takeover;
};

/* After a new connection: looks anew for members that are due and for entries of other consumers. */
void delivery_begin(struct delivery *delivery);

/* Gives entries that were read to `lane`, which had left them in Redis. lane NULL: to the publisher, or one at a time
 * if redelivered. Returns how many were taken: those before the first value that the reading had no room for. */
size_t delivery_hand_on(struct delivery *delivery, const struct queue_entry *entries, size_t len,
                        bool redelivered, struct lane *lane);

/* Queues one more redelivered entry. */
void delivery_redeliver(struct delivery *delivery, struct entry *entry);
/* Gives the next redelivered entry to the publisher; those above `delivery_limit` go to the failure transport. */
void delivery_step(struct delivery *delivery, int64_t now_ms);
int64_t delivery_deadline_ms(const struct delivery *delivery); /* monotonic; -1: none */
/* Redelivered entries are being handled: nothing else is to be read. */
bool delivery_is_busy(struct delivery *delivery);
void delivery_forget(struct delivery *delivery);

/* What this worker has pending. has_redelivered: one of these entries is a redelivered one. touch: resets the idle
 * time, so that no other consumer claims them. give_back: delivery counts are taken back, those of new entries to 0.
 * Whoever reads a new entry again finds it new. What a handler has in hand keeps a count of 1 (publisher_end). */
bool delivery_has_redelivered(const struct delivery *delivery);
void delivery_touch_pending(const struct delivery *delivery);
void delivery_give_back(const struct delivery *delivery);

/* If it is time, begins to move members that are due: up to so many bytes, one member at the least. */
void delivery_move_due(struct delivery *delivery, int64_t now_ms, size_t bytes);
/* When delivery_move_due is to be called; monotonic; -1: an answer is awaited. */
int64_t delivery_due_ms(const struct delivery *delivery);

/* If it is time, claims entries that other consumers have left: up to count entries. */
void delivery_take_over(struct delivery *delivery, int64_t now_ms, size_t count);
/* A claim is unanswered: Redis may have given us entries that we don't know of. */
bool delivery_claims_unanswered(const struct delivery *delivery);
/* When the next search for idle entries is due; monotonic; -1: an answer is awaited. Consumers without a lease need no
 * deadline: the loop wakes up often enough. */
int64_t delivery_search_ms(const struct delivery *delivery);

#endif
