#include "common/wire/segment_header.h"

#include "common/base/bytes.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* Offsets in the header; the destination is the text at TEXTS. */
enum {
    MAGIC = 0,
    VERSION = 8,
    CRC = 12,
    SPOOL_ID = 16,
    BOOT_ID = 32,
    RUN = 48,
    NUMBER = 56,
    FIRST_SEQUENCE = 64,
    RECORDS_BEFORE = 72,
    BYTES_BEFORE = 80,
    PREVIOUS_SEQUENCE = 88,
    SKIPPED_LEN = 104, /* length of a text in front of the destination */
    DESTINATION_LEN = 106,
    BRANCH = 108,
    DAMAGED = 124,
    TEXTS = 128,
};

#define FORMAT_VERSION 2

static const char magic[8] = "MQBSPOOL";

void segment_name(uint64_t number, const char *suffix, char name[SEGMENT_NAME_SIZE])
{
    snprintf(name, SEGMENT_NAME_SIZE, "%012" PRIu64 ".%s", number, suffix);
}

bool segment_name_parse(const char *name, const char *suffix, uint64_t *number)
{
    struct bytes digits, rest;

    if (!bytes_split(bytes_of(name), '.', &digits, &rest))
        return false;
    return digits.len >= 12 && bytes_to_u64(digits, number) && bytes_equal_text(rest, suffix);
}

/* The checksum covers the whole header except its own field. */
static uint32_t header_crc(const char data[SEGMENT_HEADER_SIZE])
{
    uint32_t crc = bytes_crc32c(0, data, CRC);

    return bytes_crc32c(crc, data + SPOOL_ID, SEGMENT_HEADER_SIZE - SPOOL_ID);
}

void segment_header_encode(const struct segment_header *header, char data[SEGMENT_HEADER_SIZE])
{
    size_t destination_len = strlen(header->destination);

    memset(data, 0, SEGMENT_HEADER_SIZE);
    memcpy(data + MAGIC, magic, sizeof(magic));
    bytes_put32(data + VERSION, FORMAT_VERSION);
    memcpy(data + SPOOL_ID, header->spool_id, 16);
    memcpy(data + BOOT_ID, header->boot_id, 16);
    bytes_put64(data + RUN, header->run);
    bytes_put64(data + NUMBER, header->number);
    bytes_put64(data + FIRST_SEQUENCE, header->first_sequence);
    bytes_put64(data + RECORDS_BEFORE, header->records_before);
    bytes_put64(data + BYTES_BEFORE, header->bytes_before);
    bytes_put64(data + PREVIOUS_SEQUENCE, header->previous_sequence);
    bytes_put16(data + DESTINATION_LEN, (uint16_t)destination_len);
    bytes_put64(data + BRANCH, header->branch);
    bytes_put32(data + DAMAGED, header->damaged);
    memcpy(data + TEXTS, header->destination, destination_len);
    bytes_put32(data + CRC, header_crc(data));
}

int segment_header_decode(struct segment_header *header, struct bytes data, struct error *err)
{
    if (data.len < SEGMENT_HEADER_SIZE || memcmp(data.data, magic, sizeof(magic)) != 0)
        return error_set(err, ERR_FORMAT, "no segment of a spool");
    if (bytes_get32(data.data + CRC) != header_crc(data.data))
        return error_set(err, ERR_FORMAT, "damaged header");
    uint32_t version = bytes_get32(data.data + VERSION);
    if (version != FORMAT_VERSION)
        return error_set(err, ERR_REFUSED, "format %" PRIu32 ", this program reads %d", version,
                         FORMAT_VERSION);

    size_t skipped_len = bytes_get16(data.data + SKIPPED_LEN);
    size_t destination_len = bytes_get16(data.data + DESTINATION_LEN);
    if (skipped_len > SEGMENT_TEXT_MAX || destination_len > SEGMENT_TEXT_MAX)
        return error_set(err, ERR_FORMAT, "damaged header");
    *header = (struct segment_header){
        .run = bytes_get64(data.data + RUN),
        .number = bytes_get64(data.data + NUMBER),
        .first_sequence = bytes_get64(data.data + FIRST_SEQUENCE),
        .records_before = bytes_get64(data.data + RECORDS_BEFORE),
        .bytes_before = bytes_get64(data.data + BYTES_BEFORE),
        .previous_sequence = bytes_get64(data.data + PREVIOUS_SEQUENCE),
        .branch = bytes_get64(data.data + BRANCH),
        .damaged = bytes_get32(data.data + DAMAGED) != 0,
    };
    memcpy(header->destination, data.data + TEXTS + skipped_len, destination_len);
    memcpy(header->spool_id, data.data + SPOOL_ID, 16);
    memcpy(header->boot_id, data.data + BOOT_ID, 16);
    return 0;
}

int segment_header_decode_of(struct segment_header *header, uint64_t number, struct bytes data,
                             struct error *err)
{
    int result = segment_header_decode(header, data, err);

    if (result == 0 && header->number != number)
        result = error_set(err, ERR_FORMAT, "header of another segment");
    if (result < 0)
        *header = (struct segment_header){0};
    return result;
}
