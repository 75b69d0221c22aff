/* Append-only log of received messages, between the broker's acknowledgement and Redis.
 *
 * One writer (the MQTT receive thread) and one reader (main); the two share the tail only, released by the writer and
 * acquired by the reader. spool_append waits for the disk only, with two rare exceptions. Main may be reusing the last
 * segment of a full disk, or raising the next sequence (spool_apply_mark). It allocates nothing per message, and calls
 * no MQTT functions. Sequence numbers start at 1, may skip numbers, and never repeat within a spool_id. Format and
 * rules: docs/SPOOL.md.
 *
 * A record is unsent (behind the read position), sent and not yet committed, or committed (Redis has it). The last
 * `retain` bytes of committed records are kept for replay.
 *
 * A failed fsync, or a segment that can't be opened any more, ends the process (logged, _exit 1). What the disk holds
 * is unknown then, and the recovery of the next start finds out. */
#ifndef CONSUMER_SPOOL_SPOOL_H
#define CONSUMER_SPOOL_SPOOL_H

#include "common/base/bytes.h"
#include "common/base/error.h"
#include "common/settings/settings.h"
#include "common/wire/record.h"

/* Where spools lie: <state dir>/spool/<client id>/<destination>. A client id or destination becomes a folder's name:
 * every byte but letters, digits, `_`, `-` and `.` (not in front) is written as %XX. A name that would be too long is
 * cut, and ends in `~` and a hash of the text. A spool of an earlier version lies directly in its client id's folder.
 * destination NULL: the client id's folder, for files of the broker's session. To be freed. */
char *spool_path(const struct settings *settings, const char *client_id, const char *destination);

/* The folder of the previous spool: the one of this client id that received before the spool in dir, which takes over
 * from it. NULL: there is none, or the spool in dir has received last. To be freed. */
char *spool_path_previous(const char *dir);

/* True if the folder has a segment, or a spare file for the next one. */
bool spool_path_holds_spool(const char *dir);

/* Sizes are clamped: size to at least 1M, retain to half of size without the reserve. A directory with segments keeps
 * the destination that they name. */
struct spool_options {
    const char *dir;         /* spool_path(); made if missing */
    int64_t size;            /* bytes on disk at most, reserve included */
    int64_t retain;          /* committed bytes kept for replay */
    int64_t largest_message; /* bytes of topic and payload that a segment must take; 0: no demand */
    enum spool_sync sync;
    const char *destination;         /* DSN without password and options, and stream */
    void (*progress)(void *context); /* called for each segment that recovery reads; or NULL */
    void *context;
    bool receives; /* false: it only sends, takes over from no previous spool and makes no spare */
};

struct spool;

/* Opens or creates the spool in options->dir and recovers it: recovery.c says what damage is survived.
 * Returns 0, or with err filled -ERR_LOCKED if another process has it or the previous spool, -ERR_FORMAT,
 * -ERR_REFUSED (made by another version), -ERR_SYSTEM. On a full disk it opens, and is above high water. */
MUST_CHECK int spool_open(struct spool **spool, const struct spool_options *options,
                          struct error *err);
/* No append may be under way. */
void spool_close(struct spool *spool);

/* Removes all segments and the files beside them. Segments in which damage was found are kept as NUMBER.damaged. Only
 * when everything is committed and nothing will be appended; only spool_close may follow. */
void spool_remove_segments(struct spool *spool);

/* Stores a message: its time, QoS, flag, packet id, topic, payload and identity. The identity is that of
 * spool_find_recent for a repeat, else 0. Sets sequence, identity and run.
 * Returns 0; -ERR_FULL when size is used up, -ERR_SYSTEM when the disk refuses. After an error nothing was stored: the
 * message must not be acknowledged (the caller ends the process). A message that no segment takes goes to a file beside
 * them (common/client/oversized_file.h), and its record says so. */
MUST_CHECK int spool_append(struct spool *spool, struct record *message, struct error *err);

/* The last message under each packet id (QoS 1 and 2) is remembered, since it may come again. It is forgotten when the
 * id is used for another message or the session is gone, not when the process ends. */
struct spool_recent {
    uint64_t identity;
    bool unreleased; /* QoS 2, and its PUBREL has not come */
};
/* True if the last message under its packet id had the same topic and payload. */
bool spool_find_recent(const struct spool *spool, const struct record *message,
                       struct spool_recent *recent);
/* PUBREL has come: a record of it is stored, if the id was unreleased. Fails as spool_append does. */
MUST_CHECK int spool_release(struct spool *spool, uint16_t packet_id, struct error *err);
/* The broker has no session of ours: nothing that comes can be a repeat. Fails as spool_append does. */
MUST_CHECK int spool_begin_session(struct spool *spool, struct error *err);
/* The packet ids that are unreleased, `max` at the most. Returns how many were written. */
size_t spool_unreleased(const struct spool *spool, uint16_t *ids, size_t max);

/* The most bytes of topic and payload that a segment takes, for the packet size announced to the broker. Any thread. */
int64_t spool_largest_message(const struct spool *spool);

/* eventfd that becomes readable when something was appended after spool_arm_wakeup said yes. */
int spool_event_fd(const struct spool *spool);
/* True: nothing is unread, and the next append will write the eventfd. False: there is something to read. */
bool spool_arm_wakeup(struct spool *spool);
/* The reader is awake again: drains the eventfd, and makes the next spare if the writer has begun a segment. A new
 * segment makes the eventfd readable too. */
void spool_disarm_wakeup(struct spool *spool);

/* 1: *message is the next unsent record, and the read position is behind it; 0: none now. Negative: damage was skipped
 * and counted (err says where and how much); call again. Topic and payload point into the spool's memory, until the next
 * spool_next or spool_apply_mark. If the message is `oversized`, a file has its payload: move the mark past it. */
int spool_next(struct spool *spool, struct record *message, struct error *err);

/* A position behind the last record given. It becomes void with spool_apply_mark. */
struct spool_position {
    uint64_t generation;
    uint64_t segment;
    uint64_t offset;
    uint64_t sequence;
};
struct spool_position spool_position(const struct spool *spool);
/* All records before the position are in Redis: frees segments that `retain` does not keep. A position from before the
 * last spool_apply_mark is ignored. */
void spool_commit(struct spool *spool, const struct spool_position *position);

/* Moves the read position behind the mark that was read from Redis after connecting, and says what the mark means.
 * mark: `<run, 16 hex digits>:<sequence>`, or empty if Redis has none under spool_mark_id. */
enum mark_kind {
    MARK_IN_STEP, /* the mark is our committed position */
    MARK_AHEAD,   /* ahead of that position: the answer to an append was lost; committed now */
    MARK_BEHIND,  /* behind that position: the read position moves back to the mark */
    MARK_GAP,     /* behind all that is kept: the read position is the oldest record kept */
    /* Of an unknown run, or above our last sequence: everything kept is sent again, with repeats. The next sequence is
     * raised above the mark. */
    MARK_UNKNOWN_RUN,
    /* As MARK_UNKNOWN_RUN, for the second time, and the mark has changed: a copy of this spool sends too. From now on
     * this spool has a mark of its own: read it under spool_mark_id. */
    MARK_COPIED,
};
struct mark_result {
    enum mark_kind kind;
    uint64_t position; /* sequence of the record that spool_next gives next */
    uint64_t missing;  /* at most so many records are neither in Redis nor kept here */
    uint64_t replayed; /* records that were committed and will be given once more */
};
struct mark_result spool_apply_mark(struct spool *spool, struct bytes mark);
/* The mark names a run and sequence of this spool: the server that has the mark got all records up to it. */
bool spool_knows_mark(const struct spool *spool, struct bytes mark);
/* If the next server has no mark, it gets the records that are not committed, instead of all that are kept. */
void spool_redirect(struct spool *spool);
/* The mark for a record, as it is set in Redis. text needs 40 bytes. */
void spool_mark_text(uint64_t run, uint64_t sequence, char text[40]);

/* Writes a message that Redis would never take to a file, as if it were too large for a segment. The caller then moves
 * the mark past it. 0: written; 1: the file is there already; -ERR_SYSTEM: wait and try again. */
MUST_CHECK int spool_write_oversized(struct spool *spool, const struct record *message,
                                     struct error *err);

const char *spool_id(const struct spool *spool); /* 32 hex digits, the first part of identities */
/* The id in the mark's key: the spool id, with more behind it once the spool has branched off. Below 64 bytes; valid
 * until spool_apply_mark. */
const char *spool_mark_id(const struct spool *spool);
const char *spool_destination(const struct spool *spool); /* the destination of its records */

struct spool_state {
    uint64_t used_bytes;     /* on disk: unsent, kept, and the space reserved for the next */
    uint64_t unsent_records; /* not yet committed */
    uint64_t limit_bytes;
    uint64_t damaged_records; /* since spool_open, recovery's included */
    uint64_t last_sequence;
    uint64_t committed_sequence; /* no committed record is above it, no uncommitted one below */
};
void spool_state(const struct spool *spool, struct spool_state *state);

/* Back-pressure. Above high water (only the reserve is left) main is to disconnect from the broker. Below low water
 * (unsent records take half of what they may) it is to connect again. Never both. Call spool_above_high_water in every
 * turn of main's loop: it also makes the spare, and saves the file `recent`. */
bool spool_above_high_water(struct spool *spool);
bool spool_below_low_water(struct spool *spool);

/* Everything appended so far is on the disk when this returns, unless sync is none. Under interval main calls it about
 * once a second, and before an end without spool_close. A failed fsync ends the process. */
void spool_sync(struct spool *spool);

#endif
