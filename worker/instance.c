#include "worker/instance.h"

#include "common/base/alloc.h"
#include "common/base/file.h"
#include "common/base/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

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

static int make_id(const char *path, struct error *err)
{
    char id[24];
    int len = snprintf(id, sizeof(id), "%016" PRIx64 "\n", sys_random_u64());

    if (file_replace(AT_FDCWD, path, (struct bytes){id, (size_t)len}, 0666, true) < 0)
        return error_system(err, "%s", path);
    return 0;
}

/* A lock file, locked: `operation` as flock takes it. The descriptor, or -1 with errno. */
static int lock_file(const char *path, int operation)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

    if (fd >= 0 && flock(fd, operation) < 0) {
        int why = errno;

        close(fd);
        errno = why;
        return -1;
    }
    return fd;
}

/* One of several workers that start together makes the file, or mends an empty one; the others wait and
 * read it. */
static int make_or_read_id(const char *path, char *id, size_t size, struct error *err)
{
    char *lock = xasprintf("%s.lock", path);
    int fd = lock_file(lock, LOCK_EX);
    int result = 0;

    if (fd < 0) {
        result = error_system(err, "%s", lock);
    } else {
        if (!read_id(path, id, size))
            result = make_id(path, err);
        if (result == 0 && !read_id(path, id, size))
            result = error_set(err, ERR_FORMAT, "%s: can't be read", path);
        close(fd);
    }
    free(lock);
    return result;
}

int instance_read(char **instance, const struct settings_supervisor *settings, struct error *err)
{
    char id[64];

    if (settings->instance[0] != '\0') {
        *instance = xstrdup(settings->instance);
        return 0;
    }
    if (file_make_folders(settings->state_dir) < 0)
        return error_system(err, "making %s ([supervisor] state_dir)", settings->state_dir);
    char *path = xasprintf("%s/instance", settings->state_dir);
    int result = 0;
    if (!read_id(path, id, sizeof(id)))
        result = make_or_read_id(path, id, sizeof(id), err);
    if (result == 0)
        *instance = xstrdup(id);
    free(path);
    return result;
}

int instance_lock(const struct settings_supervisor *settings, int slot, struct error *err)
{
    char *dir = xasprintf("%s/locks", settings->state_dir);
    char *path = xasprintf("%s/worker-%d.lock", dir, slot);
    int result = 0;

    /* Never closed: the lock stands until the process ends. */
    if (file_make_folders(dir) < 0)
        result = error_system(err, "making %s ([supervisor] state_dir)", dir);
    else if (lock_file(path, LOCK_EX | LOCK_NB) < 0)
        result = errno == EWOULDBLOCK
                     ? error_set(err, ERR_LOCKED, "%s: another worker works in slot %d", path, slot)
                     : error_system(err, "%s: can't be locked ([supervisor] state_dir)", path);
    free(path);
    free(dir);
    return result;
}
