/* The consumer's side of a queue: the mark and the append script; and what the command line re-sends. */
#include "common/base/alloc.h"
#include "common/client/queue_internal.h"
#include "common/wire/fields.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEPT_BETWEEN_BATCHES (4 * 1024 * 1024)

struct envelope_template *queue_envelope_new(const struct queue *queue,
                                             const struct settings_transport *transport)
{
    struct envelope_format format = {
        .serializer = transport->serializer,
        .visibility = transport->properties,
        .message_class = bytes_of(transport->message_class),
        .bus = bytes_of(transport->bus),
        .redis_serialized = queue->dsn.redis_serialized,
        .metadata_headers = transport->metadata_headers,
    };

    return envelope_template_new(&format);
}

static void mark_read(void *context, const redisReply *reply, const struct error *err)
{
    struct queue_call call = queue_call_take(context);
    bool is_there = err == NULL && reply->type == REDIS_REPLY_STRING;

    call.mark(call.context, queue_result(err), is_there ? redis_text(reply) : BYTES_NONE, err);
}

void queue_read_mark(struct queue *queue, const char *spool_id, queue_mark_read *done,
                     void *context)
{
    struct queue_call *call =
        queue_call_new((struct queue_call){.queue = queue, .mark = done, .context = context});

    redis_command(queue->redis, 0, mark_read, call, "GET %sspool:%s", queue->prefix, spool_id);
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

void queue_batch_add(struct queue_batch *batch)
{
    redis_write_argument(&batch->resp, buf_bytes(&batch->value));
    batch->count++;
}

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
    struct queue_call call = queue_call_take(context);
    struct error told;

    if (err != NULL && reply != NULL && bytes_starts_with(redis_text(reply), BYTES("FENCED"))) {
        error_set(&told, ERR_FENCED, "%s: the mark is %.*s", call.queue->address,
                  BYTES_ARG(bytes_slice(redis_text(reply), 7, 60)));
        err = &told;
    } else if (err != NULL && reply != NULL && is_refused_for_its_size(redis_text(reply))) {
        told = *err;
        told.code = ERR_TOO_LARGE;
        err = &told;
    }
    call.done(call.context, queue_result(err), err);
    /* What was sent behind it must not go before it: the whole is loaded anew. */
    if (queue_has_forgotten(reply, err))
        redis_close(call.queue->redis, ERR_UNREACHABLE, "the server has forgotten our scripts");
}

void queue_append(struct queue *queue, const char *spool_id, struct bytes expected,
                  struct bytes next, const struct queue_batch *batch, int64_t extra_ms,
                  queue_done *done, void *context)
{
    struct queue_call *call =
        queue_call_new((struct queue_call){.queue = queue, .done = done, .context = context});
    char *key = xasprintf("%sspool:%s", queue->prefix, spool_id);
    struct buf head = {0};

    redis_write_count(&head, 8 + batch->count);
    redis_write_argument(&head, BYTES("EVALSHA"));
    redis_write_argument(&head, (struct bytes){queue->sha[QUEUE_SCRIPT_APPEND], 40});
    redis_write_argument(&head, BYTES("2"));
    redis_write_argument(&head, bytes_of(queue->dsn.stream));
    redis_write_argument(&head, bytes_of(key));
    redis_write_argument(&head, expected);
    redis_write_argument(&head, next);
    struct buf maxlen = {0};
    buf_append_u64(&maxlen, (uint64_t)queue->dsn.stream_max_entries);
    redis_write_argument(&head, buf_bytes(&maxlen));
    buf_append(&head, buf_bytes(&batch->resp));
    redis_send_formatted(queue->redis, buf_bytes(&head), extra_ms, appended, call);
    buf_free(&maxlen);
    buf_free(&head);
    free(key);
}

static void send_redrive(struct queue *queue, const char *id, const struct bytes *words, size_t len,
                         struct queue_call *call)
{
    char *key = xasprintf("%sredriven:%s", queue->prefix, id);
    struct buf resp = {0}, maxlen = {0};

    buf_append_u64(&maxlen, (uint64_t)queue->dsn.stream_max_entries);
    redis_write_count(&resp, 6 + len);
    redis_write_argument(&resp, BYTES("EVALSHA"));
    redis_write_argument(&resp, (struct bytes){queue->sha[QUEUE_SCRIPT_REDRIVE], 40});
    redis_write_argument(&resp, BYTES("2"));
    redis_write_argument(&resp, bytes_of(queue->dsn.stream));
    redis_write_argument(&resp, bytes_of(key));
    redis_write_argument(&resp, buf_bytes(&maxlen));
    for (size_t i = 0; i < len; i++)
        redis_write_argument(&resp, words[i]);
    buf_free(&maxlen);
    free(key);
    queue_eval_written(queue, QUEUE_SCRIPT_REDRIVE, resp, queue_answer_number, call);
}

void queue_redrive(struct queue *queue, const char *id, struct bytes value, queue_number_read *done,
                   void *context)
{
    struct queue_call *call =
        queue_call_new((struct queue_call){.queue = queue, .number = done, .context = context});
    struct bytes message[] = {BYTES("message"), value};
    struct bytes *words;
    size_t len;

    bool has_fields = fields_words(&words, &len, value) == 0 && len > 0;
    send_redrive(queue, id, has_fields ? words : message, has_fields ? len : 2, call);
    free(words);
}
