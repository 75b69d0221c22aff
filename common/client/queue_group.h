/* The workers' side of a queue: the consumer group, leases on consumer names, the delayed set; and the queue as
 * Messenger's failure transport.
 *
 * A worker is known to the group by its consumer name. Beside it stands a lease, `{<stream>}__owner:…`,
 * held with a token and renewed: as long as it stands nobody else takes what this name has pending; once
 * it is gone anybody may, at once. Names that were ever registered are in `{<stream>}__consumers:…`.
 *
 * Same connection and rules as queue.h. What a callback is handed lives during the callback only. */
#ifndef COMMON_CLIENT_QUEUE_GROUP_H
#define COMMON_CLIENT_QUEUE_GROUP_H

#include "common/client/queue.h"

#define QUEUE_LEASE_MS        15000
#define QUEUE_RENEW_MS        5000
#define QUEUE_ACKNOWLEDGE_MAX 1000
#define QUEUE_IDLE_PAGE       256
#define QUEUE_SWEEP_MAX       10
#define QUEUE_UNTIL_SIZE      (STREAM_ID_TEXT_SIZE + 1)

/* Who reads: the consumer name in the group, and the token `<instance>:<random>` of its lease. */
struct queue_reader {
    const char *consumer;
    const char *instance;
    const char *token;
};

/* Readings take `bytes`: values beyond so many bytes together are left out, and all behind them; the first value
 * never is. */
struct queue_entry {
    struct stream_id id;
    /* The field `message`, or a list of all fields where there are others (envelope_fields_encode).
     * data NULL: left out, or, with len 0, gone (trimmed, deleted) */
    struct bytes value;
    uint32_t deliveries; /* as the group counts them; 1 for a new entry */
    /* queue_read_failed alone says: */
    int64_t idle_ms; /* a consumer of the group has had it in hand for so long; -1: none has */
    bool handled;    /* the group is through with it, and it stayed in the stream */
};

typedef void queue_entries_read(void *context, int result, const struct queue_entry *entries,
                                size_t len, const struct error *err);
typedef void queue_ids_read(void *context, int result, const struct stream_id *ids, size_t len,
                            const struct error *err);
/* next: the last id that was looked at, to go on behind; 0-0 once there is nothing more. */
typedef void queue_idle_taken(void *context, int result, const struct stream_id *ids, size_t len,
                              struct stream_id next, const struct error *err);
/* until: how far the group was through just now, for the next look; lives during the callback. */
typedef void queue_swept(void *context, int result, struct bytes until, int64_t removed,
                         const struct error *err);
typedef void queue_names_read(void *context, int result, const struct bytes *names, size_t len,
                              const struct error *err);

/* XGROUP CREATE … MKSTREAM; a group that is there is fine. A new one begins at the stream's start, or,
 * where acknowledged entries are kept, behind the last one acknowledged. */
void queue_create_group(struct queue *queue, queue_done *done, void *context);
/* The same; number: 2 stream and group were made, 1 the group alone, 0 both were there. */
void queue_set_up(struct queue *queue, queue_number_read *done, void *context);

/* The names of the stream's groups. What one of them acknowledges with XDEL, or trims, is gone for all. */
void queue_read_groups(struct queue *queue, queue_names_read *done, void *context);

/* number: 0 somebody else holds it (wait), 1 taken, 2 taken, and it had not been given back. first: this
 * process has not had it yet, so that one of our instance is a dead predecessor's; afterwards only one
 * with our own token is ours: two hosts that share an instance id do not take it from each other in turn. */
void queue_take_lease(struct queue *queue, const struct queue_reader *reader, bool first,
                      queue_number_read *done, void *context);
void queue_renew_lease(struct queue *queue, const struct queue_reader *reader,
                       queue_number_read *done, void *context); /* 0: lost */
void queue_release_lease(struct queue *queue, const struct queue_reader *reader, queue_done *done,
                         void *context);

/* XREADGROUP >; block_ms 0: don't wait. result -ERR_NOT_FOUND: there is no such group. */
void queue_read_new(struct queue *queue, const char *consumer, size_t count, size_t bytes,
                    int64_t block_ms, queue_entries_read *done, void *context);
/* What `consumer` has pending after that id, oldest first, without raising a delivery count. */
void queue_read_pending(struct queue *queue, const char *consumer, struct stream_id after,
                        size_t count, size_t bytes, queue_entries_read *done, void *context);
/* Entries by id, in that order, with how often the group has delivered them. */
void queue_read_ids(struct queue *queue, const struct stream_id *ids, size_t len, size_t bytes,
                    queue_entries_read *done, void *context);

/* XACK, and XDEL where `remove`; where entries are kept, remembers for queue_create_group how far. At most
 * QUEUE_ACKNOWLEDGE_MAX at a time. */
void queue_acknowledge(struct queue *queue, const struct stream_id *ids, size_t len, bool remove,
                       queue_done *done, void *context);
/* Into the delayed set and out of the stream in one step; number 0: the entry is no longer ours. */
void queue_retry(struct queue *queue, const char *consumer, struct stream_id id, int64_t due_ms,
                 struct bytes member, queue_number_read *done, void *context);

/* Members of the delayed set that are due, oldest first (data NULL: left out); number of the soonest due time in ms (wall)
 * comes from queue_next_due: -1 when the set is empty. */
void queue_read_due(struct queue *queue, int64_t now_ms, size_t count, size_t bytes,
                    queue_names_read *done, void *context);
void queue_next_due(struct queue *queue, queue_number_read *done, void *context);
/* number 0: somebody else has moved it, or has it in hand: it is due later than now_ms (wall). */
void queue_move(struct queue *queue, struct bytes member, struct bytes value, int64_t now_ms,
                queue_number_read *done, void *context);

/* Names that were registered. */
void queue_read_names(struct queue *queue, queue_names_read *done, void *context);
/* Takes over up to count entries of a name that has no lease; ids are ours now. */
void queue_take_over_dead(struct queue *queue, const char *consumer, struct bytes name,
                          size_t count, queue_ids_read *done, void *context);
/* Takes over up to count entries of any other consumer that were idle for that long, behind the id `after`
 * (0-0: from the start), in one step. Looks at QUEUE_IDLE_PAGE idle ones at the most, our own
 * among them: a page without one of others says nothing of those behind it. */
void queue_take_over_idle(struct queue *queue, const char *consumer, int64_t idle_ms,
                          struct stream_id after, size_t count, queue_idle_taken *done,
                          void *context);
/* Removes up to QUEUE_SWEEP_MAX entries that somebody acknowledged and left in the stream, as a PHP worker does that dies
 * between its XACK and its XDEL. What goes is what the group has delivered and nobody has pending, if that was so
 * already at the look that gave `until` (empty: only look). It stays if there is another group, and where it can't be
 * told that it was acknowledged: what the group was through with before a first look, which `{<stream>}__since:<group>`
 * keeps, and before a look that finds that XGROUP was called since (SETID, DELCONSUMER, DESTROY, of any stream of the
 * server) or another server. Not without a right to INFO. Only where both delete_after options are on. */
void queue_sweep(struct queue *queue, const char *until, queue_swept *done, void *context);
/* Resets the idle time of entries that are still being worked on. */
void queue_touch(struct queue *queue, const char *consumer, const struct stream_id *ids, size_t len,
                 queue_done *done, void *context);
/* Sets the delivery count of one entry. */
void queue_set_deliveries(struct queue *queue, const char *consumer, struct stream_id id,
                          uint32_t count, queue_done *done, void *context);

/* As Messenger's failure transport: failed messages are its entries, envelopes like any other -------- */

/* Beside the stream stand guards, `{<stream>}__failed:<what>`, one for each entry that a message came from and one for
 * its identity, kept for QUEUE_FAILED_GUARD_S: whoever writes the same message later finds it. */
#define QUEUE_FAILED_GUARD_S 604800

/* Adds the message unless it was added before; number is 0 then, else 1. `entry` names the entry that failed: once
 * added it is never added again, also when it has left the stream since. `identity` (may be empty) is the message's,
 * which fails anew when it was retried: with that it is added unless it is still in the stream. */
void queue_add_failed(struct queue *queue, struct bytes entry, struct bytes identity,
                      struct bytes value, queue_number_read *done, void *context);

struct queue_failed_range {
    struct stream_id first; /* both are in the range */
    struct stream_id last;
    bool newest_first;
    size_t count; /* at most */
    size_t bytes; /* as readings take them */
};

/* None where there is no stream yet. */
void queue_read_failed(struct queue *queue, const struct queue_failed_range *range,
                       queue_entries_read *done, void *context);
/* XACK and XDEL of each; number: how many were there. At most QUEUE_ACKNOWLEDGE_MAX at a time. */
void queue_remove_failed(struct queue *queue, const struct stream_id *ids, size_t len,
                         queue_number_read *done, void *context);

/* How many wait for whoever handles failures, those that are delayed included. What was handled and stayed is not
 * counted, where Redis tells (7 and later). */
void queue_count_failed(struct queue *queue, queue_number_read *done, void *context);

#endif
