#include "cli/spool_files.h"

#include "cli/cli.h"
#include "common/base/alloc.h"
#include "common/base/file.h"
#include "common/base/sys.h"
#include "common/client/spool_folders.h"
#include "common/wire/record.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SEGMENT_MAX ((uint64_t)RECORD_BYTES_MAX + (1 << 20)) /* largest message and topic */
#define MARK_SIZE   64

/* Opens a regular file, no link and nothing that could block. Returns -1 with errno otherwise. */
static int open_file(int dir, const char *name, struct stat *status)
{
    int fd = sys_openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0);

    if (fd >= 0 && fstat(fd, status) == 0 && S_ISREG(status->st_mode))
        return fd;
    if (fd >= 0) {
        close(fd);
        errno = EINVAL;
    }
    return -1;
}

static int read_header(int fd, uint64_t number, struct segment_header *header, struct error *err)
{
    char data[SEGMENT_HEADER_SIZE];
    ssize_t got = sys_pread(fd, data, sizeof(data), 0);

    if (got < 0)
        return error_system(err, "header");
    return segment_header_decode_of(header, number, (struct bytes){data, (size_t)got}, err);
}

static void add_segment(struct spool_files *files, const char *name, uint64_t number)
{
    struct spool_segment segment = {.size = 0};
    struct stat status;
    int fd = open_file(files->dir, name, &status);

    if (fd < 0 && errno == ENOENT)
        return; /* the consumer has freed the segment since */
    bytes_to_printable(bytes_of(name), segment.name, sizeof(segment.name));
    if (fd < 0) {
        error_system(&segment.fault, "%s", name);
    } else {
        segment.size = (uint64_t)status.st_size;
        (void)!read_header(fd, number, &segment.header, &segment.fault);
        close(fd);
    }
    segment.header.number = number;
    files->segments = xrealloc(files->segments, (files->len + 1) * sizeof(*files->segments));
    files->segments[files->len++] = segment;
}

static int by_number(const void *left, const void *right)
{
    const struct spool_segment *a = left, *b = right;

    return a->header.number < b->header.number ? -1 : a->header.number > b->header.number;
}

static void read_mark(struct spool_files *files)
{
    char text[MARK_SIZE];
    struct stat status;
    int fd = open_file(files->dir, SPOOL_COMMITTED, &status);
    ssize_t got = fd >= 0 ? sys_pread(fd, text, sizeof(text), 0) : -1;

    files->has_mark =
        got > 0 && mark_parse(bytes_trim((struct bytes){text, (size_t)got}), &files->mark);
    file_close(&fd);
}

/* Reads whether the spool receives: the file `current` in the client id's folder names the
 * receiving spool. */
static void read_current(struct spool_files *files)
{
    const char *slash = strrchr(files->path, '/');
    char *file = xasprintf("%.*s/" SPOOL_CURRENT, (int)(slash - files->path), files->path);
    struct buf current = {0};

    files->receives = file_read(file, NAME_MAX, &current, NULL) == 0 &&
                      bytes_equal_text(buf_bytes(&current), slash + 1);
    buf_free(&current);
    free(file);
}

static void read_entry(struct spool_files *files, const char *name)
{
    struct stat status;
    uint64_t number;

    if (segment_name_parse(name, SEGMENT_SUFFIX, &number))
        add_segment(files, name, number);
    else if (segment_name_parse(name, SEGMENT_DAMAGED_SUFFIX, &number))
        files->damaged_files++;
    else if (strcmp(name, SEGMENT_SPARE) == 0 &&
             fstatat(files->dir, name, &status, AT_SYMLINK_NOFOLLOW) == 0)
        files->spare_bytes = (uint64_t)status.st_size;
}

static int read_spool(struct spool_files *files, const char *path, const char *name,
                      struct error *err)
{
    const struct dirent *entry;

    *files = (struct spool_files){.dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    int listed = files->dir >= 0 ? openat(files->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    DIR *listing = listed >= 0 ? fdopendir(listed) : NULL;
    if (listing == NULL) {
        int result = errno == ENOENT ? -ERR_NOT_FOUND : error_system(err, "%s", path);

        file_close(&listed);
        file_close(&files->dir);
        return result;
    }
    files->path = xstrdup(path);
    files->name = xstrdup(name);
    /* The mark is read before the segments, so that it is never ahead of them. */
    read_mark(files);
    while ((entry = readdir(listing)) != NULL)
        read_entry(files, entry->d_name);
    closedir(listing);
    if (files->len > 0)
        qsort(files->segments, files->len, sizeof(*files->segments), by_number);
    read_current(files);
    return 0;
}

static void free_spool(struct spool_files *files)
{
    close(files->dir);
    free(files->segments);
    free(files->path);
    free(files->name);
}

bool spool_files_is_spool(const struct spool_files *files)
{
    return files->len > 0 || files->spare_bytes > 0 || files->has_mark;
}

/* True if the file still holds this segment: a freed segment's file is used again, under another
 * name and number. */
static bool is_still(const struct spool_files *files, const struct spool_segment *segment, int fd)
{
    struct segment_header header = {0};
    struct stat opened, named;
    struct error err;

    return fstat(fd, &opened) == 0 &&
           fstatat(files->dir, segment->name, &named, AT_SYMLINK_NOFOLLOW) == 0 &&
           opened.st_ino == named.st_ino && opened.st_dev == named.st_dev &&
           (segment->fault.code != ERR_NONE ||
            (read_header(fd, segment->header.number, &header, &err) == 0 &&
             header.run == segment->header.run));
}

int spool_files_load(const struct spool_files *files, const struct spool_segment *segment,
                     uint64_t limit, struct buf *data, struct error *err)
{
    struct stat status;
    int fd = open_file(files->dir, segment->name, &status);
    int result;

    if (fd < 0)
        return errno == ENOENT ? error_set(err, ERR_NOT_FOUND, "%s is gone", segment->name)
                               : error_system(err, "%s", segment->name);
    uint64_t size = (uint64_t)status.st_size < limit ? (uint64_t)status.st_size : limit;
    if (size > SEGMENT_MAX) {
        close(fd);
        return error_set(err, ERR_TOO_LARGE, "%s is larger than any segment", segment->name);
    }
    result = file_read_around(fd, data, (size_t)size);
    if (!is_still(files, segment, fd))
        result = error_set(err, ERR_NOT_FOUND, "%s is gone", segment->name);
    close(fd);
    return result;
}

static int by_path(const void *left, const void *right)
{
    return strcmp(*(char *const *)left, *(char *const *)right);
}

static bool is_wanted(const char *name, size_t len, char **names, bool *found)
{
    for (size_t i = 0; i < len; i++) {
        if (strcmp(names[i], name) == 0) {
            found[i] = true;
            return true;
        }
    }
    return len == 0;
}

static int check_found(size_t len, char **names, const bool *found)
{
    for (size_t i = 0; i < len; i++)
        if (!found[i])
            return cli_fail(CLI_FAILED,
                            "%s: there is no such spool; `mqtt-bridge spool show` lists them",
                            names[i]);
    return CLI_DONE;
}

int spool_files_each(const char *state_dir, size_t len, char **names, spool_files_look *look,
                     void *context)
{
    struct spool_folders folders;
    struct error err = {0};
    bool *found = xcalloc(len + 1, sizeof(*found));
    bool going = true;
    int code = CLI_DONE;

    if (spool_folders_read(&folders, state_dir, &err) < 0)
        code = cli_fail(CLI_FAILED, "%s", err.text);
    if (folders.len > 0)
        qsort(folders.paths, folders.len, sizeof(*folders.paths), by_path);
    for (size_t i = 0; i < folders.len && going; i++) {
        const char *name = folders.paths[i] + strlen(state_dir) + strlen("/spool/");
        struct spool_files files;

        if (!is_wanted(name, len, names, found))
            continue;
        int result = read_spool(&files, folders.paths[i], name, &err);
        if (result == -ERR_NOT_FOUND)
            continue; /* the consumer has removed the folder since */
        if (result < 0) {
            code = cli_fail(CLI_FAILED, "%s", err.text);
            continue;
        }
        going = look(&files, context);
        free_spool(&files);
    }
    if (code == CLI_DONE && going)
        code = check_found(len, names, found);
    spool_folders_free(&folders);
    free(found);
    return code;
}

bool spool_files_is_readable(const struct spool_segment *segment)
{
    return segment->fault.code == ERR_NONE;
}

int64_t spool_files_messages(const struct spool_files *files, size_t index)
{
    const struct spool_segment *segment = &files->segments[index];

    if (index + 1 >= files->len || !spool_files_is_readable(segment) ||
        !spool_files_is_readable(segment + 1) ||
        segment[1].header.records_before < segment->header.records_before)
        return -1;
    return (int64_t)(segment[1].header.records_before - segment->header.records_before);
}

bool spool_files_is_unsent(const struct spool_files *files, uint64_t sequence)
{
    return !files->has_mark || sequence > files->mark.sequence;
}

void spool_files_id(const unsigned char id[16], char text[33])
{
    for (size_t i = 0; i < 16; i++)
        snprintf(text + 2 * i, 3, "%02x", id[i]);
}
