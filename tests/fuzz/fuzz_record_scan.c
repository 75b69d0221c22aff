/* A segment's file with edits (4 bytes each: what, where in two bytes, with what), or bytes as they stand behind a good
 * header. Whatever it is, the scan ends, and items lie one behind the other within the file. What the scan takes for a
 * message is one that was written. An input that begins with 0xFE is a header, one with 0xFD a mark. */
#include "common/wire/mark.h"
#include "common/wire/record.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MESSAGES  8
#define IMAGE_MAX 8192

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char original[IMAGE_MAX];
static size_t original_len;
static struct segment_header header;

static void require(bool condition)
{
    if (!condition)
        abort();
}

static void payload_of(uint64_t sequence, char text[32])
{
    snprintf(text, 32, "message %llu", (unsigned long long)sequence);
}

static void add_record(uint64_t sequence, int type)
{
    uint32_t seed = record_seed(header.spool_id, header.run, header.number);
    char head[RECORD_HEAD_SIZE], payload[32];
    struct bytes parts[RECORD_PARTS];

    payload_of(sequence, payload);
    struct record record = {
        .type = type, .sequence = sequence, .topic = BYTES("a/b"), .payload = bytes_of(payload)};
    record_parts(&record, seed, head, parts);
    for (int i = 0; i < RECORD_PARTS; i++) {
        if (parts[i].len > 0)
            memcpy(original + original_len, parts[i].data, parts[i].len);
        original_len += parts[i].len;
    }
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    header = (struct segment_header){
        .run = 0xAAAA, .number = 3, .first_sequence = 17, .destination = "redis://h/messages"};
    segment_header_encode(&header, original);
    original_len = SEGMENT_HEADER_SIZE;
    for (uint64_t i = 0; i < MESSAGES; i++)
        add_record(header.first_sequence + i, i % 3 == 2 ? RECORD_RELEASE : RECORD_MESSAGE);
    return 0;
}

static void check_scan(const struct segment_header *of, struct bytes data)
{
    struct record_scan scan;
    struct record_item item;
    enum record_found found;
    size_t at = SEGMENT_HEADER_SIZE;
    uint64_t next = of->first_sequence;

    record_scan_begin(&scan, of, data);
    while ((found = record_scan_next(&scan, &item)) != RECORD_SCAN_END) {
        char payload[32];

        require(item.offset == at);
        at += item.len;
        require(at <= data.len);
        if (found == RECORD_SCAN_DAMAGE) {
            require(item.len > 0 || item.missing > 0);
            next += item.missing;
            continue;
        }
        require(item.record.sequence == next);
        next += item.record.type == RECORD_MESSAGE;
        payload_of(item.record.sequence, payload);
        require(bytes_equal_text(item.record.payload, payload));
    }
    require(item.offset == at);
    require(scan.messages + scan.missing == next - of->first_sequence);
}

/* A copy of its own, so that a read behind it is seen. */
static void scan_copy(const char *data, size_t len)
{
    char *copy = malloc(len + 1);

    memcpy(copy, data, len);
    check_scan(&header, (struct bytes){copy, len});
    free(copy);
}

static void edit(char *image, size_t *len, const uint8_t what[4])
{
    size_t at = ((size_t)what[1] << 8 | what[2]) % (*len + 1);
    size_t rest = *len - at;

    switch (what[0] % 4) {
    case 0:
        if (rest > 0)
            image[at] = (char)what[3];
        break;
    case 1:
        *len = at;
        break;
    case 2:
        memset(image + at, 0, what[3] < rest ? what[3] : rest);
        break;
    case 3: /* a piece of it at the wrong place */
        memcpy(image + at, original + SEGMENT_HEADER_SIZE, rest < 120 ? rest : 120);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char image[IMAGE_MAX];
    size_t len = original_len;
    struct segment_header read;
    struct mark mark;

    if (size > 0 && data[0] == 0xFD) {
        (void)mark_parse((struct bytes){(const char *)data + 1, size - 1}, &mark);
        return 0;
    }
    if (size > 0 && data[0] == 0xFE) {
        if (segment_header_decode(&read, (struct bytes){(const char *)data + 1, size - 1}, NULL) ==
            0)
            check_scan(&read, (struct bytes){(const char *)data + 1, size - 1});
        return 0;
    }
    memcpy(image, original, original_len);
    if (size > 0 && data[0] == 0xFF) {
        size_t more =
            size - 1 < IMAGE_MAX - SEGMENT_HEADER_SIZE ? size - 1 : IMAGE_MAX - SEGMENT_HEADER_SIZE;

        memcpy(image + SEGMENT_HEADER_SIZE, data + 1, more);
        scan_copy(image, SEGMENT_HEADER_SIZE + more);
        return 0;
    }
    for (size_t i = 0; i + 4 <= size && i < 100; i += 4)
        edit(image, &len, data + i);
    scan_copy(image, len);
    return 0;
}
