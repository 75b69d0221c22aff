/* Reads the files of one spool, without a lock and without writing. The consumer that owns the spool may append, begin
 * and free segments meanwhile. */
#ifndef CLI_SPOOL_FILES_H
#define CLI_SPOOL_FILES_H

#include "common/base/buf.h"
#include "common/base/error.h"
#include "common/wire/mark.h"
#include "common/wire/segment_header.h"

struct spool_segment {
    char name[SEGMENT_NAME_SIZE];
    struct segment_header header; /* number alone, if it can't be read */
    struct error fault;           /* why it can't */
    uint64_t size;
};

struct spool_files {
    char *path;
    char *name; /* below <state dir>/spool */
    int dir;
    bool receives;                  /* the file `current` names this spool: messages go into it */
    struct spool_segment *segments; /* by number */
    size_t len;
    uint64_t spare_bytes;
    size_t damaged_files; /* files NUMBER.damaged */
    bool has_mark;        /* the file `committed` has the mark as the consumer last knew it */
    struct mark mark;
};

/* The segment's file, header included; at most its first `limit` bytes. 0; 1: blocks that the disk can't read are
 * zeros in it; -ERR_NOT_FOUND: it has been freed meanwhile; -ERR_TOO_LARGE, -ERR_SYSTEM. */
MUST_CHECK int spool_files_load(const struct spool_files *files,
                                const struct spool_segment *segment, uint64_t limit,
                                struct buf *data, struct error *err);

/* Calls look for each folder in which a spool may lie, or for those in names (as `spool show` prints them; none: all),
 * until it returns false. Returns an enum cli_exit; errors are printed. */
typedef bool spool_files_look(struct spool_files *files, void *context);
int spool_files_each(const char *state_dir, size_t len, char **names, spool_files_look *look,
                     void *context);

/* False for a client id's folder, which has neither segments nor a spare nor a mark. */
bool spool_files_is_spool(const struct spool_files *files);

/* The segment's header could be read. */
bool spool_files_is_readable(const struct spool_segment *segment);
/* How many messages the segment has, by the headers of this and the next one; -1: unknown, as for the last segment. */
int64_t spool_files_messages(const struct spool_files *files, size_t index);
/* Without a mark nothing is known to be sent. */
bool spool_files_is_unsent(const struct spool_files *files, uint64_t sequence);
/* Formats a spool id as it is in identities. */
void spool_files_id(const unsigned char id[16], char text[33]);

#endif
