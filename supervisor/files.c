#include "supervisor/files.h"

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/file.h"
#include "common/base/log.h"
#include "supervisor/account.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOCK_NAME "supervisor.lock"

static char *folder_of(const char *file)
{
    const char *slash = strrchr(file, '/');

    return slash != NULL ? xstrndup(file, (size_t)(slash - file) + 1) : xstrdup(".");
}

static int locked_by_another(int fd, const char *state_dir, struct error *err)
{
    char pid[24];
    ssize_t len = pread(fd, pid, sizeof(pid) - 1, 0);

    pid[len > 0 ? len : 0] = '\0';
    pid[strcspn(pid, "\n")] = '\0';
    return error_set(err, ERR_LOCKED,
                     "[supervisor] state_dir: %s is in use by another supervisor (pid %s)",
                     state_dir, pid[0] != '\0' ? pid : "unknown");
}

static int write_lock(int fd, const char *path, struct error *err)
{
    struct stat info;

    if (fstat(fd, &info) == 0 && !S_ISREG(info.st_mode))
        return error_set(err, ERR_USAGE, "[supervisor] state_dir: %s is not a file: remove it",
                         path);
    if (ftruncate(fd, 0) < 0 || dprintf(fd, "%d\n", (int)getpid()) < 0)
        return error_system(err, "[supervisor] state_dir: %s", path);
    return 0;
}

/* A supervisor that is about to end may have the lock: a rolling update, a restart of the service. As PID 1 this
 * process does not end by a signal that it does not look for. */
static int wait_for_lock(int fd, const struct settings_supervisor *own, struct error *err)
{
    static const struct timespec PAUSE = {.tv_nsec = 100 * 1000 * 1000};
    int64_t deadline_ms = clock_monotonic_ms() + own->lock_wait_ms;
    bool told = false;
    sigset_t stops;

    sigemptyset(&stops);
    sigaddset(&stops, SIGTERM);
    sigaddset(&stops, SIGINT);
    sigaddset(&stops, SIGQUIT);
    sigprocmask(SIG_BLOCK, &stops, NULL); /* for good: open_signals reads them */
    while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        if (errno != EWOULDBLOCK)
            return error_system(err, "[supervisor] state_dir: %s/" LOCK_NAME, own->state_dir);
        locked_by_another(fd, own->state_dir, err);
        if (clock_monotonic_ms() >= deadline_ms)
            return -ERR_LOCKED;
        if (!told)
            log_notice(LOG_PLAIN, "%s: waiting up to %lld s for it to end (lock_wait)", err->text,
                       (long long)(own->lock_wait_ms / 1000));
        told = true;
        if (sigtimedwait(&stops, NULL, &PAUSE) > 0)
            return -ERR_LOCKED;
    }
    return 0;
}

static int lock_failed(const char *state_dir, const char *path, struct error *err)
{
    bool refused = errno == EACCES;
    struct stat info;

    if (refused && stat(state_dir, &info) == 0 && info.st_uid != geteuid())
        return error_set(err, ERR_USAGE,
                         "[supervisor] state_dir: %s belongs to user %u, and user %u can't write "
                         "there: name a folder of its own, or `chown -R %u %s`",
                         state_dir, (unsigned)info.st_uid, (unsigned)geteuid(), (unsigned)geteuid(),
                         state_dir);
    int result = refused ? account_refuse_foreign("state_dir", path, err) : 0;
    return result < 0 ? result : error_system(err, "[supervisor] state_dir: %s", path);
}

static int take_lock(struct files *files, const struct settings_supervisor *own, struct error *err)
{
    char *path = xasprintf("%s/%s", own->state_dir, LOCK_NAME);
    int fd = open(path, O_RDWR | O_CREAT | O_NONBLOCK | O_CLOEXEC, 0600);
    int result = fd < 0 ? lock_failed(own->state_dir, path, err) : wait_for_lock(fd, own, err);

    if (result == 0)
        result = write_lock(fd, path, err);
    free(path);
    if (result < 0 && fd >= 0)
        close(fd);
    if (result == 0)
        files->lock_fd = fd;
    return result;
}

int files_open(struct files *files, const struct settings *settings, struct error *err)
{
    return take_lock(files, &settings->supervisor, err);
}

/* In a folder of root's alone the file that is there can only be written. */
static int write_pid(const char *path, struct bytes pid)
{
    int fd;

    if (file_replace(AT_FDCWD, path, pid, 0644, false) == 0)
        return 0;
    if (errno != EACCES || (fd = open(path, O_WRONLY | O_TRUNC | O_NONBLOCK | O_CLOEXEC)) < 0)
        return -1;
    ssize_t written = write(fd, pid.data, pid.len);
    close(fd);
    return written == (ssize_t)pid.len ? 0 : -1;
}

int files_write_pid(struct files *files, const struct settings *settings, struct error *err)
{
    const char *path = settings->supervisor.pid_file;
    char pid[24];

    if (path[0] == '\0')
        return 0;
    snprintf(pid, sizeof(pid), "%d\n", (int)getpid());
    if (write_pid(path, bytes_of(pid)) < 0) {
        int result = errno == EACCES ? account_refuse_foreign("pid_file", path, err) : 0;

        return result < 0 ? result : error_system(err, "[supervisor] pid_file: %s", path);
    }
    files->pid_file = xstrdup(path);
    return 0;
}

/* Another supervisor may use the same pid file. */
static bool is_our_pid(const char *path)
{
    char text[24] = "";
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t len = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

    if (fd >= 0)
        close(fd);
    return len > 0 && strtol(text, NULL, 10) == (long)getpid();
}

void files_close(struct files *files)
{
    const char *path = files->pid_file;

    if (path != NULL && is_our_pid(path) && unlink(path) < 0)
        (void)!truncate(path, 0);
    free(files->pid_file);
    if (files->lock_fd >= 0)
        close(files->lock_fd);
    if (files->error_fd >= 0)
        close(files->error_fd);
    *files = (struct files){.lock_fd = -1, .error_fd = -1};
}

/* /dev/stdout and its like are descriptors that we have: opening them anew takes rights that we may not have. */
static int standard_descriptor(const char *file)
{
    static const struct {
        const char *name;
        int fd;
    } NAMES[] = {{"", STDERR_FILENO},
                 {"/dev/stdout", STDOUT_FILENO},
                 {"/dev/stderr", STDERR_FILENO},
                 {"/dev/fd/1", STDOUT_FILENO},
                 {"/dev/fd/2", STDERR_FILENO},
                 {"/proc/self/fd/1", STDOUT_FILENO},
                 {"/proc/self/fd/2", STDERR_FILENO}};

    for (size_t i = 0; i < sizeof(NAMES) / sizeof(NAMES[0]); i++)
        if (strcmp(NAMES[i].name, file) == 0)
            return NAMES[i].fd;
    return -1;
}

/* A reload may have named another folder. */
static int make_folder_of(const char *file)
{
    char *folder = folder_of(file);
    int result = file_make_folders(folder);

    free(folder);
    return result;
}

int files_open_log(const struct settings *settings, struct error *err)
{
    const char *file = settings->log.file;
    int standard = standard_descriptor(file);

    if (standard >= 0) {
        int fd = fcntl(standard, F_DUPFD_CLOEXEC, 3);

        return fd < 0 ? error_system(err, "[log] file: %s", file) : fd;
    }
    /* A FIFO that nobody reads is an error: it must not block. Writing to it waits for its reader. */
    const int flags = O_WRONLY | O_APPEND | O_CREAT | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
    int fd = open(file, flags, 0640);
    if (fd < 0 && errno == ENOENT && make_folder_of(file) == 0)
        fd = open(file, flags, 0640);
    if (fd < 0 || fcntl(fd, F_SETFL, O_APPEND) < 0) {
        error_system(err, "[log] file: %s", file);
        if (fd >= 0)
            close(fd);
        return -ERR_SYSTEM;
    }
    return fd;
}

static bool is_same(int left, int right)
{
    struct stat a;
    struct stat b;

    return fstat(left, &a) == 0 && fstat(right, &b) == 0 && a.st_dev == b.st_dev &&
           a.st_ino == b.st_ino;
}

int files_open_own_log(const struct files *files, int fd)
{
    char path[32];
    struct stat info;
    int own = -1;

    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    if (fstat(fd, &info) == 0 && (S_ISFIFO(info.st_mode) || S_ISCHR(info.st_mode)))
        own = open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (own < 0 && files->error_fd >= 0 && is_same(fd, files->error_fd))
        fd = files->error_fd;
    return own >= 0 ? own : fcntl(fd, F_DUPFD_CLOEXEC, 3);
}

int files_locate_programs(char **dir, struct error *err)
{
    *dir = file_own_folder();
    return *dir != NULL ? 0 : error_system(err, "/proc/self/exe");
}
