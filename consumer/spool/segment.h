/* One file of the spool: a header of 4096 bytes, then records. Layout: docs/SPOOL.md.
 *
 * Files are named by number ("000000000042.segment") and opened relative to the spool's directory.
 * Nothing here keeps state but in the caller's structs; errors name the file. */
#ifndef CONSUMER_SPOOL_SEGMENT_H
#define CONSUMER_SPOOL_SEGMENT_H

#include "common/base/buf.h"
#include "common/base/error.h"
#include "common/wire/segment_header.h"

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

#endif
