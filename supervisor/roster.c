#include "supervisor/roster.h"

#include "common/base/alloc.h"
#include "common/base/bytes.h"
#include "common/base/file.h"
#include "common/settings/settings_table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FILE_MAX (1 << 20)

static void add(struct roster *roster, enum process_kind kind, int number, const char *name)
{
    struct roster_entry *entry = &roster->entries[roster->len++];

    entry->kind = kind;
    entry->number = number;
    snprintf(entry->name, sizeof(entry->name), "%s", name);
}

void roster_plan(struct roster *roster, const struct settings *settings, int64_t workers)
{
    size_t most = settings->consumers_len + (size_t)workers + 2;
    char name[PROCESS_NAME_SIZE];

    *roster = (struct roster){.entries = xcalloc(most, sizeof(*roster->entries))};
    add(roster, PROCESS_CONSUMER, 0, "consumer");
    for (size_t i = 0; i < settings->consumers_len; i++) {
        snprintf(name, sizeof(name), "consumer:%.60s", settings->consumers[i].name);
        add(roster, PROCESS_CONSUMER, 0, name);
    }
    for (int i = 1; i <= (int)workers; i++)
        add(roster, PROCESS_WORKER, i, "worker");
    add(roster, PROCESS_MONITOR, 0, "monitor");
}

bool roster_is(const struct roster_entry *entry, const struct process *process)
{
    int number = entry->number > 0 ? entry->number : 1;

    return entry->kind == process->kind && number == process->number &&
           strcmp(entry->name, process->name) == 0;
}

void roster_free(struct roster *roster)
{
    free(roster->entries);
    *roster = (struct roster){0};
}

static bool has_client_id(const struct settings *settings, const char *client_id)
{
    bool found = false;

    for (size_t i = 0; i <= settings->consumers_len && !found; i++)
        found = strcmp(settings_mqtt_at(settings, i)->client_id, client_id) == 0;
    return found;
}

/* True if a reload leaves an orphan spool. The consumer of [mqtt] drains such spools, and must
 * learn of a new one. */
static bool leaves_orphan(const struct settings *before, const struct settings *after)
{
    bool found = false;

    for (size_t i = 0; i < before->consumers_len && !found; i++)
        found = !has_client_id(after, before->consumers[i].client_id);
    return found;
}

bool roster_is_affected(const struct settings *before, const struct settings *after,
                        const char *name)
{
    struct settings old = *before;
    struct settings new = *after;
    struct buf old_text = {0};
    struct buf new_text = {0};
    bool affected = false;

    if (process_kind_of(name) == PROCESS_CONSUMER && process_kind_section(name)[0] == '\0') {
        old.consumers_len = 0;
        new.consumers_len = 0;
        affected = leaves_orphan(before, after);
    }
    settings_pack(&old, name, &old_text);
    settings_pack(&new, name, &new_text);
    affected = affected || !bytes_equal(buf_bytes(&old_text), buf_bytes(&new_text));
    buf_free(&old_text);
    buf_free(&new_text);
    return affected;
}

static uint32_t add_file(uint32_t sum, const char *path)
{
    struct buf content = {0};
    struct error ignored; /* reported by the process that needs the file */

    if (file_read(path, FILE_MAX, &content, &ignored) < 0)
        buf_clear(&content);

    sum = bytes_crc32c(sum, path, strlen(path) + 1);
    sum = bytes_crc32c(sum, content.data, content.len);
    buf_free(&content);
    return sum;
}

uint32_t roster_files(const struct settings *settings, const char *name)
{
    uint32_t sum = 0;

    for (size_t i = 0; i < settings_views_len(settings); i++) {
        const struct setting_view view = settings_view(settings, i);

        for (size_t k = 0; k < SETTINGS_TABLE_LEN; k++) {
            const struct setting *row = &SETTINGS_TABLE[k];

            if (row->section != view.section || (row->flags & SETTING_FILE) == 0 ||
                !setting_is_read(row, &view, name))
                continue;
            const char *path = *setting_text(row, view.base);
            if (path[0] != '\0')
                sum = add_file(sum, path);
        }
    }
    return sum;
}
