/* Publishes entries to the hub and settles them. Each topic has a lane with one request in flight at the most. Lanes
 * take turns, and all together have as many requests in flight as the window allows. suspicion.h decides which message
 * is blamed for a failure, and the breaker whether anything is sent.
 *
 * Entries that are set aside may take `prefetch_bytes`. Further ones are released and left in Redis (lane->left); the
 * reader reads them again, in order, once their lane has no other entries. One thread. */
#ifndef WORKER_PUBLISHER_H
#define WORKER_PUBLISHER_H

#include "common/client/hub.h"
#include "common/runtime/child.h"
#include "worker/handlers.h"
#include "worker/lane.h"

struct publisher;

/* -ERR_USAGE from hub_new. */
MUST_CHECK int publisher_new(struct publisher **publisher, const struct child *child,
                             struct error *err);
void publisher_free(struct publisher *publisher); /* releases all entries */
struct hub *publisher_hub(struct publisher *publisher);
struct lanes *publisher_lanes(struct publisher *publisher);
struct handlers *publisher_handlers(struct publisher *publisher);

/* Finds the entry's route, which says whether it is dropped: publication_drops. */
void publisher_match(struct publisher *publisher, struct entry *entry);
/* Queues the entry for its handler, or, without one, for the hub. */
void publisher_add(struct publisher *publisher, struct entry *entry);
/* Sends what may be sent now. */
void publisher_step(struct publisher *publisher, int64_t now_ms);
/* Releases the entries of that source that are not in flight, and forgets those that are left. Requests that are
 * overdue for long are given up. */
void publisher_forget(struct publisher *publisher, const struct source *source, int64_t now_ms);
/* The worker ends: entries that wait for the hub are released, and stay pending. */
void publisher_stop(struct publisher *publisher);
/* Before the worker gives back its entries: nothing is sent any more, since others may read the entries and send them.
 * Answers are still taken. Entries in a handler's hand become redelivered: whoever reads them
 * next does not find them new. */
void publisher_end(struct publisher *publisher);
/* Nothing is in flight but requests that are overdue for long. */
bool publisher_is_drained(const struct publisher *publisher, int64_t now_ms);

bool publisher_is_blocked(const struct publisher *publisher); /* the breaker is not closed */
/* The hub refused our own probe and every topic that waits: a message of another topic is needed as the probe. */
bool publisher_wants_another(const struct publisher *publisher);
/* More entries may be read beside those that are set aside. While the breaker is not closed, that is one page after
 * each refusal: with a token that is wrong for all topics, memory fills slowly. */
bool publisher_wants_beyond(const struct publisher *publisher);
const char *publisher_trouble(const struct publisher *publisher); /* "" : none */
int64_t publisher_deadline_ms(const struct publisher *publisher); /* monotonic; -1: none */

#endif
