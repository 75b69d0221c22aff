#include "worker/settle.h"

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/random.h"
#include "common/wire/crc32c.h"
#include "common/wire/delayed.h"
#include "common/wire/retry.h"
#include "common/wire/stamp.h"
#include "worker/intake.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXCEPTION_PASSING BYTES("RuntimeException")
#define EXCEPTION_FINAL                                                                            \
    BYTES("Symfony\\Component\\Messenger\\Exception\\UnrecoverableMessageHandlingException")
/* Without a failure transport a message that can't be handled is put off for so long, again and again:
 * better than losing it. */
#define PUT_OFF_MS      (INT64_C(3600) * 1000)
#define REFUSED_WAIT_MS 1000
/* While more is to come so many acknowledgements go together, or what came in so long: a few at a time
 * they cost Redis as much as the reading. */
#define TOGETHER    128
#define TOGETHER_MS 10

/* Ids on their way out. */
struct acknowledgements {
    struct settle *settle;
    struct stream_id *ids;
    size_t len;
    size_t capacity;
    size_t under_way; /* the first so many are */
    bool remove;
    int64_t due_ms;   /* of the others: not later than that */
    int64_t again_ms; /* refused: not before then */
};

struct settle {
    const struct child *child;
    struct intake *intake;
    struct queue *queue;
    const char *transport;
    char *consumer;
    struct rejects *rejects;
    struct envelope_format format;
    struct retry_strategy strategy;
    struct acknowledgements done;
    struct acknowledgements rejected;
    struct buf body;
    struct buf headers;
    struct buf member;
    size_t retries_under_way;
    struct log_fault put_off_fault;
    struct log_fault undecodable_fault;
    struct log_fault trimmed_fault;
};

static enum envelope_visibility visibility_of(const char *name)
{
    if (strcmp(name, "private") == 0)
        return ENVELOPE_PRIVATE;
    return strcmp(name, "protected") == 0 ? ENVELOPE_PROTECTED : ENVELOPE_PUBLIC;
}

struct settle *settle_new(const struct child *child, struct intake *intake,
                          const struct settings_transport *transport, struct queue *queue,
                          const char *consumer, struct rejects *rejects)
{
    struct settle *settle = xcalloc(1, sizeof(*settle));
    const struct settings_retry *retry = &child->settings->retry;

    settle->child = child;
    settle->intake = intake;
    settle->queue = queue;
    settle->transport = transport->name;
    settle->consumer = xstrdup(consumer);
    settle->rejects = rejects;
    settle->format = (struct envelope_format){
        .serializer = strcmp(transport->serializer, "json") == 0 ? ENVELOPE_JSON : ENVELOPE_PHP,
        .visibility = visibility_of(transport->properties),
        .message_class = bytes_of(transport->message_class),
        .bus = bytes_of(transport->bus),
        .redis_serialized = queue_dsn(queue)->redis_serialized};
    settle->strategy = (struct retry_strategy){.max_retries = retry->max_retries,
                                               .delay_ms = retry->delay_ms,
                                               .multiplier = retry->multiplier,
                                               .max_delay_ms = retry->max_delay_ms,
                                               .jitter = retry->jitter};
    settle->done =
        (struct acknowledgements){.settle = settle, .remove = queue_dsn(queue)->delete_after_ack};
    settle->rejected = (struct acknowledgements){.settle = settle,
                                                 .remove = queue_dsn(queue)->delete_after_reject};
    return settle;
}

void settle_free(struct settle *settle)
{
    if (settle == NULL)
        return;
    free(settle->done.ids);
    free(settle->rejected.ids);
    free(settle->consumer);
    buf_free(&settle->body);
    buf_free(&settle->headers);
    buf_free(&settle->member);
    free(settle);
}

static void acknowledge(struct acknowledgements *list, struct stream_id id)
{
    if (list->len == list->capacity) {
        list->capacity = list->capacity == 0 ? 256 : list->capacity * 2;
        list->ids = xrealloc(list->ids, list->capacity * sizeof(*list->ids));
    }
    if (list->len == list->under_way)
        list->due_ms = clock_monotonic_ms() + TOGETHER_MS;
    list->ids[list->len++] = id;
}

/* The entry leaves the worker, whatever became of it. */
static void leave(struct settle *settle, struct entry *entry, enum stats_counter outcome)
{
    stats_add(settle->child->slot, outcome, 1);
    stats_observe(settle->child->slot, STATS_HANDLE_US, clock_monotonic_us() - entry->read_us);
    intake_handled(entry->intake, outcome == STATS_HANDLED_DONE);
    intake_settled(entry->intake, entry);
}

void settle_done(struct entry *entry)
{
    struct settle *settle = intake_settle(entry->intake);

    if (entry->envelope.received_us > 0)
        stats_observe(settle->child->slot, STATS_END_TO_END_US,
                      clock_wall_us() - entry->envelope.received_us);
    acknowledge(&settle->done, entry->id);
    leave(settle, entry, STATS_HANDLED_DONE);
}

void settle_trimmed(struct settle *settle, struct stream_id id)
{
    char text[STREAM_ID_TEXT_SIZE];

    stream_id_format(id, text);
    stats_add(settle->child->slot, STATS_TRIMMED, 1);
    log_fault(&settle->trimmed_fault, LOG_LEVEL_WARNING, LOG_WITH(log_text("entry", text)),
              "%s: entry %s was pending but its body is gone (trimmed by stream_max_entries, or "
              "deleted): acknowledged",
              queue_place(settle->queue), text);
    acknowledge(&settle->done, id);
}

void settle_rejected(struct entry *entry)
{
    struct settle *settle = intake_settle(entry->intake);

    acknowledge(&settle->rejected, entry->id);
    leave(settle, entry, STATS_HANDLED_REJECT);
}

/* The stamps of a failure; the texts live as long as the caller's. */
static struct stamp_failure describe(const char *cause, const char *id_text, const char *entry_text)
{
    return (struct stamp_failure){.exception_class = EXCEPTION_PASSING,
                                  .exception_message = bytes_of(cause),
                                  .stream_id = bytes_of(id_text),
                                  .now_us = clock_wall_us(),
                                  .entry = bytes_of(entry_text)};
}

struct retry_call {
    struct settle *settle;
    struct entry *entry;
};

static void retried(void *context, int result, int64_t number, const struct error *err)
{
    struct retry_call call = *(struct retry_call *)context;

    free(context);
    call.settle->retries_under_way--;
    if (result == 0 && number == 1) {
        leave(call.settle, call.entry, STATS_HANDLED_RETRY);
        return;
    }
    /* Not ours any more: somebody else is at it. No answer, or no: it is pending and is read again. */
    struct intake *intake = call.entry->intake;
    intake_settled(intake, call.entry);
    if (result < 0)
        intake_fail(intake, result, err);
}

static void send_retry(struct settle *settle, struct entry *entry, const char *cause,
                       int64_t delay_ms)
{
    char id[STREAM_ID_TEXT_SIZE];
    char uniqid[17];
    struct error err;

    stream_id_format(entry->id, id);
    struct stamp_failure failure = describe(cause, id, NULL);
    failure.delay_ms = delay_ms;
    failure.retry_count = entry->envelope.retry_count + 1;
    snprintf(uniqid, sizeof(uniqid), "%016" PRIx64, random_u64());
    buf_clear(&settle->member);
    if (stamp_failure(&settle->body, &settle->headers, &entry->envelope, &failure, &err) < 0 ||
        delayed_encode(&settle->member, buf_bytes(&settle->body), buf_bytes(&settle->headers),
                       bytes_of(uniqid), &err) < 0) {
        settle_undecodable(entry, err.text);
        return;
    }
    struct retry_call *call = xmalloc(sizeof(*call));
    *call = (struct retry_call){settle, entry};
    settle->retries_under_way++;
    int64_t due_ms = clock_wall_us() / 1000 + delay_ms;
    intake_will_be_due(entry->intake, due_ms);
    queue_retry(settle->queue, settle->consumer, entry->id, due_ms, buf_bytes(&settle->member),
                retried, call);
}

void settle_retry(struct entry *entry, const char *cause)
{
    struct settle *settle = intake_settle(entry->intake);
    int64_t count = entry->envelope.retry_count;

    if (!retry_is_allowed(&settle->strategy, count)) {
        settle_reject(entry, cause);
        return;
    }
    int64_t delay = retry_delay_ms(&settle->strategy, count, random_u64());
    log_warning(LOG_WITH(log_bytes("topic", entry->envelope.topic),
                         log_bytes("id", entry->identity), log_number("retry", count + 1),
                         log_number("delay_ms", delay)),
                "Message on \"%.*s\" failed: %s. Retry %lld of %lld in %lld ms",
                BYTES_ARG(entry->envelope.topic), cause, (long long)count + 1,
                (long long)settle->strategy.max_retries, (long long)delay);
    send_retry(settle, entry, cause, delay);
}

/* Two streams, and two servers whose workers share a table, can have entries of one id: the stream's name
 * and the value tell them apart. Whoever looks at the entry again comes to the same. */
static void name_entry(const struct settle *settle, const struct entry *entry,
                       char name[REJECT_NAME_SIZE])
{
    const char *stream = queue_dsn(settle->queue)->stream;
    char id[STREAM_ID_TEXT_SIZE];
    uint32_t crc = crc32c(0, stream, strlen(stream) + 1);

    crc = crc32c(crc, entry->value.data, entry->value.len);
    stream_id_format(entry->id, id);
    snprintf(name, REJECT_NAME_SIZE, "%s-%08" PRIx32, id, crc);
}

/* Into the failure transport with what is in settle->body and settle->headers. */
static void reject_with(struct settle *settle, struct entry *entry, const char *name,
                        const char *cause)
{
    log_error(LOG_WITH(log_bytes("topic", entry->envelope.topic), log_bytes("id", entry->identity),
                       log_text("error", cause)),
              "Message on \"%.*s\" goes to the failure transport: %s",
              BYTES_ARG(entry->envelope.topic), cause);
    /* It may wait long: its batch must not wait with it. */
    rejects_add(settle->rejects, intake_detach(entry->intake, entry), name, &settle->body,
                &settle->headers);
}

static void put_off(struct settle *settle, struct entry *entry, const char *cause)
{
    log_fault(&settle->put_off_fault, LOG_LEVEL_CRITICAL, LOG_WITH(log_text("error", cause)),
              "A message can't be handled and there is no failure transport: it is put off for an "
              "hour. Set [failure] dsn or DATABASE_URL to keep such messages for inspection");
    send_retry(settle, entry, cause, PUT_OFF_MS);
}

void settle_reject(struct entry *entry, const char *cause)
{
    struct settle *settle = intake_settle(entry->intake);
    char id[STREAM_ID_TEXT_SIZE];
    char name[REJECT_NAME_SIZE];
    struct error err;

    if (!rejects_exist(settle->rejects)) {
        put_off(settle, entry, cause);
        return;
    }
    stream_id_format(entry->id, id);
    name_entry(settle, entry, name);
    struct stamp_failure failure = describe(cause, id, name);
    failure.receiver = bytes_of(settle->transport);
    if (retry_is_allowed(&settle->strategy, entry->envelope.retry_count))
        failure.exception_class = EXCEPTION_FINAL;
    if (stamp_failure(&settle->body, &settle->headers, &entry->envelope, &failure, &err) < 0)
        settle_undecodable(entry, err.text);
    else
        reject_with(settle, entry, name, cause);
}

void settle_undecodable(struct entry *entry, const char *cause)
{
    struct settle *settle = intake_settle(entry->intake);
    char id[STREAM_ID_TEXT_SIZE];
    char name[REJECT_NAME_SIZE];

    stream_id_format(entry->id, id);
    if (!rejects_exist(settle->rejects)) {
        log_fault(&settle->undecodable_fault, LOG_LEVEL_CRITICAL, LOG_WITH(log_text("entry", id)),
                  "%s: entry %s can't be decoded (%s) and there is no failure transport: it stays "
                  "pending. Set [failure] dsn or DATABASE_URL",
                  queue_place(settle->queue), id, cause);
        intake_settled(entry->intake, entry);
        return;
    }
    name_entry(settle, entry, name);
    struct stamp_failure failure = describe(cause, id, name);
    failure.receiver = bytes_of(settle->transport);
    failure.exception_class = EXCEPTION_FINAL;
    stamp_undecodable(&settle->body, &settle->headers, &settle->format, entry->value, &failure);
    reject_with(settle, entry, name, cause);
}

static void acknowledged(void *context, int result, const struct error *err)
{
    struct acknowledgements *list = context;
    size_t sent = list->under_way;

    list->under_way = 0;
    if (result < 0) {
        /* Kept: they go out again with the next ones; over a new connection at once. */
        if (queue_is_connected(list->settle->queue))
            list->again_ms = clock_monotonic_ms() + REFUSED_WAIT_MS;
        intake_complain(list->settle->intake, COMPLAINT_ACKNOWLEDGE, err);
        return;
    }
    intake_content(list->settle->intake, COMPLAINT_ACKNOWLEDGE);
    memmove(list->ids, list->ids + sent, (list->len - sent) * sizeof(*list->ids));
    list->len -= sent;
}

static bool can_be_sent(const struct acknowledgements *list)
{
    return list->len > 0 && list->under_way == 0 && queue_is_connected(list->settle->queue);
}

static void send_acknowledgements(struct acknowledgements *list, int64_t now_ms, bool last)
{
    if (!can_be_sent(list) || now_ms < list->again_ms)
        return;
    if (!last && list->len < TOGETHER && now_ms < list->due_ms)
        return;
    list->under_way = list->len < QUEUE_ACKNOWLEDGE_MAX ? list->len : QUEUE_ACKNOWLEDGE_MAX;
    queue_acknowledge(list->settle->queue, list->ids, list->under_way, list->remove, acknowledged,
                      list);
}

void settle_turn(struct settle *settle, int64_t now_ms, bool last)
{
    send_acknowledgements(&settle->done, now_ms, last);
    send_acknowledgements(&settle->rejected, now_ms, last);
}

static int64_t deadline_ms(const struct acknowledgements *list)
{
    if (!can_be_sent(list))
        return -1;
    return list->due_ms > list->again_ms ? list->due_ms : list->again_ms;
}

int64_t settle_deadline_ms(const struct settle *settle)
{
    int64_t done_ms = deadline_ms(&settle->done);
    int64_t rejected_ms = deadline_ms(&settle->rejected);

    return clock_earlier_ms(done_ms, rejected_ms);
}

bool settle_is_idle(const struct settle *settle)
{
    return settle->done.len == 0 && settle->rejected.len == 0 && settle->retries_under_way == 0;
}

size_t settle_waiting(const struct settle *settle)
{
    return settle->done.len + settle->rejected.len;
}
