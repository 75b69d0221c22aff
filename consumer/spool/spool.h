/* Append-only log of received messages, between the broker's acknowledgement and Redis.
 *
 * One writer (the MQTT receive thread) and one reader (main); the two share the tail only, released by the
 * writer and acquired by the reader. spool_append waits for nothing but the disk, and for main while that reuses the
 * last segment of a full disk or raises the next sequence (spool_apply_mark). It allocates nothing per message, and
 * calls nothing of MQTT's.
 * Sequence numbers start at 1, may skip numbers, and never repeat within a spool_id. Format and rules:
 * docs/SPOOL.md.
 *
 * A record is in one of three states: unsent (behind the read position), sent and not yet committed, and
 * committed (Redis has it), of which the last `retain` bytes are kept for replay.
 *
 * A failed fsync, or a segment that can't be opened any more, ends the process (logged, _exit 1): what the disk
 * holds is not known then, and the next start finds out. */
#ifndef CONSUMER_SPOOL_SPOOL_H
#define CONSUMER_SPOOL_SPOOL_H

#include "common/base/bytes.h"
#include "common/base/error.h"
#include "common/settings/settings.h"

/* Where spools lie: <state dir>/spool/<client id>/<destination>. A client id or destination is a folder's name
 * with every byte but letters, digits, `_`, `-` and `.` (not in front) as %XX. What would be longer than a
 * folder's name may be ends early, in `~` and a hash of the text. A spool of an earlier version lies directly
 * in its client id's folder. destination NULL: that folder, for what belongs to the broker's session. To be freed. */
char *spool_path(const struct settings *settings, const char *client_id, const char *destination);

/* In the client id's folder: the name of the folder that receives, or received last. */
#define SPOOL_CURRENT "current"

/* Where the spool of the same client id lies, or lay, that received before the one in dir, which takes over from
 * it. NULL: there is none, or dir has received last. To be freed. */
char *spool_path_previous(const char *dir);

/* True if the folder has a segment, or the file of one to come. */
bool spool_path_holds_spool(const char *dir);

/* Sizes are clamped: size to at least 1M, retain to half of what size leaves beside the reserve. A directory
 * that has segments keeps the destination that they name. */
struct spool_options {
    const char *dir;         /* spool_path(); made if missing */
    int64_t size;            /* bytes on disk at most, reserve included */
    int64_t retain;          /* committed bytes kept for replay */
    int64_t largest_message; /* topic and payload that a segment must take; 0: as it comes */
    enum spool_sync sync;
    const char *destination;         /* DSN without password and options, and stream */
    void (*progress)(void *context); /* called for each segment that recovery reads; or NULL */
    void *context;
    bool receives; /* else it only sends: it neither takes over from the previous spool nor
                                makes a spare */
};

struct spool;

/* One message. When read: bytes point into the spool's memory until the next spool_next or spool_apply_mark.
 * Times are wall µs. */
struct spool_message {
    uint64_t sequence; /* given by spool_append */
    /* Its own sequence, or that of the message it repeats. To spool_append: the latter (of
     * spool_find_recent), or 0. */
    uint64_t identity;
    uint64_t run; /* which start of the consumer stored it */
    int64_t received_us;
    int qos;
    bool retained;
    bool oversized; /* read: its file has the payload; move the mark past it */
    uint16_t packet_id;
    struct bytes topic;
    struct bytes payload;
};

/* Opens or creates the spool in options->dir and recovers it: recovery.c says what damage is survived.
 * Returns 0, or with err filled -ERR_LOCKED if another process has it or the previous spool, -ERR_FORMAT,
 * -ERR_REFUSED (made by another version), -ERR_SYSTEM. On a full disk it opens, and is above high water. */
MUST_CHECK int spool_open(struct spool **spool, const struct spool_options *options,
                          struct error *err);
/* No append may be under way. */
void spool_close(struct spool *spool);

/* Removes all segments and the files beside them, but puts aside those in which damage was found
 * (NUMBER.damaged). When everything is committed and nothing will be appended; only spool_close may follow. */
void spool_remove_segments(struct spool *spool);

/* The receive thread's ----------------------------------------------------------------------------- */

/* Returns 0; -ERR_FULL when size is used up, -ERR_SYSTEM when the disk refuses: nothing was stored, and the
 * message must not be acknowledged (the caller ends the process). A message that no segment takes goes to a
 * file beside them (common/client/oversized_file.h), and its record says so. */
MUST_CHECK int spool_append(struct spool *spool, struct spool_message *message, struct error *err);

/* What may come again is remembered by packet id (QoS 1 and 2) until the id is used again or the session is
 * gone, over process ends too. */
struct spool_recent {
    uint64_t identity;
    bool unreleased; /* QoS 2, and its PUBREL has not come */
};
/* True if the last message under its packet id had the same topic and payload. */
bool spool_find_recent(const struct spool *spool, const struct spool_message *message,
                       struct spool_recent *recent);
/* PUBREL came: stored, if the id was unreleased. Fails as spool_append does. */
MUST_CHECK int spool_release(struct spool *spool, uint16_t packet_id, struct error *err);
/* The broker has no session of ours: nothing that comes can be a repeat. Fails as spool_append does. */
MUST_CHECK int spool_begin_session(struct spool *spool, struct error *err);
/* The packet ids that are unreleased, `max` at the most. Returns how many were written. */
size_t spool_unreleased(const struct spool *spool, uint16_t *ids, size_t max);

/* Main's ------------------------------------------------------------------------------------------- */

/* Topic and payload that a segment takes: what the broker may be told. Any thread. */
int64_t spool_largest_message(const struct spool *spool);

/* eventfd that becomes readable when something was appended after spool_arm_wakeup said yes. */
int spool_event_fd(const struct spool *spool);
/* True: nothing unread, and the writer will write the eventfd; false: there is something. */
bool spool_arm_wakeup(struct spool *spool);
/* The reader is awake again: drains the eventfd, and makes the next spare if the writer has begun a segment
 * (which makes the eventfd readable too). */
void spool_disarm_wakeup(struct spool *spool);

/* 1: *message is the next unsent record, and the position moved past it; 0: none now; negative: damage was
 * met and skipped (err says where and how much; counted), call again. */
int spool_next(struct spool *spool, struct spool_message *message, struct error *err);

/* Behind the last record given. It means nothing after spool_apply_mark. */
struct spool_position {
    uint64_t generation;
    uint64_t segment;
    uint64_t offset;
    uint64_t sequence;
};
struct spool_position spool_position(const struct spool *spool);
/* All before it is in Redis. Frees what is above `retain`. A position from before the last spool_apply_mark
 * is ignored. */
void spool_commit(struct spool *spool, const struct spool_position *position);

/* What the mark read from Redis on a connect means; the read position moves accordingly, behind the mark.
 * mark: `<run, 16 hex digits>:<sequence>`, or empty if Redis has none under spool_mark_id. */
enum mark_kind {
    MARK_IN_STEP, /* the mark is our committed position */
    MARK_AHEAD,   /* it is ahead of it: sent before, the reply was lost; committed now */
    MARK_BEHIND,  /* it is behind: position moved back to it */
    MARK_GAP, /* it is behind what is kept: position at the oldest kept; `missing` say how many */
    MARK_UNKNOWN_RUN, /* of an unknown run, or above our last: everything kept is sent again, with
                         repeats; the next sequence is raised above the mark */
    MARK_COPIED, /* the second of MARK_UNKNOWN_RUN, and another one: a copy of this spool is at work. From
                    now on this one has a mark of its own: read it under spool_mark_id */
};
struct mark_result {
    enum mark_kind kind;
    uint64_t position; /* sequence of the record that spool_next gives next */
    uint64_t missing;  /* records that Redis has not, and that are kept no more: at most so many */
    uint64_t replayed; /* records that were committed and will be given once more */
};
struct mark_result spool_apply_mark(struct spool *spool, struct bytes mark);
/* The mark names a run and sequence of this spool: the server where it was read has what was sent up to it. */
bool spool_knows_mark(const struct spool *spool, struct bytes mark);
/* If the server that is read next has no mark, it gets what is not committed, and not everything kept. */
void spool_redirect(struct spool *spool);
/* The mark after a record: what Redis will be told. text needs 40 bytes. */
void spool_mark_text(uint64_t run, uint64_t sequence, char text[40]);

/* A message that Redis would never take: to a file, as if it were too large for a segment. The caller then
 * moves the mark past it. 0; 1: its file is there already. -ERR_SYSTEM: wait, try again. */
MUST_CHECK int spool_write_oversized(struct spool *spool, const struct spool_message *message,
                                     struct error *err);

const char *spool_id(const struct spool *spool); /* 32 hex digits: of identities */
/* Of the mark's key: the spool id, or more; below 64 bytes. Valid until spool_apply_mark. */
const char *spool_mark_id(const struct spool *spool);
const char *spool_destination(const struct spool *spool); /* where its records belong */

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

/* Back-pressure: above high water (no more than the reserve is left) the broker is to be left; below low
 * water (unsent records take half of what they may) joined. Never both. Ask in every turn of main's loop: this
 * also makes the spare, and writes what may come again. */
bool spool_above_high_water(struct spool *spool);
bool spool_below_low_water(struct spool *spool);

/* Unless sync is none: everything appended so far is on the disk when it returns. Under interval main calls it
 * about once a second, and before an end without spool_close. A failed fsync ends the process. */
void spool_sync(struct spool *spool);

#endif
