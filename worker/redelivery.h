/* Redelivered entries, which a worker may have died of: handled one at a time, each counted before (source.h).
 * An entry that merely waits for the hub, or for its handler, holds up the next one no longer. One thread. */
#ifndef WORKER_REDELIVERY_H
#define WORKER_REDELIVERY_H

#include "worker/publisher.h"
#include "worker/source.h"

struct redelivery {
    struct source *source;
    struct publisher *publisher;
    struct entry *head; /* ENTRY_QUEUED, in their order */
    bool active;        /* the entries at hand are redelivered ones */
};

void redelivery_add(struct redelivery *redelivery, struct entry *entry);
/* Hands on the next one, or those above `delivery_limit` to the failure transport. */
void redelivery_step(struct redelivery *redelivery, int64_t now_ms);
int64_t redelivery_deadline_ms(const struct redelivery *redelivery); /* monotonic; -1: none */
/* Of something that is pending and was read here a worker, or a handler, may have died. */
bool redelivery_may_be_pending(const struct redelivery *redelivery);
/* Some are at hand: nothing else is to be read. */
bool redelivery_is_busy(struct redelivery *redelivery);
void redelivery_forget(struct redelivery *redelivery);

#endif
