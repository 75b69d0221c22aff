#include "common/client/queue_failed.h"

#include "common/base/alloc.h"
#include "common/client/queue_internal.h"

#include <stdlib.h>

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

/* Acknowledged entries that stayed in the stream do not count: how many wait, its group alone knows. Its lag may be too
 * large beside entries that were removed unread, in Redis 7. */
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
    redis_command(queue->redis, 0, group_read, count, "XINFO GROUPS %s", queue->dsn.stream);
    redis_command(queue->redis, 0, delayed_counted, count, "ZCARD %s", queue->delayed);
}

/* One page: its entries, then of each whether somebody has it in hand. */
struct page {
    struct queue *queue;
    queue_failed_read *done;
    void *context;
    redisReply *rows; /* the values lie in it, or in the arena */
    struct arena arena;
    struct queue_failed_entry *entries;
    size_t len;
    size_t answered;
    struct stream_id delivered; /* by the group; 0-0: it can't be told */
    struct redis_budget budget;
    struct error err; /* the first that went wrong */
};

static void page_finish(struct page *page)
{
    if (page->err.code != ERR_NONE)
        page->done(page->context, -(int)page->err.code, NULL, 0, &page->err);
    else
        page->done(page->context, 0, page->entries, page->len, NULL);
    if (page->rows != NULL)
        freeReplyObject(page->rows);
    arena_free(&page->arena);
    free(page->entries);
    free(page);
}

static void page_note(struct page *page, const struct error *err)
{
    if (page->err.code == ERR_NONE)
        page->err = *err;
}

/* Whoever reads the stream may keep what it has handled, or die before it removes it, whatever our DSN says. Where that
 * says that entries are removed, a user who may not ask is no fault. */
static void delivered_read(void *context, const redisReply *reply, const struct error *err)
{
    struct page *page = context;

    if (err != NULL) {
        if (reply == NULL || !page->queue->dsn.delete_after_ack)
            page_note(page, err);
        return;
    }
    const redisReply *group = redis_find_group(reply, page->queue->dsn.group);
    if (group != NULL)
        (void)stream_id_parse(redis_member_text(group, "last-delivered-id"), &page->delivered);
}

static bool is_behind(struct stream_id id, struct stream_id other)
{
    return id.ms != other.ms ? id.ms > other.ms : id.sequence > other.sequence;
}

/* Without a group nobody has anything in hand. */
static void pending_read(void *context, const redisReply *reply, const struct error *err)
{
    struct page *page = context;
    struct queue_failed_entry *entry = &page->entries[page->answered++];

    if (err == NULL && reply->elements == 1 && reply->element[0]->elements >= 4)
        entry->idle_ms = reply->element[0]->element[2]->integer;
    else if (err != NULL &&
             (reply == NULL || !bytes_starts_with(redis_text(reply), BYTES("NOGROUP"))))
        page_note(page, err);
    entry->handled = entry->idle_ms < 0 && !is_behind(entry->id, page->delivered);
    if (page->answered == page->len)
        page_finish(page);
}

/* A connection that breaks under this loop answers each request at once: after the last answer the page is
 * gone, so nothing of it is touched behind that. */
static void ask_who_has_them(struct page *page)
{
    struct queue *queue = page->queue;
    const struct queue_failed_entry *entries = page->entries;
    size_t len = page->len;

    redis_command(queue->redis, 0, delivered_read, page, "XINFO GROUPS %s", queue->dsn.stream);
    for (size_t i = 0; i < len; i++)
        queue_ask_pending(queue, entries[i].id, pending_read, page);
}

static void page_read(void *context, const redisReply *reply, const struct error *err)
{
    struct page *page = context;

    if (err != NULL) {
        page_note(page, err);
        page_finish(page);
        return;
    }
    page->rows = redis_keep_reply(page->queue->redis);
    page->entries = xcalloc(reply->elements + 1, sizeof(*page->entries));
    for (size_t i = 0; i < reply->elements; i++) {
        struct queue_entry entry;

        if (queue_parse_entry(&page->arena, reply->element[i], &entry))
            page->entries[page->len++] =
                (struct queue_failed_entry){.id = entry.id, .value = entry.value, .idle_ms = -1};
    }
    if (page->len == 0)
        page_finish(page);
    else
        ask_who_has_them(page);
}

void queue_read_failed(struct queue *queue, const struct queue_failed_range *range,
                       queue_failed_read *done, void *context)
{
    struct page *page = xcalloc(1, sizeof(*page));
    struct stream_id from = range->newest_first ? range->last : range->first;
    struct stream_id to = range->newest_first ? range->first : range->last;

    *page = (struct page){
        .queue = queue, .done = done, .context = context, .budget = {.left = range->bytes}};
    redis_limit_next(queue->redis, &page->budget);
    redis_command(queue->redis, 0, page_read, page,
                  "%s %s " STREAM_ID_FORMAT " " STREAM_ID_FORMAT " COUNT %lu",
                  range->newest_first ? "XREVRANGE" : "XRANGE", queue->dsn.stream, from.ms,
                  from.sequence, to.ms, to.sequence, (unsigned long)range->count);
}

void queue_remove_failed(struct queue *queue, const struct stream_id *ids, size_t len,
                         queue_number_read *done, void *context)
{
    struct queue_call *call = QUEUE_CALL(queue, context, .number = done);
    char *format = queue_format_ids("%s %s %s 1 0", ids, len, "");

    queue_eval(queue, QUEUE_SCRIPT_ACKNOWLEDGE, queue_answer_number, call, 2, format,
               queue->dsn.stream, queue->dsn.stream, queue->dsn.group);
    free(format);
}
