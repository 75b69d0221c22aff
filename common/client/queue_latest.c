#include "common/client/queue_latest.h"

#include "common/base/alloc.h"
#include "common/client/queue_internal.h"

#include <stdlib.h>

void queue_keep_latest(struct queue *queue, int64_t limit, const struct queue_batch *pairs,
                       queue_done *done, void *context)
{
    struct queue_call *call = QUEUE_CALL(queue, context, .done = done);
    struct buf resp = {0};

    queue_begin_eval(queue, &resp, QUEUE_SCRIPT_KEEP_LATEST, 1, 1 + pairs->count);
    redis_write_argument(&resp, bytes_of(queue->latest));
    redis_write_number(&resp, limit);
    buf_append(&resp, buf_bytes(&pairs->resp));
    queue_eval_written(queue, QUEUE_SCRIPT_KEEP_LATEST, resp, queue_answer_done, call);
}

void queue_forget_latest(struct queue *queue, queue_done *done, void *context)
{
    struct queue_call *call = QUEUE_CALL(queue, context, .done = done);

    redis_command(queue->redis, 0, queue_answer_done, call, "DEL %s", queue->latest);
}

static bool is_scan_answer(const redisReply *reply)
{
    return reply->type == REDIS_REPLY_ARRAY && reply->elements == 2 &&
           redis_is_string(reply->element[0]) && reply->element[1]->type == REDIS_REPLY_ARRAY;
}

static void answer_scan(void *context, const redisReply *reply, const struct error *err)
{
    struct queue_call call = queue_call_take(context);
    struct error told;
    uint64_t cursor = 0;

    if (err == NULL &&
        (!is_scan_answer(reply) || !bytes_to_u64(redis_text(reply->element[0]), &cursor))) {
        error_set(&told, ERR_REFUSED, "%s: HSCAN is answered with something else",
                  call.queue->address);
        err = &told;
    }
    if (err != NULL) {
        call.latest(call.context, queue_result(err), 0, NULL, 0, err);
        return;
    }
    const redisReply *list = reply->element[1];
    struct queue_latest *latest = xcalloc(list->elements / 2 + 1, sizeof(*latest));
    size_t len = 0;
    for (size_t i = 0; i + 1 < list->elements; i += 2)
        latest[len++] = (struct queue_latest){.topic = redis_text(list->element[i]),
                                              .document = redis_text(list->element[i + 1])};
    call.latest(call.context, 0, cursor, latest, len, NULL);
    free(latest);
}

void queue_scan_latest(struct queue *queue, uint64_t cursor, size_t count, size_t bytes,
                       queue_latest_read *done, void *context)
{
    struct queue_call *call = QUEUE_CALL(queue, context, .latest = done, .budget = {.left = bytes});

    redis_limit_next(queue->redis, &call->budget);
    redis_command(queue->redis, 0, answer_scan, call, "HSCAN %s %" PRIu64 " COUNT %lu",
                  queue->latest, cursor, (unsigned long)count);
}
