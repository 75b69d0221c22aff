#include "consumer/spool/predecessor.h"

#include "common/base/alloc.h"
#include "common/base/random.h"
#include "common/base/sys.h"
#include "consumer/spool/spool_internal.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* In the client id's folder: the name of the spool that receives. */
#define RECEIVING_NAME "receiving"
/* Above what the predecessor has given; it may have been closed without a word about its last sequences. */
#define STEP_MOST (UINT64_C(1) << 31)

static char *folder_above(const char *dir)
{
    const char *slash = strrchr(dir, '/');

    return slash != NULL ? xstrndup(dir, (size_t)(slash - dir)) : xstrdup(".");
}

static const char *name_of(const char *dir)
{
    const char *slash = strrchr(dir, '/');

    return slash != NULL ? slash + 1 : dir;
}

static bool has_segments(const char *dir)
{
    DIR *listing = opendir(dir);
    const struct dirent *entry;
    uint64_t number;
    bool found = false;

    while (!found && listing != NULL && (entry = readdir(listing)) != NULL)
        found = segment_name_parse(entry->d_name, "segment", &number);
    if (listing != NULL)
        closedir(listing);
    return found;
}

/* The name that the file has; false: there is none. */
static bool read_receiving(const char *above, char *name, size_t size)
{
    char *path = xasprintf("%s/" RECEIVING_NAME, above);
    FILE *file = fopen(path, "re");
    bool read = file != NULL && fgets(name, (int)size, file) != NULL;

    if (read)
        name[strcspn(name, "\n")] = '\0';
    if (file != NULL)
        fclose(file);
    free(path);
    return read && name[0] != '\0' && strchr(name, '/') == NULL;
}

/* Without the file it is a spool of an earlier version, in the folder itself. */
char *predecessor_find(const char *dir)
{
    char *above = folder_above(dir), *found;
    char name[512];

    if (!read_receiving(above, name, sizeof(name)))
        found = xstrdup(above);
    else
        found = xasprintf("%s/%s", above, name);
    free(above);
    if (strcmp(found, dir) != 0 && has_segments(found))
        return found;
    free(found);
    return NULL;
}

/* Identities are comparable only under one spool id: an empty spool becomes a branch of the predecessor. */
static void hand_over(struct spool *spool, const struct spool *before)
{
    uint64_t floor = before->writer.next_sequence + 1 + random_u64() % STEP_MOST;

    if (spool->reader.first == NULL) {
        memcpy(spool->id, before->id, sizeof(spool->id));
        memcpy(spool->id_text, before->id_text, sizeof(spool->id_text));
        atomic_store(&spool->shared.branch, floor);
        mark_write_id(spool);
    }
    /* What this one remembers is older than what the predecessor has received since. */
    if (memcmp(spool->id, before->id, sizeof(spool->id)) != 0) {
        recent_forget(spool->recent);
        return;
    }
    uint64_t last = atomic_load(&before->shared.last_sequence);
    if (atomic_load(&spool->shared.last_sequence) < last)
        atomic_store(&spool->shared.last_sequence, last);
    if (spool->writer.next_sequence < floor)
        spool->writer.next_sequence = floor;
    recent_copy(spool->recent, before->recent);
}

int predecessor_take_over(struct spool *spool, const struct spool_options *options,
                          struct error *err)
{
    struct spool_options before_options = *options;
    struct spool *before = NULL;
    char *dir = predecessor_find(options->dir);

    if (dir == NULL)
        return 0;
    before_options.dir = dir;
    before_options.receives = false;
    int result = spool_open(&before, &before_options, err);
    if (result == 0) {
        hand_over(spool, before);
    } else if (result != -ERR_LOCKED) {
        log_warning(LOG_WITH(log_text("spool", dir)),
                    "The spool that received before can't be opened: %s. What the broker sends "
                    "again of it counts as new",
                    err->text);
        recent_forget(spool->recent);
        result = 0;
    }
    spool_close(before);
    free(dir);
    return result < 0 ? result : 1;
}

void predecessor_note(const char *dir)
{
    char *above = folder_above(dir);
    char *path = xasprintf("%s/" RECEIVING_NAME, above);
    char *fresh = xasprintf("%s.new", path);
    char name[512];

    if (!read_receiving(above, name, sizeof(name)) || strcmp(name, name_of(dir)) != 0) {
        FILE *file = fopen(fresh, "we");
        bool written = file != NULL && fprintf(file, "%s\n", name_of(dir)) > 0;

        written = written && fflush(file) == 0 && sys_fsync(fileno(file)) == 0;
        written = file != NULL && fclose(file) == 0 && written;
        if (!written || rename(fresh, path) < 0)
            log_warning(LOG_WITH(log_text("file", path)),
                        "Can't note which spool receives: after a change of the DSN, what the "
                        "broker sends again counts as new");
    }
    free(fresh);
    free(path);
    free(above);
}
