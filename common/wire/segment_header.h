/* The names of a spool's files, and the header of a segment: 4096 bytes before its records. Pure; the layout is in
 * docs/SPOOL.md, section "Segment header". */
#ifndef COMMON_WIRE_SEGMENT_HEADER_H
#define COMMON_WIRE_SEGMENT_HEADER_H

#include "common/base/bytes.h"
#include "common/base/error.h"

/* In the spool's folder: NUMBER.segment, and NUMBER.damaged for one that is kept because of damage. */
#define SEGMENT_SUFFIX         "segment"
#define SEGMENT_DAMAGED_SUFFIX "damaged"
/* The file for the writer's next segment, preallocated and empty, made by main. */
#define SEGMENT_SPARE "spare"
/* The file with the mark as the consumer last knew it, as text. */
#define SPOOL_COMMITTED "committed"
/* A file in the client id's folder. It holds the name of the folder whose spool receives, or received last. */
#define SPOOL_CURRENT "current"

#define SEGMENT_HEADER_SIZE 4096
#define SEGMENT_NAME_SIZE   32
#define SEGMENT_TEXT_MAX    1500 /* of the destination */

struct segment_header {
    unsigned char spool_id[16];
    unsigned char boot_id[16]; /* of the kernel when the segment was begun; zeros: not known */
    uint64_t run;
    uint64_t number;
    uint64_t first_sequence;    /* sequences in one segment have no gaps */
    uint64_t previous_sequence; /* of the last record before this segment */
    uint64_t records_before;    /* records stored before this segment, since the spool exists */
    uint64_t bytes_before;      /* bytes of these records */
    uint64_t branch; /* sequence at which a copied spool got a mark of its own; 0: never */
    bool damaged;    /* damage was found: the file is kept when the segment is freed */
    char destination[SEGMENT_TEXT_MAX + 1]; /* "": the header can't be read */
};

void segment_name(uint64_t number, const char *suffix, char name[SEGMENT_NAME_SIZE]);
/* True if name is that of a number with this suffix. */
bool segment_name_parse(const char *name, const char *suffix, uint64_t *number);

void segment_header_encode(const struct segment_header *header, char data[SEGMENT_HEADER_SIZE]);
/* -ERR_FORMAT; -ERR_REFUSED: another version of the program wrote it. */
MUST_CHECK int segment_header_decode(struct segment_header *header, struct bytes data,
                                     struct error *err);
/* As segment_header_decode, for the segment of that number; -ERR_FORMAT if the header has another. A failure leaves the
 * header empty. */
MUST_CHECK int segment_header_decode_of(struct segment_header *header, uint64_t number,
                                        struct bytes data, struct error *err);

#endif
