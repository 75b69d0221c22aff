/* Entries on their way to the hub: a lane a topic, lanes in turn, each with one request in flight at the most
 * and all together as many as the window allows. Who is blamed for what fails is suspicion.h's business,
 * whether anything is sent at all the breaker's. An entry that is done with is settled.
 *
 * What is set aside may take `prefetch_bytes`. What goes beyond is released and left in Redis, behind its lane:
 * whoever reads takes it from there, in order, once the lane has nothing else. One thread. */
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
/* To its handler first, if it has one. */
void publisher_add(struct publisher *publisher, struct entry *entry);
/* Sends what may be sent now. */
void publisher_step(struct publisher *publisher, int64_t now_ms);
/* Releases what is not in flight of that source, and forgets what is left of it. Gives up what the hub has left
 * unanswered for long while it answered others. */
void publisher_forget(struct publisher *publisher, const struct source *source, int64_t now_ms);
/* The worker ends: what waits for the hub is released, and stays pending. */
void publisher_stop(struct publisher *publisher);
/* Nothing is in flight but what the hub has left unanswered for long while it answered others. */
bool publisher_is_drained(const struct publisher *publisher, int64_t now_ms);

bool publisher_is_blocked(const struct publisher *publisher); /* the breaker is not closed */
/* No topic that waits is without a refusal, and our own probe was refused: a message of another topic is needed. */
bool publisher_wants_another(const struct publisher *publisher);
/* Others may be read beside what is set aside. While the breaker is not closed, one page more after each refusal:
 * with a token that is wrong for all, memory fills slowly. */
bool publisher_wants_beyond(const struct publisher *publisher);
const char *publisher_trouble(const struct publisher *publisher); /* "" : none */
int64_t publisher_deadline_ms(const struct publisher *publisher); /* monotonic; -1: none */

#endif
