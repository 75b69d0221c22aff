/* The parts of the spool, for its own files and their tests alone. spool.h is the manual.
 *
 * The writer's half is the receive thread's (main's with `appending` held), the reader's main's; `shared` is what
 * crosses. The tail is the one thing that orders them: what the writer stored before it released the
 * tail, the reader sees once it has acquired it. */
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

/* Preallocated and empty; the writer's next segment. */
#define SEGMENT_SPARE "spare"
/* The same, while the writer makes one by itself. */
#define SEGMENT_NEW "new"

/* A segment that is kept, as the reader sees it. */
struct segment {
    struct segment *next; /* the next higher number */
    struct segment_header header;
    uint64_t size; /* of the file */
    uint32_t seed;
    uint64_t damage_end; /* damage below this offset has been counted by this process */
};

/* Its file, opened with these flags and O_CLOEXEC: the descriptor, or -1 and errno. */
int segment_file(int dir, uint64_t number, int flags);

/* Makes a file of that size whose blocks are the file's own: no later write can lack space. *fd is open
 * for writing. -ERR_SYSTEM: nothing is left behind. */
MUST_CHECK int segment_make(int dir, const char *name, uint64_t size, int *fd, struct error *err);

MUST_CHECK int segment_write_header(int fd, const struct segment_header *header, struct error *err);

/* A segment by its number. -ERR_NOT_FOUND, -ERR_SYSTEM, -ERR_REFUSED; -ERR_FORMAT, and then *segment has
 * number and size, and no header. To be freed. */
MUST_CHECK int segment_open(struct segment **segment, int dir, uint64_t number, struct error *err);

/* The first `len` bytes of the file. What the disk can't read any more is zeros; then the result is 1. */
MUST_CHECK int segment_load(struct buf *into, int dir, uint64_t number, uint64_t len,
                            struct error *err);

/* Writes the header of a segment that is there anew. */
MUST_CHECK int segment_rewrite_header(int dir, const struct segment_header *header,
                                      struct error *err);

/* Frees the name: the file goes, or, if it is damaged, is from then on NUMBER.damaged. -1 and errno. */
int segment_remove(int dir, const struct segment *segment);

/* recent.c: what the broker may send again: by packet id, the last message's fingerprint and identity, and whether it
 * is a QoS 2 message that was not released. In memory, and as a snapshot in the file `recent`: docs/SPOOL.md.
 *
 * One thread puts and finds; another one saves. A slot that changes while it is saved has its record in a
 * segment that is read again at the next start, and records have the last word. */

#define RECENT_NAME "recent"
#define RECENT_NEW  "recent.new" /* until it is complete */

struct recent;

/* Of topic and payload. The rest of a packet may differ when it comes again: DUP is set, and what is left
 * of a Message Expiry Interval is less. */
struct fingerprint {
    uint32_t len;
    uint32_t crc;
};
struct fingerprint fingerprint_of(struct bytes topic, struct bytes payload);

struct recent *recent_new(void);
void recent_free(struct recent *recent);

/* The last message under this packet id; identity 0: none. */
uint64_t recent_get(const struct recent *recent, uint16_t packet_id, struct fingerprint *print,
                    bool *unreleased);
void recent_release_all(struct recent *recent);
/* Those whose identity is above this sequence. */
void recent_release_above(struct recent *recent, uint64_t sequence);
void recent_forget(struct recent *recent);
/* What the other one knows has the last word. Before anything is put. */
void recent_merge(struct recent *recent, const struct recent *from);
bool recent_is_empty(const struct recent *recent);

/* What else the next start has to know, the spool's id included: the last segment may be gone. */
struct recent_start {
    unsigned char spool_id[16];
    unsigned char boot_id[16]; /* of the kernel that ran when it was written; zeros: not known */
    /* The records of segments from this number on have to be applied; 0: nothing was stored yet. */
    uint64_t through;
    uint64_t next_sequence; /* no message gets a lower one */
    uint64_t branch;        /* as in the segment's header */
};
/* False if there is no file, or it is damaged. */
MUST_CHECK bool recent_load(struct recent *recent, int dir, struct recent_start *start);
/* As at the start, record by record. */
void recent_apply(struct recent *recent, const struct record *record);
/* The snapshot replaces the one before. sync: its bytes are on the disk then; its name is, once the directory is
 * synced. Returns 0, or -1 and the one before stays. */
MUST_CHECK int recent_save(const struct recent *recent, int dir, const struct recent_start *start,
                           bool sync);

/* The spool */

#define SPARE_NONE (-1)

struct spool_shared {
    _Atomic uint64_t tail; /* segment number and offset: tail_pack */
    _Atomic uint64_t last_sequence;
    _Atomic uint64_t records;       /* messages stored since the spool exists */
    _Atomic uint64_t bytes;         /* of all records, likewise */
    _Atomic bool sleeping;          /* main waits on the eventfd */
    _Atomic uint64_t branch;        /* as in the segment's header */
    _Atomic uint64_t disk;          /* bytes that the files take, the spare's too */
    _Atomic uint64_t segment_end;   /* size of the segment that is written; 0: there is none */
    _Atomic int spare;              /* descriptor of SEGMENT_SPARE, or SPARE_NONE */
    _Atomic bool directory_changed; /* since it was synced */
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

/* The piece of a segment that was read last: records that are given point into it. */
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
    uint64_t given;      /* cursor_records behind the last message that was given */
    uint64_t generation; /* of positions */
    struct chunk chunk;
    int fd; /* of segment fd_number, or -1 */
    uint64_t fd_number;
    uint64_t synced_number; /* segments below it are on the disk */
    uint64_t damaged;
    int64_t hinted_bytes; /* bytes_at(committed) when the hint was written */
    int hint_fd;
    uint64_t remembered; /* segments below it are in the file `recent` */
    int64_t remember_retry_ms;
    struct log_fault remember_fault;
    bool is_current; /* the file `current` names this spool */
    int64_t current_retry_ms;
    struct log_fault current_fault;
    uint64_t origin;      /* no mark: Redis has all before this record */
    bool mark_read;       /* Redis has said what it has, once */
    bool mark_is_foreign; /* the last mark was that one, of an unknown run */
    struct mark foreign;
    char mark_id[64];
    bool spare_failed; /* the disk had no room for one */
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
    bool recent_is_whole; /* its file was, at the start */
    unsigned char id[16];
    unsigned char boot_id[16];
    unsigned char recent_boot_id[16]; /* in the file, at the start; zeros: not known */
    char id_text[33];
    uint64_t run;
    struct recent *recent;
    pthread_mutex_t
        appending; /* of the writer's half: main takes it when it changes that, see writer.c below */
    struct spool_shared shared __attribute__((aligned(64)));
    struct spool_writer writer __attribute__((aligned(64)));
    struct spool_reader reader __attribute__((aligned(64)));
};

/* spool.c */
/* The spool in dir has taken over. -1 and errno. */
MUST_CHECK int spool_path_set_current(const char *dir);
/* The disk failed, and what it holds is not known any more. Logs and _exits. */
_Noreturn void spool_die(const struct spool *spool, const char *what);

/* recovery.c */
/* Reads the directory, mends what can be mended, puts aside, as NUMBER.damaged, what can't be read at all, and fills
 * in what the spool was. */
MUST_CHECK int recover(struct spool *spool, struct error *err);

/* writer.c */
/* No message gets a lower sequence from now on; a segment is begun. Main's; it takes `appending`. */
void writer_skip_to(struct spool *spool, uint64_t sequence);
/* The file of this segment, the last one, becomes the next. Main's, with `appending` held. */
MUST_CHECK int writer_reuse_segment(struct spool *spool, uint64_t number, struct error *err);
void writer_close(struct spool *spool);

/* reader.c */
/* Over the ends of finished segments, to where the next record is or will be. */
void reader_skip_finished_segments(struct spool *spool, struct cursor *cursor);
uint64_t cursor_records(const struct cursor *cursor); /* stored before it, since the spool exists */
int64_t cursor_bytes(const struct cursor *cursor);
struct cursor cursor_at(struct segment *segment); /* its start */
bool segment_is_finished(const struct segment *segment);
/* Its youngest segment from now on. */
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
/* Both positions go there; what was given is void. */
void reader_move(struct spool *spool, const struct cursor *to);
/* Where the record after the mark begins; false if no segment that is kept has it. */
bool reader_locate(struct spool *spool, const struct mark *mark, struct cursor *after);
void reader_write_mark_id(struct spool *spool);
void reader_close(struct spool *spool);

/* retention.c: what main does about files. */
/* Frees what is committed and not to be retained: above high water, nothing is. */
void retention_release(struct spool *spool);
void retention_spare(struct spool *spool);
uint64_t retention_most(uint64_t size); /* that may be retained in it */
/* Writes `recent`: all segments below `through` are in it. */
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
