/* Settings as text for a child process, and back.
 *
 *     mqtt-bridge settings <hash of the table>
 *     S <section> <length of the name>:<name>
 *     V <key> <length of the value>:<value>        every key of the section, in the table's order
 *     E
 *
 * Parent and child are of one build unless the program was upgraded under a running supervisor: the hash
 * tells. */
#include "common/base/settings_table.h"

#include "common/base/alloc.h"
#include "common/base/settings_consume.h"
#include "common/base/settings_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static uint64_t hash_text(uint64_t hash, const char *text)
{
    for (; *text; text++) {
        hash = (hash ^ (unsigned char)*text) * 1099511628211u;
    }
    return (hash ^ 0xff) * 1099511628211u;
}

static uint64_t table_hash(void)
{
    uint64_t hash = 14695981039346656037u;
    for (size_t i = 0; i < SETTINGS_TABLE_LEN; i++) {
        char type[32];
        snprintf(type, sizeof(type), "%d %d", (int)SETTINGS_TABLE[i].section,
                 (int)SETTINGS_TABLE[i].type);
        hash = hash_text(hash_text(hash, SETTINGS_TABLE[i].key), type);
    }
    return hash;
}

void settings_pack_view(const struct setting_view *view, struct buf *out)
{
    buf_printf(out, "S %d %zu:%s\n", (int)view->section, strlen(view->name), view->name);
    for (size_t i = 0; i < SETTINGS_TABLE_LEN; i++) {
        if (SETTINGS_TABLE[i].section != view->section) {
            continue;
        }
        struct buf value = {0};
        setting_format(&SETTINGS_TABLE[i], view->base, &value);
        buf_printf(out, "V %s %zu:", SETTINGS_TABLE[i].key, value.len);
        buf_append(out, buf_bytes(&value));
        buf_append_char(out, '\n');
        buf_free(&value);
    }
}

void settings_pack(const struct settings *settings, struct buf *out)
{
    buf_printf(out, "mqtt-bridge settings %016" PRIx64 "\n", table_hash());
    for (size_t i = 0; i < settings_views_len(settings); i++) {
        const struct setting_view view = settings_view(settings, i);
        settings_pack_view(&view, out);
    }
    buf_append_text(out, "E\n");
}

struct unpacking {
    struct bytes rest;
    struct settings *settings;
    struct setting_view view;
    size_t views;
    size_t row; /* index of the next row that is due, in the table */
};

static bool take_text(struct unpacking *unpacking, const char *text)
{
    struct bytes expected = bytes_of(text);
    if (!bytes_starts_with(unpacking->rest, expected)) {
        return false;
    }
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
        behind.len < 1 || len > behind.len - 1 || behind.data[len] != '\n') {
        return false;
    }
    *value = bytes_slice(behind, 0, (size_t)len);
    unpacking->rest = bytes_slice(behind, (size_t)len + 1, behind.len - (size_t)len - 1);
    return true;
}

/* Moves on to the next row of the section that is being read; false when there is none. */
static bool next_row(struct unpacking *unpacking)
{
    while (unpacking->row < SETTINGS_TABLE_LEN &&
           SETTINGS_TABLE[unpacking->row].section != unpacking->view.section) {
        unpacking->row++;
    }
    return unpacking->row < SETTINGS_TABLE_LEN;
}

/* The section that the head names, made if it is one of a list. */
static bool open_view(struct unpacking *unpacking)
{
    struct bytes digits;
    struct bytes behind;
    struct bytes name;
    uint64_t section;
    if (!bytes_split(unpacking->rest, ' ', &digits, &behind) || !bytes_to_u64(digits, &section) ||
        section >= SETTING_SECTIONS) {
        return false;
    }
    unpacking->rest = behind;
    if (!take_counted(unpacking, &name) || (name.len > 0 && memchr(name.data, '\0', name.len))) {
        return false;
    }
    if (name.len > 0) {
        settings_add_view(unpacking->settings, (enum setting_section)section, name);
    }
    if (unpacking->views >= settings_views_len(unpacking->settings)) {
        return false;
    }
    unpacking->view = settings_view(unpacking->settings, unpacking->views++);
    unpacking->row = 0;
    return unpacking->view.section == (enum setting_section)section &&
           bytes_equal_text(name, unpacking->view.name);
}

static bool take_value(struct unpacking *unpacking, struct error *err)
{
    struct bytes value;
    if (!next_row(unpacking)) {
        return false;
    }
    const struct setting *row = &SETTINGS_TABLE[unpacking->row];
    if (!take_text(unpacking, row->key) || !take_text(unpacking, " ") ||
        !take_counted(unpacking, &value) ||
        setting_parse(row, unpacking->view.base, value, err) < 0) {
        return false;
    }
    unpacking->row++;
    return true;
}

static bool unpack_all(struct unpacking *unpacking, struct error *err)
{
    while (!take_text(unpacking, "E\n")) {
        bool good;
        if (take_text(unpacking, "S ")) {
            good = (unpacking->views == 0 || !next_row(unpacking)) && open_view(unpacking);
        } else {
            good = take_text(unpacking, "V ") && unpacking->views > 0 && take_value(unpacking, err);
        }
        if (!good) {
            return false;
        }
    }
    return unpacking->rest.len == 0 &&
           unpacking->views == settings_views_len(unpacking->settings) && !next_row(unpacking) &&
           unpacking->settings->transports_len > 0;
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
                                       bytes_of(unpacking.settings->worker.options), "", &faults);
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
