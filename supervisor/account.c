#include "supervisor/account.h"

#include "common/base/alloc.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define GROUPS_MAX 64

struct account {
    bool change; /* false: we stay who we are */
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
            account->groups_len = GROUPS_MAX; /* as many as there is room for */
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

/* text: "name", "name:group", numbers for either; "" changes nothing. */
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

/* Could nobody but root have put a link there, in place of the folder or of one above it? */
static bool is_roots_alone(const char *folder)
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
    bool alone = is_roots_alone(parent);
    free(parent);
    return alone;
}

/* Makes one folder (S_IFDIR in mode) or file; -1 with errno. O_EXCL: nothing that was there before is opened. */
static int make_one(const char *path, mode_t mode)
{
    if (S_ISDIR(mode))
        return mkdir(path, mode & 0777);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode & 0777);
    if (fd >= 0)
        close(fd);
    return fd < 0 ? -1 : 0;
}

/* As the user where that may, so that links lead no further than it may go; else as root. */
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
    bool alone = is_roots_alone(parent);
    free(parent);
    errno = why;
    if (!alone || make_one(path, mode) < 0)
        return -1;
    return give ? lchown(path, account->uid, account->gid) : 0;
}

/* With what is missing above it, 0755 and not given away. */
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

/* A file that can't be made here is opened, and complained of, later. */
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

int account_refuse_foreign(const char *key, const char *path, struct error *err)
{
    struct stat info;

    if (lstat(path, &info) < 0 || info.st_uid == geteuid())
        return 0;
    return error_set(err, ERR_USAGE,
                     "[supervisor] %s: %s belongs to user %u, perhaps by an earlier version: "
                     "remove it while no bridge runs",
                     key, path, (unsigned)info.st_uid);
}

/* libpq takes its certificates from there, and must not find root's folder closed. */
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

int account_become(const struct settings *settings, struct error *err)
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
