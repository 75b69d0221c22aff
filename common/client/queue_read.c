/* Reading entries: new ones, pending ones, and ones whose ids are known. */
#include "common/base/alloc.h"
#include "common/base/arena.h"
#include "common/client/queue_internal.h"
#include "common/wire/fields.h"

#include <stdlib.h>

/* Collects entries over several answers (one XRANGE each), then calls back once. */
struct collection {
    struct queue *queue;
    queue_entries_read *done;
    void *context;
    struct queue_entry *entries;
    size_t len;
    size_t answered;
    bool counts; /* how often each was delivered is asked for as well */
    struct arena arena;
    struct redis_budget budget;
    struct error err; /* the first that went wrong */
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

/* A field was left out for want of room: so is the whole entry, with that many bytes. */
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
    fields_encode(&list, words, fields->elements);
    free(words);
    struct bytes value = arena_copy(arena, buf_bytes(&list));
    buf_free(&list);
    return value;
}

/* The field `message`, where it is the only one, as Symfony writes it; else all fields as a list. */
static struct bytes value_of(struct arena *arena, const redisReply *fields)
{
    size_t len;

    if (fields->type != REDIS_REPLY_ARRAY || fields->elements < 2)
        return BYTES_NONE;
    if (is_left_out(fields, &len))
        return (struct bytes){NULL, len};
    struct bytes value = redis_text(fields->element[1]);
    if (fields->elements == 2 && bytes_equal_text(redis_text(fields->element[0]), "message") &&
        !fields_is_list(value))
        return value;
    return encode_fields(arena, fields);
}

bool queue_parse_entry(struct arena *arena, const redisReply *row, struct queue_entry *entry)
{
    if (row->type != REDIS_REPLY_ARRAY || row->elements < 2 ||
        !stream_id_parse(redis_text(row->element[0]), &entry->id))
        return false;
    entry->value = value_of(arena, row->element[1]);
    entry->deliveries = 1;
    return true;
}

static void new_read(void *context, const redisReply *reply, const struct error *err)
{
    struct collection *collection = context;

    if (err != NULL) {
        collection_fail(collection, reply, err);
    } else if (reply->type == REDIS_REPLY_ARRAY && reply->elements == 1 &&
               reply->element[0]->elements == 2) {
        const redisReply *rows = reply->element[0]->element[1];

        collection->entries = xcalloc(rows->elements + 1, sizeof(struct queue_entry));
        for (size_t i = 0; i < rows->elements; i++)
            if (queue_parse_entry(&collection->arena, rows->element[i],
                                  &collection->entries[collection->len]))
                collection->len++;
    }
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

/* Comes before the body of the same entry. */
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
             queue_parse_entry(&collection->arena, reply->element[0], &found))
        entry->value =
            found.value.data != NULL ? arena_copy(&collection->arena, found.value) : found.value;
    if (collection->answered == collection->len)
        collection_finish(collection);
}

/* The bodies of entries whose ids are filled in. */
static void read_bodies(struct collection *collection)
{
    struct queue *queue = collection->queue;
    size_t len = collection->len;

    if (len == 0) {
        collection_finish(collection);
        return;
    }
    /* A connection that breaks under this loop answers each request at once: after the last answer the
     * collection is gone, so nothing of it is touched behind that. */
    const struct queue_entry *entries = collection->entries;
    bool counts = collection->counts;
    struct redis_budget *budget = &collection->budget;
    for (size_t i = 0; i < len; i++) {
        struct stream_id id = entries[i].id;

        if (counts)
            redis_command(queue->redis, 0, count_read, collection,
                          "XPENDING %s %s " STREAM_ID_FORMAT " " STREAM_ID_FORMAT " 1",
                          queue->dsn.stream, queue->dsn.group, id.ms, id.sequence, id.ms,
                          id.sequence);
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
    collection->entries = xcalloc(reply->elements + 1, sizeof(struct queue_entry));
    for (size_t i = 0; i < reply->elements; i++) {
        const redisReply *row = reply->element[i];
        struct queue_entry *entry = &collection->entries[collection->len];

        if (row->elements >= 4 && stream_id_parse(redis_text(row->element[0]), &entry->id)) {
            entry->deliveries = (uint32_t)row->element[3]->integer;
            collection->len++;
        }
    }
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
