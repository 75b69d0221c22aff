/* A queue as Messenger's failure transport: failed messages are its entries, envelopes like any other.
 *
 * Beside the stream stand guards, `{<stream>}__failed:<what>`, one for each entry that a message came from and one for
 * its identity, kept for QUEUE_FAILED_GUARD_S: whoever writes the same message later finds it. Same connection and
 * rules as queue.h. */
#ifndef COMMON_CLIENT_QUEUE_FAILED_H
#define COMMON_CLIENT_QUEUE_FAILED_H

#include "common/client/queue.h"

#define QUEUE_FAILED_GUARD_S 604800

/* Adds the message unless it was added before; number is 0 then, else 1. `entry` names the entry that failed: once
 * added it is never added again, also when it has left the stream since. `identity` (may be empty) is the message's,
 * which fails anew when it was retried: with that it is added unless it is still in the stream. */
void queue_add_failed(struct queue *queue, struct bytes entry, struct bytes identity,
                      struct bytes value, queue_number_read *done, void *context);

/* How many wait for whoever handles failures, those that are delayed included. */
void queue_count_failed(struct queue *queue, queue_number_read *done, void *context);

#endif
