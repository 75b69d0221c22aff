/* The parts of the spool, for spool*.c and their tests alone. spool.h is the manual.
 *
 * The writer's half is touched by the receive thread only, the reader's by main only; `shared` is what
 * crosses. The tail is the one thing that orders them: what the writer stored before it released the
 * tail, the reader sees once it has acquired it. */
#ifndef CONSUMER_SPOOL_SPOOL_INTERNAL_H
#define CONSUMER_SPOOL_SPOOL_INTERNAL_H

#include "common/base/log.h"
#include "consumer/spool/record.h"
#include "consumer/spool/segment.h"
#include "consumer/spool/spool.h"

#include <stdatomic.h>

/* Values of shared.spare that are no descriptor. */
#define SPARE_NONE  (-1)
#define SPARE_TAKEN (-2) /* the writer is turning it into its segment */

struct spool_shared {
    _Atomic uint64_t tail; /* segment number and offset: tail_pack */
    _Atomic uint64_t last_sequence;
    _Atomic uint64_t records;        /* stored since the spool exists */
    _Atomic uint64_t bytes;          /* likewise */
    _Atomic bool sleeping;           /* main waits on the eventfd */
    _Atomic uint64_t sequence_floor; /* the next sequence must not be below it */
    _Atomic uint64_t disk;           /* bytes that the files take, the spare's too */
    _Atomic int spare;               /* descriptor of SEGMENT_SPARE, or one of the above */
    _Atomic bool directory_changed;  /* by the writer, and not yet synced */
};

struct spool_writer {
    int fd; /* -1: no segment: the next append begins one */
    uint64_t number;
    uint64_t size;
    uint64_t offset;
    uint32_t seed;
    uint64_t next_number;
    uint64_t next_sequence;
    uint64_t destination_since; /* settled before the first append, then main reads it too */
};

/* Where a reader stands: before the record `sequence`, at `offset` of `segment`. segment may be NULL
 * while the spool has none. */
struct cursor {
    struct segment *segment;
    uint64_t offset;
    uint64_t sequence;
};

/* A piece of a segment that was read: records are handed out from it and stay until committed. */
struct chunk {
    struct chunk *next; /* the next younger one */
    uint64_t number;    /* of the segment */
    uint64_t offset;
    size_t len;
    size_t capacity;
    char data[];
};

/* What was read and not yet committed; oldest first, in a ring. */
struct pending {
    uint64_t sequence;
    bool message; /* else nobody commits it: it goes with what is before it */
    struct cursor after;
    struct chunk *chunk;
};

struct spool_reader {
    struct segment *first;
    struct segment *last;
    struct cursor read;
    struct cursor committed;
    struct pending *pending;
    size_t pending_first;
    size_t pending_len;
    size_t pending_capacity; /* a power of two, or 0 */
    struct chunk *oldest;
    struct chunk *newest;
    struct chunk *unused; /* one of ordinary size, for the next */
    int fd;               /* of segment fd_number, or -1 */
    uint64_t fd_number;
    uint64_t synced_number; /* segments below it are on the disk */
    uint64_t damaged;
    int64_t hinted_bytes; /* bytes_at(committed) when the hint was written */
    int hint_fd;
    bool mark_read;    /* Redis has said what it has, once */
    uint64_t wanted;   /* a segment of that size must fit before the broker is joined; 0: none */
    bool spare_failed; /* the disk had no room for one */
    int64_t spare_retry_ms;
    struct log_fault spare_fault;
};

struct spool {
    char *path;
    char *client_id;
    char *destination;
    enum spool_sync sync;
    uint64_t size;
    uint64_t retain;
    uint64_t reserve;
    uint64_t segment_size;
    int dir;
    int event_fd;
    unsigned char id[16];
    unsigned char boot_id[16];
    char id_text[33];
    uint64_t run;
    struct spool_shared shared __attribute__((aligned(64)));
    struct spool_writer writer __attribute__((aligned(64)));
    struct spool_reader reader __attribute__((aligned(64)));
};

/* spool_writer.c */
/* Begins a segment with room for a record of that size; within_limit: only if `size` allows. */
MUST_CHECK int writer_begin_segment(struct spool *spool, uint64_t record_size, bool within_limit,
                                    struct error *err);
void writer_close(struct spool *spool);
/* Any type of record; spool_append is this for messages. repeated: a sequence, or 0. */
MUST_CHECK int writer_append(struct spool *spool, struct record *record, uint64_t repeated,
                             struct error *err);

/* spool_reader.c */
enum step { STEP_END, STEP_RECORD, STEP_HOLE };
struct hole {
    uint64_t number; /* of the segment */
    uint64_t from;   /* offsets */
    uint64_t to;
    uint64_t missing;
};
/* Moves the cursor over the next record, or over the next damage; *chunk is where the record lies. */
enum step reader_step(struct spool *spool, struct cursor *cursor, struct record *record,
                      struct hole *hole);
/* Over the ends of finished segments, to where the next record is or will be. */
void reader_skip_finished_segments(struct spool *spool, struct cursor *cursor);
uint64_t cursor_records(const struct cursor *cursor); /* stored before it, since the spool exists */
int64_t cursor_bytes(const struct cursor *cursor);
struct cursor cursor_at(struct segment *segment); /* its start */
/* Sequence of its last record, +1; a segment that is still written has no such bound. */
bool segment_is_finished(const struct segment *segment);
uint64_t segment_end_sequence(const struct segment *segment);
/* Learns of the segments that the writer has begun. */
void reader_discover_segments(struct spool *spool);
/* Both positions go there; what was handed out is void. */
void reader_move(struct spool *spool, const struct cursor *to);
/* Drops what no record that is handed out lies in. */
void reader_drop_chunks(struct spool_reader *reader);
void reader_close(struct spool *spool);

/* spool_keep.c: what main does about files. */
/* Frees what is committed and not to be retained: above high water, nothing is. */
void retention_release(struct spool *spool);
void retention_spare(struct spool *spool);
bool retention_nothing_unsent(const struct spool *spool);
/* What the spare and the segment that is being written can still take. */
uint64_t retention_space_in_hand(const struct spool *spool);
bool retention_above_high_water(const struct spool *spool);
/* All of it is in Redis, and neither position is in it. */
bool retention_is_committed(const struct spool *spool, const struct segment *segment);
void retention_directory(struct spool *spool); /* syncs it if the writer changed it */
void retention_hint(struct spool *spool);
bool retention_read_hint(struct spool *spool, uint64_t *run, uint64_t *sequence);
void retention_sync(
    struct spool *spool); /* everything up to the tail; a failure ends the process */

/* spool_destination.c */
struct owner {
    const char *destination;
    uint64_t since; /* as in the segment's header: records before it are not its own */
};
/* Of the record before which so many were stored since the spool exists. */
struct owner owner_of(const struct spool *spool, uint64_t record);

/* spool_wanted.c */
/* Of the segment that a record of that size needs. */
uint64_t wanted_segment_size(const struct spool *spool, uint64_t record_size);
/* The largest that finds room beside an empty segment and the spare. */
uint64_t wanted_most(const struct spool *spool);
void wanted_write(struct spool *spool, uint64_t segment_size); /* the writer's */
void wanted_read(struct spool *spool);
void wanted_done(struct spool *spool);

/* spool_apply_mark.c */
/* Where the record after run:sequence begins; searched from `first` to `last`, both included. */
bool mark_locate(struct spool *spool, struct segment *first, const struct segment *last,
                 uint64_t run, uint64_t sequence, struct cursor *after);

/* The disk did not do what it must: what it holds is not known any more. Logs and _exits. */
_Noreturn void spool_die(const struct spool *spool, const char *what);

/* Offsets are multiples of 8 below 4 GiB, numbers fit into 35 bits. */
static inline uint64_t tail_pack(uint64_t number, uint64_t offset)
{
    return number << 29 | offset >> 3;
}

static inline uint64_t tail_number(uint64_t tail)
{
    return tail >> 29;
}

static inline uint64_t tail_offset(uint64_t tail)
{
    return (tail & ((UINT64_C(1) << 29) - 1)) << 3;
}

#endif
