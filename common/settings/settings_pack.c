/* Settings as text for a child process, and back.
 *
 *     mqtt-bridge settings <hash of the table>
 *     S <section> <length of the name>:<name>
 *     V <key> <length of the value>:<value>        the keys of the section that the child reads
 *     E
 *
 * The hash differs if the program was replaced under a running supervisor, so that parent and child have other
 * tables, or other rules of who reads what. */
#include "common/settings/settings_table.h"

#include "common/settings/settings_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

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
    bool headed = false;

    for (size_t i = 0; i < SETTINGS_TABLE_LEN; i++) {
        const struct setting *row = &SETTINGS_TABLE[i];
        struct buf value = {0};

        if (row->section != view->section || !setting_is_read(row, view, process))
            continue;
        if (!headed)
            buf_printf(out, "S %d %zu:%s\n", (int)view->section, strlen(view->name), view->name);
        headed = true;
        setting_format(row, view->base, &value);
        buf_printf(out, "V %s %zu:", row->key, value.len);
        buf_append(out, buf_bytes(&value));
        buf_append_char(out, '\n');
        buf_free(&value);
    }
}

void settings_pack(const struct settings *settings, const char *process, struct buf *out)
{
    buf_printf(out, "mqtt-bridge settings %016" PRIx64 "\n", table_hash());
    for (size_t i = 0; i < settings_views_len(settings); i++) {
        const struct setting_view view = settings_view(settings, i);

        pack_view(&view, process, out);
    }
    buf_append_text(out, "E\n");
}

struct unpacking {
    struct bytes rest;
    struct settings *settings;
    struct setting_view view; /* base is NULL before the first section */
};

static bool take_text(struct unpacking *unpacking, const char *text)
{
    struct bytes expected = bytes_of(text);

    if (!bytes_starts_with(unpacking->rest, expected))
        return false;
    unpacking->rest =
        bytes_slice(unpacking->rest, expected.len, unpacking->rest.len - expected.len);
    return true;
}

/* "<length>:<bytes>\n" */
static bool take_counted(struct unpacking *unpacking, struct bytes *value)
{
    struct bytes digits;
    struct bytes behind;
    uint64_t len;

    if (!bytes_split(unpacking->rest, ':', &digits, &behind) || !bytes_to_u64(digits, &len) ||
        behind.len < 1 || len > behind.len - 1 || behind.data[len] != '\n')
        return false;
    *value = bytes_slice(behind, 0, (size_t)len);
    unpacking->rest = bytes_slice(behind, (size_t)len + 1, behind.len - (size_t)len - 1);
    return true;
}

/* Finds a section that exists once. */
static bool find_view(struct unpacking *unpacking, enum setting_section section)
{
    for (size_t i = 0; i < settings_views_len(unpacking->settings); i++) {
        unpacking->view = settings_view(unpacking->settings, i);
        if (unpacking->view.section == section && unpacking->view.name[0] == '\0')
            return true;
    }
    return false;
}

/* The section that the head names, made if it is one of a list. */
static bool open_view(struct unpacking *unpacking)
{
    struct bytes digits, behind, name;
    uint64_t number;

    if (!bytes_split(unpacking->rest, ' ', &digits, &behind) || !bytes_to_u64(digits, &number) ||
        number >= SETTING_SECTIONS)
        return false;
    unpacking->rest = behind;
    if (!take_counted(unpacking, &name) || (name.len > 0 && memchr(name.data, '\0', name.len)))
        return false;
    enum setting_section section = (enum setting_section)number;
    if (name.len > 0) /* a list's section: the text has each once */
        return settings_add_view(unpacking->settings, section, name, &unpacking->view);
    return find_view(unpacking, section);
}

static bool take_value(struct unpacking *unpacking, struct error *err)
{
    struct bytes key, value;

    if (unpacking->view.base == NULL ||
        !bytes_split(unpacking->rest, ' ', &key, &unpacking->rest) ||
        !take_counted(unpacking, &value))
        return false;
    const struct setting *row = setting_find(unpacking->view.section, key);
    return row != NULL && setting_parse(row, unpacking->view.base, value, err) == 0;
}

static bool unpack_all(struct unpacking *unpacking, struct error *err)
{
    bool good = true;

    while (good && !take_text(unpacking, "E\n"))
        if (take_text(unpacking, "S "))
            good = open_view(unpacking);
        else
            good = take_text(unpacking, "V ") && take_value(unpacking, err);
    return good && unpacking->rest.len == 0 && unpacking->settings->transports_len > 0;
}

int settings_unpack(struct settings **settings, struct bytes packed, struct error *err)
{
    char head[64];
    struct unpacking unpacking = {.rest = packed};
    struct error detail = {0};
    struct buf faults = {0};

    snprintf(head, sizeof(head), "mqtt-bridge settings %016" PRIx64 "\n", table_hash());
    if (!take_text(&unpacking, head)) {
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
