/* Append-only log of received messages, between the broker's acknowledgement and Redis.
 *
 * One writer (the MQTT receive thread: spool_append) and one reader (main: all the rest); the two share
 * the tail only, released by the writer and acquired by the reader. spool_append never blocks on anything
 * but the disk, allocates nothing per message, and calls nothing of MQTT's.
 * Sequence numbers start at 1 and never repeat within a spool_id; they may skip numbers (after a reboot,
 * and above a mark that we can't place). Format: docs/SPOOL.md.
 *
 * A record is in one of three states: unsent (behind the read position), sent and not yet committed, and
 * committed (Redis has it), of which the last `retain` bytes are kept for replay.
 *
 * A failed fsync, or a file of ours that can't be opened any more, ends the process (logged, _exit 1):
 * what the disk holds is not known then, and the next start finds out. */
#ifndef CONSUMER_SPOOL_SPOOL_H
#define CONSUMER_SPOOL_SPOOL_H

#include "common/base/bytes.h"
#include "common/base/error.h"

enum spool_sync { SPOOL_SYNC_NONE, SPOOL_SYNC_INTERVAL, SPOOL_SYNC_ALWAYS };

struct spool_options {
    const char *dir; /* <state dir>/spool/<client id>; made if missing */
    int64_t size;    /* bytes on disk at most, reserve included */
    int64_t retain;  /* committed bytes kept for replay */
    enum spool_sync sync;
    const char *client_id;   /* written into segment headers */
    const char *destination; /* DSN without password and options, and stream: likewise */
};

struct spool;

/* One message. When read: bytes point into the spool's memory and live until the record is committed, or
 * spool_apply_mark moves the position. Times are wall µs. */
struct spool_message {
    uint64_t sequence; /* given by spool_append */
    uint64_t
        identity; /* spool_append: the identity of the message that this one repeats, or 0; it and
                          spool_next give back what it is: its own sequence, or the repeated one's */
    uint64_t run; /* which start of the consumer stored it */
    int64_t received_us;
    int qos;
    bool retained;
    uint16_t packet_id;
    struct bytes topic;
    struct bytes payload;
    struct bytes properties; /* MQTT 5, raw; may be empty */
};

/* Opens or creates the spool in options->dir and recovers it: see recover.h for what damage is survived.
 * Returns 0, or with err filled -ERR_LOCKED if another process has it, -ERR_FORMAT, -ERR_REFUSED (made by
 * a later version), -ERR_FULL, -ERR_SYSTEM. A disk that is full is no reason not to open a spool that has
 * something to send: it then is above high water. Sizes are clamped: size to at least 1M, retain to half
 * of what size leaves beside the reserve. */
MUST_CHECK int spool_open(struct spool **spool, const struct spool_options *options,
                          struct error *err);
/* No append may be under way. */
void spool_close(struct spool *spool);

/* Removes all segments' files, but puts aside those that are damaged (NUMBER.damaged): they are read whole
 * for it. When everything is committed and nothing will be appended; all that may follow is spool_close. */
void spool_remove_segments(struct spool *spool);

/* Before anything is appended or read: the youngest messages, oldest first, `count` and about 64 MB at
 * the most. */
typedef void spool_seen(void *context, const struct spool_message *message);
void spool_load_recent(struct spool *spool, uint64_t count, spool_seen *seen, void *context);

/* Writer. Returns 0; -ERR_FULL when size is used up, -ERR_SYSTEM when the disk says no: in both cases
 * nothing was stored, and the message must not be acknowledged (the caller ends the process).
 * -ERR_TOO_LARGE: nor could it ever be stored, `size` being too small. */
MUST_CHECK int spool_append(struct spool *spool, struct spool_message *message, struct error *err);

/* eventfd that becomes readable when something was appended after spool_arm_wakeup said yes. */
int spool_event_fd(const struct spool *spool);
/* Reader: true: nothing unread, and the writer will write the eventfd; false: there is something. */
bool spool_arm_wakeup(struct spool *spool);
/* The reader is awake again: drains the eventfd. Readable without a new record means that the writer
 * began a segment: the next spare is made here. */
void spool_disarm_wakeup(struct spool *spool);

/* Reader. 1: *message is the next unsent record, and the position moved past it; 0: none now;
 * negative: damage was met and skipped (err says where and how much; counted), call again. */
int spool_next(struct spool *spool, struct spool_message *message, struct error *err);

/* All up to and including this sequence are in Redis. Frees what is above `retain`. Sequences that were
 * not handed out since the last spool_apply_mark are ignored. */
void spool_commit(struct spool *spool, uint64_t sequence);

/* What the mark read from Redis on a connect means; the read position moves accordingly, behind the mark.
 * mark: `<run, 16 hex digits>:<sequence>`, or empty if Redis has none. It is taken as the mark of
 * spool_mark_destination: records of other destinations are neither replayed nor missed. */
enum mark_kind {
    MARK_IN_STEP, /* the mark is our committed position */
    MARK_AHEAD,   /* it is ahead of it: sent before, the reply was lost; committed now */
    MARK_BEHIND,  /* it is behind: position moved back to it */
    MARK_GAP, /* it is behind what is kept: position at the oldest kept; `missing` say how many */
    MARK_UNKNOWN_RUN /* a mark we can't place (unknown run, or above our last): everything kept is sent
                         again; next_sequence is raised above the mark. Repeats are possible. */
};
struct mark_result {
    enum mark_kind kind;
    uint64_t position; /* sequence of the record that spool_next gives next */
    uint64_t missing; /* at most: sequences that were skipped can't always be told from lost ones */
    uint64_t replayed; /* records that were committed and will be given once more */
};
struct mark_result spool_apply_mark(struct spool *spool, struct bytes mark);

/* The mark after a record: what Redis will be told. text needs 40 bytes. */
void spool_mark_text(uint64_t run, uint64_t sequence, char text[40]);

/* Where the record that spool_next gives next has to go: options->destination, or that of an earlier run
 * whose records are not all committed. Valid until the next call. */
const char *spool_destination(const struct spool *spool);
/* Where the first record that is not committed has to go: whose mark spool_apply_mark is to be given. Differs
 * from the above only while records of an earlier destination are under way: wait for their reply before
 * turning to the next, and after a broken connection ask here where to connect to. */
const char *spool_mark_destination(const struct spool *spool);

/* What earlier destinations have not taken, as far as is known, belongs to options->destination from now
 * on, and at later starts. Returns how many records may be among it. Only before the first append. */
uint64_t spool_redirect(struct spool *spool);

const char *spool_id(const struct spool *spool); /* 32 hex digits */
uint64_t spool_run(const struct spool *spool);

struct spool_state {
    uint64_t used_bytes;   /* on disk: unsent, kept, and the space reserved for the next */
    uint64_t unsent_bytes; /* not yet committed */
    uint64_t unsent_records;
    uint64_t limit_bytes;
    uint64_t damaged_records; /* since spool_open, recovery's included */
    uint64_t last_sequence;
    uint64_t committed_sequence; /* no committed record is above it, no uncommitted one below */
};
void spool_state(const struct spool *spool, struct spool_state *state);

/* Back-pressure: above high water (no more than the reserve is left, or the disk itself has no room for
 * the next segment) the broker is to be left; below low water (unsent records take half of what they may)
 * joined. Never both. To be asked in every turn of main's loop: the files are seen to here as well, above
 * all the next spare segment. */
bool spool_above_high_water(struct spool *spool);
bool spool_below_low_water(struct spool *spool);

/* sync = interval: main calls this about once a second. Everything appended so far is on the disk when it
 * returns. A failed fsync ends the process. */
void spool_sync_interval(struct spool *spool);

#endif
