/* The actions failed list, show and stats, which change nothing. */
#include "cli/verb_failed.h"

#include "cli/render.h"
#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/wire/base64.h"
#include "common/wire/json.h"
#include "common/wire/topic.h"

#include <cjson/cJSON.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#define TEXT_MOST   1000
#define STATS_ROWS  20
#define COLUMN_MOST 80

static struct bytes class_of(const struct failed *failed)
{
    return failed->class.len > 0 ? failed->class : BYTES("?");
}

bool verb_failed_needs_body(const struct verb_failed_wanted *wanted)
{
    return wanted->class != NULL || wanted->topic != NULL;
}

bool verb_failed_is_wanted(const struct verb_failed_wanted *wanted, const struct failed *failed)
{
    if (wanted->class != NULL && !bytes_equal_text(failed->class, wanted->class))
        return false;
    if (wanted->topic == NULL)
        return true;
    return failed->is_message && topic_name_check(failed->envelope.topic, NULL) == 0 &&
           topic_filter_matches(bytes_of(wanted->topic), failed->envelope.topic);
}

/* Writes a time such as "2026-11-24 10:00:00". */
static void write_time(int64_t us, char text[CLOCK_TEXT_SIZE])
{
    clock_format_us(us, text);
    text[10] = ' ';
    text[19] = '\0';
}

static void add_summary(cJSON *object, const struct failure_message *message,
                        const struct failed *failed)
{
    cli_add_text(object, "id", message->id);
    if (failed->is_message)
        cli_add_text(object, "topic", failed->envelope.topic);
    else
        cJSON_AddNullToObject(object, "topic");
    cli_add_text(object, "class", class_of(failed));
    cli_add_text(object, "error", failed_reason(failed));
    cli_add_text(object, "errorClass", failed->error_class);
    cli_add_time(object, "failedAt", message->failed_us);
    cli_add_text(object, "transport", failed->transport);
    cJSON_AddBoolToObject(object, "taken", message->taken);
}

struct listing {
    const struct verb_failed_wanted *wanted;
    struct arena arena;
    cJSON *array; /* the messages, for --json */
    struct render_table table;
    int64_t shown;
    bool more; /* more messages exist than were shown */
};

static void list_cell(struct listing *listing, struct bytes text)
{
    char *shown = cli_printable(text, TEXT_MOST);

    render_cell(&listing->table, NULL, shown);
    free(shown);
}

static void list_row(struct listing *listing, const struct failure_message *message,
                     const struct failed *failed)
{
    char *error = cli_printable(failed_reason(failed), TEXT_MOST);
    struct buf last = {0};
    char when[CLOCK_TEXT_SIZE];

    write_time(message->failed_us, when);
    list_cell(listing, message->id);
    list_cell(listing, bytes_of(when));
    list_cell(listing, failed->is_message ? failed->envelope.topic : BYTES("-"));
    list_cell(listing, class_of(failed));
    buf_printf(&last, "%s%s", message->taken ? "[in a worker's hands] " : "", error);
    render_cell(&listing->table, NULL, buf_text(&last));
    buf_free(&last);
    free(error);
}

static bool list_one(void *context, const struct failure_message *message)
{
    struct listing *listing = context;
    struct failed failed;

    arena_clear(&listing->arena);
    failed_read(&failed, message->body, message->headers, NULL, NULL, &listing->arena);
    if (!verb_failed_is_wanted(listing->wanted, &failed))
        return true;
    if (listing->wanted->limit > 0 && listing->shown == listing->wanted->limit) {
        listing->more = true;
        return false;
    }
    listing->shown++;
    if (listing->array == NULL) {
        list_row(listing, message, &failed);
        return true;
    }
    cJSON *object = cJSON_CreateObject();
    cJSON_AddItemToArray(listing->array, object);
    add_summary(object, message, &failed);
    return true;
}

static int list_print(struct listing *listing)
{
    struct buf out = {0};

    if (listing->shown == 0) {
        buf_append_text(&out, listing->wanted->since_us > 0 || listing->wanted->until_us > 0 ||
                                      verb_failed_needs_body(listing->wanted)
                                  ? "no failed message is like that\n"
                                  : "there are no failed messages\n");
    } else {
        render_table(&out, &listing->table);
    }
    if (listing->more)
        buf_printf(&out, "there are more than these %" PRId64 "; --limit 0 lists all\n",
                   listing->shown);
    return cli_print_free(&out);
}

int verb_failed_list(const struct cli *cli, struct failure_admin *admin,
                     const struct verb_failed_wanted *wanted)
{
    static const char *const HEADS[] = {"ID", "WHEN (UTC)", "TOPIC", "CLASS", "ERROR"};
    struct listing listing = {
        .wanted = wanted,
        .table = {.columns = LENGTH_OF(HEADS), .gap = 2, .widest = COLUMN_MOST},
    };
    struct failure_query query = {
        .since_us = wanted->since_us, .until_us = wanted->until_us, .newest_first = true};
    struct error err;
    int code;

    if (wanted->limit > 0 && wanted->limit < INT64_MAX && !verb_failed_needs_body(wanted))
        query.limit = wanted->limit + 1;
    listing.array = cli->json ? cJSON_CreateArray() : NULL;
    for (size_t i = 0; i < LENGTH_OF(HEADS); i++)
        render_cell(&listing.table, NULL, HEADS[i]);
    if (admin->store->list(admin->state, &query, list_one, &listing, &err) < 0) {
        code = cli_fail(CLI_FAILED, "%s", err.text);
        cJSON_Delete(listing.array);
    } else {
        code = cli->json ? cli_print_json(listing.array) : list_print(&listing);
    }
    buf_free(&listing.table.cells);
    arena_free(&listing.arena);
    return code;
}

struct showing {
    bool json;
    bool found;
    struct arena arena;
    struct buf stamps; /* the stamps' lines */
    cJSON *stamps_json;
    struct buf out;
    cJSON *object;
};

/* Returns the last part of a class: RedeliveryStamp for
 * "Symfony\Component\Messenger\Stamp\RedeliveryStamp". */
static struct bytes short_class(struct bytes class)
{
    const char *last = class.len > 0 ? memrchr(class.data, '\\', class.len) : NULL;

    return last != NULL ? bytes_slice(class, (size_t)(last + 1 - class.data), class.len) : class;
}

static void show_stamp(void *context, const struct failed_stamp *stamp)
{
    struct showing *showing = context;
    cJSON *object = NULL;

    if (showing->json) {
        object = cJSON_CreateObject();
        cJSON_AddItemToArray(showing->stamps_json, object);
        cli_add_text(object, "class", stamp->class);
        object = cJSON_AddObjectToObject(object, "properties");
    }
    char *class = cli_printable(short_class(stamp->class), TEXT_MOST);
    buf_printf(&showing->stamps, "  %-28s", class);
    free(class);
    for (size_t i = 0; i < stamp->len; i++) {
        char *name = cli_printable(stamp->properties[i].name, TEXT_MOST);
        char *value = cli_printable(stamp->properties[i].value, TEXT_MOST);

        if (bytes_equal_text(stamp->properties[i].value, "null"))
            value[0] = '\0';
        if (value[0] != '\0')
            buf_printf(&showing->stamps, "  %s: %s", name, value);
        if (object != NULL)
            cli_add_text(object, name, stamp->properties[i].value);
        free(name);
        free(value);
    }
    buf_append_char(&showing->stamps, '\n');
}

/* True if the payload may go to a terminal: UTF-8 without control characters other than line
 * ends and tabs. */
static bool is_text(struct bytes payload)
{
    if (!bytes_is_utf8(payload))
        return false;
    for (size_t i = 0; i < payload.len; i++) {
        unsigned char c = (unsigned char)payload.data[i];

        if ((c < ' ' && c != '\n' && c != '\t' && c != '\r') || c == 0x7F)
            return false;
        /* Terminals obey some of U+0080 to U+009F. */
        if (c == 0xC2 && (unsigned char)payload.data[i + 1] < 0xA0)
            return false;
        if (c == '\r' && (i + 1 == payload.len || payload.data[i + 1] != '\n'))
            return false;
    }
    return true;
}

static void append_hex(struct buf *out, struct bytes payload)
{
    for (size_t at = 0; at < payload.len; at += 16) {
        struct bytes line = bytes_slice(payload, at, 16);

        buf_printf(out, "  %08zx ", at);
        for (size_t i = 0; i < 16; i++)
            if (i < line.len)
                buf_printf(out, " %02x", (unsigned char)line.data[i]);
            else
                buf_append_text(out, "   ");
        buf_append_text(out, "  ");
        for (size_t i = 0; i < line.len; i++)
            buf_append_char(out, line.data[i] >= ' ' && line.data[i] < 0x7F ? line.data[i] : '.');
        buf_append_char(out, '\n');
    }
}

static const char *kind_of(struct bytes payload)
{
    if (payload.len == 0)
        return "empty";
    if (!is_text(payload))
        return "binary";
    return json_is_valid(payload) ? "JSON" : "text";
}

static void show_line(struct buf *out, const char *name, struct bytes text)
{
    char *line = cli_printable(text, TEXT_MOST);

    if (line[0] != '\0')
        buf_printf(out, "%-11s %s\n", name, line);
    free(line);
}

static void show_text(struct showing *showing, const struct failure_message *message,
                      const struct failed *failed)
{
    const struct envelope *envelope = &failed->envelope;
    struct bytes payload = failed->is_message ? envelope->payload : message->body;
    struct buf *out = &showing->out;
    char when[CLOCK_TEXT_SIZE];

    write_time(message->failed_us, when);
    show_line(out, "Message", message->id);
    show_line(out, "Class", class_of(failed));
    if (failed->is_message)
        show_line(out, "Topic", envelope->topic);
    buf_printf(out, "%-11s %s UTC%s\n", "Failed", when,
               message->taken ? ", in a PHP worker's hands" : "");
    show_line(out, "Transport", failed->transport);
    show_line(out, "Error", failed_reason(failed));
    show_line(out, "Error class", failed->error_class);
    if (failed->is_message && envelope->received_us > 0) {
        write_time(envelope->received_us, when);
        buf_printf(out, "%-11s %s UTC\n", "Received", when);
    }
    show_line(out, "Identity", envelope->mqtt_id);
    show_line(out, "Entry", failed->entry);
    show_line(out, "Serializer", bytes_of(envelope_serializer_name(envelope->serializer)));
    if (envelope->raw)
        buf_append_text(out, "The payload is a stream entry that could not be decoded.\n");
    if (showing->stamps.len > 0)
        buf_printf(out, "Stamps\n%s", buf_text(&showing->stamps));
    buf_printf(out, "%s (%zu bytes, %s)\n", failed->is_message ? "Payload" : "Body", payload.len,
               kind_of(payload));
    if (is_text(payload)) {
        buf_append(out, payload);
        if (payload.len > 0 && !bytes_ends_with(payload, BYTES("\n")))
            buf_append_char(out, '\n');
    } else {
        append_hex(out, payload);
    }
}

/* Adds the payload as in a message document: as JSON, else as a string, else as base64. */
static void add_payload(cJSON *object, struct bytes payload)
{
    struct buf text = {0};
    bool plain = bytes_is_utf8(payload) &&
                 memchr(payload.data ? payload.data : "", '\0', payload.len) == NULL;

    if (json_is_valid(payload)) {
        buf_append(&text, payload);
        cJSON_AddRawToObject(object, "payload", buf_text(&text));
    } else if (plain) {
        cli_add_text(object, "payload", payload);
    } else {
        base64_encode(&text, payload);
        cJSON_AddStringToObject(object, "payload", buf_text(&text));
        cJSON_AddStringToObject(object, "encoding", "base64");
    }
    buf_free(&text);
}

static bool show_one(void *context, const struct failure_message *message)
{
    struct showing *showing = context;
    struct failed failed;

    showing->found = true;
    failed_read(&failed, message->body, message->headers, show_stamp, showing, &showing->arena);
    if (!showing->json) {
        show_text(showing, message, &failed);
        return true;
    }
    add_summary(showing->object, message, &failed);
    cli_add_text(showing->object, "identity", failed.envelope.mqtt_id);
    cli_add_text(showing->object, "serializer",
                 bytes_of(envelope_serializer_name(failed.envelope.serializer)));
    cJSON_AddBoolToObject(showing->object, "undecodableEntry", failed.envelope.raw);
    if (failed.is_message)
        add_payload(showing->object, failed.envelope.payload);
    else
        cli_add_text(showing->object, "body", message->body);
    return true;
}

int verb_failed_show(const struct cli *cli, struct failure_admin *admin,
                     const struct verb_failed_wanted *wanted)
{
    const struct failure_query query = {.ids = wanted->ids, .ids_len = wanted->ids_len};
    struct showing showing = {.json = cli->json};
    struct error err;
    int code = CLI_DONE;

    showing.object = cJSON_CreateObject();
    showing.stamps_json = cJSON_CreateArray();
    if (admin->store->list(admin->state, &query, show_one, &showing, &err) < 0)
        code = cli_fail(CLI_FAILED, "%s", err.text);
    else if (!showing.found)
        code = cli_fail(CLI_FAILED,
                        "%.*s: there is no such failed message; `mqtt-bridge failed list` lists "
                        "them",
                        BYTES_ARG(wanted->ids[0]));
    cJSON_AddItemToObject(showing.object, "stamps", showing.stamps_json);
    if (code == CLI_DONE && cli->json) {
        code = cli_print_json(showing.object);
    } else {
        if (code == CLI_DONE && !cli_print(&showing.out))
            code = CLI_FAILED;
        cJSON_Delete(showing.object);
    }
    buf_free(&showing.out);
    buf_free(&showing.stamps);
    arena_free(&showing.arena);
    return code;
}

struct count {
    char *name;
    int64_t count;
    UT_hash_handle hh;
};

enum grouping { BY_CLASS, BY_TOPIC, BY_ERROR, BY_HOUR, GROUPINGS };

static const struct {
    const char *title;
    const char *json;
} GROUPING_NAMES[GROUPINGS] = {
    [BY_CLASS] = {"CLASS", "classes"},
    [BY_TOPIC] = {"TOPIC", "topics"},
    [BY_ERROR] = {"ERROR", "errors"},
    [BY_HOUR] = {"HOUR (UTC)", "hours"},
};

struct statistics {
    const struct verb_failed_wanted *wanted;
    struct arena arena;
    struct count *counts[GROUPINGS];
    int64_t total;
    int64_t taken;
};

static void count_name(struct count **counts, struct bytes text)
{
    struct buf name = {0};
    struct count *found;

    json_make_utf8(&name, text);
    HASH_FIND_STR(*counts, buf_text(&name), found);
    if (found == NULL) {
        found = xcalloc(1, sizeof(*found));
        found->name = xstrdup(buf_text(&name));
        HASH_ADD_KEYPTR(hh, *counts, found->name, strlen(found->name), found);
    }
    found->count++;
    buf_free(&name);
}

static bool count_one(void *context, const struct failure_message *message)
{
    struct statistics *statistics = context;
    char when[CLOCK_TEXT_SIZE];
    struct failed failed;

    arena_clear(&statistics->arena);
    failed_read(&failed, message->body, message->headers, NULL, NULL, &statistics->arena);
    if (!verb_failed_is_wanted(statistics->wanted, &failed))
        return true;
    statistics->total++;
    statistics->taken += message->taken;
    write_time(message->failed_us, when);
    count_name(&statistics->counts[BY_CLASS], class_of(&failed));
    count_name(&statistics->counts[BY_TOPIC],
               failed.is_message ? failed.envelope.topic : BYTES("-"));
    count_name(&statistics->counts[BY_ERROR], failed_reason(&failed));
    count_name(&statistics->counts[BY_HOUR], bytes_slice(bytes_of(when), 0, 13));
    return true;
}

static int by_count(const struct count *a, const struct count *b)
{
    if (a->count != b->count)
        return a->count < b->count ? 1 : -1;
    return strcmp(a->name, b->name);
}

static int by_newest(const struct count *a, const struct count *b)
{
    return strcmp(b->name, a->name);
}

static void stats_table(struct buf *out, struct count *counts, const char *title)
{
    size_t shown = 0;

    buf_printf(out, "\n%10s  %s\n", "FAILED", title);
    for (const struct count *count = counts; count != NULL; count = count->hh.next) {
        char *name;

        if (shown++ == STATS_ROWS) {
            buf_printf(out, "%10s  %u more; --json has all\n", "...",
                       HASH_COUNT(counts) - STATS_ROWS);
            return;
        }
        name = cli_printable(bytes_of(count->name), TEXT_MOST);
        buf_printf(out, "%10" PRId64 "  %s\n", count->count, name);
        free(name);
    }
}

static int stats_text(const struct statistics *statistics)
{
    struct buf out = {0};

    buf_printf(&out, "%" PRId64 " failed message%s", statistics->total,
               statistics->total == 1 ? "" : "s");
    if (statistics->taken > 0)
        buf_printf(&out, ", %" PRId64 " of them in the hands of PHP workers", statistics->taken);
    buf_append_char(&out, '\n');
    for (size_t i = 0; i < GROUPINGS && statistics->total > 0; i++)
        stats_table(&out, statistics->counts[i], GROUPING_NAMES[i].title);
    return cli_print_free(&out);
}

static int stats_json(const struct statistics *statistics)
{
    cJSON *root = cJSON_CreateObject();

    cJSON_AddNumberToObject(root, "total", (double)statistics->total);
    cJSON_AddNumberToObject(root, "taken", (double)statistics->taken);
    for (size_t i = 0; i < GROUPINGS; i++) {
        cJSON *list = cJSON_AddArrayToObject(root, GROUPING_NAMES[i].json);

        for (const struct count *count = statistics->counts[i]; count != NULL;
             count = count->hh.next) {
            cJSON *object = cJSON_CreateObject();

            cJSON_AddItemToArray(list, object);
            cJSON_AddStringToObject(object, "name", count->name);
            cJSON_AddNumberToObject(object, "count", (double)count->count);
        }
    }
    return cli_print_json(root);
}

static void free_counts(struct count *counts)
{
    struct count *count;
    struct count *next;

    HASH_ITER(hh, counts, count, next)
    {
        HASH_DEL(counts, count); // NOLINT(clang-analyzer-unix.Malloc): not yet freed
        free(count->name);
        free(count);
    }
}

int verb_failed_stats(const struct cli *cli, struct failure_admin *admin,
                      const struct verb_failed_wanted *wanted)
{
    const struct failure_query query = {.since_us = wanted->since_us, .until_us = wanted->until_us};
    struct statistics statistics = {.wanted = wanted};
    struct error err;
    int code;

    int result = admin->store->list(admin->state, &query, count_one, &statistics, &err);
    for (size_t i = 0; i < GROUPINGS; i++)
        if (i == BY_HOUR)
            HASH_SORT(statistics.counts[i], by_newest);
        else
            HASH_SORT(statistics.counts[i], by_count);
    if (result < 0)
        code = cli_fail(CLI_FAILED, "%s", err.text);
    else
        code = cli->json ? stats_json(&statistics) : stats_text(&statistics);
    for (size_t i = 0; i < GROUPINGS; i++)
        free_counts(statistics.counts[i]);
    arena_free(&statistics.arena);
    return code;
}
