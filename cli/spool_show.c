#include "cli/spool_show.h"

#include "cli/render.h"
#include "cli/spool_files.h"
#include "common/base/alloc.h"
#include "common/client/oversized_file.h"
#include "common/wire/record.h"

#include <cjson/cJSON.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define WHOLE      UINT64_MAX
#define FIRST_ONLY ((uint64_t)128 * 1024) /* enough for the first record's time, mostly */

struct segment_summary {
    uint64_t messages;
    uint64_t last_sequence; /* 0: it holds none */
    uint64_t bytes;         /* of records */
    uint64_t unsent;
    uint64_t unsent_bytes;
    int64_t first_us; /* 0: not known */
    int64_t first_unsent_us;
};

struct show {
    cJSON *array; /* NULL: text */
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

/* What the headers tell counts where only the first record was read. */
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

/* Its first `limit` bytes; false if they can't be read. */
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

/* Read whole are only the segment in which the mark lies, the last, and those that begin with a large message. */
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
    char received[CLOCK_UTC_SIZE];

    cJSON_AddItemToArray(array, object);
    cJSON_AddStringToObject(object, "file", segment->name);
    cJSON_AddNumberToObject(object, "bytes", (double)segment->size);
    cJSON_AddNumberToObject(object, "messages", (double)summary->messages);
    cJSON_AddNumberToObject(object, "unsent", (double)summary->unsent);
    if (summary->last_sequence > 0) {
        cJSON_AddNumberToObject(object, "first_sequence", (double)segment->header.first_sequence);
        cJSON_AddNumberToObject(object, "last_sequence", (double)summary->last_sequence);
    }
    if (summary->first_us > 0) {
        clock_format_utc(summary->first_us, received);
        cJSON_AddStringToObject(object, "first_received", received);
    }
    cJSON_AddStringToObject(object, "state", state_of(files, segment, summary));
    cJSON_AddBoolToObject(object, "damaged",
                          segment->header.damaged || !spool_files_is_readable(segment));
}

struct spool_summary {
    const struct segment_header *header; /* the youngest that can be read; NULL: none */
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

static void ignore_oversized(void *context, const char *name,
                             const struct oversized_message *message)
{
    (void)context;
    (void)name;
    (void)message;
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
    if (whole->total.unsent > 0 && whole->total.first_unsent_us > 0) {
        clock_format_utc(whole->total.first_unsent_us, text);
        cJSON_AddStringToObject(object, "oldest_unsent", text);
    }
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
    struct segment_summary *parts = xcalloc(files->len + 1, sizeof(*parts));
    struct error err;

    for (size_t i = 0; i < files->len; i++) {
        summarize(&parts[i], files, i);
        add_up(&whole, &files->segments[i], &parts[i]);
    }
    int oversized = oversized_file_list(files->dir, ignore_oversized, NULL, &err);
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

int spool_show_print(struct cli *cli, const struct settings *settings, int count, char **names)
{
    struct show show = {.array = cli->json ? cJSON_CreateArray() : NULL};
    int code = spool_files_each(settings->supervisor.state_dir, count, names, show_spool, &show);

    if (show.array == NULL && show.spools == 0 && code == CLI_DONE)
        buf_printf(&show.out, "there is no spool in %s\n", settings->supervisor.state_dir);
    int printed = show.array != NULL ? cli_print_json(show.array) : cli_print_free(&show.out);
    return printed == CLI_DONE ? code : printed;
}
