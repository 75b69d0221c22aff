/* The parts of the spool, for its own files and their tests alone. spool.h is the manual.
 *
 * The receive thread uses the writer's half, and so may main while it holds `appending`. Main uses the reader's half;
 * both threads use `shared`. The tail alone orders them: what the writer stored before it released the tail, the
 * reader sees once it has acquired the tail. */
#ifndef CONSUMER_SPOOL_SPOOL_INTERNAL_H
#define CONSUMER_SPOOL_SPOOL_INTERNAL_H

#include "common/base/log.h"
#include "common/wire/mark.h"
#include "common/wire/record.h"
#include "common/wire/segment_header.h"
#include "consumer/spool/spool.h"

#include <pthread.h>
#include <stdatomic.h>

/* segment.c: one file of the spool: a header of 4096 bytes, then records. Layout: docs/SPOOL.md.
 *
 * Files are named by number ("000000000042.segment") and opened relative to the spool's directory.
 * Nothing here keeps state but in the caller's structs; errors name the file. */

/* The next segment's file while the writer makes it, because main had not made the spare yet. */
#define SEGMENT_NEW "new"

/* A segment that is kept, as the reader sees it. */
struct segment {
    struct segment *next; /* the next higher number */
    struct segment_header header;
    uint64_t size; /* of the file */
    uint32_t seed;
    uint64_t damage_end; /* damage below this offset has been counted by this process */
};

/* Opens a segment's file with these flags and O_CLOEXEC: the descriptor, or -1 and errno. */
int segment_file(int dir, uint64_t number, int flags);

/* Makes a file of that size with all blocks allocated: no later write can lack space. *fd is open for writing.
 * -ERR_SYSTEM: no file is left behind. */
MUST_CHECK int segment_make(int dir, const char *name, uint64_t size, int *fd, struct error *err);

MUST_CHECK int segment_write_header(int fd, const struct segment_header *header, struct error *err);

/* Reads a segment's header. -ERR_NOT_FOUND, -ERR_SYSTEM, -ERR_REFUSED; after -ERR_FORMAT *segment has number and size,
 * and no header. *segment is to be freed. */
MUST_CHECK int segment_open(struct segment **segment, int dir, uint64_t number, struct error *err);

/* Reads the first `len` bytes of the file. Bytes that the disk can't read become zeros; then the result is 1. */
MUST_CHECK int segment_load(struct buf *into, int dir, uint64_t number, uint64_t len,
                            struct error *err);

/* Replaces the header of an existing segment. */
MUST_CHECK int segment_rewrite_header(int dir, const struct segment_header *header,
                                      struct error *err);

/* Removes the file, or renames it to NUMBER.damaged if damage was found in it. -1 and errno. */
int segment_remove(int dir, const struct segment *segment);

/* recent.c: the messages that the broker may send again. Each packet id has a slot with the last message's fingerprint
 * and identity, and whether it is a QoS 2 message that was not released. The slots are in memory, and as a snapshot in
 * the file `recent`: docs/SPOOL.md.
 *
 * One thread puts and finds, another saves. A slot that changes while it is saved does no harm. The record of the slot
 * lies in a segment that is read again at the next start, and overrides the snapshot. */

#define RECENT_NAME "recent"
#define RECENT_NEW  "recent.new" /* until it is complete */

struct recent;

/* A fingerprint of topic and payload. The rest of a packet may differ when it is sent again: DUP is set, and its
 * Message Expiry Interval is less. */
struct fingerprint {
    uint32_t len;
    uint32_t crc;
};
struct fingerprint recent_fingerprint(struct bytes topic, struct bytes payload);

struct recent *recent_new(void);
void recent_free(struct recent *recent);

/* The last message under this packet id; identity 0: none. */
uint64_t recent_get(const struct recent *recent, uint16_t packet_id, struct fingerprint *print,
                    bool *unreleased);
void recent_release_all(struct recent *recent);
/* Releases messages whose identity is above this sequence. */
void recent_release_above(struct recent *recent, uint64_t sequence);
void recent_forget(struct recent *recent);
/* Takes over the filled slots of the other one, which override ours. Only before anything is put. */
void recent_merge(struct recent *recent, const struct recent *from);
bool recent_is_empty(const struct recent *recent);

/* What else the file tells the next start. It includes the spool's id, since the last segment may be gone. */
struct recent_start {
    unsigned char spool_id[16];
    unsigned char boot_id[16]; /* of the kernel that ran when it was written; zeros: not known */
    /* Records of segments from this number on are not in the snapshot; 0: nothing was stored yet. */
    uint64_t through;
    uint64_t next_sequence; /* no message gets a lower sequence */
    uint64_t branch;        /* as in the segment's header */
};
/* False if there is no file, or it is damaged. */
MUST_CHECK bool recent_load(struct recent *recent, int dir, struct recent_start *start);
/* Updates the slot of a record's packet id; called for new records, and for those of segments at the start. */
void recent_apply(struct recent *recent, const struct record *record);
/* Replaces the snapshot file. sync: the new file's bytes are on the disk when this returns; its name is once the
 * directory is synced. Returns 0, or -1 and the old file stays. */
MUST_CHECK int recent_save(const struct recent *recent, int dir, const struct recent_start *start,
                           bool sync);

/* The spool */

#define SPARE_NONE (-1)

struct spool_shared {
    _Atomic uint64_t tail; /* segment number and offset: tail_pack */
    _Atomic uint64_t last_sequence;
    _Atomic uint64_t records;       /* messages stored since the spool exists */
    _Atomic uint64_t bytes;         /* bytes of all records since the spool exists */
    _Atomic bool sleeping;          /* main waits on the eventfd */
    _Atomic uint64_t branch;        /* as in the segment's header */
    _Atomic uint64_t disk;          /* bytes that all files take, the spare's included */
    _Atomic uint64_t segment_end;   /* size of the segment being written; 0: there is none */
    _Atomic int spare;              /* descriptor of SEGMENT_SPARE, or SPARE_NONE */
    _Atomic bool directory_changed; /* since the directory was synced */
};

struct spool_writer {
    int fd; /* -1: no segment: the next append begins one */
    uint64_t number;
    uint64_t offset;
    uint32_t seed;
    uint64_t next_number;
    _Atomic uint64_t next_sequence; /* main saves it in `recent` */
    uint64_t last_stored;           /* sequence of this spool's last message */
};

/* Where a reader stands: before the message `sequence`, at `offset` of `segment`. segment may be NULL
 * while the spool has none. */
struct cursor {
    struct segment *segment;
    uint64_t offset;
    uint64_t sequence;
};

/* The piece of a segment that was read last. Records that are given point into these bytes. */
struct chunk {
    uint64_t number; /* of the segment */
    uint64_t offset;
    struct buf bytes;
};

struct spool_reader {
    struct segment *first;
    struct segment *last;
    struct cursor read;
    struct cursor committed;
    uint64_t given;      /* reader_cursor_records behind the last message that was given */
    uint64_t generation; /* raised with each move: positions of earlier generations are void */
    struct chunk chunk;
    int fd; /* of segment fd_number, or -1 */
    uint64_t fd_number;
    uint64_t synced_number; /* segments below this number are on the disk */
    uint64_t damaged;
    int64_t hinted_bytes; /* bytes committed when the hint was written */
    int hint_fd;
    uint64_t remembered; /* the file `recent` covers segments below this number */
    int64_t remember_retry_ms;
    struct log_fault remember_fault;
    bool is_current; /* the file `current` names this spool */
    int64_t current_retry_ms;
    struct log_fault current_fault;
    uint64_t origin;      /* a Redis without a mark has all records before this one */
    bool mark_read;       /* Redis has given its mark at least once */
    bool mark_is_foreign; /* the last mark was of an unknown run: `foreign` */
    struct mark foreign;
    char mark_id[64];
    bool spare_failed; /* the disk had no room for a spare */
    int64_t spare_retry_ms;
    int64_t reuse_retry_ms;
    struct log_fault spare_fault;
};

struct spool {
    char *path;
    char destination[SEGMENT_TEXT_MAX + 1];
    enum spool_sync sync;
    void (*progress)(void *context);
    void *context;
    bool receives;
    uint64_t size;
    uint64_t retain;
    uint64_t segment_size;
    int dir;
    int event_fd;
    bool opened;
    bool tail_lost;       /* the end can't be read: there may have been more records */
    bool recent_is_whole; /* the file `recent` was undamaged at the start */
    unsigned char id[16];
    unsigned char boot_id[16];
    unsigned char recent_boot_id[16]; /* of the file `recent` at the start; zeros: not known */
    char id_text[33];
    uint64_t run;
    struct recent *recent;
    pthread_mutex_t appending; /* main holds it to change the writer's half: see writer.c below */
    struct spool_shared shared __attribute__((aligned(64)));
    struct spool_writer writer __attribute__((aligned(64)));
    struct spool_reader reader __attribute__((aligned(64)));
};

/* spool.c */
/* Writes the file `current`: the spool in dir receives from now on. -1 and errno. */
MUST_CHECK int spool_path_set_current(const char *dir);
/* Logs a disk failure and _exits: what the disk holds is unknown. */
_Noreturn void spool_die(const struct spool *spool, const char *what);

/* recovery.c */
/* Reads the directory, repairs what it can, renames segments that can't be read at all to NUMBER.damaged, and fills in
 * *spool. */
MUST_CHECK int recovery_run(struct spool *spool, struct error *err);

/* writer.c */
/* Raises the next sequence and begins a segment with it. For main; it takes `appending`. */
void writer_skip_to(struct spool *spool, uint64_t sequence);
/* Makes the file of this segment, the last one, the next segment. For main, with `appending` held. */
MUST_CHECK int writer_reuse_segment(struct spool *spool, uint64_t number, struct error *err);
void writer_close(struct spool *spool);

/* reader.c */
/* Moves the cursor over the ends of finished segments, to where the next record is or will be. */
void reader_skip_finished_segments(struct spool *spool, struct cursor *cursor);
uint64_t
reader_cursor_records(const struct cursor *cursor); /* stored before it, since the spool exists */
int64_t reader_cursor_bytes(const struct cursor *cursor);
struct cursor reader_cursor_at(struct segment *segment); /* the segment's start */
bool reader_segment_is_finished(const struct segment *segment);
/* Adds the youngest segment to the list. */
static inline void reader_add(struct spool_reader *reader, struct segment *segment)
{
    if (reader->last == NULL)
        reader->first = segment;
    else
        reader->last->next = segment;
    reader->last = segment;
}
/* Learns of the segments that the writer has begun. */
void reader_discover_segments(struct spool *spool);
/* Moves both positions there. Positions from before become void. */
void reader_move(struct spool *spool, const struct cursor *to);
/* Finds the record after the mark; false if no segment that is kept has it. */
bool reader_locate(struct spool *spool, const struct mark *mark, struct cursor *after);
void reader_write_mark_id(struct spool *spool);
void reader_close(struct spool *spool);

/* retention.c: main's work on the files. */
/* Frees segments that are committed and not to be retained. Above high water none is retained. */
void retention_release(struct spool *spool);
void retention_spare(struct spool *spool);
uint64_t
retention_most(uint64_t size); /* the most bytes that may be retained in a spool of that size */
/* Writes the file `recent`, which covers all segments below `through`. */
void retention_remember(struct spool *spool, uint64_t through);
/* Writes `current`, unless it names this spool. If that fails, spool_above_high_water tries it again. */
void retention_set_current(struct spool *spool);
void retention_hint(struct spool *spool);
bool retention_read_hint(struct spool *spool, struct mark *mark);

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
