/* Recovery over three segments (two of one run, one of the next) that the input damages: 5 bytes an edit. Whatever is
 * done to them, recovery ends. What it takes for a record is one that was written, in order. A second recovery finds
 * what the first one left. An input that begins with 0xFF is the records' part of one segment as it stands. */
#include "common/base/log.h"
#include "common/base/sys.h"
#include "consumer/spool/spool_internal.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The fuzzers are linked with the pure rooms; these come along as source. */
#include "consumer/spool/recent.c"

#include "consumer/spool/recovery.c"

#include "consumer/spool/segment.c"

#define SEGMENTS    3
#define PER_SEGMENT 6
#define IMAGE_MAX   8192

struct image {
    char data[IMAGE_MAX];
    size_t len;
};

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char directory[64];
static int dir;
static struct image originals[SEGMENTS];
static uint32_t seeds[SEGMENTS];
static struct recent *recent;

static void payload_of(uint64_t sequence, char text[32])
{
    snprintf(text, 32, "message %llu", (unsigned long long)sequence);
}

static void require(bool condition)
{
    if (!condition)
        abort();
}

static void remove_directory(void)
{
    char name[SEGMENT_NAME_SIZE];

    for (uint64_t i = 1; i <= SEGMENTS; i++) {
        segment_name(i, "segment", name);
        unlinkat(dir, name, 0);
        segment_name(i, "damaged", name);
        unlinkat(dir, name, 0);
    }
    rmdir(directory);
}

static void add_record(struct image *image, uint64_t sequence, uint32_t seed)
{
    char head[RECORD_HEAD_SIZE], payload[32];
    struct bytes parts[RECORD_PARTS];

    payload_of(sequence, payload);
    struct record record = {.type = RECORD_MESSAGE,
                            .sequence = sequence,
                            .topic = BYTES("a/b"),
                            .payload = bytes_of(payload)};
    record_parts(&record, seed, head, parts);
    for (int i = 0; i < RECORD_PARTS; i++) {
        if (parts[i].len > 0)
            memcpy(image->data + image->len, parts[i].data, parts[i].len);
        image->len += parts[i].len;
    }
}

static void make_original(size_t index)
{
    struct image *image = &originals[index];
    struct segment_header header = {
        .run = index < 2 ? 0xAAAA : 0xBBBB,
        .number = index + 1,
        .first_sequence = 1 + index * PER_SEGMENT,
        .records_before = index * PER_SEGMENT,
        .bytes_before = index * PER_SEGMENT * 56,
        .destination = "redis://h:6379/messages",
    };

    memset(header.spool_id, 7, sizeof(header.spool_id));
    segment_header_encode(&header, image->data);
    image->len = SEGMENT_HEADER_SIZE;
    seeds[index] = record_seed(header.spool_id, header.run, header.number);
    for (uint64_t i = 0; i < PER_SEGMENT; i++)
        add_record(image, header.first_sequence + i, seeds[index]);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    recent = recent_new();
    log_open(&(struct log_options){.level = LOG_LEVEL_EMERGENCY, .fd = 2});
    strcpy(directory, access("/dev/shm", W_OK) == 0 ? "/dev/shm/fuzz-recover-XXXXXX"
                                                    : "/tmp/fuzz-recover-XXXXXX");
    require(mkdtemp(directory) != NULL);
    dir = open(directory, O_RDONLY | O_DIRECTORY);
    require(dir >= 0);
    atexit(remove_directory);
    for (size_t i = 0; i < SEGMENTS; i++)
        make_original(i);
    return 0;
}

static void edit(struct image images[SEGMENTS], const uint8_t what[5])
{
    struct image *image = &images[what[0] % SEGMENTS];
    size_t at = (size_t)what[2] << 8 | what[3];

    at %= image->len + 1;
    size_t rest = image->len - at;
    switch (what[1] % 5) {
    case 0:
        if (rest > 0)
            image->data[at] = (char)what[4];
        break;
    case 1:
        image->len = at; /* the file ends here */
        break;
    case 2:
        memset(image->data + at, 0, what[4] < rest ? what[4] : rest);
        break;
    case 3:
        memset(image->data, what[4], image->len < SEGMENT_HEADER_SIZE ? image->len : 200);
        break;
    case 4: /* a piece of another segment's, or of its own, at the wrong place */
        memcpy(image->data + at, originals[what[4] % SEGMENTS].data + SEGMENT_HEADER_SIZE,
               rest < 120 ? rest : 120);
        break;
    }
}

/* What the scan takes for records: written ones, in order. */
static void check_records(struct bytes data, const struct segment_header *header)
{
    uint32_t seed = record_seed(header->spool_id, header->run, header->number);
    struct record_scan scan;
    struct record record;
    uint64_t size, records = 0;
    uint64_t next = header->first_sequence;
    char payload[32];

    scan_records(&scan, header, data, NULL);
    for (size_t at = SEGMENT_HEADER_SIZE; at < data.len;) {
        at = record_find(data, at, seed, next, next + data.len);
        if (at >= data.len)
            break;
        struct bytes rest = {data.data + at, data.len - at};
        require(record_read(&record, &size, rest, seed) == RECORD_GOOD);
        payload_of(record.sequence, payload);
        require(bytes_equal_text(record.payload, payload));
        require(record.sequence >= next);
        next = record.sequence + 1;
        at += size;
        records++;
    }
    require(scan.messages == records);
    require(scan.next_sequence == next);
    require(scan.messages + scan.missing == next - header->first_sequence);
}

static int recover_afresh(struct spool *spool, struct error *err)
{
    memset(spool, 0, sizeof(*spool));
    spool->path = directory;
    spool->dir = dir;
    spool->segment_size = 65536;
    spool->recent = recent;
    recent_forget(recent);
    return recovery_run(spool, err);
}

static void free_segments(const struct spool *spool)
{
    for (struct segment *s = spool->reader.first, *next; s != NULL; s = next) {
        next = s->next;
        free(s);
    }
}

static void check_recovered(const struct spool *spool)
{
    struct buf data = {0};
    struct error err;

    for (const struct segment *s = spool->reader.first; s != NULL; s = s->next) {
        require(segment_load(&data, dir, s->header.number, s->size, &err) == 0);
        check_records(buf_bytes(&data), &s->header);
        if (s->next != NULL)
            require(s->header.records_before <= s->next->header.records_before);
    }
    require(spool->shared.records <= SEGMENTS * PER_SEGMENT);
    require(spool->writer.next_sequence <= SEGMENTS * PER_SEGMENT + 1);
    require(spool->writer.next_number == SEGMENTS + 1);
    buf_free(&data);
}

static void write_images(const struct image images[SEGMENTS])
{
    char name[SEGMENT_NAME_SIZE];

    for (size_t i = 0; i < SEGMENTS; i++) {
        segment_name(i + 1, "damaged", name);
        unlinkat(dir, name, 0);
        segment_name(i + 1, "segment", name);
        int fd = openat(dir, name, O_WRONLY | O_CREAT | O_TRUNC, 0600);
        require(fd >= 0);
        require(write(fd, images[i].data, images[i].len) == (ssize_t)images[i].len);
        close(fd);
    }
}

static void fuzz_directory(const uint8_t *data, size_t size)
{
    struct image images[SEGMENTS];
    static struct spool first, second;
    struct error err;

    memcpy(images, originals, sizeof(images));
    for (size_t i = 0; i + 5 <= size && i < 100; i += 5)
        edit(images, data + i);
    write_images(images);
    int result = recover_afresh(&first, &err);
    require(result == 0 || result == -ERR_FORMAT || result == -ERR_REFUSED);
    if (result < 0) {
        free_segments(&first);
        return;
    }
    if (first.reader.last != NULL)
        check_recovered(&first);
    require(recover_afresh(&second, &err) == 0);
    /* If nothing was readable, each makes a new identity. */
    require(first.reader.first == NULL || memcmp(first.id, second.id, 16) == 0);
    require(first.writer.next_sequence == second.writer.next_sequence);
    require(first.shared.records == second.shared.records);
    require(first.shared.disk == second.shared.disk);
    free_segments(&first);
    free_segments(&second);
}

static void fuzz_records(const uint8_t *data, size_t size)
{
    struct segment_header header;
    struct record_scan scan;
    struct record record;
    uint64_t needed = 0;

    /* A copy of its own, so that a read behind it is seen. */
    char *copy = malloc(SEGMENT_HEADER_SIZE + size);

    memcpy(copy, originals[0].data, SEGMENT_HEADER_SIZE);
    memcpy(copy + SEGMENT_HEADER_SIZE, data, size);
    struct bytes file = {copy, SEGMENT_HEADER_SIZE + size};
    require(segment_header_decode(&header, file, NULL) == 0);
    scan_records(&scan, &header, file, recent);
    require(scan.at <= file.len);
    (void)record_read(&record, &needed, bytes_slice(file, SEGMENT_HEADER_SIZE, size), seeds[0]);
    free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > 0 && data[0] == 0xFF)
        fuzz_records(data + 1, size - 1);
    else
        fuzz_directory(data, size);
    return 0;
}
