/* The workers' side of a queue: the consumer group, leases on consumer names, the delayed set; and the queue as
 * Messenger's failure transport.
 *
 * The group knows a worker by its consumer name. The worker holds a lease on that name, the key `{<stream>}__owner:…`
 * with a token, and renews it. While the lease stands no other worker claims the name's pending entries; once it has
 * gone any worker may, at once. Names that were ever registered are in `{<stream>}__consumers:…`.
 *
 * Connection and rules are those of queue.h. The arguments of a callback are valid during the callback only. */
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

/* Readings have an argument `bytes`: values beyond so many bytes together are left out, and so are all behind them. The
 * first value is never left out. */
struct queue_entry {
    struct stream_id id;
    /* The field `message`, or a list of all fields where there are others (envelope_fields_encode).
     * data NULL: left out, or, with len 0, gone (trimmed, deleted) */
    struct bytes value;
    /* As the group counts them: 1 for a new entry. 0: a worker has given it back. Who handles it sets the count to 1
     * first (queue_claim); a claim has set it already. */
    uint32_t deliveries;
    /* queue_read_failed alone says: */
    int64_t idle_ms; /* a consumer has had the entry pending for so long; -1: none has */
    bool handled;    /* the group has acknowledged the entry, which stayed in the stream */
};

typedef void queue_entries_read(void *context, int result, const struct queue_entry *entries,
                                size_t len, const struct error *err);
/* next: the last id that was looked at, behind which to go on; 0-0: no entries are left. */
typedef void queue_idle_taken(void *context, int result, const struct queue_entry *entries,
                              size_t len, struct stream_id next, const struct error *err);
/* until: how far the group had delivered at this call, for the next one; valid during the callback. */
typedef void queue_swept(void *context, int result, struct bytes until, int64_t removed,
                         const struct error *err);
typedef void queue_names_read(void *context, int result, const struct bytes *names, size_t len,
                              const struct error *err);

/* XGROUP CREATE … MKSTREAM; an existing group is fine. A new group begins at the stream's start, or, if acknowledged
 * entries are kept, behind the last one acknowledged. */
void queue_create_group(struct queue *queue, queue_done *done, void *context);
/* As queue_create_group; number: 2 stream and group were made, 1 the group alone, 0 both existed. */
void queue_set_up(struct queue *queue, queue_number_read *done, void *context);

/* The names of the stream's groups. An entry that one group removes (XDEL) or trims is gone for all groups. */
void queue_read_groups(struct queue *queue, queue_names_read *done, void *context);

/* number: 0 another process holds the lease (wait); 1 taken; 2 taken, and it had not been given back. first: this
 * process has not held it yet, so a lease of our instance is that of a dead predecessor. Afterwards only a lease with
 * our own token is ours. So two hosts with one instance id do not take it from each other in turn. */
void queue_take_lease(struct queue *queue, const struct queue_reader *reader, bool first,
                      queue_number_read *done, void *context);
void queue_renew_lease(struct queue *queue, const struct queue_reader *reader,
                       queue_number_read *done, void *context); /* 0: lost */
void queue_release_lease(struct queue *queue, const struct queue_reader *reader, queue_done *done,
                         void *context);

/* XREADGROUP >; block_ms 0: don't wait. result -ERR_NOT_FOUND: there is no such group. */
void queue_read_new(struct queue *queue, const char *consumer, size_t count, size_t bytes,
                    int64_t block_ms, queue_entries_read *done, void *context);
/* What `consumer` has pending after that id, oldest first. No delivery count is raised. */
void queue_read_pending(struct queue *queue, const char *consumer, struct stream_id after,
                        size_t count, size_t bytes, queue_entries_read *done, void *context);
/* Entries by id, in that order, with how often the group has delivered them. */
void queue_read_ids(struct queue *queue, const struct stream_id *ids, size_t len, size_t bytes,
                    queue_entries_read *done, void *context);

/* XACK, and XDEL if `remove`. If entries are kept, saves for queue_create_group how far the group is. At most
 * QUEUE_ACKNOWLEDGE_MAX at a time. */
void queue_acknowledge(struct queue *queue, const struct stream_id *ids, size_t len, bool remove,
                       queue_done *done, void *context);
/* Moves an entry from the stream into the delayed set in one step; number 0: the entry is no longer ours. */
void queue_retry(struct queue *queue, const char *consumer, struct stream_id id, int64_t due_ms,
                 struct bytes member, queue_number_read *done, void *context);

/* Members of the delayed set that are due, oldest first (data NULL: left out). The number of queue_next_due is the
 * soonest due time in ms (wall), -1 when the set is empty. */
void queue_read_due(struct queue *queue, int64_t now_ms, size_t count, size_t bytes,
                    queue_names_read *done, void *context);
void queue_next_due(struct queue *queue, queue_number_read *done, void *context);
/* Moves a member that is due into the stream. number 0: another worker has moved it, or is about to: its due time is
 * then later than now_ms (wall). */
void queue_move(struct queue *queue, struct bytes member, struct bytes value, int64_t now_ms,
                queue_number_read *done, void *context);

/* The consumer names that were registered. */
void queue_read_names(struct queue *queue, queue_names_read *done, void *context);
/* Claims up to count entries of a name without a lease: they are ours from now on. Only their ids and delivery counts
 * are read. */
void queue_take_over_dead(struct queue *queue, const char *consumer, struct bytes name,
                          size_t count, queue_entries_read *done, void *context);
/* The same, in one step, for up to count entries of other consumers that were idle for that long. Begins behind the id
 * `after` (0-0: from the start). Looks at most at QUEUE_IDLE_PAGE idle entries, which include our own. So a page
 * without entries of others does not mean that none come behind it. */
void queue_take_over_idle(struct queue *queue, const char *consumer, int64_t idle_ms,
                          struct stream_id after, size_t count, queue_idle_taken *done,
                          void *context);
/* Removes up to QUEUE_SWEEP_MAX entries that were acknowledged and left in the stream, as by a PHP worker that dies
 * between XACK and XDEL. An entry is removed if the group has delivered it, no consumer has it pending, and both were
 * true at the previous call. That call returned `until` (empty: the first call, which removes nothing). An entry stays
 * if the stream has another group, or if it may have left the pending entries without an acknowledgement. So it stays
 * if it was delivered before the point that `{<stream>}__since:<group>` keeps. The first call sets that point. It is
 * set anew after an XGROUP (SETID, DELCONSUMER, DESTROY, for any stream of the server), or when another server answers.
 * Needs the right to INFO, and both delete_after options. */
void queue_sweep(struct queue *queue, const char *until, queue_swept *done, void *context);
/* Resets the idle time of the consumer's own entries. deliveries: what their delivery counts are set to; -1: they stay. */
void queue_claim(struct queue *queue, const char *consumer, const struct stream_id *ids, size_t len,
                 int64_t deliveries, queue_done *done, void *context);

/* As Messenger's failure transport: failed messages are its entries, envelopes like any other. */

/* Guards are keys beside the stream, `{<stream>}__failed:<what>`: one for the entry that a message came from, and one
 * for the message's identity. They stand for QUEUE_FAILED_GUARD_S, so that a second write of one message is noticed. */
#define QUEUE_FAILED_GUARD_S 604800

/* Adds the message unless it was added before; number is 0 then, else 1. `entry` names the entry that failed: it is
 * never added again, also if it has left the stream since. `identity` (may be empty) is the message's. A message that
 * was retried fails under a new entry: it is added unless one of its identity is still in the stream. */
void queue_add_failed(struct queue *queue, struct bytes entry, struct bytes identity,
                      struct bytes value, queue_number_read *done, void *context);

struct queue_failed_range {
    struct stream_id first; /* included */
    struct stream_id last;  /* included */
    bool newest_first;
    size_t count; /* at most */
    size_t bytes; /* as for other readings */
};

/* A stream that does not exist yet has no entries. */
void queue_read_failed(struct queue *queue, const struct queue_failed_range *range,
                       queue_entries_read *done, void *context);
/* XACK and XDEL of each entry; number: how many existed. At most QUEUE_ACKNOWLEDGE_MAX at a time. */
void queue_remove_failed(struct queue *queue, const struct stream_id *ids, size_t len,
                         queue_number_read *done, void *context);

/* How many failed messages wait to be handled, delayed ones included. Handled entries that stayed in the stream are not
 * counted, if Redis can tell (7 and later). */
void queue_count_failed(struct queue *queue, queue_number_read *done, void *context);

#endif
