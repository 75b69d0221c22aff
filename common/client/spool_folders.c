#include "common/client/spool_folders.h"

#include "common/base/alloc.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#define DEPTH 2

static DIR *open_folder(const char *path, int flags)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | flags);
    DIR *listing = fd < 0 ? NULL : fdopendir(fd);

    if (listing == NULL && fd >= 0)
        close(fd);
    return listing;
}

static int look_into(struct spool_folders *folders, const char *path, int depth, struct error *err)
{
    DIR *listing = open_folder(path, depth > 0 ? O_NOFOLLOW : 0);
    const struct dirent *entry;
    int result = 0;

    /* ELOOP: a link. */
    if (listing == NULL)
        return errno == ENOTDIR || errno == ENOENT || errno == ELOOP
                   ? 0
                   : error_system(err, "%s", path);
    if (depth > 0) {
        folders->paths = xrealloc(folders->paths, (folders->len + 1) * sizeof(*folders->paths));
        folders->paths[folders->len++] = xstrdup(path);
    }
    while (depth < DEPTH && (entry = readdir(listing)) != NULL) {
        if (entry->d_name[0] == '.' || (entry->d_type != DT_DIR && entry->d_type != DT_UNKNOWN))
            continue;
        char *below = xasprintf("%s/%s", path, entry->d_name);
        int one = look_into(folders, below, depth + 1, err);
        free(below);
        result = one < 0 ? one : result;
    }
    closedir(listing);
    return result;
}

int spool_folders_read(struct spool_folders *folders, const char *state_dir, struct error *err)
{
    char *root = xasprintf("%s/spool", state_dir);

    *folders = (struct spool_folders){0};
    int result = look_into(folders, root, 0, err);
    free(root);
    return result;
}

void spool_folders_free(struct spool_folders *folders)
{
    for (size_t i = 0; i < folders->len; i++)
        free(folders->paths[i]);
    free(folders->paths);
    *folders = (struct spool_folders){0};
}
