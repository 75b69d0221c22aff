/* What a reading brought becomes entries, and is handed on: to the lane that had left them, or to the publisher. Those that
 * a worker may have died of are handled one at a time, each counted before (source.h). An entry that merely waits for the
 * hub, or that a handler has, holds up the next one no longer. One thread. */
#ifndef WORKER_DELIVERY_H
#define WORKER_DELIVERY_H

#include "worker/publisher.h"
#include "worker/source.h"

struct delivery {
    struct source *source;
    struct publisher *publisher;
    struct entry *head; /* redelivered, ENTRY_QUEUED, in their order */
    bool active;        /* the entries at hand are redelivered ones */
};

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

#endif
