#include "supervisor/files.h"

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/file.h"
#include "common/base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define GROUPS_MAX 64
#define LOCK_NAME  "supervisor.lock"

struct account {
    bool change; /* false: the user stays as it is */
    uid_t uid;
    gid_t gid;
    gid_t groups[GROUPS_MAX];
    int groups_len;
};

static int find_user(struct account *account, const char *name, bool group_follows,
                     struct error *err)
{
    uint64_t number = 0;
    bool numeric = bytes_to_u64(bytes_of(name), &number) && number < (uid_t)-1;
    const struct passwd *entry = getpwnam(name);

    if (entry == NULL && numeric)
        entry = getpwuid((uid_t)number);
    account->groups_len = GROUPS_MAX;
    if (entry != NULL) {
        account->uid = entry->pw_uid;
        account->gid = entry->pw_gid;
        if (getgrouplist(entry->pw_name, entry->pw_gid, account->groups, &account->groups_len) < 0)
            account->groups_len = GROUPS_MAX; /* the array holds no more */
        return 0;
    }
    if (!numeric)
        return error_set(err, ERR_USAGE, "[supervisor] user: %s: there is no such user", name);
    if (!group_follows)
        return error_set(err, ERR_USAGE,
                         "[supervisor] user: %s: no user has this number, so its group must be "
                         "named too: %s:GROUP",
                         name, name);
    account->uid = (uid_t)number;
    return 0;
}

static int find_group(struct account *account, const char *name, struct error *err)
{
    const struct group *entry = getgrnam(name);
    uint64_t number = 0;

    if (entry != NULL)
        account->gid = entry->gr_gid;
    else if (bytes_to_u64(bytes_of(name), &number) && number < (gid_t)-1)
        account->gid = (gid_t)number;
    else
        return error_set(err, ERR_USAGE, "[supervisor] user: %s: there is no such group", name);
    account->groups[0] = account->gid;
    account->groups_len = 1;
    return 0;
}

/* Finds the account of "name" or "name:group", or numbers for either. "" changes nothing. */
static int find(struct account *account, const char *text, struct error *err)
{
    struct bytes name;
    struct bytes group;

    *account = (struct account){.change = false};
    if (text[0] == '\0')
        return 0;
    bytes_split(bytes_of(text), ':', &name, &group);
    char *name_text = xstrndup(name.data, name.len);
    int result = find_user(account, name_text, group.len > 0, err);
    free(name_text);
    if (result == 0 && group.len > 0) {
        char *group_text = xstrndup(group.data, group.len);

        result = find_group(account, group_text, err);
        free(group_text);
    }
    if (result < 0)
        return result;
    if (geteuid() != 0 && account->uid != geteuid())
        return error_set(
            err, ERR_USAGE,
            "[supervisor] user: only root can run the bridge as %s; start it as root, or "
            "as that user without this setting",
            text);
    account->change = geteuid() == 0 && account->uid != 0;
    return 0;
}

static char *parent_of(const char *path)
{
    size_t len = strlen(path);

    while (len > 1 && path[len - 1] == '/')
        len--;
    while (len > 0 && path[len - 1] != '/')
        len--;
    while (len > 1 && path[len - 1] == '/')
        len--;
    return len > 0 ? xstrndup(path, len) : xstrdup(".");
}

/* True if only root can have put a link in place of the folder, or of one above it. */
static bool only_root_can_change(const char *folder)
{
    struct stat link;
    struct stat info;

    if (lstat(folder, &link) < 0 || stat(folder, &info) < 0 || link.st_uid != 0 ||
        info.st_uid != 0 ||
        ((info.st_mode & (S_IWGRP | S_IWOTH)) != 0 && (info.st_mode & S_ISVTX) == 0))
        return false;
    if (strcmp(folder, "/") == 0 || strcmp(folder, ".") == 0)
        return true;
    char *parent = parent_of(folder);
    bool alone = only_root_can_change(parent);
    free(parent);
    return alone;
}

/* Makes one folder (S_IFDIR in mode) or file. Returns -1 with errno. O_EXCL: no existing file is
 * opened. */
static int make_one(const char *path, mode_t mode)
{
    if (S_ISDIR(mode))
        return mkdir(path, mode & 0777);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode & 0777);
    if (fd >= 0)
        close(fd);
    return fd < 0 ? -1 : 0;
}

/* Makes the file or folder as the user if allowed, so that no link leads where the user may not
 * go. Otherwise root makes it, if only root can change the folders above. */
static int make_for(const struct account *account, const char *path, mode_t mode, bool give)
{
    if (!account->change)
        return make_one(path, mode);
    if (seteuid(account->uid) < 0)
        return -1;
    int result = make_one(path, mode);
    int why = errno;
    if (seteuid(0) < 0)
        return -1;
    errno = why;
    if (result == 0 || (why != EACCES && why != EPERM))
        return result;
    char *parent = parent_of(path);
    bool alone = only_root_can_change(parent);
    free(parent);
    errno = why;
    if (!alone || make_one(path, mode) < 0)
        return -1;
    return give ? lchown(path, account->uid, account->gid) : 0;
}

/* Makes the folder, and missing folders above with 0755, which stay root's. */
static int make_folder(const struct account *account, const char *path, mode_t mode, bool give)
{
    struct stat info;

    if (stat(path, &info) == 0) {
        errno = ENOTDIR;
        return S_ISDIR(info.st_mode) ? 0 : -1;
    }
    if (errno != ENOENT)
        return -1;
    char *parent = parent_of(path);
    int result = make_folder(account, parent, 0755, false);
    free(parent);
    if (result == 0)
        result = make_for(account, path, S_IFDIR | mode, give);
    return result < 0 && errno == EEXIST ? 0 : result;
}

static int make_parent(const struct account *account, const char *path)
{
    char *parent = parent_of(path);
    int result = make_folder(account, parent, 0755, true);

    free(parent);
    return result;
}

/* Makes the file. A failure is reported later, when the file is opened. */
static int make_file(const struct account *account, const char *path, mode_t mode)
{
    if (path[0] == '\0')
        return 0;
    if (make_parent(account, path) < 0)
        return -1;
    if (account->change && access(path, F_OK) < 0)
        (void)!make_for(account, path, S_IFREG | mode, true);
    return 0;
}

int files_refuse_foreign(const char *key, const char *path, struct error *err)
{
    struct stat info;

    if (lstat(path, &info) < 0 || info.st_uid == geteuid())
        return 0;
    return error_set(err, ERR_USAGE,
                     "[supervisor] %s: %s belongs to user %u, perhaps by an earlier version: "
                     "remove it while no bridge runs",
                     key, path, (unsigned)info.st_uid);
}

/* Sets HOME: libpq reads certificates from there, and would fail at root's folder. */
static int set_home(uid_t uid)
{
    const struct passwd *entry = getpwuid(uid);

    return entry != NULL ? setenv("HOME", entry->pw_dir, 1) : unsetenv("HOME");
}

static int give_up_root(const struct account *account, struct error *err)
{
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return error_system(err, "PR_SET_NO_NEW_PRIVS");
    if (account->change && setresuid(account->uid, account->uid, account->uid) < 0)
        return error_system(err, "[supervisor] user");
    if (account->change && set_home(account->uid) < 0)
        return error_system(err, "HOME");
    return 0;
}

int files_become_user(const struct settings *settings, struct error *err)
{
    const struct settings_supervisor *own = &settings->supervisor;
    struct account account;
    int result = find(&account, own->user, err);

    if (result < 0)
        return result;
    if (account.change && (setgroups((size_t)account.groups_len, account.groups) < 0 ||
                           setresgid(account.gid, account.gid, account.gid) < 0))
        return error_system(err, "[supervisor] user: %s", own->user);
    if (make_folder(&account, own->state_dir, 0700, true) < 0)
        return error_system(err, "[supervisor] state_dir: %s", own->state_dir);
    if (make_parent(&account, own->socket) < 0)
        return error_system(err, "[supervisor] socket: %s", own->socket);
    if (make_file(&account, own->pid_file, 0644) < 0)
        return error_system(err, "[supervisor] pid_file: %s", own->pid_file);
    if (make_file(&account, settings->log.file, 0640) < 0)
        return error_system(err, "[log] file: %s", settings->log.file);
    return give_up_root(&account, err);
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

/* Waits for the lock, which an ending supervisor may hold: a rolling update, or a restart of the
 * service. As PID 1 this process ignores signals without a handler, so that stop signals are
 * read here. */
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
    int result = refused ? files_refuse_foreign("state_dir", path, err) : 0;
    return result < 0 ? result : error_system(err, "[supervisor] state_dir: %s", path);
}

/* Takes a lock that was handed over, unless it is that of another folder. */
static int take_handed(int lock_fd, int fd)
{
    bool same = fd >= 0 && file_is_same(lock_fd, fd);

    if (same)
        close(fd);
    else
        close(lock_fd);
    return same ? lock_fd : fd;
}

int files_open(struct files *files, const struct settings *settings, int lock_fd, struct error *err)
{
    const struct settings_supervisor *own = &settings->supervisor;
    char *path = xasprintf("%s/%s", own->state_dir, LOCK_NAME);
    int fd = open(path, O_RDWR | O_CREAT | O_NONBLOCK | O_CLOEXEC, 0600);

    if (lock_fd >= 0)
        fd = take_handed(lock_fd, fd);
    int result = fd < 0 ? lock_failed(own->state_dir, path, err) : wait_for_lock(fd, own, err);

    if (result == 0)
        result = write_lock(fd, path, err);
    free(path);
    if (result < 0)
        file_close(&fd);
    if (result == 0)
        files->lock_fd = fd;
    return result;
}

/* Writes the pid file. In a folder that only root may change, an existing file can be written
 * but not replaced. */
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
        int result = errno == EACCES ? files_refuse_foreign("pid_file", path, err) : 0;

        return result < 0 ? result : error_system(err, "[supervisor] pid_file: %s", path);
    }
    files->pid_file = xstrdup(path);
    return 0;
}

int files_hand_over(struct files *files)
{
    free(files->pid_file);
    files->pid_file = NULL;
    return fcntl(files->lock_fd, F_DUPFD, STDERR_FILENO + 1);
}

/* True if the file holds this process's pid: another supervisor may use the same file. */
static bool is_our_pid(const char *path)
{
    char text[24] = "";
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t len = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

    file_close(&fd);
    return len > 0 && strtol(text, NULL, 10) == (long)getpid();
}

void files_close(struct files *files)
{
    const char *path = files->pid_file;

    if (path != NULL && is_our_pid(path) && unlink(path) < 0)
        (void)!truncate(path, 0);
    free(files->pid_file);
    file_close(&files->lock_fd);
    file_close(&files->error_fd);
    *files = (struct files){.lock_fd = -1, .error_fd = -1};
}

/* Returns the descriptor of /dev/stdout and similar names. Opening such a name needs rights that
 * the supervisor may lack. */
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

    for (size_t i = 0; i < LENGTH_OF(NAMES); i++)
        if (strcmp(NAMES[i].name, file) == 0)
            return NAMES[i].fd;
    return -1;
}

/* Makes the file's folder, which may be another one after a reload. */
static int make_folder_of(const char *file)
{
    char *folder = parent_of(file);
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
    /* O_NONBLOCK: opening a FIFO without a reader fails instead of blocking. Writing to it may block. */
    const int flags = O_WRONLY | O_APPEND | O_CREAT | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
    int fd = open(file, flags, 0640);
    if (fd < 0 && errno == ENOENT && make_folder_of(file) == 0)
        fd = open(file, flags, 0640);
    if (fd < 0 || fcntl(fd, F_SETFL, O_APPEND) < 0) {
        error_system(err, "[log] file: %s", file);
        file_close(&fd);
        return -ERR_SYSTEM;
    }
    return fd;
}

int files_check(const struct settings *settings, struct error *err)
{
    const struct settings_supervisor *own = &settings->supervisor;
    struct account account;
    int result = find(&account, own->user, err);

    if (result < 0)
        return result;
    if (account.change)
        return error_set(err, ERR_USAGE,
                         "[supervisor] user: %s: the bridge runs as root: restart it instead",
                         own->user);
    if (access(own->state_dir, R_OK | W_OK | X_OK) < 0)
        return error_set(err, ERR_USAGE,
                         "[supervisor] state_dir: %s: %s: restart the bridge instead",
                         own->state_dir, strerror(errno));
    int fd = files_open_log(settings, err);
    if (fd >= 0)
        close(fd);
    return fd < 0 ? fd : 0;
}

int files_open_own_log(const struct files *files, int fd)
{
    char path[32];
    struct stat info;
    int own = -1;

    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    if (fstat(fd, &info) == 0 && (S_ISFIFO(info.st_mode) || S_ISCHR(info.st_mode)))
        own = open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (own < 0 && files->error_fd >= 0 && file_is_same(fd, files->error_fd))
        fd = files->error_fd;
    return own >= 0 ? own : fcntl(fd, F_DUPFD_CLOEXEC, 3);
}

int files_locate_programs(char **dir, struct error *err)
{
    *dir = file_own_folder();
    return *dir != NULL ? 0 : error_system(err, "/proc/self/exe");
}
