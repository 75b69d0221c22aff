/* The faults of settings: how one is written, and their order. */
#include "common/base/settings_internal.h"

#include "common/base/alloc.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

void settings_fault(struct buf *faults, const char *where, const struct setting_view *view,
                    const char *key, const char *format, ...)
{
    va_list arguments;
    if (where && !bytes_starts_with(bytes_of(where), BYTES("default"))) {
        buf_printf(faults, "%s: ", where);
    }
    if (view->section != SETTING_ENVIRONMENT) {
        buf_append_char(faults, '[');
        setting_view_title(view, faults);
        buf_append_text(faults, key ? "] " : "]: ");
    }
    if (key) {
        buf_printf(faults, "%s: ", key);
    }
    va_start(arguments, format);
    buf_vprintf(faults, format, arguments);
    va_end(arguments);
    buf_append_char(faults, '\n');
}

struct fault_line {
    struct bytes text;
    uint64_t line; /* of the ini; UINT64_MAX for a fault that is none of its lines' */
    size_t order;
};

static int compare(const void *left, const void *right)
{
    const struct fault_line *a = left;
    const struct fault_line *b = right;
    if (a->line != b->line) {
        return a->line < b->line ? -1 : 1;
    }
    return a->order < b->order ? -1 : 1;
}

static uint64_t line_of(struct bytes text, const char *file)
{
    struct bytes prefix = bytes_of(file);
    struct bytes digits;
    struct bytes behind;
    uint64_t line;
    if (!bytes_starts_with(text, prefix) || text.len <= prefix.len ||
        text.data[prefix.len] != ':') {
        return UINT64_MAX;
    }
    bytes_split(bytes_slice(text, prefix.len + 1, text.len), ':', &digits, &behind);
    return bytes_to_u64(digits, &line) ? line : UINT64_MAX;
}

void settings_sort_faults(struct buf *faults, size_t from, const char *file)
{
    struct buf copy = {0};
    struct fault_line *lines = NULL;
    size_t len = 0;
    buf_append(&copy, bytes_slice(buf_bytes(faults), from, faults->len - from));
    struct bytes rest = buf_bytes(&copy);
    while (rest.len > 0) {
        lines = xrealloc(lines, (len + 1) * sizeof(*lines));
        bytes_split(rest, '\n', &lines[len].text, &rest);
        lines[len].line = line_of(lines[len].text, file);
        lines[len].order = len;
        len++;
    }
    if (len > 0) {
        qsort(lines, len, sizeof(*lines), compare);
    }
    faults->len = from;
    for (size_t i = 0; i < len; i++) {
        buf_append(faults, lines[i].text);
        buf_append_char(faults, '\n');
    }
    free(lines);
    buf_free(&copy);
}
