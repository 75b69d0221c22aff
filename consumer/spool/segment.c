#include "consumer/spool/segment.h"

#include "common/base/alloc.h"
#include "common/base/little_endian.h"
#include "common/base/sys.h"
#include "common/wire/crc32c.h"
#include "consumer/spool/record.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

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
    SKIPPED_LEN = 104, /* of what stands before the destination */
    DESTINATION_LEN = 106,
    BRANCH = 108,
    DAMAGED = 124,
    TEXTS = 128,
};

#define FORMAT_VERSION  2
#define UNREADABLE_UNIT 4096

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

int segment_file(int dir, uint64_t number, int flags)
{
    char name[SEGMENT_NAME_SIZE];

    segment_name(number, "segment", name);
    return sys_openat(dir, name, flags | O_CLOEXEC, 0);
}

int segment_make(int dir, const char *name, uint64_t size, int *fd, struct error *err)
{
    sys_unlinkat(dir, name); /* what an earlier process left half made */
    *fd = sys_openat(dir, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (*fd < 0)
        return error_system(err, "making %s", name);
    if (sys_allocate(*fd, 0, (off_t)size) == 0)
        return 0;

    int result = error_system(err, "reserving space for %s", name);
    close(*fd);
    *fd = -1;
    sys_unlinkat(dir, name);
    return result;
}

/* Over all of it but the field that holds it. */
static uint32_t header_crc(const char data[SEGMENT_HEADER_SIZE])
{
    uint32_t crc = crc32c(0, data, CRC);

    return crc32c(crc, data + SPOOL_ID, SEGMENT_HEADER_SIZE - SPOOL_ID);
}

static void header_encode(const struct segment_header *header, char data[SEGMENT_HEADER_SIZE])
{
    size_t destination_len = strlen(header->destination);

    memset(data, 0, SEGMENT_HEADER_SIZE);
    memcpy(data + MAGIC, magic, sizeof(magic));
    little_endian_put32(data + VERSION, FORMAT_VERSION);
    memcpy(data + SPOOL_ID, header->spool_id, 16);
    memcpy(data + BOOT_ID, header->boot_id, 16);
    little_endian_put64(data + RUN, header->run);
    little_endian_put64(data + NUMBER, header->number);
    little_endian_put64(data + FIRST_SEQUENCE, header->first_sequence);
    little_endian_put64(data + RECORDS_BEFORE, header->records_before);
    little_endian_put64(data + BYTES_BEFORE, header->bytes_before);
    little_endian_put64(data + PREVIOUS_SEQUENCE, header->previous_sequence);
    little_endian_put16(data + DESTINATION_LEN, (uint16_t)destination_len);
    little_endian_put64(data + BRANCH, header->branch);
    little_endian_put32(data + DAMAGED, header->damaged);
    memcpy(data + TEXTS, header->destination, destination_len);
    little_endian_put32(data + CRC, header_crc(data));
}

int segment_write_header(int fd, const struct segment_header *header, struct error *err)
{
    char data[SEGMENT_HEADER_SIZE];
    char name[SEGMENT_NAME_SIZE];

    segment_name(header->number, "segment", name);
    header_encode(header, data);
    ssize_t written = sys_pwrite(fd, data, sizeof(data), 0);
    if (written == (ssize_t)sizeof(data))
        return 0;
    if (written >= 0)
        errno = ENOSPC;
    return error_system(err, "writing the header of %s", name);
}

int segment_rewrite_header(int dir, const struct segment_header *header, struct error *err)
{
    int fd = segment_file(dir, header->number, O_WRONLY);

    if (fd < 0)
        return error_system(err, "opening segment %" PRIu64, header->number);
    int result = segment_write_header(fd, header, err);
    close(fd);
    return result;
}

/* -ERR_REFUSED if another version of the program wrote it. */
static int header_decode(struct segment_header *header, struct bytes data, struct error *err)
{
    if (data.len < SEGMENT_HEADER_SIZE || memcmp(data.data, magic, sizeof(magic)) != 0)
        return error_set(err, ERR_FORMAT, "no segment of a spool");
    if (little_endian_get32(data.data + CRC) != header_crc(data.data))
        return error_set(err, ERR_FORMAT, "damaged header");
    uint32_t version = little_endian_get32(data.data + VERSION);
    if (version != FORMAT_VERSION)
        return error_set(err, ERR_REFUSED, "format %" PRIu32 ", this program reads %d", version,
                         FORMAT_VERSION);

    size_t skipped_len = little_endian_get16(data.data + SKIPPED_LEN);
    size_t destination_len = little_endian_get16(data.data + DESTINATION_LEN);
    if (skipped_len > SEGMENT_TEXT_MAX || destination_len > SEGMENT_TEXT_MAX)
        return error_set(err, ERR_FORMAT, "damaged header");
    *header = (struct segment_header){
        .run = little_endian_get64(data.data + RUN),
        .number = little_endian_get64(data.data + NUMBER),
        .first_sequence = little_endian_get64(data.data + FIRST_SEQUENCE),
        .records_before = little_endian_get64(data.data + RECORDS_BEFORE),
        .bytes_before = little_endian_get64(data.data + BYTES_BEFORE),
        .previous_sequence = little_endian_get64(data.data + PREVIOUS_SEQUENCE),
        .branch = little_endian_get64(data.data + BRANCH),
        .damaged = little_endian_get32(data.data + DAMAGED) != 0,
    };
    memcpy(header->destination, data.data + TEXTS + skipped_len, destination_len);
    memcpy(header->spool_id, data.data + SPOOL_ID, 16);
    memcpy(header->boot_id, data.data + BOOT_ID, 16);
    return 0;
}

static int read_header(struct segment *segment, int fd, uint64_t number, struct error *err)
{
    char data[SEGMENT_HEADER_SIZE];
    ssize_t got = sys_pread(fd, data, sizeof(data), 0);

    if (got < 0)
        got = 0; /* a bad sector under the header is damage like any other */
    struct bytes bytes = {data, (size_t)got};
    int result = header_decode(&segment->header, bytes, err);
    if (result == 0 && segment->header.number != number) {
        segment->header = (struct segment_header){0};
        result = error_set(err, ERR_FORMAT, "header of another segment");
    }
    return result;
}

int segment_open(struct segment **segment, int dir, uint64_t number, struct error *err)
{
    char name[SEGMENT_NAME_SIZE];
    struct stat status;

    *segment = NULL;
    segment_name(number, "segment", name);
    int fd = segment_file(dir, number, O_RDONLY);
    if (fd < 0 && errno == ENOENT)
        return error_set(err, ERR_NOT_FOUND, "%s is gone", name);
    if (fd < 0 || fstat(fd, &status) < 0) {
        int result = error_system(err, "opening %s", name);

        if (fd >= 0)
            close(fd);
        return result;
    }

    *segment = xcalloc(1, sizeof(**segment));
    int result = read_header(*segment, fd, number, err);
    close(fd);
    (*segment)->size = (uint64_t)status.st_size;
    if (result == -ERR_FORMAT)
        (*segment)->header.number = number;
    if (result == -ERR_REFUSED) {
        free(*segment);
        *segment = NULL;
    }
    if (result < 0)
        return error_wrap(err, "%s", name);
    (*segment)->seed = record_seed((*segment)->header.spool_id, (*segment)->header.run, number);
    return 0;
}

/* Reads up to len bytes; what can't be read is zeros, and *unreadable is set. 0 at the end of the file. */
static size_t read_around(int fd, char *data, size_t len, uint64_t offset, bool *unreadable)
{
    ssize_t got = sys_pread(fd, data, len, (off_t)offset);

    if (got >= 0)
        return (size_t)got;
    /* Block by block then, so that one bad sector costs one block. */
    size_t block = len < UNREADABLE_UNIT ? len : UNREADABLE_UNIT;
    got = sys_pread(fd, data, block, (off_t)offset);
    if (got >= 0)
        return (size_t)got;
    memset(data, 0, block);
    *unreadable = true;
    return block;
}

int segment_load(struct buf *into, int dir, uint64_t number, uint64_t len, struct error *err)
{
    int fd = segment_file(dir, number, O_RDONLY);
    bool unreadable = false;

    if (fd < 0)
        return error_system(err, "opening segment %" PRIu64, number);
    buf_clear(into);
    char *data = buf_reserve(into, (size_t)len + 1); /* never none, even of an empty file */
    while (into->len < len) {
        size_t want = (size_t)len - into->len;

        /* After a failure in blocks, up to the next good one and on from there. */
        if (unreadable && want > UNREADABLE_UNIT)
            want = UNREADABLE_UNIT;
        size_t got = read_around(fd, data + into->len, want, into->len, &unreadable);
        if (got == 0)
            break;
        into->len += got;
    }
    close(fd);
    return unreadable ? 1 : 0;
}

int segment_remove(int dir, const struct segment *segment)
{
    char name[SEGMENT_NAME_SIZE];
    char aside[SEGMENT_NAME_SIZE];

    segment_name(segment->header.number, "segment", name);
    if (!segment->header.damaged)
        return sys_unlinkat(dir, name);
    segment_name(segment->header.number, "damaged", aside);
    return sys_renameat(dir, name, aside);
}
