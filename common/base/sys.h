/* The kernel: calls that a test can make fail, random numbers, signals, processors. Any thread. */
#ifndef COMMON_BASE_SYS_H
#define COMMON_BASE_SYS_H

#include "common/base/bytes.h"

#include <signal.h>
#include <sys/types.h>
#include <sys/uio.h>

/* The system calls that decide whether a message is safe. A test can make the n-th call fail. Without a test each costs
 * one predictable branch more than the call itself.
 *
 * Semantics are those of the calls: -1 and errno (posix_fallocate too, unlike the original). */
int sys_openat(int dir, const char *name, int flags, mode_t mode);
ssize_t sys_pread(int fd, void *data, size_t len, off_t offset);
ssize_t sys_pwrite(int fd, const void *data, size_t len, off_t offset);
ssize_t sys_pwritev(int fd, const struct iovec *parts, int count, off_t offset);
int sys_ftruncate(int fd, off_t len);
int sys_allocate(int fd, off_t offset, off_t len); /* posix_fallocate */
int sys_fsync(int fd);
int sys_fdatasync(int fd);
int sys_renameat(int dir, const char *from, const char *to); /* within one directory */
int sys_unlinkat(int dir, const char *name);

/* For tests alone. */
enum sys_call {
    SYS_OPEN,
    SYS_READ,
    SYS_WRITE, /* pwrite and pwritev */
    SYS_TRUNCATE,
    SYS_ALLOCATE,
    SYS_SYNC, /* fsync and fdatasync */
    SYS_RENAME,
    SYS_UNLINK,
    SYS_CALLS
};

/* The nth call from now (1: the next) and `times - 1` after it fail with that errno. */
void sys_fail(enum sys_call call, int nth, int times, int error);
/* The nth write from now writes only len bytes, and returns len. */
void sys_cut_write(int nth, size_t len);
/* How many such calls there were since sys_heal; counted only while a failure is set. */
int sys_calls(enum sys_call call);
void sys_heal(void); /* no call fails any more */

/* Random numbers: identities and jitter. Not for the hot path. Aborts if the kernel has none, which it always has. */
void sys_random(void *data, size_t len);
uint64_t sys_random_u64(void);

/* For a child before it executes a program: unblocks all signals and sets their default actions, but ignores those of
 * `ignored` (NULL: none). */
void sys_reset_signals(const sigset_t *ignored);

/* How many processors this process may use, by affinity and by the quota of its control groups. A quota is set by
 * docker run --cpus, a limit of Kubernetes, or CPUQuota of systemd. At least 1. */
int64_t sys_cpus(void);

/* The quota of the control groups alone, rounded up; 0: there is none. root: where they are mounted, /sys/fs/cgroup.
 * membership: the content of /proc/self/cgroup, version 1 or 2. The quotas of enclosing groups count too. */
int64_t sys_cpus_quota(const char *root, struct bytes membership);

#endif
