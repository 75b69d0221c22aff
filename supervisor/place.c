#include "supervisor/place.h"

#include "common/base/alloc.h"
#include "supervisor/path.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOCK_NAME "supervisor.lock"

static int find_user(struct launch *launch, const char *name, struct error *err)
{
    const struct passwd *entry = getpwnam(name);
    uint64_t number = 0;

    launch->groups_len = PROCESS_GROUPS_MAX;
    if (entry != NULL) {
        launch->uid = entry->pw_uid;
        launch->gid = entry->pw_gid;
        if (getgrouplist(name, entry->pw_gid, launch->groups, &launch->groups_len) < 0)
            launch->groups_len = PROCESS_GROUPS_MAX; /* as many as there is room for */
        return 0;
    }
    /* A number needs no entry, as in many containers. */
    if (!bytes_to_u64(bytes_of(name), &number) || number >= (uid_t)-1)
        return error_set(err, ERR_USAGE, "[supervisor] user: %s: there is no such user", name);
    launch->uid = (uid_t)number;
    launch->gid = (gid_t)number;
    launch->groups[0] = launch->gid;
    launch->groups_len = 1;
    return 0;
}

static int find_group(struct launch *launch, const char *name, struct error *err)
{
    const struct group *entry = getgrnam(name);
    uint64_t number = 0;

    if (entry != NULL)
        launch->gid = entry->gr_gid;
    else if (bytes_to_u64(bytes_of(name), &number) && number < (gid_t)-1)
        launch->gid = (gid_t)number;
    else
        return error_set(err, ERR_USAGE, "[supervisor] user: %s: there is no such group", name);
    launch->groups[0] = launch->gid;
    launch->groups_len = 1;
    return 0;
}

int place_user(struct launch *launch, const char *user, struct error *err)
{
    struct bytes name;
    struct bytes group;

    launch->change_user = false;
    if (user[0] == '\0')
        return 0;
    bytes_split(bytes_of(user), ':', &name, &group);
    char *name_text = xstrndup(name.data, name.len);
    int result = find_user(launch, name_text, err);
    free(name_text);
    if (result == 0 && group.len > 0) {
        char *group_text = xstrndup(group.data, group.len);
        result = find_group(launch, group_text, err);
        free(group_text);
    }
    if (result < 0)
        return result;
    if (geteuid() != 0 && launch->uid != geteuid())
        return error_set(
            err, ERR_USAGE,
            "[supervisor] user: only root can run the bridge as %s; start it as root, or "
            "as that user without this setting",
            user);
    launch->change_user = geteuid() == 0;
    return 0;
}

static int check_parent(const char *file, struct error *err)
{
    const char *slash = strrchr(file, '/');
    char *parent = slash == NULL ? xstrdup(".") : xstrndup(file, (size_t)(slash - file) + 1);
    struct stat info;
    int result = 0;

    if (geteuid() != 0 && stat(parent, &info) == 0 && info.st_uid != 0 && info.st_uid != geteuid())
        result = error_set(err, ERR_USAGE, "%s belongs to another user (%u)", parent,
                           (unsigned)info.st_uid);
    free(parent);
    return result;
}

static void give_to_user(const struct launch *launch, const struct path_found *found)
{
    struct stat info;

    if (!launch->change_user || !found->ours || fstat(found->fd, &info) < 0)
        return;
    /* What it leads to besides, a device or a terminal, stays whose it is. */
    if (!S_ISDIR(info.st_mode) && !S_ISREG(info.st_mode) && !S_ISFIFO(info.st_mode))
        return;
    /* If it can't be given the children will say what they can't open. */
    if (info.st_uid != launch->uid &&
        fchownat(found->fd, "", launch->uid, launch->gid, AT_EMPTY_PATH) < 0)
        return;
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

static int take_lock(struct place *place, const char *state_dir, bool careful, struct error *err)
{
    char *path = xasprintf("%s/%s", state_dir, LOCK_NAME);
    struct path_found found = {.fd = -1};
    int result = path_open_file(&found, path, O_RDWR, 0600, careful, err);

    if (result < 0)
        error_wrap(err, "[supervisor] state_dir");
    else if (flock(found.fd, LOCK_EX | LOCK_NB) < 0)
        result = errno == EWOULDBLOCK ? locked_by_another(found.fd, state_dir, err)
                                      : error_system(err, "[supervisor] state_dir: %s", path);
    else
        result = write_lock(found.fd, path, err);
    free(path);
    if (result < 0 && found.fd >= 0)
        close(found.fd);
    if (result == 0)
        place->lock_fd = found.fd;
    return result;
}

int place_take(struct place *place, const struct settings *settings, const struct launch *launch,
               struct error *err)
{
    const struct settings_supervisor *own = &settings->supervisor;
    struct path_found found;

    *place = (struct place){.lock_fd = -1};
    if (path_open_folder(&found, own->state_dir, 0700, launch->change_user, err) < 0)
        return error_wrap(err, "[supervisor] state_dir");
    give_to_user(launch, &found);
    close(found.fd);
    int result = take_lock(place, own->state_dir, launch->change_user, err);
    if (result < 0)
        return result;
    int folder = path_open_parent(own->socket, launch->change_user, err);
    if (folder >= 0)
        close(folder);
    if (folder < 0 || check_parent(own->socket, err) < 0)
        return error_wrap(err, "[supervisor] socket");
    return 0;
}

static bool write_pid(int folder, const char *name)
{
    int fd = openat(folder, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
    bool written = fd >= 0 && dprintf(fd, "%d\n", (int)getpid()) > 0;

    if (fd >= 0)
        close(fd);
    return written;
}

/* Complete or not at all, for whoever reads it at any moment. */
int place_say_pid(struct place *place, const struct settings *settings, const struct launch *launch,
                  struct error *err)
{
    const char *path = settings->supervisor.pid_file;
    const char *slash = strrchr(path, '/');
    const char *name = slash != NULL ? slash + 1 : path;

    if (path[0] == '\0')
        return 0;
    int folder = path_open_parent(path, launch->change_user, err);
    if (folder < 0)
        return error_wrap(err, "[supervisor] pid_file");
    char *fresh = xasprintf("%s.new", name);
    int result = 0;
    unlinkat(folder, fresh, 0); /* of a start that was killed in between */
    if (write_pid(folder, fresh) && renameat(folder, fresh, folder, name) == 0)
        place->pid_file = xstrdup(path);
    else
        result = error_system(err, "[supervisor] pid_file: %s", path);
    close(folder);
    free(fresh);
    return result;
}

/* Another supervisor may have been given the same file. */
static bool is_our_pid(const char *path)
{
    char text[24] = "";
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t len = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

    if (fd >= 0)
        close(fd);
    return len > 0 && strtol(text, NULL, 10) == (long)getpid();
}

void place_leave(struct place *place)
{
    if (place->pid_file != NULL && is_our_pid(place->pid_file))
        unlink(place->pid_file);
    free(place->pid_file);
    if (place->lock_fd >= 0)
        close(place->lock_fd);
    *place = (struct place){.lock_fd = -1};
}

int place_open_log(const struct settings *settings, const struct launch *launch, struct error *err)
{
    const char *file = settings->log.file;
    struct path_found found;

    if (file[0] == '\0') {
        int fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
        return fd < 0 ? error_system(err, "standard error") : fd;
    }
    if (path_open_file(&found, file, O_WRONLY | O_APPEND, 0640, launch->change_user, err) < 0)
        return error_wrap(err, "[log] file");
    give_to_user(launch, &found);
    return found.fd;
}

int place_own_log(int fd)
{
    char path[32];
    struct stat info;
    int own = -1;

    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    if (fstat(fd, &info) == 0 && (S_ISFIFO(info.st_mode) || S_ISCHR(info.st_mode)))
        own = open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    return own >= 0 ? own : fcntl(fd, F_DUPFD_CLOEXEC, 3);
}

int place_programs(char **dir, struct error *err)
{
    char path[PATH_MAX];
    ssize_t len = readlink("/proc/self/exe", path, sizeof(path) - 1);

    if (len < 0)
        return error_system(err, "/proc/self/exe");
    path[len] = '\0';
    char *slash = strrchr(path, '/');
    if (slash != NULL)
        *slash = '\0';
    *dir = xstrdup(path);
    return 0;
}
