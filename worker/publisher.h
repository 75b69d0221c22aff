/* Entries on their way to the hub: one lane a connection, a topic always in the same lane, so that order
 * per topic holds; one request a lane at a time. An entry whose answer means "wait" stays at the head of
 * its lane and the breaker opens. Everything else leaves through settle. One thread. */
#ifndef WORKER_PUBLISHER_H
#define WORKER_PUBLISHER_H

#include "common/base/child.h"
#include "common/client/hub.h"
#include "worker/entry.h"

struct publisher;

/* -ERR_USAGE from hub_new. */
MUST_CHECK int publisher_new(struct publisher **publisher, const struct child *child,
                             struct error *err);
void publisher_free(struct publisher *publisher); /* before the intakes: releases their entries */
struct hub *publisher_hub(struct publisher *publisher);

void publisher_add(struct publisher *publisher, struct entry *entry);
/* Sends what may be sent now. */
void publisher_turn(struct publisher *publisher, int64_t now_ms);
/* Drops, unsettled, what is not on the wire of that intake: it has lost its connection and will read its
 * pending entries anew. */
void publisher_forget(struct publisher *publisher, const struct intake *intake);
size_t publisher_in_flight(const struct publisher *publisher, const struct intake *intake);

bool publisher_is_resting(const struct publisher *publisher); /* the breaker is not closed */
/* Because token or URL were refused for all there is: another topic's entry would tell more. */
bool publisher_wants_another(const struct publisher *publisher);
/* The same, and all that has come is known to be refused: read on, however much of that is open. */
bool publisher_wants_beyond(const struct publisher *publisher);
const char *publisher_trouble(const struct publisher *publisher); /* "" : none */
int64_t publisher_deadline_ms(const struct publisher *publisher); /* monotonic; -1: none */

#endif
