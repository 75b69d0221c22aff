/* One file of the spool: a header of 4096 bytes, then records. Layout: docs/SPOOL.md.
 *
 * Files are named by number ("000000000042.segment") and opened relative to the spool's directory.
 * Nothing here keeps state but in the caller's structs; errors name the file. */
#ifndef CONSUMER_SPOOL_SEGMENT_H
#define CONSUMER_SPOOL_SEGMENT_H

#include "common/base/buf.h"
#include "common/base/error.h"

#define SEGMENT_HEADER_SIZE 4096
#define SEGMENT_NAME_SIZE   32
#define SEGMENT_TEXT_MAX    1500 /* of the client id, and of the destination */

/* Preallocated and empty; the writer's next segment. */
#define SEGMENT_SPARE "spare"
/* The same, while the writer makes one by itself. */
#define SEGMENT_NEW "new"
/* The size of a segment that there was no room for. */
#define SEGMENT_WANTED "wanted"

struct segment_header {
    unsigned char spool_id[16];
    unsigned char boot_id[16]; /* of the kernel that ran when it was begun; zeros: not known */
    uint64_t run;
    uint64_t number;
    uint64_t first_sequence;    /* sequences in one segment have no gaps */
    uint64_t records_before;    /* stored in this spool before this segment, since it exists */
    uint64_t bytes_before;      /* likewise */
    uint64_t destination_since; /* records_before when this destination came into force */
    int64_t created_us;         /* wall */
    const char *client_id;
    const char *destination;
};

/* A segment that is kept, as the reader sees it. */
struct segment {
    struct segment *next;         /* the next higher number */
    struct segment_header header; /* its texts belong to this struct */
    uint64_t size;                /* of the file */
    uint32_t seed;
    uint64_t damage_end; /* damage below this offset has been counted; 0: none was ever found */
};

void segment_name(uint64_t number, const char *suffix, char name[SEGMENT_NAME_SIZE]);
/* True if name is that of a number with this suffix ("segment", "damaged"). */
bool segment_name_parse(const char *name, const char *suffix, uint64_t *number);

/* Makes a file of that size whose blocks are the file's own: no later write can lack space. *fd is open
 * for writing. -ERR_FULL, -ERR_SYSTEM: nothing is left behind. */
MUST_CHECK int segment_make(int dir, const char *name, uint64_t size, int *fd, struct error *err);

MUST_CHECK int segment_write_header(int fd, const struct segment_header *header, struct error *err);

/* The header of data (SEGMENT_HEADER_SIZE bytes). -ERR_FORMAT; -ERR_REFUSED if a later version of the
 * program wrote it. The texts are the caller's to free, with
 * segment_header_free. */
MUST_CHECK int segment_header_decode(struct segment_header *header, struct bytes data,
                                     struct error *err);
void segment_header_free(struct segment_header *header);

/* A segment by its number. -ERR_NOT_FOUND, -ERR_SYSTEM, -ERR_REFUSED; -ERR_FORMAT, and then *segment has
 * number and size, and no header. Free it with segment_free. */
MUST_CHECK int segment_open(struct segment **segment, int dir, uint64_t number, struct error *err);
void segment_free(struct segment *segment);

/* The first `len` bytes of the file. What the disk can't read any more is zeros; then the result is 1. */
MUST_CHECK int segment_load(struct buf *into, int dir, uint64_t number, uint64_t len,
                            struct error *err);

/* Damage was found in it: the file gets its second name, NUMBER.damaged, at once. So that outlives this
 * process, and the file all that becomes of its first name. -1 and errno; 0 also if it has it already. */
int segment_mark_damaged(int dir, uint64_t number);
/* From then on it has that name alone. -1 and errno. */
int segment_put_aside(int dir, uint64_t number);

/* -ERR_FULL for errno that more space would mend, else -ERR_SYSTEM. */
int segment_system_error(struct error *err, const char *what, const char *name);

#endif
