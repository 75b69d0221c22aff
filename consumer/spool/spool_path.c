#include "consumer/spool/spool_path.h"

#include "common/base/alloc.h"

#include <ctype.h>
#include <inttypes.h>
#include <limits.h>

#define HASH_LEN 17 /* "~" and 16 digits */

/* FNV-1a, 64 bits. */
static uint64_t hash(const char *text)
{
    uint64_t value = UINT64_C(0xcbf29ce484222325);

    for (; *text != '\0'; text++)
        value = (value ^ (unsigned char)*text) * UINT64_C(0x100000001b3);
    return value;
}

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
        buf_printf(path, "~%016" PRIx64, hash(text));
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
    char *text = xstrdup(buf_text(&path));
    buf_free(&path);
    return text;
}

char *spool_client_path(const struct settings *settings, const char *client_id)
{
    return spool_path(settings, client_id, NULL);
}
