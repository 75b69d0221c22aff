/* One record of the spool as bytes (head, topic, payload, padding to 8), and the scan of a segment's records. Pure; the
 * layout is in docs/SPOOL.md, section "Record".
 *
 * Both checksums are CRC-32C that begin with the segment's seed (spool id, run, segment number). So neither an old
 * record in a recycled segment nor a payload that imitates a record counts as a record. */
#ifndef COMMON_WIRE_RECORD_H
#define COMMON_WIRE_RECORD_H

#include "common/base/bytes.h"
#include "common/wire/segment_header.h"

#define RECORD_HEAD_SIZE 40
#define RECORD_ALIGNMENT 8
#define RECORD_TOPIC_MAX 65535
#define RECORD_BYTES_MAX 268435455 /* of the payload: what an MQTT packet can hold */
#define RECORD_PARTS     4

enum record_type {
    RECORD_MESSAGE = 1,
    RECORD_RELEASE = 2,     /* QoS 2: the packet id is free again */
    RECORD_NEW_SESSION = 3, /* earlier messages can't come again */
};

/* The payload of an oversized message's record: length and CRC of its fingerprint (consumer/spool/recent.c). */
#define RECORD_OVERSIZED_SIZE 8

struct record {
    int type;            /* enum record_type; a type of a later version is skipped */
    uint64_t sequence;   /* of the message; in other records of the next message */
    int64_t received_us; /* wall */
    int qos;
    bool retained;
    uint16_t packet_id;
    bool oversized;
    uint32_t repeats; /* it repeats the message that many sequences before; 0: it is new */
    struct bytes topic;
    struct bytes payload;

    /* Not in the record's bytes. */
    uint64_t identity; /* of a message: its own sequence, or that of the message it repeats */
    uint64_t run;      /* which start of the consumer stored it */
};

/* The size of a message's record. */
uint64_t record_size_of(size_t topic_len, size_t payload_len);

/* The seed of all checksums of a segment. */
uint32_t record_seed(const unsigned char spool_id[16], uint64_t run, uint64_t segment);

/* The record's size in the segment, padding included. */
uint64_t record_size(const struct record *record);

/* The parts of a record, in the file's order. They point into head and into the record's topic and payload. */
void record_parts(const struct record *record, uint32_t seed, char head[RECORD_HEAD_SIZE],
                  struct bytes parts[RECORD_PARTS]);

enum record_verdict {
    RECORD_GOOD,
    RECORD_CUT, /* the record is incomplete: *size bytes are needed to decide */
    RECORD_BAD,
};

/* Reads the record at the start of data, which may go on behind it. record points into data. *size: its
 * length, unless it is bad. */
enum record_verdict record_read(struct record *record, uint64_t *size, struct bytes data,
                                uint32_t seed);

/* Where in data, at or behind `from`, the next good record begins whose sequence is in lowest..highest:
 * data.len if there is none. `from` is a multiple of 8. */
size_t record_find(struct bytes data, size_t from, uint32_t seed, uint64_t lowest,
                   uint64_t highest);

/* Scans a segment's file: gives each record in turn, and each damaged stretch. A good record is known by the segment's
 * checksums, whatever the bytes beside it are.
 *
 *     record_scan_begin(&scan, &header, data);
 *     while ((found = record_scan_next(&scan, &item)) != RECORD_SCAN_END) ...
 *
 * The rules are those of docs/SPOOL.md, section "Recovery". Bad bytes before a good record are damage; bad bytes behind
 * the last good record are the end. */
struct record_scan {
    struct bytes data; /* of the file, header included */
    uint32_t seed;
    uint64_t first_sequence;
    uint64_t next_sequence; /* one above the last message's */
    uint64_t highest;       /* the highest sequence that the file has room for */
    size_t at;              /* offset behind the last record */
    uint64_t messages;
    uint64_t missing; /* messages lost in damage before a good record */
    bool torn;        /* the file ends in an incomplete record */
};

enum record_found {
    RECORD_SCAN_END,    /* at `offset` */
    RECORD_SCAN_RECORD, /* `record`, of any type */
    RECORD_SCAN_DAMAGE, /* `len` bytes from `offset` on; `missing` messages are not there */
};

struct record_item {
    size_t offset;
    size_t len;
    uint64_t missing;
    struct record record; /* points into the data */
};

void record_scan_begin(struct record_scan *scan, const struct segment_header *header,
                       struct bytes data);
enum record_found record_scan_next(struct record_scan *scan, struct record_item *item);

#endif
