#include "supervisor/path.h"

#include "common/base/alloc.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#define FOLDER_MODE 0755
#define LINKS_MAX   40 /* as in the kernel */
#define TRIES       8  /* a file that comes and goes while we look */

struct walk {
    const char *path; /* for errors */
    bool careful;
    int folder;  /* where we are (O_PATH) */
    bool shared; /* others than root can write in it */
    bool made;   /* it was not there before */
    char *rest;  /* the way from there */
    int links;
};

static void end(struct walk *walk)
{
    if (walk->folder >= 0)
        close(walk->folder);
    free(walk->rest);
}

static int fail(const struct walk *walk, struct error *err)
{
    return error_system(err, "%s", walk->path);
}

/* Cuts the next name off the rest; false at the end. Too long a name is for the kernel to refuse. */
static bool next_name(struct walk *walk, char name[PATH_MAX])
{
    const char *from = walk->rest + strspn(walk->rest, "/");
    size_t len = strcspn(from, "/");

    if (len == 0)
        return false;
    snprintf(name, PATH_MAX, "%.*s", (int)len, from);
    from += len;
    from += strspn(from, "/");
    memmove(walk->rest, from, strlen(from) + 1);
    return true;
}

static int move_to(struct walk *walk, int folder, struct error *err)
{
    struct stat info;

    if (walk->folder >= 0)
        close(walk->folder);
    walk->folder = folder;
    if (fstat(folder, &info) < 0)
        return fail(walk, err);
    if (!S_ISDIR(info.st_mode)) {
        errno = ENOTDIR;
        return fail(walk, err);
    }
    walk->shared = info.st_uid != 0 || (info.st_mode & (S_IWGRP | S_IWOTH)) != 0;
    return 0;
}

static int begin(struct walk *walk, const char *path, bool careful, struct error *err)
{
    int start = open(path[0] == '/' ? "/" : ".", O_PATH | O_DIRECTORY | O_CLOEXEC);

    *walk = (struct walk){.path = path, .careful = careful, .folder = -1, .rest = xstrdup(path)};
    return start < 0 ? fail(walk, err) : move_to(walk, start, err);
}

/* The links of /proc lead where their text does not say; they are the kernel's, not anybody's. */
static bool is_in_proc(const struct walk *walk)
{
    struct statfs info;

    return fstatfs(walk->folder, &info) == 0 && info.f_type == PROC_SUPER_MAGIC;
}

/* The rest of the way goes through the link that is open as fd. */
static int follow(struct walk *walk, const char *name, int fd, struct error *err)
{
    struct stat info;
    char target[PATH_MAX];

    if (fstat(fd, &info) < 0)
        return fail(walk, err);
    if (walk->careful && (info.st_uid != 0 || info.st_nlink > 1))
        return error_set(err, ERR_USAGE,
                         "%s: \"%s\" is a link that root has not made: remove it, or name where it "
                         "leads",
                         walk->path, name);
    ssize_t len = readlinkat(fd, "", target, sizeof(target) - 1);
    if (len < 0)
        return fail(walk, err);
    target[len] = '\0';
    if (++walk->links > LINKS_MAX) {
        errno = ELOOP;
        return fail(walk, err);
    }
    char *rest = xasprintf("%s/%s", target, walk->rest);
    free(walk->rest);
    walk->rest = rest;
    if (target[0] != '/')
        return 0;
    int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    return root < 0 ? fail(walk, err) : move_to(walk, root, err);
}

static int enter(struct walk *walk, const char *name, mode_t mode, struct error *err)
{
    struct stat info;
    int fd = openat(walk->folder, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);

    walk->made = fd < 0 && errno == ENOENT && mkdirat(walk->folder, name, mode) == 0;
    if (walk->made || (fd < 0 && errno == EEXIST))
        fd = openat(walk->folder, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return fail(walk, err);
    if (fstat(fd, &info) < 0 || !S_ISLNK(info.st_mode))
        return move_to(walk, fd, err);
    int target = is_in_proc(walk) ? openat(walk->folder, name, O_PATH | O_CLOEXEC) : -1;
    int result = target >= 0 ? move_to(walk, target, err) : follow(walk, name, fd, err);
    close(fd);
    return result;
}

int path_open_folder(struct path_found *found, const char *path, mode_t mode, bool careful,
                     struct error *err)
{
    struct walk walk;
    char name[PATH_MAX];
    bool above = false; /* could others write where the folder itself is? */
    int result = begin(&walk, path, careful, err);

    *found = (struct path_found){.fd = -1};
    while (result == 0 && next_name(&walk, name)) {
        above = walk.shared;
        result = enter(&walk, name, walk.rest[0] == '\0' ? mode : FOLDER_MODE, err);
    }
    if (result == 0) {
        *found = (struct path_found){.fd = walk.folder, .ours = walk.made || !above};
        walk.folder = -1;
    }
    end(&walk);
    return result;
}

int path_open_parent(const char *file, bool careful, struct error *err)
{
    const char *slash = strrchr(file, '/');
    char *parent = slash == NULL ? xstrdup(".") : xstrndup(file, (size_t)(slash - file) + 1);
    struct path_found found;
    int result = path_open_folder(&found, parent, FOLDER_MODE, careful, err);

    free(parent);
    return result < 0 ? result : found.fd;
}

/* A second name may be that of a file of root's, which a plain user can link to where the kernel lets him. */
static int accept_file(const struct walk *walk, struct path_found *found, struct error *err)
{
    struct stat info;

    if (found->ours || !walk->careful)
        return 0;
    if (fstat(found->fd, &info) < 0)
        return fail(walk, err);
    if (S_ISREG(info.st_mode) && info.st_nlink > 1)
        return error_set(err, ERR_USAGE,
                         "%s: this file has a second name, in a folder that others than root can "
                         "write: remove it",
                         walk->path);
    return 0;
}

/* The last name of the way. Returns 1 if it is a link that is to be followed. */
static int open_last(struct walk *walk, const char *name, struct path_found *found, int flags,
                     mode_t mode, struct error *err)
{
    const int how = flags | O_NOFOLLOW | O_CLOEXEC;
    bool made = false;
    bool named = true; /* and not something that merely can be reached here */
    int fd = -1;

    for (int i = 0; i < TRIES && fd < 0; i++) {
        fd = openat(walk->folder, name, how);
        if (fd >= 0 || errno != ENOENT)
            break;
        fd = openat(walk->folder, name, how | O_CREAT | O_EXCL, mode);
        made = fd >= 0;
        if (fd < 0 && errno != EEXIST)
            break;
    }
    if (fd < 0 && errno == ELOOP) {
        named = !is_in_proc(walk);
        if (named)
            return 1;
        fd = openat(walk->folder, name, flags | O_CLOEXEC);
    }
    if (fd < 0)
        return fail(walk, err);
    *found = (struct path_found){.fd = fd, .ours = made || (named && !walk->shared)};
    return accept_file(walk, found, err);
}

static int follow_last(struct walk *walk, const char *name, struct error *err)
{
    int fd = openat(walk->folder, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);

    if (fd < 0)
        return fail(walk, err);
    int result = follow(walk, name, fd, err);
    close(fd);
    return result;
}

int path_open_file(struct path_found *found, const char *path, int flags, mode_t mode, bool careful,
                   struct error *err)
{
    struct walk walk;
    char name[PATH_MAX];
    int result = begin(&walk, path, careful, err);

    *found = (struct path_found){.fd = -1};
    while (result == 0 && found->fd < 0) {
        if (!next_name(&walk, name)) {
            errno = EISDIR;
            result = fail(&walk, err);
        } else if (walk.rest[0] != '\0') {
            result = enter(&walk, name, FOLDER_MODE, err);
        } else {
            result = open_last(&walk, name, found, flags, mode, err);
            if (result > 0)
                result = follow_last(&walk, name, err);
        }
    }
    if (result < 0 && found->fd >= 0)
        close(found->fd);
    end(&walk);
    return result;
}
