#include "common/wire/record.h"

#include "common/base/bytes.h"

#include <stddef.h>
#include <string.h>

enum {
    HEAD_CRC = 0,
    BODY_CRC = 4,
    SEQUENCE = 8,
    RECEIVED = 16,
    PAYLOAD_LEN = 24,
    REPEATS = 28,
    TOPIC_LEN = 32,
    PACKET_ID = 34,
    TYPE = 36,
    FLAGS = 37,
    UNUSED = 38,
};

#define FLAG_QOS       0x03
#define FLAG_RETAINED  0x04
#define FLAG_OVERSIZED 0x08

uint32_t record_seed(const unsigned char spool_id[16], uint64_t run, uint64_t segment)
{
    char origin[32];

    memcpy(origin, spool_id, 16);
    bytes_put64(origin + 16, run);
    bytes_put64(origin + 24, segment);
    return bytes_crc32c(0, origin, sizeof(origin));
}

static uint64_t padded(uint64_t size)
{
    return (size + RECORD_ALIGNMENT - 1) & ~(uint64_t)(RECORD_ALIGNMENT - 1);
}

uint64_t record_size_of(size_t topic_len, size_t payload_len)
{
    return padded(RECORD_HEAD_SIZE + topic_len + payload_len);
}

uint64_t record_size(const struct record *record)
{
    return record_size_of(record->topic.len, record->payload.len);
}

static uint32_t body_crc(const struct record *record, uint32_t seed)
{
    uint32_t crc = bytes_crc32c(seed, record->topic.data, record->topic.len);

    return bytes_crc32c(crc, record->payload.data, record->payload.len);
}

void record_parts(const struct record *record, uint32_t seed, char head[RECORD_HEAD_SIZE],
                  struct bytes parts[RECORD_PARTS])
{
    static const char padding[RECORD_ALIGNMENT];
    uint64_t unpadded = RECORD_HEAD_SIZE + record->topic.len + record->payload.len;

    bytes_put32(head + BODY_CRC, body_crc(record, seed));
    bytes_put64(head + SEQUENCE, record->sequence);
    bytes_put64(head + RECEIVED, (uint64_t)record->received_us);
    bytes_put32(head + PAYLOAD_LEN, (uint32_t)record->payload.len);
    bytes_put32(head + REPEATS, record->repeats);
    bytes_put16(head + TOPIC_LEN, (uint16_t)record->topic.len);
    bytes_put16(head + PACKET_ID, record->packet_id);
    head[TYPE] = (char)record->type;
    head[FLAGS] = (char)((record->qos & FLAG_QOS) | (record->retained ? FLAG_RETAINED : 0) |
                         (record->oversized ? FLAG_OVERSIZED : 0));
    bytes_put16(head + UNUSED, 0);
    bytes_put32(head + HEAD_CRC, bytes_crc32c(seed, head + BODY_CRC, RECORD_HEAD_SIZE - BODY_CRC));

    parts[0] = (struct bytes){head, RECORD_HEAD_SIZE};
    parts[1] = record->topic;
    parts[2] = record->payload;
    parts[3] = (struct bytes){padding, padded(unpadded) - unpadded};
}

/* Reads the fields without the checksums. Those are computed only if the fields are plausible,
 * since computing is slow. */
static void read_head(struct record *record, const char *head)
{
    *record = (struct record){
        .type = (unsigned char)head[TYPE],
        .sequence = bytes_get64(head + SEQUENCE),
        .received_us = (int64_t)bytes_get64(head + RECEIVED),
        .qos = head[FLAGS] & FLAG_QOS,
        .retained = (head[FLAGS] & FLAG_RETAINED) != 0,
        .packet_id = bytes_get16(head + PACKET_ID),
        .oversized = (head[FLAGS] & FLAG_OVERSIZED) != 0,
        .repeats = bytes_get32(head + REPEATS),
        .topic.len = bytes_get16(head + TOPIC_LEN),
        .payload.len = bytes_get32(head + PAYLOAD_LEN),
    };
    record->identity = record->sequence - record->repeats;
}

static bool head_is_good(const struct record *record, const char *head, uint32_t seed)
{
    return record->type != 0 && record->payload.len <= RECORD_BYTES_MAX &&
           (!record->oversized || record->payload.len == RECORD_OVERSIZED_SIZE) &&
           bytes_get32(head + HEAD_CRC) ==
               bytes_crc32c(seed, head + BODY_CRC, RECORD_HEAD_SIZE - BODY_CRC);
}

enum record_verdict record_read(struct record *record, uint64_t *size, struct bytes data,
                                uint32_t seed)
{
    if (data.len < RECORD_HEAD_SIZE) {
        *size = RECORD_HEAD_SIZE;
        return RECORD_CUT;
    }
    read_head(record, data.data);
    if (!head_is_good(record, data.data, seed))
        return RECORD_BAD;
    *size = record_size(record);
    if (data.len < *size)
        return RECORD_CUT;

    record->topic.data = data.data + RECORD_HEAD_SIZE;
    record->payload.data = record->topic.data + record->topic.len;
    if (body_crc(record, seed) != bytes_get32(data.data + BODY_CRC))
        return RECORD_BAD;
    return RECORD_GOOD;
}

size_t record_find(struct bytes data, size_t from, uint32_t seed, uint64_t lowest, uint64_t highest)
{
    struct record record;
    uint64_t size;

    for (size_t at = from; at + RECORD_HEAD_SIZE <= data.len; at += RECORD_ALIGNMENT) {
        uint64_t sequence = bytes_get64(data.data + at + SEQUENCE);

        if (sequence < lowest || sequence > highest)
            continue;
        struct bytes rest = {data.data + at, data.len - at};
        if (record_read(&record, &size, rest, seed) == RECORD_GOOD)
            return at;
    }
    return data.len;
}

void record_scan_begin(struct record_scan *scan, const struct segment_header *header,
                       struct bytes data)
{
    uint64_t first = header->first_sequence;
    uint64_t room = data.len / RECORD_HEAD_SIZE;

    *scan = (struct record_scan){
        .data = data,
        .seed = record_seed(header->spool_id, header->run, header->number),
        .first_sequence = first,
        .next_sequence = first,
        .highest = first <= UINT64_MAX - 1 - room ? first + room : UINT64_MAX - 1,
        .at = SEGMENT_HEADER_SIZE,
    };
}

static struct bytes bytes_from(const struct record_scan *scan, size_t at)
{
    return at < scan->data.len ? (struct bytes){scan->data.data + at, scan->data.len - at}
                               : BYTES_NONE;
}

static enum record_found end(struct record_scan *scan)
{
    struct bytes rest = bytes_from(scan, scan->at);
    struct record record;
    uint64_t size = 0;

    scan->torn = rest.len >= RECORD_HEAD_SIZE &&
                 (record_read(&record, &size, rest, scan->seed) == RECORD_CUT || size > 0);
    return RECORD_SCAN_END;
}

enum record_found record_scan_next(struct record_scan *scan, struct record_item *item)
{
    *item = (struct record_item){.offset = scan->at};
    if (scan->at >= scan->data.len)
        return end(scan);
    size_t at = record_find(scan->data, scan->at, scan->seed, scan->next_sequence, scan->highest);
    uint64_t size = 0;
    if (at >= scan->data.len ||
        record_read(&item->record, &size, bytes_from(scan, at), scan->seed) != RECORD_GOOD)
        return end(scan);
    item->missing = item->record.sequence - scan->next_sequence;
    if (at > scan->at || item->missing > 0) {
        item->len = at - scan->at;
        scan->at = at;
        scan->next_sequence = item->record.sequence;
        scan->missing += item->missing;
        return RECORD_SCAN_DAMAGE;
    }
    item->len = (size_t)size;
    scan->at = at + item->len;
    scan->messages += item->record.type == RECORD_MESSAGE;
    scan->next_sequence += item->record.type == RECORD_MESSAGE;
    return RECORD_SCAN_RECORD;
}
