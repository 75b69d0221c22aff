/* What a segment's file holds, for those who only look: each record in turn, and each hole. Pure, and bounded by the
 * file: a good record has the segment's checksums, whatever the bytes beside it are.
 *
 *     segment_scan_begin(&scan, &header, data);
 *     while ((found = segment_scan_next(&scan, &item)) != SEGMENT_END) ...
 *
 * The consumer's recovery and reader go by the same rules (docs/SPOOL.md, section "Recovery"): bad bytes that a good
 * record follows are damage, those that none follows are the end. */
#ifndef COMMON_WIRE_SEGMENT_SCAN_H
#define COMMON_WIRE_SEGMENT_SCAN_H

#include "common/wire/record.h"
#include "common/wire/segment_header.h"

struct segment_scan {
    struct bytes data; /* of the file, header included */
    uint32_t seed;
    uint64_t first_sequence;
    uint64_t next_sequence; /* above the last message */
    uint64_t highest;       /* that there is room for */
    size_t at;              /* behind the last record */
    uint64_t messages;
    uint64_t missing;
};

enum segment_found {
    SEGMENT_END,    /* at `offset`; `torn`: a record was begun there, and is not whole */
    SEGMENT_RECORD, /* `record`, of any type */
    SEGMENT_DAMAGE, /* `len` bytes from `offset` on; `missing` messages are not there */
};

struct segment_item {
    size_t offset;
    size_t len;
    uint64_t missing;
    bool torn;
    struct record record; /* points into the data */
};

void segment_scan_begin(struct segment_scan *scan, const struct segment_header *header,
                        struct bytes data);
enum segment_found segment_scan_next(struct segment_scan *scan, struct segment_item *item);

#endif
