#include "common/base/alloc.h"
#include "common/base/file.h"
#include "common/base/sys.h"
#include "common/wire/record.h"
#include "consumer/spool/spool_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

int segment_file(int dir, uint64_t number, int flags)
{
    char name[SEGMENT_NAME_SIZE];

    segment_name(number, SEGMENT_SUFFIX, name);
    return sys_openat(dir, name, flags | O_CLOEXEC, 0);
}

int segment_make(int dir, const char *name, uint64_t size, int *fd, struct error *err)
{
    sys_unlinkat(dir, name); /* an earlier process may have left an unfinished file */
    *fd = sys_openat(dir, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (*fd < 0)
        return error_system(err, "making %s", name);
    if (sys_allocate(*fd, 0, (off_t)size) == 0)
        return 0;

    int result = error_system(err, "reserving space for %s", name);
    file_close(fd);
    sys_unlinkat(dir, name);
    return result;
}

int segment_write_header(int fd, const struct segment_header *header, struct error *err)
{
    char data[SEGMENT_HEADER_SIZE];
    char name[SEGMENT_NAME_SIZE];

    segment_name(header->number, SEGMENT_SUFFIX, name);
    segment_header_encode(header, data);
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

static int read_header(struct segment *segment, int fd, uint64_t number, struct error *err)
{
    char data[SEGMENT_HEADER_SIZE];
    ssize_t got = sys_pread(fd, data, sizeof(data), 0);

    if (got < 0)
        got = 0; /* a bad sector in the header is damage like any other */
    return segment_header_decode_of(&segment->header, number, (struct bytes){data, (size_t)got},
                                    err);
}

int segment_open(struct segment **segment, int dir, uint64_t number, struct error *err)
{
    char name[SEGMENT_NAME_SIZE];
    struct stat status;

    *segment = NULL;
    segment_name(number, SEGMENT_SUFFIX, name);
    int fd = segment_file(dir, number, O_RDONLY);
    if (fd < 0 && errno == ENOENT)
        return error_set(err, ERR_NOT_FOUND, "%s is gone", name);
    if (fd < 0 || fstat(fd, &status) < 0) {
        int result = error_system(err, "opening %s", name);

        file_close(&fd);
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

int segment_load(struct buf *into, int dir, uint64_t number, uint64_t len, struct error *err)
{
    int fd = segment_file(dir, number, O_RDONLY);

    if (fd < 0)
        return error_system(err, "opening segment %" PRIu64, number);
    int result = file_read_around(fd, into, (size_t)len);
    close(fd);
    return result;
}

int segment_remove(int dir, const struct segment *segment)
{
    char name[SEGMENT_NAME_SIZE];
    char aside[SEGMENT_NAME_SIZE];

    segment_name(segment->header.number, SEGMENT_SUFFIX, name);
    if (!segment->header.damaged)
        return sys_unlinkat(dir, name);
    segment_name(segment->header.number, SEGMENT_DAMAGED_SUFFIX, aside);
    return sys_renameat(dir, name, aside);
}
