#include "cli/spool_look.h"

#include "cli/render.h"
#include "cli/spool_files.h"
#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/client/oversized_file.h"
#include "common/wire/json.h"
#include "common/wire/record.h"
#include "common/wire/topic.h"
#include "common/wire/update.h"

#include <cjson/cJSON.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WHOLE        UINT64_MAX
#define FIRST_ONLY   ((uint64_t)128 * 1024) /* mostly enough for the first record's time */
#define READINGS_MAX 4                      /* readings of a segment that seems damaged */
#define FLUSH_BYTES  ((size_t)64 * 1024)
#define SHOWN_BYTES  160 /* most bytes of a payload in text output */

/* Calls look for the spools that the arguments name, or for all. */
static int look_at(const struct cli *cli, spool_files_look *look, void *context)
{
    return spool_files_each(cli->settings->supervisor.state_dir, cli->arguments_len - 1,
                            cli->arguments + 1, look, context);
}

struct segment_summary {
    uint64_t messages;
    uint64_t last_sequence; /* 0: the segment holds no message */
    uint64_t bytes;         /* bytes of all records */
    uint64_t unsent;
    uint64_t unsent_bytes;
    int64_t first_us; /* 0: unknown */
    int64_t first_unsent_us;
};

struct show {
    cJSON *array; /* NULL: prints text */
    struct buf out;
    size_t spools;
};

static void count_record(struct segment_summary *summary, const struct spool_files *files,
                         const struct record_item *item)
{
    const struct record *record = &item->record;

    summary->bytes += item->len;
    if (record->type != RECORD_MESSAGE)
        return;
    summary->messages++;
    summary->last_sequence = record->sequence;
    if (summary->first_us == 0)
        summary->first_us = record->received_us;
    if (!spool_files_is_unsent(files, record->sequence))
        return;
    summary->unsent++;
    summary->unsent_bytes += item->len;
    if (summary->first_unsent_us == 0)
        summary->first_unsent_us = record->received_us;
}

/* Counts by the headers' sums, for a segment of which only the first record was read. */
static void count_by_headers(struct segment_summary *summary, const struct spool_files *files,
                             size_t index, uint64_t messages)
{
    const struct segment_header *header = &files->segments[index].header;
    uint64_t bytes = files->segments[index + 1].header.bytes_before - header->bytes_before;
    bool unsent = spool_files_is_unsent(files, header->first_sequence);

    summary->messages = messages;
    summary->last_sequence = messages > 0 ? header->first_sequence + messages - 1 : 0;
    summary->bytes = bytes;
    summary->unsent = unsent ? messages : 0;
    summary->unsent_bytes = unsent ? bytes : 0;
}

/* Counts the records in the segment's first `limit` bytes. Returns false if the segment can't be
 * read. */
static bool count_records(struct segment_summary *summary, const struct spool_files *files,
                          size_t index, uint64_t limit)
{
    const struct spool_segment *segment = &files->segments[index];
    struct record_scan scan;
    struct record_item item;
    struct buf data = {0};
    struct error err;
    enum record_found found;

    *summary = (struct segment_summary){0};
    bool loaded = spool_files_load(files, segment, limit, &data, &err) >= 0;
    record_scan_begin(&scan, &segment->header, buf_bytes(&data));
    while (loaded && (found = record_scan_next(&scan, &item)) != RECORD_SCAN_END)
        if (found == RECORD_SCAN_RECORD)
            count_record(summary, files, &item);
    buf_free(&data);
    return loaded;
}

/* Summarizes a segment. Only the mark's segment, the last one, and segments that begin with a
 * large message are read whole. */
static void summarize(struct segment_summary *summary, const struct spool_files *files,
                      size_t index)
{
    const struct segment_header *header = &files->segments[index].header;
    int64_t messages = spool_files_messages(files, index);
    bool split = messages > 0 && !spool_files_is_unsent(files, header->first_sequence) &&
                 spool_files_is_unsent(files, header->first_sequence + (uint64_t)messages - 1);
    bool whole = messages < 0 || split;

    *summary = (struct segment_summary){0};
    if (!spool_files_is_readable(&files->segments[index]) ||
        !count_records(summary, files, index, whole ? WHOLE : FIRST_ONLY))
        return;
    if (!whole && messages > 0 && summary->first_us == 0 &&
        !count_records(summary, files, index, WHOLE))
        return;
    if (!whole)
        count_by_headers(summary, files, index, (uint64_t)messages);
}

static const char *state_of(const struct spool_files *files, const struct spool_segment *segment,
                            const struct segment_summary *summary)
{
    if (!spool_files_is_readable(segment))
        return segment->fault.text;
    if (summary->messages == 0)
        return "empty";
    if (!files->has_mark)
        return "not known to be sent";
    if (summary->unsent == 0)
        return "sent";
    return summary->unsent == summary->messages ? "unsent" : "partly sent";
}

static void print_segment(struct buf *out, const struct spool_files *files,
                          const struct spool_segment *segment,
                          const struct segment_summary *summary)
{
    struct buf size = {0};
    char sequences[48] = "-", received[CLOCK_TEXT_SIZE] = "-";

    render_size(&size, (double)segment->size);
    if (summary->last_sequence > 0)
        snprintf(sequences, sizeof(sequences), "%" PRIu64 "-%" PRIu64,
                 segment->header.first_sequence, summary->last_sequence);
    if (summary->first_us > 0)
        clock_format_us(summary->first_us, received);
    buf_printf(out, "  %-22s  %8" PRIu64 "  %-23s  %6s  %-19.19s  %s%s\n", segment->name,
               summary->messages, sequences, buf_text(&size), received,
               state_of(files, segment, summary),
               segment->header.damaged ? ", damage was found in it" : "");
    buf_free(&size);
}

static void add_segment_json(cJSON *array, const struct spool_files *files,
                             const struct spool_segment *segment,
                             const struct segment_summary *summary)
{
    cJSON *object = cJSON_CreateObject();

    cJSON_AddItemToArray(array, object);
    cJSON_AddStringToObject(object, "file", segment->name);
    cJSON_AddNumberToObject(object, "bytes", (double)segment->size);
    cJSON_AddNumberToObject(object, "messages", (double)summary->messages);
    cJSON_AddNumberToObject(object, "unsent", (double)summary->unsent);
    if (summary->last_sequence > 0) {
        cJSON_AddNumberToObject(object, "first_sequence", (double)segment->header.first_sequence);
        cJSON_AddNumberToObject(object, "last_sequence", (double)summary->last_sequence);
    }
    if (summary->first_us > 0)
        cli_add_time(object, "first_received", summary->first_us);
    cJSON_AddStringToObject(object, "state", state_of(files, segment, summary));
    cJSON_AddBoolToObject(object, "damaged",
                          segment->header.damaged || !spool_files_is_readable(segment));
}

struct spool_summary {
    const struct segment_header *header; /* header of the newest readable segment; NULL: none */
    struct segment_summary total;
    uint64_t disk_bytes;
    int oversized;
};

static void add_up(struct spool_summary *whole, const struct spool_segment *segment,
                   const struct segment_summary *one)
{
    whole->header = spool_files_is_readable(segment) ? &segment->header : whole->header;
    whole->disk_bytes += segment->size;
    whole->total.messages += one->messages;
    whole->total.unsent += one->unsent;
    whole->total.unsent_bytes += one->unsent_bytes;
    if (whole->total.first_unsent_us == 0)
        whole->total.first_unsent_us = one->first_unsent_us != 0 ? one->first_unsent_us
                                       : one->unsent > 0         ? one->first_us
                                                                 : 0;
}

static void print_unsent(struct buf *out, const struct segment_summary *total, bool has_mark)
{
    buf_printf(out, "  unsent       %" PRIu64 " message%s", total->unsent,
               total->unsent == 1 ? "" : "s");
    if (total->unsent > 0) {
        buf_append_text(out, ", ");
        render_size(out, (double)total->unsent_bytes);
    }
    if (total->unsent > 0 && total->first_unsent_us > 0) {
        buf_append_text(out, ", the oldest came ");
        render_duration(out, (double)(clock_wall_us() - total->first_unsent_us) / 1000);
        buf_append_text(out, " ago");
    }
    buf_append_text(out, has_mark ? "\n" : " (no mark yet: Redis may have some of them)\n");
}

static void print_spool(struct buf *out, const struct spool_files *files,
                        const struct spool_summary *whole)
{
    char id[33] = "-";

    if (whole->header != NULL)
        spool_files_id(whole->header->spool_id, id);
    buf_printf(out, "%s%s\n  destination  %s\n  spool id     %s\n", files->name,
               files->receives ? " (receives)" : "",
               whole->header != NULL ? whole->header->destination : "-", id);
    if (files->has_mark)
        buf_printf(out, "  mark         %016" PRIx64 ":%" PRIu64 "\n", files->mark.run,
                   files->mark.sequence);
    else
        buf_append_text(out, "  mark         -\n");
    print_unsent(out, &whole->total, files->has_mark);
    buf_printf(out, "  kept         %" PRIu64 " message%s, ", whole->total.messages,
               whole->total.messages == 1 ? "" : "s");
    render_size(out, (double)whole->disk_bytes);
    buf_append_text(out, " on disk, spare ");
    render_size(out, (double)files->spare_bytes);
    buf_printf(out, "\n  put aside    %d oversized message%s, %zu damaged segment%s\n",
               whole->oversized, whole->oversized == 1 ? "" : "s", files->damaged_files,
               files->damaged_files == 1 ? "" : "s");
    if (files->len > 0)
        buf_printf(out, "  %-22s  %8s  %-23s  %6s  %-19s  %s\n", "SEGMENT", "MESSAGES", "SEQUENCES",
                   "BYTES", "FIRST RECEIVED (UTC)", "STATE");
}

static cJSON *spool_json(const struct spool_files *files, const struct spool_summary *whole)
{
    cJSON *object = cJSON_CreateObject();
    char text[64];

    cJSON_AddStringToObject(object, "spool", files->name);
    cJSON_AddBoolToObject(object, "receives", files->receives);
    if (whole->header != NULL) {
        spool_files_id(whole->header->spool_id, text);
        cJSON_AddStringToObject(object, "spool_id", text);
        cJSON_AddStringToObject(object, "destination", whole->header->destination);
    }
    if (files->has_mark) {
        snprintf(text, sizeof(text), "%016" PRIx64 ":%" PRIu64, files->mark.run,
                 files->mark.sequence);
        cJSON_AddStringToObject(object, "mark", text);
    } else {
        cJSON_AddNullToObject(object, "mark");
    }
    cJSON_AddNumberToObject(object, "messages", (double)whole->total.messages);
    cJSON_AddNumberToObject(object, "unsent", (double)whole->total.unsent);
    cJSON_AddNumberToObject(object, "unsent_bytes", (double)whole->total.unsent_bytes);
    if (whole->total.unsent > 0 && whole->total.first_unsent_us > 0)
        cli_add_time(object, "oldest_unsent", whole->total.first_unsent_us);
    cJSON_AddNumberToObject(object, "disk_bytes", (double)whole->disk_bytes);
    cJSON_AddNumberToObject(object, "spare_bytes", (double)files->spare_bytes);
    cJSON_AddNumberToObject(object, "oversized", whole->oversized);
    cJSON_AddNumberToObject(object, "damaged_files", (double)files->damaged_files);
    return object;
}

static bool show_spool(struct spool_files *files, void *context)
{
    struct show *show = context;
    struct spool_summary whole = {0};
    struct segment_summary *parts;
    struct error err;

    if (!spool_files_is_spool(files))
        return true;
    parts = xcalloc(files->len + 1, sizeof(*parts));
    for (size_t i = 0; i < files->len; i++) {
        summarize(&parts[i], files, i);
        add_up(&whole, &files->segments[i], &parts[i]);
    }
    int oversized = oversized_file_list(files->dir, NULL, NULL, &err);
    whole.oversized = oversized > 0 ? oversized : 0;
    if (show->array != NULL) {
        cJSON *object = spool_json(files, &whole);
        cJSON *segments = cJSON_AddArrayToObject(object, "segments");

        for (size_t i = 0; i < files->len; i++)
            add_segment_json(segments, files, &files->segments[i], &parts[i]);
        cJSON_AddItemToArray(show->array, object);
    } else {
        buf_append_text(&show->out, show->spools > 0 ? "\n" : "");
        print_spool(&show->out, files, &whole);
        for (size_t i = 0; i < files->len; i++)
            print_segment(&show->out, files, &files->segments[i], &parts[i]);
    }
    show->spools++;
    free(parts);
    return true;
}

int spool_look_show(struct cli *cli)
{
    struct show show = {.array = cli->json ? cJSON_CreateArray() : NULL};
    int code = look_at(cli, show_spool, &show);

    if (show.array == NULL && show.spools == 0 && code == CLI_DONE)
        buf_printf(&show.out, "there is no spool in %s\n", cli->settings->supervisor.state_dir);
    int printed = show.array != NULL ? cli_print_json(show.array) : cli_print_free(&show.out);
    return printed == CLI_DONE ? code : printed;
}

struct damage {
    char file[64];
    uint64_t offset;
    uint64_t bytes;
    uint64_t messages; /* lost messages */
    char text[160];
};

struct damages {
    struct damage *list;
    size_t len;
    uint64_t messages; /* good messages */
};

struct verify {
    cJSON *array; /* NULL: prints text */
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

/* Returns the number of messages that the headers count but the scan has not found. */
static uint64_t missing_at_end(const struct spool_files *files, size_t index,
                               const struct record_scan *scan)
{
    int64_t expected = spool_files_messages(files, index);
    int64_t seen = (int64_t)(scan->messages + scan->missing);

    return expected > seen ? (uint64_t)(expected - seen) : 0;
}

static void scan_segment(struct damages *damages, const struct spool_files *files, size_t index,
                         struct bytes data)
{
    const struct spool_segment *segment = &files->segments[index];
    struct record_scan scan;
    struct record_item item;
    enum record_found found;

    record_scan_begin(&scan, &segment->header, data);
    while ((found = record_scan_next(&scan, &item)) != RECORD_SCAN_END)
        if (found == RECORD_SCAN_DAMAGE)
            note(damages, segment->name, item.offset, item.len, item.missing,
                 "no good record, and good ones follow");
    damages->messages += scan.messages;
    uint64_t missing = missing_at_end(files, index, &scan);
    if (missing > 0)
        note(damages, segment->name, item.offset, data.len - item.offset, missing,
             "no good record up to its end");
}

/* Loads a segment as spool_files_load does. A segment that seems damaged is read until two
 * readings agree: it may just be written or freed. The caller frees seen->list. */
static int load_settled(struct damages *seen, const struct spool_files *files, size_t index,
                        struct buf *data, struct error *err)
{
    const struct spool_segment *segment = &files->segments[index];
    int result = 0;

    *seen = (struct damages){0};
    for (int reading = 0; reading < READINGS_MAX; reading++) {
        struct damages again = {0};

        result = spool_files_load(files, segment, WHOLE, data, err);
        if (result >= 0 && spool_files_is_readable(segment))
            scan_segment(&again, files, index, buf_bytes(data));
        bool agrees = reading > 0 && again.len == seen->len &&
                      (again.len == 0 ||
                       memcmp(again.list, seen->list, again.len * sizeof(*seen->list)) == 0);
        free(seen->list);
        *seen = again;
        if (result < 0 || seen->len == 0 || agrees)
            break;
    }
    return result;
}

static void verify_segment(struct damages *damages, const struct spool_files *files, size_t index)
{
    const struct spool_segment *segment = &files->segments[index];
    struct damages seen;
    struct buf data = {0};
    struct error err = {0};
    int result = load_settled(&seen, files, index, &data, &err);

    if (result == -ERR_NOT_FOUND) {
        seen.len = 0; /* the segment was freed: Redis has all its messages */
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

/* Finds segments that don't follow each other: of another spool, or with counts that contradict
 * each other. */
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
        note(check->damages, name, 0, message->record.payload.len, 1, err.text);
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
        buf_printf(out, "%zu fault%s found\n", damages->len, damages->len == 1 ? "" : "s");
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

    if (!spool_files_is_spool(files))
        return true;
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

int spool_look_verify(struct cli *cli)
{
    struct verify verify = {.array = cli->json ? cJSON_CreateArray() : NULL, .printed = true};
    int code = look_at(cli, verify_spool, &verify);
    struct buf out = {0};

    if (verify.array != NULL)
        verify.printed = cli_print_json(verify.array) == CLI_DONE;
    else if (verify.spools == 0 && code == CLI_DONE)
        buf_printf(&out, "there is no spool in %s\n", cli->settings->supervisor.state_dir);
    verify.printed = cli_print(&out) && verify.printed;
    buf_free(&out);
    return verify.damaged || !verify.printed ? CLI_FAILED : code;
}

struct dump {
    bool json;
    struct bytes filter; /* empty: every topic */
    uint64_t left;       /* number of messages that may still be printed */
    bool unsent_only;
    bool printed;
    bool unreadable;  /* a segment, or a part of one, could not be read */
    uint64_t damaged; /* number of messages that can't be shown */
    struct buf out;
};

static void append_id(struct buf *out, const struct segment_header *header,
                      const struct record *record)
{
    char id[33];

    spool_files_id(header->spool_id, id);
    buf_printf(out, "%s-%" PRIu64, id, record->identity);
}

/* Appends the message document, extended by members of the record. */
static void dump_json(struct dump *dump, const struct spool_files *files,
                      const struct spool_segment *segment, const struct record *record)
{
    struct bytes payload = record->oversized ? BYTES("") : record->payload;
    struct buf id = {0};

    append_id(&id, &segment->header, record);
    update_document(&dump->out, buf_bytes(&id), record->topic, payload, record->received_us);
    dump->out.len--; /* removes the closing brace */
    buf_printf(&dump->out,
               ",\"sequence\":%" PRIu64 ",\"qos\":%d,\"retained\":%s,\"oversized\":%s,"
               "\"unsent\":%s,\"spool\":",
               record->sequence, record->qos, record->retained ? "true" : "false",
               record->oversized ? "true" : "false",
               spool_files_is_unsent(files, record->sequence) ? "true" : "false");
    struct buf name = {0};
    json_make_utf8(&name, bytes_of(files->name));
    json_quote(&dump->out, buf_bytes(&name));
    buf_append_text(&dump->out, "}\n");
    buf_free(&name);
    buf_free(&id);
}

static void dump_text(struct dump *dump, const struct spool_segment *segment,
                      const struct record *record)
{
    char received[CLOCK_UTC_SIZE];
    char *topic = cli_printable(record->topic, record->topic.len);
    char *payload = cli_printable(bytes_slice(record->payload, 0, SHOWN_BYTES), SHOWN_BYTES);

    clock_format_utc(record->received_us, received);
    buf_printf(&dump->out, "%s  ", received);
    append_id(&dump->out, &segment->header, record);
    buf_printf(&dump->out, "  %s  ", topic);
    if (record->oversized) {
        buf_append_text(&dump->out, "(oversized: see `mqtt-bridge spool list`)");
    } else {
        buf_append_text(&dump->out, payload);
        if (record->payload.len > SHOWN_BYTES)
            buf_printf(&dump->out, "... (%zu bytes)", record->payload.len);
    }
    buf_append_char(&dump->out, '\n');
    free(topic);
    free(payload);
}

static void dump_record(struct dump *dump, const struct spool_files *files,
                        const struct spool_segment *segment, const struct record *record)
{
    if (record->type != RECORD_MESSAGE || dump->left == 0 ||
        (dump->unsent_only && !spool_files_is_unsent(files, record->sequence)) ||
        (dump->filter.len > 0 && !topic_filter_matches(dump->filter, record->topic)))
        return;
    dump->left--;
    if (dump->json)
        dump_json(dump, files, segment, record);
    else
        dump_text(dump, segment, record);
    if (dump->out.len >= FLUSH_BYTES)
        dump->printed = cli_print(&dump->out) && dump->printed;
}

static void dump_segment(struct dump *dump, const struct spool_files *files, size_t index)
{
    const struct spool_segment *segment = &files->segments[index];
    struct record_scan scan;
    struct record_item item;
    enum record_found found = RECORD_SCAN_RECORD;
    struct damages seen = {0};
    struct buf data = {0};
    struct error err = segment->fault;
    int result = -(int)err.code;

    if (result == 0)
        result = load_settled(&seen, files, index, &data, &err);
    free(seen.list);
    if (result == 1)
        error_set(&err, ERR_SYSTEM, "the disk can't read all of it");
    if (result != 0 && result != -ERR_NOT_FOUND) {
        cli_fail(CLI_FAILED, "%s/%s: %s", files->name, segment->name, err.text);
        dump->unreadable = true;
    }
    record_scan_begin(&scan, &segment->header, buf_bytes(&data));
    while (result >= 0 && dump->left > 0 &&
           (found = record_scan_next(&scan, &item)) != RECORD_SCAN_END) {
        dump->damaged += found == RECORD_SCAN_DAMAGE ? item.missing : 0;
        if (found == RECORD_SCAN_RECORD)
            dump_record(dump, files, segment, &item.record);
    }
    dump->damaged += found == RECORD_SCAN_END ? missing_at_end(files, index, &scan) : 0;
    buf_free(&data);
}

static bool dump_spool(struct spool_files *files, void *context)
{
    struct dump *dump = context;

    for (size_t i = 0; i < files->len && dump->left > 0; i++)
        dump_segment(dump, files, i);
    return dump->left > 0;
}

static int read_dump_options(const struct cli *cli, struct dump *dump)
{
    const char *filter = cli_option(cli, "topic"), *limit = cli_option(cli, "limit");
    struct error err;

    dump->json = cli->json;
    dump->printed = true;
    dump->unsent_only = cli_option(cli, "unsent") != NULL;
    dump->filter = bytes_of(filter);
    dump->left = UINT64_MAX;
    if (filter != NULL && topic_filter_check(dump->filter, &err) < 0)
        return cli_fail(CLI_USAGE, "spool dump --topic %s: %s", filter, err.text);
    if (limit != NULL && !bytes_to_u64(bytes_of(limit), &dump->left))
        return cli_fail(CLI_USAGE, "spool dump --limit %s: takes a number", limit);
    return CLI_DONE;
}

int spool_look_dump(struct cli *cli)
{
    struct dump dump = {0};
    int code = read_dump_options(cli, &dump);

    if (code == CLI_DONE)
        code = look_at(cli, dump_spool, &dump);
    bool printed = cli_print(&dump.out) && dump.printed;
    if (dump.damaged > 0)
        cli_fail(CLI_FAILED,
                 "%" PRIu64 " damaged message%s left out: `mqtt-bridge spool verify` says where",
                 dump.damaged, dump.damaged == 1 ? " is" : "s are");
    buf_free(&dump.out);
    return printed && !dump.unreadable && dump.damaged == 0 ? code : CLI_FAILED;
}
