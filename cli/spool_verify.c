#include "cli/spool_verify.h"

#include "cli/spool_files.h"
#include "common/base/alloc.h"
#include "common/client/oversized_file.h"
#include "common/wire/record.h"

#include <cjson/cJSON.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WHOLE     UINT64_MAX
#define LOOKS_MAX 4 /* at a segment that seems damaged, as it may be written meanwhile */

struct damage {
    char file[64];
    uint64_t offset;
    uint64_t bytes;
    uint64_t messages; /* that are lost */
    char text[160];
};

struct damages {
    struct damage *list;
    size_t len;
    uint64_t messages; /* good ones */
};

struct verify {
    cJSON *array; /* NULL: text */
    bool damaged;
    bool printed;
    size_t spools;
};

static void add_damage(struct damages *damages, struct damage damage)
{
    damages->list = xrealloc(damages->list, (damages->len + 1) * sizeof(damage));
    damages->list[damages->len++] = damage;
}

static void note(struct damages *damages, const char *file, uint64_t offset, uint64_t bytes,
                 uint64_t messages, const char *what)
{
    struct damage damage = {.offset = offset, .bytes = bytes, .messages = messages};

    snprintf(damage.file, sizeof(damage.file), "%s", file);
    snprintf(damage.text, sizeof(damage.text), "%s", what);
    add_damage(damages, damage);
}

static void scan_segment(struct damages *damages, const struct spool_files *files, size_t index,
                         struct bytes data)
{
    const struct spool_segment *segment = &files->segments[index];
    int64_t expected = spool_files_messages(files, index);
    struct record_scan scan;
    struct record_item item;
    enum record_found found;

    record_scan_begin(&scan, &segment->header, data);
    while ((found = record_scan_next(&scan, &item)) != RECORD_SCAN_END)
        if (found == RECORD_SCAN_DAMAGE)
            note(damages, segment->name, item.offset, item.len, item.missing,
                 "no good record, and good ones follow");
    damages->messages += scan.messages;
    uint64_t seen = scan.messages + scan.missing;
    if (expected >= 0 && seen < (uint64_t)expected)
        note(damages, segment->name, item.offset, data.len - item.offset, (uint64_t)expected - seen,
             "no good record up to its end");
}

/* Where it seems damaged it is read again, until two readings agree: it may have been written, or freed, meanwhile. */
static void verify_segment(struct damages *damages, const struct spool_files *files, size_t index)
{
    const struct spool_segment *segment = &files->segments[index];
    struct damages seen = {0}, again;
    struct buf data = {0};
    struct error err = {0};
    int result = 0;

    for (int looks = 0; looks < LOOKS_MAX; looks++) {
        again = (struct damages){0};
        result = spool_files_load(files, segment, WHOLE, &data, &err);
        if (result >= 0 && spool_files_is_readable(segment))
            scan_segment(&again, files, index, buf_bytes(&data));
        bool agrees =
            looks > 0 && again.len == seen.len &&
            (again.len == 0 || memcmp(again.list, seen.list, again.len * sizeof(*seen.list)) == 0);
        free(seen.list);
        seen = again;
        if (result < 0 || seen.len == 0 || agrees)
            break;
    }
    if (result == -ERR_NOT_FOUND) {
        seen.len = 0; /* freed: all that it held is in Redis */
        seen.messages = 0;
    } else if (result < 0) {
        note(&seen, segment->name, 0, segment->size, 0, err.text);
    } else if (!spool_files_is_readable(segment)) {
        note(&seen, segment->name, 0, segment->size, 0, segment->fault.text);
    }
    if (result == 1)
        note(&seen, segment->name, 0, 0, 0, "the disk can't read all of it");
    for (size_t i = 0; i < seen.len; i++)
        add_damage(damages, seen.list[i]);
    damages->messages += seen.messages;
    free(seen.list);
    buf_free(&data);
}

/* A segment that is not there, by the numbers and by what the headers say of the messages before. */
static void verify_neighbours(struct damages *damages, const struct spool_files *files,
                              size_t index)
{
    const struct spool_segment *segment = &files->segments[index];

    if (index == 0 || !spool_files_is_readable(segment) || !spool_files_is_readable(segment - 1))
        return;
    if (memcmp(segment->header.spool_id, segment[-1].header.spool_id, 16) != 0)
        note(damages, segment->name, 0, 0, 0, "it belongs to another spool than the one before it");
    else if (segment->header.records_before < segment[-1].header.records_before)
        note(damages, segment->name, 0, 0, 0, "it contradicts the segment before it");
}

struct oversized_check {
    struct damages *damages;
    int dir;
};

static void verify_oversized(void *context, const char *name,
                             const struct oversized_message *message)
{
    const struct oversized_check *check = context;
    struct oversized_message whole;
    struct buf data = {0};
    struct error err = {0};

    int result = oversized_file_read(check->dir, strtoull(name, NULL, 10), &whole, &data, &err);
    if (result < 0 && result != -ERR_NOT_FOUND)
        note(check->damages, name, 0, message->payload.len, 1, err.text);
    check->damages->messages += result == 0;
    buf_free(&data);
}

static void print_damages(struct buf *out, const struct spool_files *files,
                          const struct damages *damages)
{
    for (size_t i = 0; i < damages->len; i++) {
        const struct damage *damage = &damages->list[i];

        buf_printf(out, "%s/%s: offset %" PRIu64 ", %" PRIu64 " bytes: %s", files->name,
                   damage->file, damage->offset, damage->bytes, damage->text);
        if (damage->messages > 0)
            buf_printf(out, "; %" PRIu64 " message%s lost", damage->messages,
                       damage->messages == 1 ? "" : "s");
        buf_append_char(out, '\n');
    }
    buf_printf(out, "%s: %zu segment%s, %" PRIu64 " good message%s, ", files->name, files->len,
               files->len == 1 ? "" : "s", damages->messages, damages->messages == 1 ? "" : "s");
    if (damages->len == 0)
        buf_append_text(out, "no damage\n");
    else
        buf_printf(out, "damage at %zu place%s\n", damages->len, damages->len == 1 ? "" : "s");
}

static void add_damages(cJSON *array, const struct spool_files *files,
                        const struct damages *damages)
{
    cJSON *object = cJSON_CreateObject();

    cJSON_AddItemToArray(array, object);
    cJSON_AddStringToObject(object, "spool", files->name);
    cJSON_AddBoolToObject(object, "ok", damages->len == 0);
    cJSON_AddNumberToObject(object, "segments", (double)files->len);
    cJSON_AddNumberToObject(object, "messages", (double)damages->messages);
    cJSON *list = cJSON_AddArrayToObject(object, "damage");
    for (size_t i = 0; i < damages->len; i++) {
        cJSON *one = cJSON_CreateObject();

        cJSON_AddItemToArray(list, one);
        cJSON_AddStringToObject(one, "file", damages->list[i].file);
        cJSON_AddNumberToObject(one, "offset", (double)damages->list[i].offset);
        cJSON_AddNumberToObject(one, "bytes", (double)damages->list[i].bytes);
        cJSON_AddNumberToObject(one, "messages", (double)damages->list[i].messages);
        cJSON_AddStringToObject(one, "text", damages->list[i].text);
    }
}

static bool verify_spool(struct spool_files *files, void *context)
{
    struct verify *verify = context;
    struct damages damages = {0};
    struct oversized_check check = {&damages, files->dir};
    struct error err;
    struct buf out = {0};

    for (size_t i = 0; i < files->len; i++) {
        verify_neighbours(&damages, files, i);
        verify_segment(&damages, files, i);
    }
    if (oversized_file_list(files->dir, verify_oversized, &check, &err) < 0)
        note(&damages, "", 0, 0, 0, err.text);
    if (verify->array != NULL)
        add_damages(verify->array, files, &damages);
    else
        print_damages(&out, files, &damages);
    verify->damaged = verify->damaged || damages.len > 0;
    verify->printed = cli_print(&out) && verify->printed;
    verify->spools++;
    buf_free(&out);
    free(damages.list);
    return verify->printed;
}

int spool_verify_print(struct cli *cli, const struct settings *settings, int count, char **names)
{
    struct verify verify = {.array = cli->json ? cJSON_CreateArray() : NULL, .printed = true};
    int code =
        spool_files_each(settings->supervisor.state_dir, count, names, verify_spool, &verify);
    struct buf out = {0};

    if (verify.array != NULL)
        verify.printed = cli_print_json(verify.array) == CLI_DONE;
    else if (verify.spools == 0 && code == CLI_DONE)
        buf_printf(&out, "there is no spool in %s\n", settings->supervisor.state_dir);
    verify.printed = cli_print(&out) && verify.printed;
    buf_free(&out);
    return verify.damaged || !verify.printed ? CLI_FAILED : code;
}
