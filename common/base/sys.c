#include "common/base/sys.h"

#include "common/base/alloc.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/param.h>
#include <sys/random.h>
#include <unistd.h>

/* The failures that a test has set. The fields are atomic, since several threads make the calls. */
struct fault {
    _Atomic int calls;
    _Atomic int first; /* number of the first call that fails; 0: none */
    _Atomic int last;
    _Atomic int error;
};

static struct fault faults[SYS_CALLS];
static _Atomic int cut_write_at; /* number of the write to cut; 0: none */
static _Atomic size_t cut_write_len;
static _Atomic bool armed;

/* Counts the call, and returns the errno that the call must fail with, or 0. */
static int ordered_error(enum sys_call call, int *nth)
{
    struct fault *fault = &faults[call];

    *nth = 0;
    if (__builtin_expect(!atomic_load_explicit(&armed, memory_order_relaxed), 1))
        return 0;
    *nth = atomic_fetch_add(&fault->calls, 1) + 1;
    if (fault->first == 0 || *nth < fault->first || *nth > fault->last)
        return 0;
    return fault->error;
}

static bool fails(enum sys_call call)
{
    int nth;
    int error = ordered_error(call, &nth);

    if (error == 0)
        return false;
    errno = error;
    return true;
}

int sys_openat(int dir, const char *name, int flags, mode_t mode)
{
    return fails(SYS_OPEN) ? -1 : openat(dir, name, flags, mode);
}

ssize_t sys_pread(int fd, void *data, size_t len, off_t offset)
{
    return fails(SYS_READ) ? -1 : pread(fd, data, len, offset);
}

ssize_t sys_pwrite(int fd, const void *data, size_t len, off_t offset)
{
    struct iovec part = {.iov_base = (void *)data, .iov_len = len};

    return sys_pwritev(fd, &part, 1, offset);
}

/* Stores only the first len bytes, as on a disk that fills up. */
static ssize_t write_start(int fd, const struct iovec *parts, int count, off_t offset, size_t len)
{
    size_t done = 0;

    for (int i = 0; i < count && done < len; i++) {
        size_t part = parts[i].iov_len < len - done ? parts[i].iov_len : len - done;
        ssize_t stored = pwrite(fd, parts[i].iov_base, part, offset + (off_t)done);

        if (stored < 0)
            return -1;
        done += (size_t)stored;
    }
    return (ssize_t)done;
}

ssize_t sys_pwritev(int fd, const struct iovec *parts, int count, off_t offset)
{
    int nth;
    int error = ordered_error(SYS_WRITE, &nth);

    if (error != 0) {
        errno = error;
        return -1;
    }
    if (nth != 0 && nth == cut_write_at)
        return write_start(fd, parts, count, offset, cut_write_len);
    return pwritev(fd, parts, count, offset);
}

int sys_ftruncate(int fd, off_t len)
{
    return fails(SYS_TRUNCATE) ? -1 : ftruncate(fd, len);
}

int sys_allocate(int fd, off_t offset, off_t len)
{
    if (fails(SYS_ALLOCATE))
        return -1;
    int error = posix_fallocate(fd, offset, len);
    if (error == 0)
        return 0;
    errno = error;
    return -1;
}

int sys_fsync(int fd)
{
    return fails(SYS_SYNC) ? -1 : fsync(fd);
}

int sys_fdatasync(int fd)
{
    return fails(SYS_SYNC) ? -1 : fdatasync(fd);
}

int sys_renameat(int dir, const char *from, const char *to)
{
    return fails(SYS_RENAME) ? -1 : renameat(dir, from, dir, to);
}

int sys_unlinkat(int dir, const char *name)
{
    return fails(SYS_UNLINK) ? -1 : unlinkat(dir, name, 0);
}

void sys_fail(enum sys_call call, int nth, int times, int error)
{
    struct fault *fault = &faults[call];

    fault->error = error;
    fault->first = fault->calls + nth;
    fault->last = times > INT_MAX - fault->first ? INT_MAX : fault->first + times - 1;
    armed = true;
}

void sys_cut_write(int nth, size_t len)
{
    cut_write_len = len;
    cut_write_at = faults[SYS_WRITE].calls + nth;
    armed = true;
}

int sys_calls(enum sys_call call)
{
    return faults[call].calls;
}

void sys_heal(void)
{
    armed = false;
    cut_write_at = 0;
    for (int i = 0; i < SYS_CALLS; i++) {
        faults[i].first = 0;
        faults[i].last = 0;
        faults[i].calls = 0;
    }
}

void sys_random(void *data, size_t len)
{
    char *at = data;

    while (len > 0) {
        ssize_t got = getrandom(at, len, 0);

        if (got < 0)
            abort();
        at += got;
        len -= (size_t)got;
    }
}

uint64_t sys_random_u64(void)
{
    uint64_t value;

    sys_random(&value, sizeof(value));
    return value;
}

void sys_reset_signals(const sigset_t *ignored)
{
    sigset_t none;

    for (int number = 1; number < NSIG; number++)
        signal(number, ignored != NULL && sigismember(ignored, number) == 1 ? SIG_IGN : SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

#define NUMBERS_SIZE    64
#define MEMBERSHIP_SIZE 65536

static int64_t round_up(long long quota, long long period)
{
    return quota > 0 && period > 0 ? (quota + period - 1) / period : 0;
}

static bool read_text(const char *folder, const char *name, char *text, size_t size)
{
    char *path = xasprintf("%s/%s", folder, name);
    FILE *file = fopen(path, "re");

    free(path);
    if (file == NULL)
        return false;
    text[fread(text, 1, size - 1, file)] = '\0';
    fclose(file);
    return true;
}

/* Reads "200000 100000" or "max 100000". */
static int64_t quota_of_v2(const char *folder)
{
    char text[NUMBERS_SIZE];
    long long quota, period;

    if (!read_text(folder, "cpu.max", text, sizeof(text)) ||
        sscanf(text, "%lld %lld", &quota, &period) != 2)
        return 0;
    return round_up(quota, period);
}

static int64_t quota_of_v1(const char *folder)
{
    char quota[NUMBERS_SIZE], period[NUMBERS_SIZE];

    if (!read_text(folder, "cpu.cfs_quota_us", quota, sizeof(quota)) ||
        !read_text(folder, "cpu.cfs_period_us", period, sizeof(period)))
        return 0;
    return round_up(atoll(quota), atoll(period));
}

/* Returns the lowest quota of the group and the groups above. In a container the path may exist
 * only on the host. The mounted root is then the container's own group. */
static int64_t least_quota(const char *root, struct bytes path, int64_t (*quota_of)(const char *))
{
    char *folder = xasprintf("%s%.*s", root, BYTES_ARG(path));
    size_t top = strlen(root);
    int64_t least = 0;

    for (;;) {
        int64_t cpus = quota_of(folder);

        if (cpus > 0 && (least == 0 || cpus < least))
            least = cpus;
        char *slash = strrchr(folder + top, '/');
        if (slash == NULL)
            break;
        *slash = '\0';
    }
    free(folder);
    return least;
}

static bool has_cpu(struct bytes controllers)
{
    struct bytes name;

    while (controllers.len > 0) {
        bytes_split(controllers, ',', &name, &controllers);
        if (bytes_equal_text(name, "cpu"))
            return true;
    }
    return false;
}

int64_t sys_cpus_quota(const char *root, struct bytes membership)
{
    struct bytes line;
    struct bytes number;
    struct bytes controllers;
    struct bytes path;
    int64_t cpus = 0;

    while (membership.len > 0 && cpus == 0) {
        bytes_split(membership, '\n', &line, &membership);
        bytes_split(line, ':', &number, &line);
        bytes_split(line, ':', &controllers, &path);
        if (bytes_equal_text(number, "0")) {
            cpus = least_quota(root, path, quota_of_v2);
        } else if (has_cpu(controllers)) {
            char *mounted = xasprintf("%s/cpu", root);

            cpus = least_quota(mounted, path, quota_of_v1);
            free(mounted);
        }
    }
    return cpus;
}

int64_t sys_cpus(void)
{
    char membership[MEMBERSHIP_SIZE];
    cpu_set_t set;
    int64_t cpus = sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;
    int64_t quota = 0;

    if (read_text("/proc/self", "cgroup", membership, sizeof(membership)))
        quota = sys_cpus_quota("/sys/fs/cgroup", bytes_of(membership));
    cpus = quota > 0 ? MIN(cpus, quota) : cpus;
    return MAX(cpus, 1);
}
