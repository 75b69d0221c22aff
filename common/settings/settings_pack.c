/* Settings as text for a child process, and back. `\0` is a NUL byte, which no value holds.
 *
 *     mqtt-bridge settings 2 <hash of the table>       2: this form of the text
 *     <section>\0<name>\0<key>\0<value>\0              a key that the child reads; those of a section stand together
 *     E\0
 *
 * The hash differs if the program was replaced under a running supervisor, so that parent and child have other
 * tables, or other rules of who reads what. */
#include "common/settings/settings_table.h"

#include "common/settings/settings_internal.h"

#include <inttypes.h>
#include <stdio.h>

#define HEAD "mqtt-bridge settings 2 %016" PRIx64 /* of the table_hash */
#define END  BYTES("E\0")

static uint64_t table_hash(void)
{
    struct buf rows = {0};

    for (size_t i = 0; i < SETTINGS_TABLE_LEN; i++)
        buf_printf(&rows, "%d %s %d %u\n", (int)SETTINGS_TABLE[i].section, SETTINGS_TABLE[i].key,
                   (int)SETTINGS_TABLE[i].type, SETTINGS_TABLE[i].readers);
    uint64_t hash = bytes_hash(buf_bytes(&rows));
    buf_free(&rows);
    return hash;
}

static void pack_view(const struct setting_view *view, const char *process, struct buf *out)
{
    for (size_t i = 0; i < SETTINGS_TABLE_LEN; i++) {
        const struct setting *row = &SETTINGS_TABLE[i];

        if (row->section != view->section || !setting_is_read(row, view, process))
            continue;
        buf_printf(out, "%d%c%s%c%s%c", (int)view->section, '\0', view->name, '\0', row->key, '\0');
        setting_format(row, view->base, out);
        buf_append_char(out, '\0');
    }
}

void settings_pack(const struct settings *settings, const char *process, struct buf *out)
{
    buf_printf(out, HEAD "\n", table_hash());
    for (size_t i = 0; i < settings_views_len(settings); i++) {
        const struct setting_view view = settings_view(settings, i);

        pack_view(&view, process, out);
    }
    buf_append(out, END);
}

struct unpacking {
    struct bytes rest;
    struct settings *settings;
    struct setting_view view; /* base is NULL before the first section */
};

/* The section of a value, made if it is one of a list. Searching for each value would take too long with many routes. */
static bool open_view(struct unpacking *unpacking, struct bytes digits, struct bytes name)
{
    struct setting_view *view = &unpacking->view;
    uint64_t number;

    if (!bytes_to_u64(digits, &number) || number >= SETTING_SECTIONS)
        return false;
    enum setting_section section = (enum setting_section)number;
    if (view->base != NULL && view->section == section && bytes_equal_text(name, view->name))
        return true;
    if (name.len > 0)
        return settings_add_view(unpacking->settings, section, name, view);
    for (size_t i = 0; i < settings_views_len(unpacking->settings); i++) {
        *view = settings_view(unpacking->settings, i);
        if (view->section == section && view->name[0] == '\0')
            return true;
    }
    return false;
}

static bool take_value(struct unpacking *unpacking, struct error *err)
{
    struct bytes *rest = &unpacking->rest;
    struct bytes section, name, key, value;

    if (!bytes_split(*rest, '\0', &section, rest) || !bytes_split(*rest, '\0', &name, rest) ||
        !bytes_split(*rest, '\0', &key, rest) || !bytes_split(*rest, '\0', &value, rest) ||
        !open_view(unpacking, section, name))
        return false;
    const struct setting *row = setting_find(unpacking->view.section, key);
    return row != NULL && setting_parse(row, unpacking->view.base, value, err) == 0;
}

static bool unpack_all(struct unpacking *unpacking, struct error *err)
{
    while (!bytes_equal(unpacking->rest, END))
        if (!take_value(unpacking, err))
            return false;
    return unpacking->settings->transports_len > 0;
}

int settings_unpack(struct settings **settings, struct bytes packed, struct error *err)
{
    char head[64];
    struct unpacking unpacking = {0};
    struct error detail = {0};
    struct buf faults = {0};
    struct bytes line;

    snprintf(head, sizeof(head), HEAD, table_hash());
    if (!bytes_split(packed, '\n', &line, &unpacking.rest) || !bytes_equal_text(line, head)) {
        return error_set(err, ERR_FORMAT,
                         "the settings are of another version of the program: restart the service");
    }
    unpacking.settings = settings_new();
    bool good = unpack_all(&unpacking, &detail) &&
                settings_consume_parse(&unpacking.settings->worker.consume,
                                       bytes_of(unpacking.settings->worker.options), &faults);
    buf_free(&faults);
    if (!good) {
        settings_free(unpacking.settings);
        return error_set(err, ERR_FORMAT,
                         "the settings that the supervisor passed can't be read%s%s",
                         detail.text[0] ? ": " : "", detail.text);
    }
    *settings = unpacking.settings;
    return 0;
}
