#include "consumer/spool/spool_path.h"

#include "common/base/alloc.h"
#include "common/base/file.h"
#include "consumer/spool/segment.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define HASH_LEN 17 /* "~" and 16 digits */

/* One folder's name. */
static void append_encoded(struct buf *path, const char *text)
{
    size_t above = path->len;

    for (const char *at = text; *at != '\0'; at++) {
        unsigned char c = (unsigned char)*at;

        if ((c < 0x80 && isalnum(c)) || c == '_' || c == '-' || (c == '.' && at != text))
            buf_append_char(path, *at);
        else
            buf_printf(path, "%%%02X", c);
    }
    if (path->len - above > NAME_MAX) {
        path->len = above + NAME_MAX - HASH_LEN;
        buf_printf(path, "~%016" PRIx64, bytes_hash(bytes_of(text)));
    }
}

char *spool_path(const struct settings *settings, const char *client_id, const char *destination)
{
    struct buf path = {0};

    buf_printf(&path, "%s/spool/", settings->supervisor.state_dir);
    append_encoded(&path, client_id);
    if (destination != NULL) {
        buf_append_char(&path, '/');
        append_encoded(&path, destination);
    }
    return buf_take_text(&path);
}

/* The folder above dir; and in *name the rest. */
static char *folder_above(const char *dir, const char **name)
{
    const char *slash = strrchr(dir, '/');

    *name = slash + 1;
    return xstrndup(dir, (size_t)(slash - dir));
}

char *spool_path_previous(const char *dir)
{
    const char *name;
    char *above = folder_above(dir, &name), *file = xasprintf("%s/" SPOOL_CURRENT, above);
    struct buf current = {0};
    char *previous = NULL;

    if (file_read(file, NAME_MAX, &current, NULL) == 0 && current.len > 0 &&
        !bytes_equal_text(buf_bytes(&current), name))
        previous = xasprintf("%s/%s", above, buf_text(&current));
    buf_free(&current);
    free(file);
    free(above);
    return previous;
}

int spool_path_set_current(const char *dir)
{
    const char *name;
    char *above = folder_above(dir, &name), *file = xasprintf("%s/" SPOOL_CURRENT, above);
    int result = file_replace(AT_FDCWD, file, bytes_of(name), 0600, true);

    free(file);
    free(above);
    return result;
}

/* Somebody's backup or a lost+found may lie beside the spools. */
static bool is_file_of_spool(int dir, const char *name)
{
    struct segment *segment = NULL;
    struct error err = {0};
    uint64_t number;

    if (strcmp(name, SEGMENT_SPARE) == 0)
        return true;
    if (!segment_name_parse(name, "segment", &number))
        return false;
    int result = segment_open(&segment, dir, number, &err);
    free(segment);
    return result == 0 || result == -ERR_REFUSED; /* another version's */
}

bool spool_path_holds_spool(const char *dir)
{
    DIR *listing = opendir(dir);
    const struct dirent *file;
    bool found = false;

    while (listing != NULL && !found && (file = readdir(listing)) != NULL)
        found = is_file_of_spool(dirfd(listing), file->d_name);
    if (listing != NULL)
        closedir(listing);
    return found;
}
