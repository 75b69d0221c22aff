/* The consumer's side of a queue: the mark and the append script; and what the command line re-sends. */
#include "common/base/alloc.h"
#include "common/client/queue_internal.h"

#include <stdlib.h>
#include <string.h>

#define KEPT_BETWEEN_BATCHES (4 * 1024 * 1024)

struct envelope_template *queue_envelope_new(const struct queue *queue,
                                             const struct settings_transport *transport)
{
    struct envelope_format format = {
        .serializer = strcmp(transport->serializer, "json") == 0 ? ENVELOPE_JSON : ENVELOPE_PHP,
        .visibility = strcmp(transport->properties, "private") == 0     ? ENVELOPE_PRIVATE
                      : strcmp(transport->properties, "protected") == 0 ? ENVELOPE_PROTECTED
                                                                        : ENVELOPE_PUBLIC,
        .message_class = bytes_of(transport->message_class),
        .bus = bytes_of(transport->bus),
        .redis_serialized = queue->dsn.redis_serialized,
        .metadata_headers = transport->metadata_headers,
    };

    return envelope_template_new(&format);
}

struct mark_request {
    struct queue *queue;
    queue_mark_read *done;
    void *context;
};

/* The address may lead to the primary the next time. */
static void leave_replica(struct queue *queue, const redisReply *reply, const struct error *err)
{
    if (err != NULL && reply != NULL &&
        (bytes_starts_with(redis_text(reply), BYTES("READONLY")) ||
         bytes_starts_with(redis_text(reply), BYTES("MASTERDOWN"))))
        redis_close(queue->redis, "it is a replica");
}

static void mark_read(void *context, const redisReply *reply, const struct error *err)
{
    struct mark_request request = *(struct mark_request *)context;

    free(context);
    if (err != NULL)
        request.done(request.context, -(int)err->code, BYTES_NONE, err);
    else
        request.done(request.context, 0,
                     reply->type == REDIS_REPLY_STRING ? redis_text(reply) : BYTES_NONE, NULL);
    leave_replica(request.queue, reply, err);
}

void queue_read_mark(struct queue *queue, const char *spool_id, queue_mark_read *done,
                     void *context)
{
    struct mark_request *request = xmalloc(sizeof(*request));
    char *key = queue_key(queue, "spool", spool_id);
    struct bytes get[] = {BYTES("GET"), bytes_of(key)};

    *request = (struct mark_request){queue, done, context};
    redis_send(queue->redis, get, 2, 0, mark_read, request);
    free(key);
}

void queue_batch_clear(struct queue_batch *batch)
{
    if (batch->resp.capacity + batch->value.capacity > KEPT_BETWEEN_BATCHES)
        queue_batch_free(batch);
    buf_clear(&batch->resp);
    buf_clear(&batch->value);
    batch->count = 0;
}

void queue_batch_free(struct queue_batch *batch)
{
    buf_free(&batch->resp);
    buf_free(&batch->value);
    batch->count = 0;
}

static void append_bulk(struct buf *resp, struct bytes value)
{
    buf_append_char(resp, '$');
    buf_append_u64(resp, value.len);
    buf_append(resp, BYTES("\r\n"));
    buf_append(resp, value);
    buf_append(resp, BYTES("\r\n"));
}

void queue_batch_add(struct queue_batch *batch)
{
    append_bulk(&batch->resp, buf_bytes(&batch->value));
    batch->count++;
}

struct append_request {
    struct queue *queue;
    queue_done *done;
    void *context;
};

/* What no later try would change: this server takes nothing as large. */
static bool is_refused_for_its_size(struct bytes text)
{
    static const char *const WORDS[] = {"invalid bulk length", "Elements are too large"};

    for (size_t i = 0; i < sizeof(WORDS) / sizeof(WORDS[0]); i++)
        if (memmem(text.data, text.len, WORDS[i], strlen(WORDS[i])) != NULL)
            return true;
    return false;
}

static void appended(void *context, const redisReply *reply, const struct error *err)
{
    struct append_request request = *(struct append_request *)context;
    struct error told;

    free(context);
    if (err != NULL && reply != NULL && bytes_starts_with(redis_text(reply), BYTES("FENCED"))) {
        error_set(&told, ERR_FENCED, "%s: the mark is %.*s", request.queue->place,
                  BYTES_ARG(bytes_slice(redis_text(reply), 7, 60)));
        err = &told;
    } else if (err != NULL && reply != NULL && is_refused_for_its_size(redis_text(reply))) {
        told = *err;
        told.code = ERR_TOO_LARGE;
        err = &told;
    }
    request.done(request.context, err != NULL ? -(int)err->code : 0, err);
    queue_check_script(request.queue, reply, err);
    leave_replica(request.queue, reply, err);
}

void queue_append(struct queue *queue, const char *spool_id, struct bytes expected,
                  struct bytes next, const struct queue_batch *batch, int64_t extra_ms,
                  queue_done *done, void *context)
{
    struct append_request *request = xmalloc(sizeof(*request));
    char *key = queue_key(queue, "spool", spool_id);
    struct buf head = {0};

    *request = (struct append_request){queue, done, context};
    buf_append_char(&head, '*');
    buf_append_u64(&head, 8 + batch->count);
    buf_append(&head, BYTES("\r\n"));
    append_bulk(&head, BYTES("EVALSHA"));
    append_bulk(&head, (struct bytes){queue->sha[QUEUE_SCRIPT_APPEND], 40});
    append_bulk(&head, BYTES("2"));
    append_bulk(&head, bytes_of(queue->dsn.stream));
    append_bulk(&head, bytes_of(key));
    append_bulk(&head, expected);
    append_bulk(&head, next);
    struct buf maxlen = {0};
    buf_append_u64(&maxlen, (uint64_t)queue->dsn.stream_max_entries);
    append_bulk(&head, buf_bytes(&maxlen));
    buf_append(&head, buf_bytes(&batch->resp));
    redis_send_formatted(queue->redis, buf_bytes(&head), extra_ms, appended, request);
    buf_free(&maxlen);
    buf_free(&head);
    free(key);
}

struct redrive_request {
    struct queue *queue;
    queue_redriven *done;
    void *context;
};

static void redriven(void *context, const redisReply *reply, const struct error *err)
{
    struct redrive_request request = *(struct redrive_request *)context;

    free(context);
    request.done(request.context, err != NULL ? -(int)err->code : 0,
                 err == NULL && reply->integer != 0, err);
}

void queue_redrive(struct queue *queue, const char *id, struct bytes value, int64_t extra_ms,
                   queue_redriven *done, void *context)
{
    struct redrive_request *request = xmalloc(sizeof(*request));
    char *guard = queue_key(queue, "redriven", id);
    struct buf maxlen = {0}, head = {0};

    *request = (struct redrive_request){queue, done, context};
    buf_append_u64(&maxlen, (uint64_t)queue->dsn.stream_max_entries);
    buf_append(&head, BYTES("*7\r\n"));
    append_bulk(&head, BYTES("EVALSHA"));
    append_bulk(&head, (struct bytes){queue->sha[QUEUE_SCRIPT_REDRIVE], 40});
    append_bulk(&head, BYTES("2"));
    append_bulk(&head, bytes_of(queue->dsn.stream));
    append_bulk(&head, bytes_of(guard));
    append_bulk(&head, buf_bytes(&maxlen));
    append_bulk(&head, value);
    redis_send_formatted(queue->redis, buf_bytes(&head), extra_ms, redriven, request);
    buf_free(&maxlen);
    buf_free(&head);
    free(guard);
}
