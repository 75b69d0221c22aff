#include "common/base/file.h"

#include "common/base/alloc.h"
#include "common/base/sys.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define CHUNK           4096
#define UNREADABLE_UNIT 4096

void file_close(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

int file_read_fd(int fd, const char *name, size_t limit, struct buf *out, struct error *err)
{
    struct stat info;
    size_t before = out->len;
    ssize_t got;

    if (fstat(fd, &info) < 0)
        return error_system(err, "%s", name);
    if (!S_ISREG(info.st_mode) && !(S_ISCHR(info.st_mode) && info.st_rdev == makedev(1, 3)))
        return error_set(err, ERR_USAGE, "%s: must be a regular file", name);
    do {
        got = pread(fd, buf_reserve(out, CHUNK), CHUNK, (off_t)(out->len - before));
        out->len += got > 0 ? (size_t)got : 0;
    } while ((got > 0 && out->len - before <= limit) || (got < 0 && errno == EINTR));
    if (got < 0)
        return error_system(err, "%s", name);
    if (out->len - before > limit)
        return error_set(err, ERR_TOO_LARGE, "%s: larger than %zu bytes", name, limit);
    return 0;
}

int file_read(const char *path, size_t limit, struct buf *out, struct error *err)
{
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);

    if (fd < 0)
        return error_system(err, "%s", path);
    int result = file_read_fd(fd, path, limit, out, err);
    close(fd);
    return result;
}

static int write_new(int dir, const char *name, struct bytes data, mode_t mode, bool sync)
{
    int fd = sys_openat(dir, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
    size_t done = 0;

    if (fd < 0)
        return -1;
    while (done < data.len) {
        ssize_t len = sys_pwrite(fd, data.data + done, data.len - done, (off_t)done);

        if (len <= 0)
            break;
        done += (size_t)len;
    }
    int result = done == data.len && (!sync || sys_fdatasync(fd) == 0) ? 0 : -1;
    int why = errno;
    close(fd);
    errno = why;
    return result;
}

static int sync_folder(int dir, const char *name)
{
    const char *end = strrchr(name, '/');
    char *path = end != NULL ? xstrndup(name, (size_t)(end - name) + 1) : xstrdup(".");
    int fd = sys_openat(dir, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    int result = fd < 0 ? -1 : sys_fsync(fd);
    int why = errno;

    file_close(&fd);
    free(path);
    errno = why;
    /* EINVAL: the file system can't sync folders. */
    return result < 0 && why == EINVAL ? 0 : result;
}

int file_replace(int dir, const char *name, struct bytes data, mode_t mode, bool sync)
{
    char *fresh = xasprintf("%s.new", name);
    int result = write_new(dir, fresh, data, mode, sync);

    if (result == 0)
        result = sys_renameat(dir, fresh, name);
    if (result < 0) {
        int why = errno;

        sys_unlinkat(dir, fresh);
        errno = why;
    } else if (sync) {
        result = sync_folder(dir, name);
    }
    free(fresh);
    return result;
}

int file_make_folders(const char *path)
{
    char *parts = xstrdup(path), *rest = NULL;
    int above = open(path[0] == '/' ? "/" : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    for (char *name = strtok_r(parts, "/", &rest); name != NULL && above >= 0;
         name = strtok_r(NULL, "/", &rest)) {
        bool made = mkdirat(above, name, 0700) == 0;
        bool failed = (!made && errno != EEXIST) || (made && sys_fsync(above) < 0);
        int next = failed ? -1 : openat(above, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        int why = errno;

        close(above);
        errno = why;
        above = next;
    }
    free(parts);
    if (above < 0)
        return -1;
    close(above);
    return 0;
}

char *file_own_folder(void)
{
    char path[PATH_MAX];
    ssize_t len = readlink("/proc/self/exe", path, sizeof(path));
    const char *slash = len > 0 ? memrchr(path, '/', (size_t)len) : NULL;

    return slash != NULL ? xstrndup(path, (size_t)(slash - path)) : NULL;
}

bool file_is_same(int left, int right)
{
    struct stat a;
    struct stat b;

    return fstat(left, &a) == 0 && fstat(right, &b) == 0 && a.st_dev == b.st_dev &&
           a.st_ino == b.st_ino;
}

int file_in_memory(const char *name, struct bytes content)
{
    int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);

    for (size_t done = 0; fd >= 0 && done < content.len;) {
        ssize_t written = write(fd, content.data + done, content.len - done);

        if (written > 0) {
            done += (size_t)written;
        } else if (errno != EINTR) {
            close(fd);
            return -1;
        }
    }
    if (fd < 0)
        return -1;
    lseek(fd, 0, SEEK_SET);
    fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL);
    return fd;
}

/* Reads up to len bytes; returns 0 at the file's end. An unreadable block is filled with zeros,
 * and *unreadable set. */
static size_t read_around(int fd, char *data, size_t len, uint64_t offset, bool *unreadable)
{
    ssize_t got = sys_pread(fd, data, len, (off_t)offset);

    if (got >= 0)
        return (size_t)got;
    /* After a failure only one block is read, so that a bad sector costs one block. */
    size_t block = len < UNREADABLE_UNIT ? len : UNREADABLE_UNIT;
    got = sys_pread(fd, data, block, (off_t)offset);
    if (got >= 0)
        return (size_t)got;
    memset(data, 0, block);
    *unreadable = true;
    return block;
}

int file_read_around(int fd, struct buf *into, size_t len)
{
    bool unreadable = false;

    buf_clear(into);
    char *data = buf_reserve(into, len + 1); /* one more byte: even an empty file reserves memory */
    while (into->len < len) {
        size_t want = len - into->len;

        /* After a failure the rest is read block by block. */
        if (unreadable && want > UNREADABLE_UNIT)
            want = UNREADABLE_UNIT;
        size_t got = read_around(fd, data + into->len, want, into->len, &unreadable);
        if (got == 0)
            break;
        into->len += got;
    }
    return unreadable ? 1 : 0;
}
