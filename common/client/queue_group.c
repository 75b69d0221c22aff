#include "common/client/queue_group.h"

#include "common/base/alloc.h"
#include "common/client/queue_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A request under way; which of the callbacks is set is known to the answer's function. */
struct pending_call {
    struct queue *queue;
    queue_done *done;
    queue_number_read *number;
    queue_names_read *names;
    queue_ids_read *ids;
    void *context;
};

static struct pending_call *call_new(struct queue *queue, void *context)
{
    struct pending_call *call = xcalloc(1, sizeof(*call));

    call->queue = queue;
    call->context = context;
    return call;
}

static struct pending_call call_take(void *context)
{
    struct pending_call call = *(struct pending_call *)context;

    free(context);
    return call;
}

static int result_of(const struct error *err)
{
    return err != NULL ? -(int)err->code : 0;
}

static struct bytes stream_of(const struct queue *queue)
{
    return bytes_of(queue->dsn.stream);
}

static struct bytes group_of(const struct queue *queue)
{
    return bytes_of(queue->dsn.group);
}

static void answer_done(void *context, const redisReply *reply, const struct error *err)
{
    struct pending_call call = call_take(context);

    if (call.done != NULL)
        call.done(call.context, result_of(err), err);
    queue_check_script(call.queue, reply, err);
}

static void answer_number(void *context, const redisReply *reply, const struct error *err)
{
    struct pending_call call = call_take(context);

    call.number(call.context, result_of(err), err == NULL ? reply->integer : 0, err);
    queue_check_script(call.queue, reply, err);
}

static void answer_names(void *context, const redisReply *reply, const struct error *err)
{
    struct pending_call call = call_take(context);
    struct bytes *names = NULL;
    size_t len = 0;

    if (err == NULL) {
        names = xcalloc(reply->elements + 1, sizeof(*names));
        for (size_t i = 0; i < reply->elements; i++)
            names[len++] = redis_text(reply->element[i]);
    }
    call.names(call.context, result_of(err), names, len, err);
    free(names);
}

static void answer_ids(void *context, const redisReply *reply, const struct error *err)
{
    struct pending_call call = call_take(context);
    struct stream_id *ids = NULL;
    size_t len = 0;

    if (err == NULL) {
        ids = xcalloc(reply->elements + 1, sizeof(*ids));
        for (size_t i = 0; i < reply->elements; i++)
            if (stream_id_parse(redis_text(reply->element[i]), &ids[len]))
                len++;
    }
    call.ids(call.context, result_of(err), ids, len, err);
    free(ids);
    queue_check_script(call.queue, reply, err);
}

static void group_created(void *context, const redisReply *reply, const struct error *err)
{
    struct pending_call call = call_take(context);
    bool exists = err != NULL && reply != NULL && strstr(reply->str, "BUSYGROUP") != NULL;

    call.done(call.context, exists ? 0 : result_of(err), exists ? NULL : err);
    queue_check_script(call.queue, reply, err);
}

static char *last_key(const struct queue *queue)
{
    return queue_key(queue, "last", queue->dsn.group);
}

/* Some acknowledged entries stay in the stream. */
static bool keeps_entries(const struct queue *queue)
{
    return !queue->dsn.delete_after_ack || !queue->dsn.delete_after_reject;
}

static struct bytes flag(bool set)
{
    return set ? BYTES("1") : BYTES("0");
}

void queue_create_group(struct queue *queue, queue_done *done, void *context)
{
    struct pending_call *call = call_new(queue, context);
    char *last = last_key(queue);
    struct bytes arguments[] = {stream_of(queue), bytes_of(last), group_of(queue),
                                flag(!keeps_entries(queue))};

    call->done = done;
    queue_eval(queue, QUEUE_SCRIPT_GROUP, 2, arguments, 4, group_created, call);
    free(last);
}

static char *lease_key(const struct queue *queue, struct bytes consumer)
{
    char *name = xasprintf("%s:%.*s", queue->dsn.group, BYTES_ARG(consumer));
    char *key = queue_key(queue, "owner", name);

    free(name);
    return key;
}

static char *names_key(const struct queue *queue)
{
    return queue_key(queue, "consumers", queue->dsn.group);
}

void queue_take_lease(struct queue *queue, const struct queue_reader *reader, bool first,
                      queue_number_read *done, void *context)
{
    struct pending_call *call = call_new(queue, context);
    char *lease = lease_key(queue, bytes_of(reader->consumer));
    char *names = names_key(queue);
    char *own = first ? xasprintf("%s:", reader->instance) : xstrdup(reader->token);
    char ttl[16];

    snprintf(ttl, sizeof(ttl), "%d", QUEUE_LEASE_MS);
    struct bytes arguments[] = {bytes_of(lease), bytes_of(names),
                                bytes_of(own),   bytes_of(reader->token),
                                bytes_of(ttl),   bytes_of(reader->consumer)};
    call->number = done;
    queue_eval(queue, QUEUE_SCRIPT_LEASE, 2, arguments, 6, answer_number, call);
    free(own);
    free(lease);
    free(names);
}

void queue_renew_lease(struct queue *queue, const struct queue_reader *reader,
                       queue_number_read *done, void *context)
{
    struct pending_call *call = call_new(queue, context);
    char *lease = lease_key(queue, bytes_of(reader->consumer));
    char ttl[16];

    snprintf(ttl, sizeof(ttl), "%d", QUEUE_LEASE_MS);
    struct bytes arguments[] = {bytes_of(lease), bytes_of(reader->token), bytes_of(ttl)};
    call->number = done;
    queue_eval(queue, QUEUE_SCRIPT_RENEW, 1, arguments, 3, answer_number, call);
    free(lease);
}

void queue_release_lease(struct queue *queue, const struct queue_reader *reader, queue_done *done,
                         void *context)
{
    struct pending_call *call = call_new(queue, context);
    char *lease = lease_key(queue, bytes_of(reader->consumer));
    char *names = names_key(queue);
    struct bytes arguments[] = {bytes_of(lease),
                                bytes_of(names),
                                stream_of(queue),
                                bytes_of(reader->token),
                                bytes_of(reader->consumer),
                                group_of(queue)};

    call->done = done;
    queue_eval(queue, QUEUE_SCRIPT_RELEASE, 3, arguments, 6, answer_done, call);
    free(lease);
    free(names);
}

/* ids as text, for a command's tail. */
struct id_texts {
    char (*text)[STREAM_ID_TEXT_SIZE];
    struct bytes *arguments;
    size_t count;
};

static struct id_texts id_texts_new(const struct bytes *head, size_t head_len,
                                    const struct stream_id *ids, size_t len, size_t room)
{
    struct id_texts texts = {.text = xcalloc(len + 1, STREAM_ID_TEXT_SIZE),
                             .arguments = xcalloc(head_len + len + room, sizeof(struct bytes)),
                             .count = head_len + len};

    memcpy(texts.arguments, head, head_len * sizeof(*head));
    for (size_t i = 0; i < len; i++) {
        stream_id_format(ids[i], texts.text[i]);
        texts.arguments[head_len + i] = bytes_of(texts.text[i]);
    }
    return texts;
}

static void id_texts_free(struct id_texts *texts)
{
    free(texts->text);
    free(texts->arguments);
}

void queue_acknowledge(struct queue *queue, const struct stream_id *ids, size_t len, bool remove,
                       queue_done *done, void *context)
{
    struct pending_call *call = call_new(queue, context);
    char *last = last_key(queue);
    struct bytes head[] = {BYTES("EVALSHA"), {queue->sha[QUEUE_SCRIPT_ACKNOWLEDGE], 40},
                           BYTES("2"),       stream_of(queue),
                           bytes_of(last),   group_of(queue),
                           flag(remove),     flag(keeps_entries(queue))};
    struct id_texts texts = id_texts_new(head, sizeof(head) / sizeof(head[0]), ids, len, 0);

    call->done = done;
    redis_send(queue->redis, texts.arguments, texts.count, 0, answer_done, call);
    id_texts_free(&texts);
    free(last);
}

void queue_retry(struct queue *queue, const char *consumer, struct stream_id id, int64_t due_ms,
                 struct bytes member, queue_number_read *done, void *context)
{
    struct pending_call *call = call_new(queue, context);
    char id_text[STREAM_ID_TEXT_SIZE], score[24];

    stream_id_format(id, id_text);
    snprintf(score, sizeof(score), "%lld", (long long)due_ms);
    char *last = last_key(queue);
    /* As Symfony has it: the retry is sent, then the old entry is rejected. */
    struct bytes arguments[] = {stream_of(queue),
                                bytes_of(queue->delayed),
                                bytes_of(last),
                                group_of(queue),
                                bytes_of(consumer),
                                bytes_of(id_text),
                                bytes_of(score),
                                member,
                                flag(queue->dsn.delete_after_reject),
                                flag(keeps_entries(queue))};
    call->number = done;
    queue_eval(queue, QUEUE_SCRIPT_RETRY, 3, arguments, 10, answer_number, call);
    free(last);
}

void queue_read_due(struct queue *queue, int64_t now_ms, size_t count, queue_names_read *done,
                    void *context)
{
    struct pending_call *call = call_new(queue, context);
    char now[24], limit[24];

    snprintf(now, sizeof(now), "%lld", (long long)now_ms);
    snprintf(limit, sizeof(limit), "%zu", count);
    struct bytes range[] = {BYTES("ZRANGEBYSCORE"), bytes_of(queue->delayed), BYTES("-inf"),
                            bytes_of(now),          BYTES("LIMIT"),           BYTES("0"),
                            bytes_of(limit)};
    call->names = done;
    redis_send(queue->redis, range, 7, 0, answer_names, call);
}

static void answer_next_due(void *context, const redisReply *reply, const struct error *err)
{
    struct pending_call call = call_take(context);
    int64_t due = -1;

    if (err == NULL && reply->elements == 2)
        due = (int64_t)strtod(reply->element[1]->str, NULL);
    call.number(call.context, result_of(err), due, err);
}

void queue_next_due(struct queue *queue, queue_number_read *done, void *context)
{
    struct pending_call *call = call_new(queue, context);
    struct bytes range[] = {BYTES("ZRANGE"), bytes_of(queue->delayed), BYTES("0"), BYTES("0"),
                            BYTES("WITHSCORES")};

    call->number = done;
    redis_send(queue->redis, range, 5, 0, answer_next_due, call);
}

void queue_move(struct queue *queue, struct bytes member, struct bytes value,
                queue_number_read *done, void *context)
{
    struct pending_call *call = call_new(queue, context);
    char maxlen[24];

    snprintf(maxlen, sizeof(maxlen), "%lld", (long long)queue->dsn.stream_max_entries);
    struct bytes arguments[] = {bytes_of(queue->delayed), stream_of(queue), member, value,
                                bytes_of(maxlen)};
    call->number = done;
    queue_eval(queue, QUEUE_SCRIPT_MOVE, 2, arguments, 5, answer_number, call);
}

void queue_read_names(struct queue *queue, queue_names_read *done, void *context)
{
    struct pending_call *call = call_new(queue, context);
    char *names = names_key(queue);
    struct bytes members[] = {BYTES("SMEMBERS"), bytes_of(names)};

    call->names = done;
    redis_send(queue->redis, members, 2, 0, answer_names, call);
    free(names);
}

void queue_adopt(struct queue *queue, const char *consumer, struct bytes name, size_t count,
                 queue_ids_read *done, void *context)
{
    struct pending_call *call = call_new(queue, context);
    char *lease = lease_key(queue, name);
    char *names = names_key(queue);
    char limit[24];

    snprintf(limit, sizeof(limit), "%zu", count);
    struct bytes arguments[] = {bytes_of(lease), bytes_of(names),    stream_of(queue),
                                group_of(queue), bytes_of(consumer), name,
                                bytes_of(limit)};
    call->ids = done;
    queue_eval(queue, QUEUE_SCRIPT_ADOPT, 3, arguments, 7, answer_ids, call);
    free(lease);
    free(names);
}

struct claim_call {
    struct queue *queue;
    char *consumer;
    int64_t idle_ms;
    size_t count;
    struct stream_id next;
    queue_claimed *done;
    void *context;
};

static void claim_finish(struct claim_call *claim, const struct stream_id *ids, size_t len,
                         const struct error *err)
{
    claim->done(claim->context, result_of(err), ids, len, claim->next, err);
    free(claim->consumer);
    free(claim);
}

static void idle_claimed(void *context, int result, const struct stream_id *ids, size_t len,
                         const struct error *err)
{
    (void)result;
    claim_finish(context, ids, len, err);
}

/* Those of others among a page of XPENDING, and how far it was looked at. */
static size_t choose_idle(struct claim_call *claim, const redisReply *page, struct bytes *chosen)
{
    size_t found = 0;

    for (size_t i = 0; i < page->elements && found < claim->count; i++) {
        const redisReply *row = page->element[i];

        if (row->elements < 2 || !stream_id_parse(redis_text(row->element[0]), &claim->next))
            continue;
        if (!bytes_equal_text(redis_text(row->element[1]), claim->consumer))
            chosen[found++] = redis_text(row->element[0]);
    }
    if (found < claim->count && page->elements < QUEUE_CLAIM_PAGE)
        claim->next = (struct stream_id){0, 0};
    return found;
}

static void idle_read(void *context, const redisReply *reply, const struct error *err)
{
    struct claim_call *claim = context;
    struct queue *queue = claim->queue;
    struct bytes arguments[5 + QUEUE_CLAIM_PAGE + 1];
    char idle[24];

    if (err != NULL || reply->elements > QUEUE_CLAIM_PAGE) {
        claim_finish(claim, NULL, 0, err);
        return;
    }
    size_t found = choose_idle(claim, reply, arguments + 5);
    if (found == 0) {
        claim_finish(claim, NULL, 0, NULL);
        return;
    }
    struct pending_call *call = call_new(queue, claim);
    call->ids = idle_claimed;
    snprintf(idle, sizeof(idle), "%lld", (long long)claim->idle_ms);
    arguments[0] = BYTES("XCLAIM");
    arguments[1] = stream_of(queue);
    arguments[2] = group_of(queue);
    arguments[3] = bytes_of(claim->consumer);
    arguments[4] = bytes_of(idle);
    arguments[5 + found] = BYTES("JUSTID");
    /* The time out of use is checked again by XCLAIM: two claimers never both win. */
    redis_send(queue->redis, arguments, 6 + found, 0, answer_ids, call);
}

void queue_claim_idle(struct queue *queue, const char *consumer, int64_t idle_ms,
                      struct stream_id after, size_t count, queue_claimed *done, void *context)
{
    struct claim_call *claim = xcalloc(1, sizeof(*claim));
    char idle[24], limit[24], from[STREAM_ID_TEXT_SIZE + 1];

    *claim = (struct claim_call){.queue = queue,
                                 .consumer = xstrdup(consumer),
                                 .idle_ms = idle_ms,
                                 .count = count,
                                 .done = done,
                                 .context = context};
    from[0] = '(';
    stream_id_format(after, from + 1);
    snprintf(idle, sizeof(idle), "%lld", (long long)idle_ms);
    snprintf(limit, sizeof(limit), "%d", QUEUE_CLAIM_PAGE);
    struct bytes pending[] = {BYTES("XPENDING"), stream_of(queue), group_of(queue),
                              BYTES("IDLE"),     bytes_of(idle),   bytes_of(from),
                              BYTES("+"),        bytes_of(limit)};
    redis_send(queue->redis, pending, 8, 0, idle_read, claim);
}

void queue_keep(struct queue *queue, const char *consumer, const struct stream_id *ids, size_t len,
                queue_done *done, void *context)
{
    struct pending_call *call = call_new(queue, context);
    struct bytes head[] = {BYTES("XCLAIM"), stream_of(queue), group_of(queue), bytes_of(consumer),
                           BYTES("0")};
    struct id_texts texts = id_texts_new(head, 5, ids, len, 1);

    call->done = done;
    texts.arguments[texts.count++] = BYTES("JUSTID");
    redis_send(queue->redis, texts.arguments, texts.count, 0, answer_done, call);
    id_texts_free(&texts);
}

void queue_charge(struct queue *queue, const char *consumer, struct stream_id id, uint32_t count,
                  queue_done *done, void *context)
{
    struct pending_call *call = call_new(queue, context);
    char id_text[STREAM_ID_TEXT_SIZE], number[16];

    stream_id_format(id, id_text);
    snprintf(number, sizeof(number), "%u", count);
    struct bytes claim[] = {BYTES("XCLAIM"),     stream_of(queue), group_of(queue),
                            bytes_of(consumer),  BYTES("0"),       bytes_of(id_text),
                            BYTES("RETRYCOUNT"), bytes_of(number), BYTES("JUSTID")};
    call->done = done;
    redis_send(queue->redis, claim, 9, 0, answer_done, call);
}
