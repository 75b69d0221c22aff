#include "common/client/queue_failed.h"

#include "common/base/alloc.h"
#include "common/client/queue_internal.h"

#include <stdlib.h>

void queue_add_failed(struct queue *queue, struct bytes entry, struct bytes identity,
                      struct bytes value, queue_number_read *done, void *context)
{
    struct queue_call *call =
        queue_call_new((struct queue_call){.queue = queue, .number = done, .context = context});
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
    struct error err; /* the first that went wrong */
};

static void take_number(struct count *count, const redisReply *reply, const struct error *err)
{
    if (err != NULL && count->err.code == ERR_NONE)
        count->err = *err;
    else if (err == NULL && reply->type == REDIS_REPLY_INTEGER)
        count->entries += reply->integer;
}

static void entries_counted(void *context, const redisReply *reply, const struct error *err)
{
    take_number(context, reply, err);
}

/* A number of a group in XINFO's answer, name and value in turns; -1: it is not known. */
static int64_t member(const redisReply *group, const char *name)
{
    for (size_t i = 0; i + 1 < group->elements; i += 2)
        if (bytes_equal_text(redis_text(group->element[i]), name) &&
            group->element[i + 1]->type == REDIS_REPLY_INTEGER)
            return group->element[i + 1]->integer;
    return -1;
}

static bool is_group(const redisReply *group, const char *name)
{
    for (size_t i = 0; i + 1 < group->elements; i += 2)
        if (bytes_equal_text(redis_text(group->element[i]), "name"))
            return bytes_equal_text(redis_text(group->element[i + 1]), name);
    return false;
}

/* Where acknowledged entries stay in the stream its group alone knows how many do not count. */
static void group_read(void *context, const redisReply *reply, const struct error *err)
{
    struct count *count = context;

    for (size_t i = 0; err == NULL && i < reply->elements; i++) {
        const redisReply *group = reply->element[i];
        int64_t pending = member(group, "pending"), lag = member(group, "lag");

        if (is_group(group, count->queue->dsn.group) && pending >= 0 && lag >= 0)
            count->entries = pending + lag;
    }
}

static void delayed_counted(void *context, const redisReply *reply, const struct error *err)
{
    struct count *count = context;

    take_number(count, reply, err);
    const struct error *fault = count->err.code != ERR_NONE ? &count->err : NULL;
    count->done(count->context, queue_result(fault), count->entries, fault);
    free(count);
}

void queue_count_failed(struct queue *queue, queue_number_read *done, void *context)
{
    struct count *count = xcalloc(1, sizeof(*count));

    *count = (struct count){.queue = queue, .done = done, .context = context};
    redis_command(queue->redis, 0, entries_counted, count, "XLEN %s", queue->dsn.stream);
    if (!queue->dsn.delete_after_ack)
        redis_command(queue->redis, 0, group_read, count, "XINFO GROUPS %s", queue->dsn.stream);
    redis_command(queue->redis, 0, delayed_counted, count, "ZCARD %s", queue->delayed);
}
