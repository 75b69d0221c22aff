/* Messages that no stream entry or no segment of the spool takes. Each is a file in the spool's directory,
 * SEQUENCE.oversized (20 digits). The consumer writes it; the command line lists, sends and removes it.
 *
 * A file is complete as soon as it has its name. Format: docs/SPOOL.md. These functions need no lock of the spool. */
#ifndef COMMON_CLIENT_OVERSIZED_FILE_H
#define COMMON_CLIENT_OVERSIZED_FILE_H

#include "common/base/buf.h"
#include "common/base/error.h"
#include "common/wire/record.h"

struct oversized_message {
    unsigned char spool_id[16]; /* the identity is "<spool id, 32 hex digits>-<identity>" */
    bool for_redis;             /* too large for Redis, but not for a segment */
    struct record record;       /* the payload: from oversized_file_list its length only */
};

/* Replaces a file of that sequence. sync: the file is on the disk when this returns. -ERR_SYSTEM. */
MUST_CHECK int oversized_file_write(int dir, const struct oversized_message *message, bool sync,
                                    struct error *err);

/* Calls `seen` (NULL: nothing) for each file of the directory, in no order. A damaged file has sequence 0, and its size
 * as the payload's length. Returns how many there are, or -ERR_SYSTEM. */
typedef void oversized_file_seen(void *context, const char *name,
                                 const struct oversized_message *message);
int oversized_file_list(int dir, oversized_file_seen *seen, void *context, struct error *err);

/* The message, which points into data. -ERR_NOT_FOUND, -ERR_FORMAT, -ERR_SYSTEM. */
MUST_CHECK int oversized_file_read(int dir, uint64_t sequence, struct oversized_message *message,
                                   struct buf *data, struct error *err);
bool oversized_file_exists(int dir, uint64_t sequence);
/* -ERR_NOT_FOUND, -ERR_SYSTEM. */
MUST_CHECK int oversized_file_remove(int dir, uint64_t sequence, struct error *err);

#endif
