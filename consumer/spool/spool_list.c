#include "consumer/spool/spool_list.h"

#include "common/base/alloc.h"
#include "consumer/spool/segment.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DEPTH 2

/* Somebody's backup or a lost+found may lie beside the spools. */
static bool is_segment(int dir, const char *name)
{
    struct segment *segment = NULL;
    struct error err = {0};
    uint64_t number;

    if (!segment_name_parse(name, "segment", &number))
        return false;
    int result = segment_open(&segment, dir, number, &err);
    segment_free(segment);
    return result == 0 || result == -ERR_REFUSED; /* a later version's */
}

static void look_into(struct spool_list *list, const char *dir, int depth)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *listing = fd < 0 ? NULL : fdopendir(fd);
    const struct dirent *entry;
    bool found = false;

    while (listing != NULL && (entry = readdir(listing)) != NULL) {
        if (depth > 0)
            found = found || is_segment(fd, entry->d_name);
        if (depth < DEPTH && entry->d_name[0] != '.') {
            char *below = xasprintf("%s/%s", dir, entry->d_name);

            look_into(list, below, depth + 1);
            free(below);
        }
    }
    if (listing != NULL)
        closedir(listing);
    else if (fd >= 0)
        close(fd);
    if (!found)
        return;
    list->dirs = xrealloc(list->dirs, (list->len + 1) * sizeof(*list->dirs));
    list->dirs[list->len++] = xstrdup(dir);
}

void spool_list_read(struct spool_list *list, const char *state_dir)
{
    char *root = xasprintf("%s/spool", state_dir);

    *list = (struct spool_list){0};
    look_into(list, root, 0);
    free(root);
}

void spool_list_remove(struct spool_list *list, size_t index)
{
    char **gone = &list->dirs[index];

    free(*gone);
    list->len--;
    memmove(gone, gone + 1, (list->len - index) * sizeof(*gone));
}

void spool_list_free(struct spool_list *list)
{
    for (size_t i = 0; i < list->len; i++)
        free(list->dirs[i]);
    free(list->dirs);
}
