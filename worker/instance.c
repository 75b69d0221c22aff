#include "worker/instance.h"

#include "common/base/alloc.h"
#include "common/base/random.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* mkdir -p, 0700. */
static int make_directories(const char *path, struct error *err)
{
    char *part = xstrdup(path);

    for (char *at = part + 1;; at++) {
        if (*at != '/' && *at != '\0')
            continue;
        char kept = *at;
        *at = '\0';
        if (mkdir(part, 0700) < 0 && errno != EEXIST) {
            error_system(err, "%s", part);
            free(part);
            return -ERR_SYSTEM;
        }
        *at = kept;
        if (kept == '\0')
            break;
    }
    free(part);
    return 0;
}

static bool read_id(const char *path, char *id, size_t size)
{
    FILE *file = fopen(path, "re");

    if (file == NULL)
        return false;
    bool found = fgets(id, (int)size, file) != NULL;
    fclose(file);
    id[strcspn(id, "\n")] = '\0';
    return found && id[0] != '\0';
}

/* Written aside and linked into place: of several workers that start together one makes it. */
static int make_id(const char *dir, const char *path, struct error *err)
{
    char *aside = xasprintf("%s/instance.%ld", dir, (long)getpid());
    FILE *file = fopen(aside, "we");
    int result = 0;

    if (file == NULL || fprintf(file, "%016" PRIx64 "\n", random_u64()) < 0 || fclose(file) != 0)
        result = error_system(err, "%s", aside);
    else if (link(aside, path) < 0 && errno != EEXIST)
        result = error_system(err, "%s", path);
    unlink(aside);
    free(aside);
    return result;
}

int instance_read(char **instance, const struct settings_supervisor *settings, struct error *err)
{
    char id[64];

    if (settings->instance[0] != '\0') {
        *instance = xstrdup(settings->instance);
        return 0;
    }
    if (make_directories(settings->state_dir, err) < 0)
        return error_wrap(err, "[supervisor] state_dir");
    char *path = xasprintf("%s/instance", settings->state_dir);
    int result = 0;
    if (!read_id(path, id, sizeof(id)))
        result = make_id(settings->state_dir, path, err);
    if (result == 0 && !read_id(path, id, sizeof(id)))
        result = error_set(err, ERR_FORMAT, "%s: empty; remove it and start again", path);
    if (result == 0)
        *instance = xstrdup(id);
    free(path);
    return result;
}

int instance_lock(const struct settings_supervisor *settings, int slot, struct error *err)
{
    char *dir = xasprintf("%s/locks", settings->state_dir);
    char *path = xasprintf("%s/worker-%d.lock", dir, slot);
    int result = make_directories(dir, err);

    if (result == 0) {
        int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

        if (fd < 0)
            result = error_system(err, "%s", path);
        else if (flock(fd, LOCK_EX | LOCK_NB) < 0)
            result =
                errno == EWOULDBLOCK
                    ? error_set(err, ERR_LOCKED, "%s: another worker works in slot %d", path, slot)
                    : error_system(err, "%s: can't be locked ([supervisor] state_dir)", path);
        /* Never closed: the lock is the process's. */
    }
    free(path);
    free(dir);
    return result;
}
