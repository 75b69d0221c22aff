#include "cli/spool_dump.h"

#include "cli/spool_files.h"
#include "common/base/alloc.h"
#include "common/wire/json.h"
#include "common/wire/record.h"
#include "common/wire/topic.h"
#include "common/wire/update.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define WHOLE       UINT64_MAX
#define FLUSH_BYTES ((size_t)64 * 1024)
#define SHOWN_BYTES 160 /* of a payload, to people */
#define LOOKS_MAX   4   /* at a segment that seems damaged */

struct dump {
    bool json;
    struct bytes filter; /* empty: every topic */
    uint64_t left;       /* messages that may still be printed */
    bool unsent_only;
    bool printed;
    bool unreadable;  /* a segment, or a part of one */
    uint64_t damaged; /* messages that can't be shown */
    struct buf out;
};

static void append_id(struct buf *out, const struct segment_header *header,
                      const struct record *record)
{
    char id[33];

    spool_files_id(header->spool_id, id);
    buf_printf(out, "%s-%" PRIu64, id, record->sequence - record->repeats);
}

/* The message document with what the spool knows besides. */
static void dump_json(struct dump *dump, const struct spool_files *files,
                      const struct spool_segment *segment, const struct record *record)
{
    struct bytes payload = record->oversized ? BYTES("") : record->payload;
    struct buf id = {0};

    append_id(&id, &segment->header, record);
    update_document(&dump->out, buf_bytes(&id), record->topic, payload, record->received_us);
    dump->out.len--; /* its brace */
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
    char received[CLOCK_UTC_SIZE], shown[SHOWN_BYTES + 1];
    struct bytes payload = bytes_slice(record->payload, 0, SHOWN_BYTES);
    size_t topic_size = record->topic.len + 1;
    char *topic = xmalloc(topic_size);

    clock_format_utc(record->received_us, received);
    bytes_to_printable(record->topic, topic, topic_size);
    buf_printf(&dump->out, "%s  ", received);
    append_id(&dump->out, &segment->header, record);
    buf_printf(&dump->out, "  %s  ", topic);
    if (record->oversized) {
        buf_append_text(&dump->out, "(oversized: see `mqtt-bridge spool list`)");
    } else {
        bytes_to_printable(payload, shown, sizeof(shown));
        buf_append_text(&dump->out, shown);
        if (record->payload.len > SHOWN_BYTES)
            buf_printf(&dump->out, "... (%zu bytes)", record->payload.len);
    }
    buf_append_char(&dump->out, '\n');
    free(topic);
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

/* Messages of which the headers tell, and which the scan has not met. */
static uint64_t missing_at_end(const struct spool_files *files, size_t index,
                               const struct record_scan *scan)
{
    int64_t expected = spool_files_messages(files, index);
    int64_t seen = (int64_t)(scan->messages + scan->missing);

    return expected > seen ? (uint64_t)(expected - seen) : 0;
}

static uint64_t count_missing(const struct spool_files *files, size_t index, struct bytes data)
{
    struct record_scan scan;
    struct record_item item;

    record_scan_begin(&scan, &files->segments[index].header, data);
    while (record_scan_next(&scan, &item) != RECORD_SCAN_END)
        continue;
    return scan.missing + missing_at_end(files, index, &scan);
}

/* Read again where it seems damaged, until two readings agree: it may have been written meanwhile. As
 * spool_files_load. */
static int load_settled(const struct spool_files *files, size_t index, struct buf *data,
                        struct error *err)
{
    uint64_t missing = 0;
    int result = 0;

    for (int looks = 0; looks < LOOKS_MAX; looks++) {
        uint64_t before = missing;

        result = spool_files_load(files, &files->segments[index], WHOLE, data, err);
        missing = result >= 0 ? count_missing(files, index, buf_bytes(data)) : 0;
        if (missing == 0 || missing == before)
            break;
    }
    return result;
}

/* What can't be read is told, and the rest dumped. */
static void dump_segment(struct dump *dump, const struct spool_files *files, size_t index)
{
    const struct spool_segment *segment = &files->segments[index];
    struct record_scan scan;
    struct record_item item;
    enum record_found found = RECORD_SCAN_RECORD;
    struct buf data = {0};
    struct error err = segment->fault;
    int result = -(int)err.code;

    if (result == 0)
        result = load_settled(files, index, &data, &err);
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

int spool_dump_print(struct cli *cli, const struct settings *settings, int count, char **names)
{
    struct dump dump = {0};
    int code = read_dump_options(cli, &dump);

    if (code == CLI_DONE)
        code = spool_files_each(settings->supervisor.state_dir, count, names, dump_spool, &dump);
    bool printed = cli_print(&dump.out) && dump.printed;
    if (dump.damaged > 0)
        cli_fail(CLI_FAILED,
                 "%" PRIu64 " damaged message%s left out: `mqtt-bridge spool verify` says where",
                 dump.damaged, dump.damaged == 1 ? " is" : "s are");
    buf_free(&dump.out);
    return printed && !dump.unreadable && dump.damaged == 0 ? code : CLI_FAILED;
}
