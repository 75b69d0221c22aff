/* What a spool's directory holds when it is opened, after whatever ended the last process.
 *
 * Survived without loss: SIGKILL at any moment (a torn record at the tail, a half-made segment). Survived
 * with a report of what is gone: bad blocks and bytes anywhere, a header destroyed, a segment missing.
 * A bad record is a torn tail only if no good record follows it, in its segment or in a later one: it was
 * never acknowledged, and is cut off. Otherwise it is damage, which the reader steps over and counts when
 * it gets there (spool_next). Refused: segments of two spools in one directory, and formats to come.
 *
 * Only the tail is read whole; of the others, the headers. */
#ifndef CONSUMER_SPOOL_RECOVERY_H
#define CONSUMER_SPOOL_RECOVERY_H

#include "consumer/spool/recent.h"
#include "consumer/spool/segment.h"

struct recovered {
    struct segment *first; /* by number; NULL: none. The caller's to free. */
    struct segment *last;
    unsigned char spool_id[16]; /* of the segments, or newly drawn */
    uint64_t next_number;
    uint64_t tail_end; /* offset behind the last record of `last` */
    uint64_t next_sequence;
    uint64_t records;        /* stored since the spool exists */
    uint64_t bytes;          /* likewise, heads and padding included */
    uint64_t disk;           /* bytes that the kept segments take */
    uint64_t branch;         /* the last one, as in the segments' headers */
    uint64_t sequence_floor; /* likewise */
    bool tail_lost;          /* the end can't be read: there may have been more records */
    bool has_spare;          /* SEGMENT_SPARE is there, with the size asked for */
};

/* Reads dir (its descriptor; path is for messages), mends what can be mended, and puts aside, as
 * NUMBER.damaged, what can't be read at all. spare_size: what a spare must have to be of use. */
MUST_CHECK int recover(struct recovered *recovered, int dir, const char *path, uint64_t spare_size,
                       struct error *err);
void recovered_free(struct recovered *recovered);

/* A run of bytes with records in it. */
struct recover_scan {
    uint64_t records;       /* good messages */
    uint64_t missing;       /* that a good record follows */
    uint64_t end;           /* offset behind the last good record */
    uint64_t next_sequence; /* one above the last good message's */
    bool torn;              /* at `end` there is the head of a record without its body */
};
/* recent: what it tells may come again is noted there; or NULL. */
void recover_scan(struct recover_scan *scan, struct bytes data, uint64_t from, uint32_t seed,
                  uint64_t first_sequence, struct recent *recent);

#endif
