/* The failure transport in Redis: a stream like that of Messenger's own transport. The functions
 * wait for the answers of common/client/queue_group.h. The connection is kept for the next
 * request. */
#include "common/client/failure.h"

#include "common/base/alloc.h"
#include "common/base/arena.h"
#include "common/client/queue_group.h"
#include "common/wire/base64.h"

#include <stdlib.h>

#define PAGE_ENTRIES 128
#define PAGE_BYTES   (16 * 1024 * 1024)
#define IDS_AT_ONCE  50
#define LATEST_US    253402300799999999 /* the year 9999 */

struct failure_stream {
    struct queue *queue;
    size_t under_way; /* requests without an answer */
    int result;       /* of the first request that failed */
    int64_t number;
    struct error err;
    struct queue_entry *entries; /* entries read; the arena owns their values */
    size_t len;
    struct arena arena;
};

/* Sends one request or several, with take_number or take_entries as callback. */
typedef void send_request(struct failure_stream *stream, const void *what);

static int stream_new(void **state, const struct settings_failure *settings, const char *timezone,
                      struct error *err)
{
    const struct settings_transport transport = {.name = (char *)"failed", .dsn = settings->dsn};
    struct failure_stream *stream = xcalloc(1, sizeof(*stream));

    if (queue_new(&stream->queue, &transport, err) < 0) {
        free(stream);
        return -(int)err->code;
    }
    (void)timezone; /* the times of ids are in UTC */
    *state = stream;
    return 0;
}

static void stream_free(void *state)
{
    struct failure_stream *stream = state;

    queue_free(stream->queue);
    free(stream->entries);
    arena_free(&stream->arena);
    free(stream);
}

static void take_number(void *context, int result, int64_t number, const struct error *err)
{
    struct failure_stream *stream = context;

    stream->under_way--;
    stream->number = number;
    if (result < 0 && stream->result == 0) {
        stream->result = result;
        stream->err = *err;
    }
}

static void take_entries(void *context, int result, const struct queue_entry *entries, size_t len,
                         const struct error *err)
{
    struct failure_stream *stream = context;

    stream->entries = xrealloc(stream->entries, (stream->len + len + 1) * sizeof(*stream->entries));
    for (size_t i = 0; i < len; i++) {
        struct queue_entry *entry = &stream->entries[stream->len++];

        *entry = entries[i];
        if (entry->value.data != NULL)
            entry->value = arena_copy(&stream->arena, entry->value);
    }
    take_number(context, result, 0, err);
}

static void take_done(void *context, int result, const struct error *err)
{
    take_number(context, result, 0, err);
}

static int wait_for_answers(struct failure_stream *stream)
{
    while (stream->under_way > 0)
        queue_wait_once(stream->queue);
    return stream->result;
}

static int ask_once(struct failure_stream *stream, send_request *send, const void *what)
{
    stream->result = 0;
    stream->under_way = 1;
    if (!queue_is_connected(stream->queue)) {
        queue_connect(stream->queue, take_done, stream);
        if (wait_for_answers(stream) < 0)
            return stream->result;
        stream->under_way = 1;
    }
    send(stream, what);
    return wait_for_answers(stream);
}

/* Sends a request and waits. A kept connection may have broken meanwhile: the request is
 * repeated over a new one, and adds nothing twice. After an error the connection is closed, so
 * that the next request looks for the server again. */
static int ask(struct failure_stream *stream, send_request *send, const void *what,
               struct error *err)
{
    bool kept = queue_is_connected(stream->queue);
    int result = ask_once(stream, send, what);

    if (result < 0 && kept && !queue_is_connected(stream->queue) && !queue_timed_out(stream->queue))
        result = ask_once(stream, send, what);
    if (result == 0)
        return 0;
    queue_disconnect(stream->queue);
    *err = stream->err;
    if (err->code != ERR_UNREACHABLE)
        err->code = ERR_REFUSED;
    return -(int)err->code;
}

struct addition {
    struct bytes entry;
    struct bytes identity;
    struct bytes value;
};

static void send_addition(struct failure_stream *stream, const void *what)
{
    const struct addition *addition = what;

    queue_add_failed(stream->queue, addition->entry, addition->identity, addition->value,
                     take_number, stream);
}

static int encode(struct buf *value, const struct failure_row *row, bool redis_serialized,
                  struct error *err)
{
    struct buf body = {0};

    if (bytes_is_utf8(row->body))
        buf_append(&body, row->body);
    else
        base64_encode(&body, row->body); /* PHP's reader decodes it */
    int result = envelope_join(value, buf_bytes(&body), row->headers, redis_serialized, err);
    buf_free(&body);
    if (result < 0)
        err->code = ERR_REFUSED; /* the headers are bad: a retry would fail too */
    return result < 0 ? -ERR_REFUSED : 0;
}

static int stream_write(void *state, const struct failure_row *row, struct error *err)
{
    struct failure_stream *stream = state;
    struct buf value = {0};
    int result = encode(&value, row, queue_dsn(stream->queue)->redis_serialized, err);

    if (result == 0) {
        const struct addition addition = {row->dedupe_key, row->identity, buf_bytes(&value)};

        result = ask(stream, send_addition, &addition, err);
    }
    buf_free(&value);
    return result;
}

typedef void number_request(struct queue *queue, queue_number_read *done, void *context);

static void send_number_request(struct failure_stream *stream, const void *what)
{
    number_request *const *request = what;

    (*request)(stream->queue, take_number, stream);
}

static int ask_number(struct failure_stream *stream, number_request *request, int64_t *number,
                      struct error *err)
{
    int result = ask(stream, send_number_request, &request, err);

    *number = result == 0 ? stream->number : 0;
    return result;
}

static int stream_count(void *state, int64_t *count, struct error *err)
{
    return ask_number(state, queue_count_failed, count, err);
}

/* Makes stream and consumer group, as Symfony's setup does. */
static int stream_set_up(void *state, int64_t *made, struct error *err)
{
    return ask_number(state, queue_set_up, made, err);
}

static bool stream_is_id(struct bytes id)
{
    char text[STREAM_ID_TEXT_SIZE];
    struct stream_id parsed;

    if (!stream_id_parse(id, &parsed))
        return false;
    stream_id_format(parsed, text);
    return bytes_equal_text(id, text);
}

static void forget_entries(struct failure_stream *stream)
{
    stream->len = 0;
    arena_clear(&stream->arena);
}

static void send_page(struct failure_stream *stream, const void *what)
{
    forget_entries(stream);
    queue_read_failed(stream->queue, what, take_entries, stream);
}

struct ids {
    struct stream_id ids[IDS_AT_ONCE];
    size_t len;
};

static void send_ids(struct failure_stream *stream, const void *what)
{
    const struct ids *ids = what;

    forget_entries(stream);
    stream->under_way = ids->len;
    for (size_t i = 0; i < ids->len; i++) {
        const struct queue_failed_range range = {ids->ids[i], ids->ids[i], false, 1, PAGE_BYTES};

        queue_read_failed(stream->queue, &range, take_entries, stream);
    }
}

static int64_t time_of(struct stream_id id)
{
    return id.ms <= LATEST_US / 1000 ? (int64_t)id.ms * 1000 : LATEST_US;
}

static bool is_taken(const struct queue_entry *entry)
{
    return entry->idle_ms >= 0 && entry->idle_ms < (int64_t)FAILURE_TAKEN_S * 1000;
}

/* Gives an entry to the visitor; a value that is no envelope counts as a body. body_most 0: any
 * size. Returns false if no more entries are wanted. */
static bool give(const struct failure_stream *stream, const struct queue_entry *entry,
                 int64_t body_most, failure_visit *visit, void *context)
{
    struct envelope envelope = {0};
    struct arena arena = {0};
    char id[STREAM_ID_TEXT_SIZE];

    if (entry->value.data != NULL && envelope_decode(&envelope, entry->value, &arena, NULL) < 0 &&
        envelope.body.data == NULL)
        envelope.body = entry->value;
    if (body_most > 0 && envelope.body.len > (uint64_t)body_most)
        envelope.body = BYTES_NONE;
    stream_id_format(entry->id, id);
    char *guard = xasprintf("%s-%s", queue_dsn(stream->queue)->stream, id);
    const struct failure_message message = {
        .id = bytes_of(id),
        .body = envelope.body,
        .headers = envelope.headers,
        .size = entry->value.len,
        .failed_us = time_of(entry->id),
        .taken = is_taken(entry),
        .guard = bytes_of(guard),
    };
    bool more = visit(context, &message);
    free(guard);
    arena_free(&arena);
    return more;
}

static bool has_id(const struct ids *ids, struct stream_id id)
{
    for (size_t i = 0; i < ids->len; i++)
        if (stream_id_equals(ids->ids[i], id))
            return true;
    return false;
}

/* Returns the next page of ids from *at on, each id once. */
static struct ids next_ids(const struct bytes *ids, size_t len, size_t *at)
{
    struct ids next = {.len = 0};
    struct stream_id id;

    for (; *at < len && next.len < IDS_AT_ONCE; (*at)++)
        if (stream_id_parse(ids[*at], &id) && !has_id(&next, id))
            next.ids[next.len++] = id;
    return next;
}

/* Gives the entries of these ids to the visitor. free_only: skips entries that a consumer has
 * pending. */
static int give_ids(struct failure_stream *stream, const struct bytes *ids, size_t len,
                    bool free_only, failure_visit *visit, void *context, struct error *err)
{
    for (size_t at = 0; at < len;) {
        const struct ids next = next_ids(ids, len, &at);

        if (next.len == 0)
            continue;
        if (ask(stream, send_ids, &next, err) < 0)
            return -(int)err->code;
        for (size_t i = 0; i < stream->len; i++) {
            const struct queue_entry *entry = &stream->entries[i];

            if (entry->handled || (free_only && is_taken(entry)))
                continue;
            if (!give(stream, entry, 0, visit, context))
                return 0;
        }
    }
    return 0;
}

static uint64_t ms_from(int64_t us)
{
    return (uint64_t)us / 1000 + (us % 1000 != 0);
}

static struct stream_id next_id(struct stream_id id)
{
    return id.sequence < UINT64_MAX ? (struct stream_id){id.ms, id.sequence + 1}
                                    : (struct stream_id){id.ms + 1, 0};
}

static struct stream_id previous_id(struct stream_id id)
{
    return id.sequence > 0 ? (struct stream_id){id.ms, id.sequence - 1}
                           : (struct stream_id){id.ms - 1, UINT64_MAX};
}

/* Returns how many entries of a page can be given. An entry left out for lack of room begins the
 * next page. An entry with too large a body is given without the body. */
static size_t count_readable(const struct failure_stream *stream, int64_t body_most)
{
    size_t len = 1;

    while (len < stream->len &&
           (stream->entries[len].value.data != NULL ||
            (body_most > 0 && stream->entries[len].value.len > (uint64_t)body_most)))
        len++;
    return len;
}

static int stream_list(void *state, const struct failure_query *query, failure_visit *visit,
                       void *context, struct error *err)
{
    struct failure_stream *stream = state;
    struct queue_failed_range range = {.first = {ms_from(query->since_us), 0},
                                       .last = {UINT64_MAX, UINT64_MAX},
                                       .newest_first = query->newest_first,
                                       .count = PAGE_ENTRIES,
                                       .bytes = PAGE_BYTES};
    int64_t given = 0;

    if (query->ids != NULL)
        return give_ids(stream, query->ids, query->ids_len, false, visit, context, err);
    if (query->until_us > 0)
        range.last = previous_id((struct stream_id){ms_from(query->until_us), 0});
    for (;;) {
        if (ask(stream, send_page, &range, err) < 0)
            return -(int)err->code;
        if (stream->len == 0)
            return 0;
        size_t readable = count_readable(stream, query->body_most);
        for (size_t i = 0; i < readable; i++) {
            const struct queue_entry *entry = &stream->entries[i];

            if (entry->handled)
                continue;
            if ((query->limit > 0 && given == query->limit) ||
                !give(stream, entry, query->body_most, visit, context))
                return 0;
            given++;
        }
        if (readable == stream->len && readable < PAGE_ENTRIES)
            return 0;
        if (query->newest_first)
            range.last = previous_id(stream->entries[readable - 1].id);
        else
            range.first = next_id(stream->entries[readable - 1].id);
    }
}

static int stream_take(void *state, const struct failure_wanted *wanted, failure_visit *visit,
                       void *context, struct error *err)
{
    return give_ids(state, wanted->ids, wanted->len, !wanted->taken_too, visit, context, err);
}

static void send_removal(struct failure_stream *stream, const void *what)
{
    const struct ids *ids = what;

    queue_remove_failed(stream->queue, ids->ids, ids->len, take_number, stream);
}

static int stream_settle(void *state, const struct bytes *ids, size_t len, int64_t *removed,
                         struct error *err)
{
    struct failure_stream *stream = state;

    *removed = 0;
    for (size_t at = 0; at < len;) {
        const struct ids next = next_ids(ids, len, &at);

        if (next.len == 0)
            continue;
        if (ask(stream, send_removal, &next, err) < 0)
            return -(int)err->code;
        *removed += stream->number;
    }
    return 0;
}

const struct failure_store FAILURE_STREAM = {.new = stream_new,
                                             .free = stream_free,
                                             .write = stream_write,
                                             .count = stream_count,
                                             .set_up = stream_set_up,
                                             .is_id = stream_is_id,
                                             .list = stream_list,
                                             .take = stream_take,
                                             .settle = stream_settle};
