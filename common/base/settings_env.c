#include "common/base/settings_env.h"

#include "common/base/alloc.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SECRET_FILE_MAX 65536
#define CHUNK           4096

const char *settings_env_get(const char *name)
{
    const char *value = getenv(name);
    return value && value[0] ? value : NULL;
}

int settings_read_file(const char *path, size_t limit, struct buf *out, struct error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return error_system(err, "%s", path);
    }
    ssize_t got;
    do {
        char *room = buf_reserve(out, CHUNK);
        got = read(fd, room, CHUNK);
        out->len += got > 0 ? (size_t)got : 0;
    } while ((got > 0 && out->len <= limit) || (got < 0 && errno == EINTR));
    int result = 0;
    if (got < 0) {
        result = error_system(err, "%s", path);
    } else if (out->len > limit) {
        result = error_set(err, ERR_TOO_LARGE, "%s: larger than %zu bytes", path, limit);
    }
    close(fd);
    return result;
}

static int read_secret_file(const char *name, const char *path, struct buf *value,
                            struct error *err)
{
    size_t before = value->len;
    int result = settings_read_file(path, SECRET_FILE_MAX, value, err);
    if (result < 0) {
        return error_wrap(err, "%s_FILE", name);
    }
    while (value->len > before &&
           (value->data[value->len - 1] == '\n' || value->data[value->len - 1] == '\r')) {
        value->len--;
    }
    return 1;
}

int settings_env_read(const char *name, bool secret, struct buf *value, struct buf *origin,
                      struct error *err)
{
    const char *plain = settings_env_get(name);
    char *file_name = xasprintf("%s_FILE", name);
    const char *path = secret ? settings_env_get(file_name) : NULL;
    int result = 0;
    if (plain && path) {
        result =
            error_set(err, ERR_USAGE, "%s and %s are both set: give one of them", name, file_name);
    } else if (plain) {
        buf_append_text(value, plain);
        buf_printf(origin, "environment %s", name);
        result = 1;
    } else if (path) {
        result = read_secret_file(name, path, value, err);
        buf_printf(origin, "%s %s", file_name, path);
    }
    free(file_name);
    return result;
}

static bool is_name(struct bytes name)
{
    for (size_t i = 0; i < name.len; i++) {
        char c = name.data[i];
        bool letter = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_';
        bool digit = c >= '0' && c <= '9';
        if (!letter && !(digit && i > 0)) {
            return false;
        }
    }
    return name.len > 0;
}

/* reference: what stands between ${ and }. */
static int expand_one(struct bytes reference, bool secret, struct buf *out, struct error *err)
{
    struct bytes name = reference;
    struct bytes fallback = BYTES_NONE;
    bool has_fallback = false;
    for (size_t i = 0; i + 1 < reference.len && !has_fallback; i++) {
        if (reference.data[i] == ':' && reference.data[i + 1] == '-') {
            name = bytes_slice(reference, 0, i);
            fallback = bytes_slice(reference, i + 2, reference.len - i - 2);
            has_fallback = true;
        }
    }
    if (!is_name(name)) {
        return error_set(
            err, ERR_USAGE,
            "`${` must be followed by a variable's name and `}` (write `$${` for `${`)");
    }
    char *text = xstrndup(name.data, name.len);
    struct buf origin = {0};
    int result = settings_env_read(text, secret, out, &origin, err);
    if (result == 0 && has_fallback) {
        buf_append(out, fallback);
    } else if (result == 0) {
        result = error_set(err, ERR_USAGE,
                           "the variable %.80s is not set (${%.80s:-…} would give it a default)",
                           text, text);
    }
    buf_free(&origin);
    free(text);
    return result < 0 ? result : 0;
}

int settings_env_expand(struct bytes text, bool secret, struct buf *out, struct error *err)
{
    size_t i = 0;
    while (i < text.len) {
        struct bytes rest = bytes_slice(text, i, text.len - i);
        if (bytes_starts_with(rest, BYTES("$${"))) {
            buf_append_text(out, "${");
            i += 3;
            continue;
        }
        if (!bytes_starts_with(rest, BYTES("${"))) {
            buf_append_char(out, text.data[i]);
            i++;
            continue;
        }
        struct bytes inner;
        struct bytes behind;
        if (!bytes_split(bytes_slice(rest, 2, rest.len - 2), '}', &inner, &behind)) {
            return error_set(err, ERR_USAGE, "`${` without `}` (write `$${` for `${`)");
        }
        int result = expand_one(inner, secret, out, err);
        if (result < 0) {
            return result;
        }
        i += 3 + inner.len;
    }
    return 0;
}
