#include "common/wire/handler_line.h"

#include "common/base/alloc.h"
#include "common/wire/update.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

void handler_line_write(struct buf *out, const struct handler_message *message, struct arena *arena)
{
    struct bytes qos = json_object_get(message->headers, "X-Mqtt-Qos", arena);
    struct bytes retained = json_object_get(message->headers, "X-Mqtt-Retain", arena);
    bool has_headers = bytes_starts_with(message->headers, BYTES("{"));

    if (message->as_text)
        update_text_document(out, message->id, message->topic, message->payload,
                             message->received_us);
    else
        update_document(out, message->id, message->topic, message->payload, message->received_us);
    out->len--; /* removes the closing brace: more members follow */
    if (qos.len == 3 && qos.data[0] == '"' && qos.data[1] >= '0' && qos.data[1] <= '2')
        buf_printf(out, ",\"qos\":%c", qos.data[1]);
    buf_printf(out, ",\"retained\":%s,\"headers\":",
               bytes_equal_text(retained, "\"1\"") ? "true" : "false");
    json_to_line(out, has_headers ? message->headers : BYTES("{}"));
    buf_printf(out, ",\"attempt\":%" PRId64 "}\n", message->attempt);
}

/* Fills err with the member's name and the rule that the member breaks. */
static int wrong(struct error *err, const char *key, const char *must)
{
    return error_set(err, ERR_FORMAT, "`%s` must be %s", key, must);
}

static int unknown(struct error *err, const char *of, struct bytes key)
{
    char name[40];

    bytes_to_printable(key, name, sizeof(name));
    return error_set(err, ERR_FORMAT, "%s has an unknown member `%s`", of, name);
}

static int read_text(struct bytes *text, struct bytes raw, const char *key, struct arena *arena,
                     struct error *err)
{
    return json_unquote(text, raw, arena) < 0 ? wrong(err, key, "a string") : 0;
}

static int read_flag(bool *flag, struct bytes raw, const char *key, struct error *err)
{
    *flag = bytes_equal_text(raw, "true");
    return *flag || bytes_equal_text(raw, "false") ? 0 : wrong(err, key, "true or false");
}

/* Reads a string, or a list of at least one string. */
static int read_topics(struct handler_update *update, struct bytes raw, struct arena *arena,
                       struct error *err)
{
    struct json_array array;
    struct bytes value;
    int more;

    update->topics_len = 0;
    if (raw.data[0] == '"') {
        update->topics = xrealloc(update->topics, sizeof(*update->topics));
        update->topics_len = 1;
        return read_text(&update->topics[0], raw, "topic", arena, err);
    }
    if (json_array_begin(&array, raw) < 0)
        return wrong(err, "topic", "a string or a list of strings");
    while ((more = json_array_next(&array, &value)) > 0) {
        update->topics =
            xrealloc(update->topics, (update->topics_len + 1) * sizeof(*update->topics));
        if (json_unquote(&update->topics[update->topics_len++], value, arena) < 0)
            return wrong(err, "topic", "a string or a list of strings");
    }
    if (more < 0 || update->topics_len == 0)
        return wrong(err, "topic", "a string or a list of strings, one at the least");
    return 0;
}

/* A string's text becomes the data; any other value becomes the data as JSON. */
static int read_data(struct handler_update *update, struct bytes raw, struct arena *arena,
                     struct error *err)
{
    if (raw.data[0] == '"')
        return read_text(&update->data, raw, "data", arena, err);
    update->data = raw;
    return 0;
}

static int read_retry(struct handler_update *update, struct bytes raw, struct error *err)
{
    uint64_t ms;

    update->retry = raw;
    return bytes_to_u64(raw, &ms) ? 0 : wrong(err, "retry", "a number of milliseconds");
}

static int read_member(struct handler_update *update, struct bytes key, struct bytes raw,
                       struct arena *arena, struct error *err)
{
    if (bytes_equal_text(key, "topic") || bytes_equal_text(key, "topics"))
        return read_topics(update, raw, arena, err);
    if (bytes_equal_text(key, "data"))
        return read_data(update, raw, arena, err);
    if (bytes_equal_text(key, "private")) {
        update->has_private = true;
        return read_flag(&update->is_private, raw, "private", err);
    }
    if (bytes_equal_text(key, "type"))
        return read_text(&update->type, raw, "type", arena, err);
    if (bytes_equal_text(key, "retry"))
        return read_retry(update, raw, err);
    if (bytes_equal_text(key, "id"))
        return read_text(&update->id, raw, "id", arena, err);
    return unknown(err, "an update", key);
}

static int read_update(struct handler_update *update, struct bytes raw, struct arena *arena,
                       struct error *err)
{
    struct json_object object;
    struct bytes key, value;
    bool has_data = false;
    int result = 0;

    *update = (struct handler_update){0};
    if (raw.data[0] != '{' || json_object_begin(&object, raw, arena) < 0)
        return wrong(err, "updates", "a list of objects");
    object.depth_max = HANDLER_DEPTH_MAX;
    while (result == 0 && json_object_next(&object, &key, &value) > 0) {
        has_data = has_data || bytes_equal_text(key, "data");
        result = read_member(update, key, value, arena, err);
    }
    return result == 0 && !has_data ? wrong(err, "data", "given in each update") : result;
}

static int read_updates(struct handler_line *line, struct bytes raw, struct arena *arena,
                        struct error *err)
{
    struct json_array array;
    struct bytes value;
    int result = 0;

    if (json_array_begin(&array, raw) < 0)
        return wrong(err, "updates", "a list");
    array.depth_max = HANDLER_DEPTH_MAX;
    while (result == 0 && json_array_next(&array, &value) > 0) {
        if (line->updates_len == HANDLER_UPDATES_MAX)
            return error_set(err, ERR_FORMAT, "`updates` must be no more than %d",
                             HANDLER_UPDATES_MAX);
        line->updates = xrealloc(line->updates, (line->updates_len + 1) * sizeof(*line->updates));
        result = read_update(&line->updates[line->updates_len++], value, arena, err);
    }
    return result;
}

/* The raw members of a line; empty: not given. */
struct members {
    struct bytes ready;
    struct bytes payload;
    struct bytes id;
    struct bytes updates;
    struct bytes error;
    struct bytes retry;
    struct bytes unknown;
    bool too_deep; /* a member is nested too deep; the members behind it are unknown */
};

static void sort_member(struct members *members, struct bytes key, struct bytes value)
{
    if (bytes_equal_text(key, "ready"))
        members->ready = value;
    else if (bytes_equal_text(key, "payload"))
        members->payload = value;
    else if (bytes_equal_text(key, "id"))
        members->id = value;
    else if (bytes_equal_text(key, "updates"))
        members->updates = value;
    else if (bytes_equal_text(key, "error"))
        members->error = value;
    else if (bytes_equal_text(key, "retry"))
        members->retry = value;
    else
        members->unknown = key.len > 0 ? key : BYTES("\"\"");
}

static int split_members(struct members *members, struct bytes text, struct arena *arena,
                         struct error *err)
{
    struct json_object object;
    struct bytes key, value;
    int more = -1;

    if (bytes_starts_with(bytes_trim(text), BYTES("{")) &&
        json_object_begin(&object, text, arena) == 0) {
        object.depth_max = HANDLER_DEPTH_MAX;
        while ((more = json_object_next(&object, &key, &value)) > 0)
            sort_member(members, key, value);
    }
    members->too_deep = more == -ERR_TOO_LARGE;
    return more < 0 && !members->too_deep ? error_set(err, ERR_FORMAT, "it is no JSON object") : 0;
}

static int too_deep(struct error *err)
{
    return error_set(err, ERR_FORMAT, "it is nested deeper than %d lists and objects",
                     HANDLER_DEPTH_MAX);
}

static int read_ready(struct handler_line *line, const struct members *members, struct error *err)
{
    line->kind = HANDLER_READY;
    line->wants_text = bytes_equal_text(members->payload, "\"text\"");
    if (members->payload.len > 0 && !line->wants_text &&
        !bytes_equal_text(members->payload, "\"json\""))
        return wrong(err, "payload", "\"text\" or \"json\"");
    return 0;
}

/* Reads the handler's answer to a message: updates or an error. */
static int read_outcome(struct handler_line *line, const struct members *members,
                        struct arena *arena, struct error *err)
{
    if (members->too_deep)
        return too_deep(err);
    if (members->unknown.len > 0)
        return unknown(err, "it", members->unknown);
    if ((members->updates.len > 0) == (members->error.len > 0) || members->ready.len > 0 ||
        members->payload.len > 0)
        return error_set(err, ERR_FORMAT, "it must have either `updates` or `error`");
    if (members->updates.len > 0) {
        line->kind = HANDLER_UPDATES;
        return members->retry.len > 0 ? wrong(err, "retry", "left out where there are updates")
                                      : read_updates(line, members->updates, arena, err);
    }
    line->kind = HANDLER_ERROR;
    line->retry = true;
    if (members->retry.len > 0 && read_flag(&line->retry, members->retry, "retry", err) < 0)
        return -ERR_FORMAT;
    return read_text(&line->error, members->error, "error", arena, err);
}

int handler_line_read(struct handler_line *line, char *text, size_t len, struct arena *arena,
                      struct error *err)
{
    struct members members = {0};

    *line = (struct handler_line){0};
    for (char *at = text; len > 0 && (at = memchr(at, '\r', len - (size_t)(at - text))) != NULL;)
        *at = ' ';
    if (split_members(&members, (struct bytes){text, len}, arena, err) < 0)
        return -ERR_FORMAT;
    if (members.id.len == 0 && members.too_deep)
        return too_deep(err);
    if (members.id.len == 0 && bytes_equal_text(members.ready, "true"))
        return read_ready(line, &members, err);
    if (members.id.len == 0)
        return error_set(err, ERR_FORMAT, "it has no `id`");
    if (read_text(&line->id, members.id, "id", arena, err) < 0)
        return -ERR_FORMAT;
    return read_outcome(line, &members, arena, err);
}

void handler_line_free(struct handler_line *line)
{
    for (size_t i = 0; i < line->updates_len; i++)
        free(line->updates[i].topics);
    free(line->updates);
    line->updates = NULL;
    line->updates_len = 0;
}
