/* A message that is too large to go its way, as a file of its own in its spool's directory: what a segment
 * of the spool can't take, and what Redis would never take. The consumer writes it and goes on;
 * `mqtt-bridge spool` lists, re-sends and removes it, whether the consumer runs or not, without the
 * spool's lock: a file appears whole, by a rename, and is never changed.
 *
 * The name is `<X-Mqtt-Id>.oversized`, so a message that is set aside again replaces its own file.
 * Layout, little-endian: magic 8, version u32, CRC-32C u32 of all that follows, spool id 32 hex digits,
 * sequence u64, identity u64, received u64 (wall µs), payload length u32, topic length u16, QoS u8,
 * flags u8 (1 retained, 2 cause: Redis), topic, payload. */
#ifndef COMMON_CLIENT_OVERSIZED_FILE_H
#define COMMON_CLIENT_OVERSIZED_FILE_H

#include "common/base/buf.h"
#include "common/base/error.h"

enum oversized_cause {
    OVERSIZED_FOR_SEGMENT,
    OVERSIZED_FOR_REDIS,
};

#define OVERSIZED_SPOOL_ID_SIZE 33
#define OVERSIZED_ID_SIZE       (OVERSIZED_SPOOL_ID_SIZE + 21)
#define OVERSIZED_SUFFIX        ".oversized"
#define OVERSIZED_NEW           "new.oversized" /* under construction; of no use after a crash */

struct oversized_file {
    char spool_id[OVERSIZED_SPOOL_ID_SIZE]; /* 32 hex digits */
    uint64_t sequence;
    uint64_t identity; /* of X-Mqtt-Id: the sequence, or that of the message that it repeats */
    int64_t received_us;
    enum oversized_cause cause;
    int qos;
    bool retained;
    struct bytes topic;
    struct bytes payload;
};

/* "<spool id>-<identity>". */
void oversized_file_id(const struct oversized_file *file, char id[OVERSIZED_ID_SIZE]);
/* Whether a file's name is one of these; *id is then the part before the suffix. */
bool oversized_file_parse_name(const char *name, struct bytes *id);

/* Writes it under a temporary name and renames it; sync: fsyncs file and directory, so that it survives a
 * power cut. One writer a directory. -ERR_FULL (no room), -ERR_SYSTEM: nothing was stored. */
MUST_CHECK int oversized_file_write(int dir, const struct oversized_file *file, bool sync,
                                    struct error *err);

/* The whole message; it points into bytes, which is replaced. -ERR_NOT_FOUND, -ERR_FORMAT (damaged, or a
 * later version's), -ERR_SYSTEM. */
MUST_CHECK int oversized_file_read(int dir, const char *id, struct oversized_file *file,
                                   struct buf *bytes, struct error *err);

MUST_CHECK int oversized_file_remove(int dir, const char *id, struct error *err);

struct oversized_entry {
    char id[OVERSIZED_ID_SIZE];
    struct oversized_file file; /* payload: the length alone */
    bool damaged;               /* file's fields are then of no meaning, but for payload.len */
    struct buf topic;           /* what file.topic points to */
};

/* Those of a directory, by identity; heads and topics are read, and checksums not looked at. */
struct oversized_list {
    struct oversized_entry *entries;
    size_t len;
};
MUST_CHECK int oversized_list_read(struct oversized_list *list, int dir, struct error *err);
void oversized_list_free(struct oversized_list *list);

#endif
