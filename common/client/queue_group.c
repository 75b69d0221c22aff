#include "common/client/queue_group.h"

#include "common/base/alloc.h"
#include "common/base/arena.h"
#include "common/client/queue_internal.h"
#include "common/wire/envelope.h"

#include <stdlib.h>
#include <string.h>

#define LEASE_FORMAT "%sowner:%s:%s" /* prefix, group, consumer */

/* Answers with the names of a list of strings, or of groups as in XINFO's answer. */
static void answer_names(void *context, const redisReply *reply, const struct error *err)
{
    struct queue_call call = queue_call_take(context);
    size_t len = err == NULL ? reply->elements : 0;
    struct bytes *names = xcalloc(len + 1, sizeof(*names));

    for (size_t i = 0; i < len; i++) {
        const redisReply *element = reply->element[i];

        names[i] = element->type == REDIS_REPLY_ARRAY ? redis_member_text(element, "name")
                                                      : redis_text(element);
    }
    call.names(call.context, queue_result(err), names, len, err);
    free(names);
}

/* Reads a list of rows that begin with an id and have a delivery count at count_at. The caller
 * frees it. */
static struct queue_entry *read_rows(const redisReply *reply, size_t count_at, size_t *len)
{
    struct queue_entry *entries = xcalloc(reply->elements + 1, sizeof(*entries));

    *len = 0;
    for (size_t i = 0; i < reply->elements; i++) {
        const redisReply *row = reply->element[i];

        if (row->elements > count_at &&
            stream_id_parse(redis_text(row->element[0]), &entries[*len].id))
            entries[(*len)++].deliveries = (uint32_t)row->element[count_at]->integer;
    }
    return entries;
}

static void answer_taken(void *context, const redisReply *reply, const struct error *err)
{
    struct queue_call call = queue_call_take(context);
    size_t len = 0;
    struct queue_entry *entries = err == NULL ? read_rows(reply, 1, &len) : NULL;

    call.entries(call.context, queue_result(err), entries, len, err);
    free(entries);
}

/* True if some acknowledged entries stay in the stream. */
static bool keeps_entries(const struct queue *queue)
{
    return !queue->dsn.delete_after_ack || !queue->dsn.delete_after_reject;
}

/* Returns the key with the last acknowledged id. If no entries are kept, the scripts get the
 * stream's key instead and don't use it. The reason: while a slot moves, a Cluster puts off
 * scripts with missing keys. */
static const char *last_key(const struct queue *queue)
{
    return keeps_entries(queue) ? queue->last : queue->dsn.stream;
}

static void make_group(struct queue_call *call, redis_replied *made)
{
    const struct queue *queue = call->queue;

    queue_eval(call->queue, QUEUE_SCRIPT_GROUP, made, call, 2, "%s %s %s %d", queue->dsn.stream,
               queue->last, queue->dsn.group, !keeps_entries(queue));
}

/* True if the group was made or existed already. */
static bool group_exists(const redisReply *reply, const struct error *err)
{
    return err != NULL && reply != NULL && strstr(reply->str, "BUSYGROUP") != NULL;
}

static void group_made(void *context, const redisReply *reply, const struct error *err)
{
    queue_answer_done(context, reply, group_exists(reply, err) ? NULL : err);
}

void queue_create_group(struct queue *queue, queue_done *done, void *context)
{
    make_group(QUEUE_CALL(queue, context, .done = done), group_made);
}

static void set_up_group(void *context, const redisReply *reply, const struct error *err)
{
    struct queue_call call = queue_call_take(context);

    if (group_exists(reply, err))
        call.number(call.context, 0, 0, NULL);
    else
        call.number(call.context, queue_result(err), call.without_stream ? 2 : 1, err);
}

static void set_up_stream(void *context, const redisReply *reply, const struct error *err)
{
    struct queue_call *call = context;

    if (err != NULL) {
        queue_answer_number(call, reply, err);
        return;
    }
    call->without_stream = reply->integer == 0;
    make_group(call, set_up_group);
}

void queue_set_up(struct queue *queue, queue_number_read *done, void *context)
{
    redis_command(queue->redis, 0, set_up_stream, QUEUE_CALL(queue, context, .number = done),
                  "EXISTS %s", queue->dsn.stream);
}

void queue_read_groups(struct queue *queue, queue_names_read *done, void *context)
{
    struct queue_call *call = QUEUE_CALL(queue, context, .names = done);

    redis_command(queue->redis, 0, answer_names, call, "XINFO GROUPS %s", queue->dsn.stream);
}

void queue_take_lease(struct queue *queue, const struct queue_reader *reader, bool first,
                      queue_number_read *done, void *context)
{
    queue_eval(queue, QUEUE_SCRIPT_LEASE, queue_answer_number,
               QUEUE_CALL(queue, context, .number = done), 2, LEASE_FORMAT " %s %s%s %s %d %s",
               queue->prefix, queue->dsn.group, reader->consumer, queue->names,
               first ? reader->instance : reader->token, first ? ":" : "", reader->token,
               QUEUE_LEASE_MS, reader->consumer);
}

void queue_renew_lease(struct queue *queue, const struct queue_reader *reader,
                       queue_number_read *done, void *context)
{
    queue_eval(queue, QUEUE_SCRIPT_RENEW, queue_answer_number,
               QUEUE_CALL(queue, context, .number = done), 1, LEASE_FORMAT " %s %d", queue->prefix,
               queue->dsn.group, reader->consumer, reader->token, QUEUE_LEASE_MS);
}

/* Returns the sweep's key, to be freed. If nothing is swept, the scripts get the lease's key
 * instead and don't use it. */
static char *since_key(const struct queue *queue, struct bytes consumer)
{
    return keeps_entries(queue)
               ? xasprintf("%sowner:%s:%.*s", queue->prefix, queue->dsn.group, BYTES_ARG(consumer))
               : xstrdup(queue->since);
}

void queue_release_lease(struct queue *queue, const struct queue_reader *reader, queue_done *done,
                         void *context)
{
    char *since = since_key(queue, bytes_of(reader->consumer));

    queue_eval(queue, QUEUE_SCRIPT_RELEASE, queue_answer_done,
               QUEUE_CALL(queue, context, .done = done), 4, LEASE_FORMAT " %s %s %s %s %s %s",
               queue->prefix, queue->dsn.group, reader->consumer, queue->names, queue->dsn.stream,
               since, reader->token, reader->consumer, queue->dsn.group);
    free(since);
}

static void write_ids(struct buf *resp, const struct stream_id *ids, size_t len)
{
    char text[STREAM_ID_TEXT_SIZE];

    for (size_t i = 0; i < len; i++) {
        stream_id_format(ids[i], text);
        redis_write_argument(resp, bytes_of(text));
    }
}

static void acknowledge(struct queue *queue, const char *last, const struct stream_id *ids,
                        size_t len, bool remove, bool track, redis_replied *done,
                        struct queue_call *call)
{
    struct buf resp = {0};

    queue_begin_eval(queue, &resp, QUEUE_SCRIPT_ACKNOWLEDGE, 2, 3 + len);
    redis_write_argument(&resp, bytes_of(queue->dsn.stream));
    redis_write_argument(&resp, bytes_of(last));
    redis_write_argument(&resp, bytes_of(queue->dsn.group));
    redis_write_number(&resp, remove);
    redis_write_number(&resp, track);
    write_ids(&resp, ids, len);
    queue_eval_written(queue, QUEUE_SCRIPT_ACKNOWLEDGE, resp, done, call);
}

void queue_acknowledge(struct queue *queue, const struct stream_id *ids, size_t len, bool remove,
                       queue_done *done, void *context)
{
    acknowledge(queue, last_key(queue), ids, len, remove, keeps_entries(queue), queue_answer_done,
                QUEUE_CALL(queue, context, .done = done));
}

/* Retries in Symfony's order: first the retry is added, then the old entry is rejected. */
void queue_retry(struct queue *queue, const char *consumer, struct stream_id id, int64_t due_ms,
                 struct bytes member, queue_number_read *done, void *context)
{
    queue_eval(queue, QUEUE_SCRIPT_RETRY, queue_answer_number,
               QUEUE_CALL(queue, context, .number = done), 3,
               "%s %s %s %s %s " STREAM_ID_FORMAT " %" PRId64 " %b %d %d", queue->dsn.stream,
               queue->delayed, last_key(queue), queue->dsn.group, consumer, id.ms, id.sequence,
               due_ms, REDIS_BYTES(member), queue->dsn.delete_after_reject, keeps_entries(queue));
}

void queue_read_due(struct queue *queue, int64_t now_ms, size_t count, size_t bytes,
                    queue_names_read *done, void *context)
{
    struct queue_call *call = QUEUE_CALL(queue, context, .names = done, .budget = {.left = bytes});

    redis_limit_next(queue->redis, &call->budget);
    redis_command(queue->redis, 0, answer_names, call,
                  "ZRANGEBYSCORE %s -inf %" PRId64 " LIMIT 0 %lu", queue->delayed, now_ms,
                  (unsigned long)count);
}

static void answer_next_due(void *context, const redisReply *reply, const struct error *err)
{
    struct queue_call call = queue_call_take(context);
    int64_t due = -1;

    if (err == NULL && reply->elements == 2)
        due = (int64_t)strtod(reply->element[1]->str, NULL);
    call.number(call.context, queue_result(err), due, err);
}

void queue_next_due(struct queue *queue, queue_number_read *done, void *context)
{
    redis_command(queue->redis, 0, answer_next_due, QUEUE_CALL(queue, context, .number = done),
                  "ZRANGE %s 0 0 WITHSCORES", queue->delayed);
}

void queue_move(struct queue *queue, struct bytes member, struct bytes value, int64_t now_ms,
                queue_number_read *done, void *context)
{
    queue_eval(queue, QUEUE_SCRIPT_MOVE, queue_answer_number,
               QUEUE_CALL(queue, context, .number = done), 2, "%s %s %b %b %" PRId64 " %" PRId64,
               queue->delayed, queue->dsn.stream, REDIS_BYTES(member), REDIS_BYTES(value),
               queue->dsn.stream_max_entries, now_ms);
}

void queue_read_names(struct queue *queue, queue_names_read *done, void *context)
{
    struct queue_call *call = QUEUE_CALL(queue, context, .names = done);

    redis_command(queue->redis, 0, answer_names, call, "SMEMBERS %s", queue->names);
}

void queue_take_over_dead(struct queue *queue, const char *consumer, struct bytes name,
                          size_t count, queue_entries_read *done, void *context)
{
    struct queue_call *call = QUEUE_CALL(queue, context, .entries = done);
    char *since = since_key(queue, name);

    queue_eval(queue, QUEUE_SCRIPT_TAKE_OVER_DEAD, answer_taken, call, 4,
               "%sowner:%s:%b %s %s %b %s %s %b %lu", queue->prefix, queue->dsn.group,
               REDIS_BYTES(name), queue->names, queue->dsn.stream, REDIS_BYTES(bytes_of(since)),
               queue->dsn.group, consumer, REDIS_BYTES(name), (unsigned long)count);
    free(since);
}

static void answer_idle(void *context, const redisReply *reply, const struct error *err)
{
    struct queue_call call = queue_call_take(context);
    size_t len = 0;
    struct queue_entry *taken = err == NULL ? read_rows(reply, 1, &len) : NULL;

    if (len > 0)
        call.idle(call.context, 0, taken + 1, len - 1, taken[0].id, NULL);
    else
        call.idle(call.context, queue_result(err), NULL, 0, (struct stream_id){0, 0}, err);
    free(taken);
}

void queue_take_over_idle(struct queue *queue, const char *consumer, int64_t idle_ms,
                          struct stream_id after, size_t count, queue_idle_taken *done,
                          void *context)
{
    struct queue_call *call = QUEUE_CALL(queue, context, .idle = done);

    queue_eval(queue, QUEUE_SCRIPT_TAKE_OVER_IDLE, answer_idle, call, 1,
               "%s %s %s %" PRId64 " " STREAM_ID_FORMAT " %lu %d", queue->dsn.stream,
               queue->dsn.group, consumer, idle_ms, after.ms, after.sequence, (unsigned long)count,
               QUEUE_IDLE_PAGE);
}

static void answer_swept(void *context, const redisReply *reply, const struct error *err)
{
    struct queue_call call = queue_call_take(context);
    bool swept = err == NULL && reply->elements == 2;

    call.swept(call.context, queue_result(err), swept ? redis_text(reply->element[0]) : BYTES_NONE,
               swept ? reply->element[1]->integer : 0, err);
}

void queue_sweep(struct queue *queue, const char *until, queue_swept *done, void *context)
{
    struct queue_call *call = QUEUE_CALL(queue, context, .swept = done);

    queue_eval(queue, QUEUE_SCRIPT_SWEEP, answer_swept, call, 2, "%s %s %s %s %d",
               queue->dsn.stream, queue->since, queue->dsn.group, until, QUEUE_SWEEP_MAX);
}

void queue_claim(struct queue *queue, const char *consumer, const struct stream_id *ids, size_t len,
                 int64_t deliveries, queue_done *done, void *context)
{
    struct buf resp = {0};

    redis_write_count(&resp, 5 + len + (deliveries >= 0 ? 2 : 0) + 1);
    redis_write_argument(&resp, BYTES("XCLAIM"));
    redis_write_argument(&resp, bytes_of(queue->dsn.stream));
    redis_write_argument(&resp, bytes_of(queue->dsn.group));
    redis_write_argument(&resp, bytes_of(consumer));
    redis_write_number(&resp, 0);
    write_ids(&resp, ids, len);
    if (deliveries >= 0) {
        redis_write_argument(&resp, BYTES("RETRYCOUNT"));
        redis_write_number(&resp, deliveries);
    }
    redis_write_argument(&resp, BYTES("JUSTID"));
    redis_send_formatted(queue->redis, buf_bytes(&resp), 0, queue_answer_done,
                         QUEUE_CALL(queue, context, .done = done));
    buf_free(&resp);
}

/* Collects entries over several answers, then calls back once. */
struct collection {
    struct queue *queue;
    queue_entries_read *done;
    void *context;
    struct queue_entry *entries;
    size_t len;
    size_t answered;
    bool counts;                /* also asks for delivery counts */
    redisReply *rows;           /* queue_read_failed: owns the values, if not the arena */
    struct stream_id delivered; /* queue_read_failed: the group's last; 0-0: unknown */
    struct arena arena;
    struct redis_budget budget;
    struct error err; /* the first error */
};

static struct collection *collection_new(struct queue *queue, size_t bytes,
                                         queue_entries_read *done, void *context)
{
    struct collection *collection = xcalloc(1, sizeof(*collection));

    collection->queue = queue;
    collection->done = done;
    collection->context = context;
    collection->budget.left = bytes;
    return collection;
}

static void collection_finish(struct collection *collection)
{
    if (collection->err.code != ERR_NONE)
        collection->done(collection->context, -(int)collection->err.code, NULL, 0,
                         &collection->err);
    else
        collection->done(collection->context, 0, collection->entries, collection->len, NULL);
    if (collection->rows != NULL)
        freeReplyObject(collection->rows);
    arena_free(&collection->arena);
    free(collection->entries);
    free(collection);
}

static void collection_fail(struct collection *collection, const redisReply *reply,
                            const struct error *err)
{
    const struct queue *queue = collection->queue;

    if (collection->err.code != ERR_NONE)
        return;
    collection->err = *err;
    if (reply != NULL && bytes_starts_with(redis_text(reply), BYTES("NOGROUP")))
        error_set(&collection->err, ERR_NOT_FOUND, "%s: there is no group %s", queue->address,
                  queue->dsn.group);
}

/* True if a field was left out for lack of room. Then the whole entry is left out, and *len is
 * its size. */
static bool is_left_out(const redisReply *fields, size_t *len)
{
    bool left_out = false;

    *len = 0;
    for (size_t i = 0; i < fields->elements; i++) {
        *len += (size_t)fields->element[i]->len;
        left_out = left_out || fields->element[i]->str == NULL;
    }
    return left_out;
}

static struct bytes encode_fields(struct arena *arena, const redisReply *fields)
{
    struct bytes *words = xcalloc(fields->elements, sizeof(*words));
    struct buf list = {0};

    for (size_t i = 0; i < fields->elements; i++)
        words[i] = redis_text(fields->element[i]);
    envelope_fields_encode(&list, words, fields->elements);
    free(words);
    struct bytes value = arena_copy(arena, buf_bytes(&list));
    buf_free(&list);
    return value;
}

/* Returns the field `message` if no other exists, as Symfony writes entries; else all fields as
 * a list. */
static struct bytes value_of(struct arena *arena, const redisReply *fields)
{
    size_t len;

    if (fields->type != REDIS_REPLY_ARRAY || fields->elements < 2)
        return BYTES_NONE;
    if (is_left_out(fields, &len))
        return (struct bytes){NULL, len};
    struct bytes value = redis_text(fields->element[1]);
    if (fields->elements == 2 && bytes_equal_text(redis_text(fields->element[0]), "message") &&
        !envelope_fields_is_list(value))
        return value;
    return encode_fields(arena, fields);
}

/* Reads a row of XRANGE or a similar command; false if the reply is no such row. A list of
 * fields is made in the arena. */
static bool parse_entry(struct arena *arena, const redisReply *row, struct queue_entry *entry)
{
    if (row->type != REDIS_REPLY_ARRAY || row->elements < 2 ||
        !stream_id_parse(redis_text(row->element[0]), &entry->id))
        return false;
    entry->value = value_of(arena, row->element[1]);
    entry->deliveries = 1;
    entry->idle_ms = -1;
    return true;
}

static void take_rows(struct collection *collection, const redisReply *rows)
{
    collection->entries = xcalloc(rows->elements + 1, sizeof(struct queue_entry));
    for (size_t i = 0; i < rows->elements; i++)
        if (parse_entry(&collection->arena, rows->element[i],
                        &collection->entries[collection->len]))
            collection->len++;
}

static void new_read(void *context, const redisReply *reply, const struct error *err)
{
    struct collection *collection = context;

    if (err != NULL)
        collection_fail(collection, reply, err);
    else if (reply->type == REDIS_REPLY_ARRAY && reply->elements == 1 &&
             reply->element[0]->elements == 2)
        take_rows(collection, reply->element[0]->element[1]);
    collection_finish(collection);
}

void queue_read_new(struct queue *queue, const char *consumer, size_t count, size_t bytes,
                    int64_t block_ms, queue_entries_read *done, void *context)
{
    struct collection *collection = collection_new(queue, bytes, done, context);

    redis_limit_next(queue->redis, &collection->budget);
    if (block_ms > 0)
        redis_command(queue->redis, block_ms, new_read, collection,
                      "XREADGROUP GROUP %s %s COUNT %lu BLOCK %" PRId64 " STREAMS %s >",
                      queue->dsn.group, consumer, (unsigned long)count, block_ms,
                      queue->dsn.stream);
    else
        redis_command(queue->redis, 0, new_read, collection,
                      "XREADGROUP GROUP %s %s COUNT %lu STREAMS %s >", queue->dsn.group, consumer,
                      (unsigned long)count, queue->dsn.stream);
}

static void ask_pending(struct queue *queue, struct stream_id id, redis_replied *done,
                        void *context)
{
    redis_command(queue->redis, 0, done, context,
                  "XPENDING %s %s " STREAM_ID_FORMAT " " STREAM_ID_FORMAT " 1", queue->dsn.stream,
                  queue->dsn.group, id.ms, id.sequence, id.ms, id.sequence);
}

/* Reads an entry's delivery count. This answer comes before the answer with the entry's body. */
static void count_read(void *context, const redisReply *reply, const struct error *err)
{
    struct collection *collection = context;

    if (err == NULL && reply->elements == 1 && reply->element[0]->elements >= 4)
        collection->entries[collection->answered].deliveries =
            (uint32_t)reply->element[0]->element[3]->integer;
}

static void range_read(void *context, const redisReply *reply, const struct error *err)
{
    struct collection *collection = context;
    struct queue_entry *entry = &collection->entries[collection->answered++];
    struct queue_entry found;

    if (err != NULL)
        collection_fail(collection, reply, err);
    else if (reply->type == REDIS_REPLY_ARRAY && reply->elements == 1 &&
             parse_entry(&collection->arena, reply->element[0], &found))
        entry->value =
            found.value.data != NULL ? arena_copy(&collection->arena, found.value) : found.value;
    if (collection->answered == collection->len)
        collection_finish(collection);
}

/* Reads the bodies of the entries whose ids are filled in. */
static void read_bodies(struct collection *collection)
{
    struct queue *queue = collection->queue;
    size_t len = collection->len;

    if (len == 0) {
        collection_finish(collection);
        return;
    }
    /* If the connection breaks during this loop, each request is answered at once. The last
     * answer frees the collection, so that the loop must not use it. */
    const struct queue_entry *entries = collection->entries;
    bool counts = collection->counts;
    struct redis_budget *budget = &collection->budget;
    for (size_t i = 0; i < len; i++) {
        struct stream_id id = entries[i].id;

        if (counts)
            ask_pending(queue, id, count_read, collection);
        redis_limit_next(queue->redis, budget);
        redis_command(queue->redis, 0, range_read, collection,
                      "XRANGE %s " STREAM_ID_FORMAT " " STREAM_ID_FORMAT, queue->dsn.stream, id.ms,
                      id.sequence, id.ms, id.sequence);
    }
}

void queue_read_ids(struct queue *queue, const struct stream_id *ids, size_t len, size_t bytes,
                    queue_entries_read *done, void *context)
{
    struct collection *collection = collection_new(queue, bytes, done, context);

    collection->entries = xcalloc(len + 1, sizeof(struct queue_entry));
    collection->len = len;
    collection->counts = true;
    for (size_t i = 0; i < len; i++)
        collection->entries[i] = (struct queue_entry){.id = ids[i], .deliveries = 1};
    read_bodies(collection);
}

static void pending_read(void *context, const redisReply *reply, const struct error *err)
{
    struct collection *collection = context;

    if (err != NULL) {
        collection_fail(collection, reply, err);
        collection_finish(collection);
        return;
    }
    collection->entries = read_rows(reply, 3, &collection->len);
    read_bodies(collection);
}

void queue_read_pending(struct queue *queue, const char *consumer, struct stream_id after,
                        size_t count, size_t bytes, queue_entries_read *done, void *context)
{
    struct collection *collection = collection_new(queue, bytes, done, context);

    redis_command(queue->redis, 0, pending_read, collection,
                  "XPENDING %s %s (" STREAM_ID_FORMAT " + %lu %s", queue->dsn.stream,
                  queue->dsn.group, after.ms, after.sequence, (unsigned long)count, consumer);
}

void queue_add_failed(struct queue *queue, struct bytes entry, struct bytes identity,
                      struct bytes value, queue_number_read *done, void *context)
{
    struct queue_call *call = QUEUE_CALL(queue, context, .number = done);
    struct bytes one = identity.len > 0 ? identity : entry;

    queue_eval(queue, QUEUE_SCRIPT_ADD_FAILED, queue_answer_number, call, 3,
               "%s %sfailed:%b %sfailed:%b %" PRId64 " %d %b", queue->dsn.stream, queue->prefix,
               REDIS_BYTES(entry), queue->prefix, REDIS_BYTES(one), queue->dsn.stream_max_entries,
               QUEUE_FAILED_GUARD_S, REDIS_BYTES(value));
}

struct count {
    struct queue *queue;
    queue_number_read *done;
    void *context;
    int64_t entries;
    struct error err; /* the first error */
};

static void number_counted(void *context, const redisReply *reply, const struct error *err)
{
    struct count *count = context;

    if (err != NULL && count->err.code == ERR_NONE)
        count->err = *err;
    else if (err == NULL && reply->type == REDIS_REPLY_INTEGER)
        count->entries += reply->integer;
}

/* Takes acknowledged entries, which may stay in the stream, out of the count. The group's
 * pending and lag tell the waiting ones. In Redis 7 the lag may be too large after entries were
 * removed unread, so that the smaller number counts. */
static void group_read(void *context, const redisReply *reply, const struct error *err)
{
    struct count *count = context;
    const redisReply *group = err == NULL ? redis_find_group(reply, count->queue->dsn.group) : NULL;

    if (group == NULL)
        return;
    int64_t pending = redis_member_number(group, "pending");
    int64_t lag = redis_member_number(group, "lag");
    if (pending >= 0 && lag >= 0 && pending + lag < count->entries)
        count->entries = pending + lag;
}

static void delayed_counted(void *context, const redisReply *reply, const struct error *err)
{
    struct count *count = context;

    number_counted(count, reply, err);
    const struct error *fault = count->err.code != ERR_NONE ? &count->err : NULL;
    count->done(count->context, queue_result(fault), count->entries, fault);
    free(count);
}

void queue_count_failed(struct queue *queue, queue_number_read *done, void *context)
{
    struct count *count = xcalloc(1, sizeof(*count));

    *count = (struct count){.queue = queue, .done = done, .context = context};
    redis_command(queue->redis, 0, number_counted, count, "XLEN %s", queue->dsn.stream);
    redis_command(queue->redis, 0, group_read, count, "XINFO GROUPS %s", queue->dsn.stream);
    redis_command(queue->redis, 0, delayed_counted, count, "ZCARD %s", queue->delayed);
}

/* A page of failed messages is a collection with a flag for each entry: whether a consumer has
 * the entry pending. */

/* Reads the group's last delivered id. Handled entries may be in the stream whatever the DSN
 * says: other programs may keep them, or die before the removal. If the DSN removes entries, a
 * user without the right to XINFO is no error. */
static void delivered_read(void *context, const redisReply *reply, const struct error *err)
{
    struct collection *page = context;

    if (err != NULL) {
        if (reply == NULL || !page->queue->dsn.delete_after_ack)
            collection_fail(page, reply, err);
        return;
    }
    const redisReply *group = redis_find_group(reply, page->queue->dsn.group);
    if (group != NULL)
        (void)stream_id_parse(redis_member_text(group, "last-delivered-id"), &page->delivered);
}

/* Reads whether a consumer has the entry pending. Without a group no entry is pending. */
static void pending_entry_read(void *context, const redisReply *reply, const struct error *err)
{
    struct collection *page = context;
    struct queue_entry *entry = &page->entries[page->answered++];

    if (err == NULL && reply->elements == 1 && reply->element[0]->elements >= 4)
        entry->idle_ms = reply->element[0]->element[2]->integer;
    else if (err != NULL &&
             (reply == NULL || !bytes_starts_with(redis_text(reply), BYTES("NOGROUP"))))
        collection_fail(page, reply, err);
    entry->handled = entry->idle_ms < 0 && !stream_id_is_behind(entry->id, page->delivered);
    if (page->answered == page->len)
        collection_finish(page);
}

/* If the connection breaks during this loop, each request is answered at once. The last answer
 * frees the page, so that the loop must not use it. */
static void ask_pending_entries(struct collection *page)
{
    struct queue *queue = page->queue;
    const struct queue_entry *entries = page->entries;
    size_t len = page->len;

    redis_command(queue->redis, 0, delivered_read, page, "XINFO GROUPS %s", queue->dsn.stream);
    for (size_t i = 0; i < len; i++)
        ask_pending(queue, entries[i].id, pending_entry_read, page);
}

static void page_read(void *context, const redisReply *reply, const struct error *err)
{
    struct collection *page = context;

    if (err != NULL) {
        collection_fail(page, reply, err);
        collection_finish(page);
        return;
    }
    page->rows = redis_keep_reply(page->queue->redis);
    take_rows(page, reply);
    if (page->len == 0)
        collection_finish(page);
    else
        ask_pending_entries(page);
}

void queue_read_failed(struct queue *queue, const struct queue_failed_range *range,
                       queue_entries_read *done, void *context)
{
    struct collection *page = collection_new(queue, range->bytes, done, context);
    struct stream_id from = range->newest_first ? range->last : range->first;
    struct stream_id to = range->newest_first ? range->first : range->last;

    redis_limit_next(queue->redis, &page->budget);
    redis_command(queue->redis, 0, page_read, page,
                  "%s %s " STREAM_ID_FORMAT " " STREAM_ID_FORMAT " COUNT %lu",
                  range->newest_first ? "XREVRANGE" : "XRANGE", queue->dsn.stream, from.ms,
                  from.sequence, to.ms, to.sequence, (unsigned long)range->count);
}

void queue_remove_failed(struct queue *queue, const struct stream_id *ids, size_t len,
                         queue_number_read *done, void *context)
{
    acknowledge(queue, queue->dsn.stream, ids, len, true, false, queue_answer_number,
                QUEUE_CALL(queue, context, .number = done));
}
