/* What a reading brought, made into entries and handed on. */
#ifndef WORKER_DELIVERY_H
#define WORKER_DELIVERY_H

#include "worker/redelivery.h"

/* To the lane that had left them; lane NULL: to be handled one at a time if redelivered, else to the publisher.
 * Returns how many came before the first that the reading left out. */
size_t delivery_hand_on(struct redelivery *redelivery, const struct queue_entry *entries,
                        size_t len, bool redelivered, struct lane *lane);

#endif
