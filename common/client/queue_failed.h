/* A queue as Messenger's failure transport: failed messages are its entries, envelopes like any other.
 *
 * Beside the stream stand guards, `{<stream>}__failed:<what>`, one for each entry that a message came from and one for
 * its identity, kept for QUEUE_FAILED_GUARD_S: whoever writes the same message later finds it. Same connection and
 * rules as queue.h. */
#ifndef COMMON_CLIENT_QUEUE_FAILED_H
#define COMMON_CLIENT_QUEUE_FAILED_H

#include "common/client/queue_group.h"

#define QUEUE_FAILED_GUARD_S 604800

/* Adds the message unless it was added before; number is 0 then, else 1. `entry` names the entry that failed: once
 * added it is never added again, also when it has left the stream since. `identity` (may be empty) is the message's,
 * which fails anew when it was retried: with that it is added unless it is still in the stream. */
void queue_add_failed(struct queue *queue, struct bytes entry, struct bytes identity,
                      struct bytes value, queue_number_read *done, void *context);

/* One that is there. */
struct queue_failed_entry {
    struct stream_id id;
    struct bytes value; /* as queue_entry has it (queue_group.h) */
    int64_t idle_ms;    /* a consumer of the group has had it in hand for so long; -1: none has */
    bool handled;       /* the group is through with it, and it stayed in the stream */
};

struct queue_failed_range {
    struct stream_id first; /* both are in the range */
    struct stream_id last;
    bool newest_first;
    size_t count; /* at most */
    size_t bytes; /* as readings take them (queue_group.h) */
};

typedef void queue_failed_read(void *context, int result, const struct queue_failed_entry *entries,
                               size_t len, const struct error *err);
/* None where there is no stream yet. */
void queue_read_failed(struct queue *queue, const struct queue_failed_range *range,
                       queue_failed_read *done, void *context);
/* XACK and XDEL of each; number: how many were there. At most QUEUE_ACKNOWLEDGE_MAX at a time. */
void queue_remove_failed(struct queue *queue, const struct stream_id *ids, size_t len,
                         queue_number_read *done, void *context);

/* How many wait for whoever handles failures, those that are delayed included. What was handled and stayed is not
 * counted, where Redis tells (7 and later). */
void queue_count_failed(struct queue *queue, queue_number_read *done, void *context);

#endif
