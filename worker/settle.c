#include "worker/settle.h"

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/sys.h"
#include "common/wire/envelope.h"
#include "common/wire/json.h"
#include "common/wire/retry.h"
#include "common/wire/stamp.h"
#include "worker/latest.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXCEPTION_PASSING BYTES("RuntimeException")
#define EXCEPTION_FINAL                                                                            \
    BYTES("Symfony\\Component\\Messenger\\Exception\\UnrecoverableMessageHandlingException")
/* Without a failure transport a message that can't be handled is retried after so long, without end, so that it is not
 * lost. */
#define PUT_OFF_MS      (INT64_C(3600) * 1000)
#define REFUSED_WAIT_MS 1000
/* So many acknowledgements are sent together, or those of so long: a few at a time cost Redis as much as the
 * reading. */
#define TOGETHER    128
#define TOGETHER_MS 10

/* Ids that are to be acknowledged. */
struct acknowledgements {
    struct settle *settle;
    struct latest *latest; /* sent before the acknowledgements; NULL: last values are not kept */
    struct stream_id *ids;
    size_t len;
    size_t under_way; /* the first so many are sent and unanswered */
    bool remove;      /* XDEL as well */
    int64_t due_ms;   /* the others are sent not later than that */
    int64_t again_ms; /* after a refusal: not sent before then */
};

struct settle {
    struct source *source;
    struct queue *queue; /* the source's writer */
    const char *transport;
    struct failures *failures;
    bool forget_latest; /* last values are not kept: those in Redis are removed on connecting */
    struct envelope_format format; /* of rows in the failure transport */
    bool as_it_came;               /* rows keep the entry's serializer */
    const struct retry_strategy *strategy;
    struct acknowledgements done;
    struct acknowledgements rejected;
    struct buf body;
    struct buf headers;
    struct buf member;
    size_t retries_under_way;
    struct log_fault put_off_fault;
    struct log_fault undecodable_fault;
    struct log_fault full_fault;
    struct log_fault trimmed_fault;
};

/* The consumer dispatches to the first transport. Only that one has last values: the monitor reads one hash. */
static void open_latest(struct settle *settle, const struct settings_transport *transport)
{
    const struct settings *settings = settle->source->child->settings;

    if (transport != settings_default_transport(settings))
        return;
    settle->done.latest = latest_new(settings->page.last_values);
    settle->forget_latest = settle->done.latest == NULL;
}

static void choose_serializer(struct settle *settle, enum failure_serializer serializer)
{
    switch (serializer) {
    case FAILURE_SERIALIZER_TRANSPORT:
        settle->as_it_came = true;
        break;
    case FAILURE_SERIALIZER_PHP:
        settle->format.serializer = ENVELOPE_PHP;
        break;
    case FAILURE_SERIALIZER_JSON:
        settle->format.serializer = ENVELOPE_JSON;
        break;
    }
}

struct settle *settle_new(struct source *source, const struct settings_transport *transport,
                          struct failures *failures)
{
    struct settle *settle = xcalloc(1, sizeof(*settle));
    struct queue *queue = source->writer;

    source->settle = settle;
    settle->source = source;
    settle->queue = queue;
    settle->transport = transport->name;
    settle->failures = failures;
    settle->format =
        (struct envelope_format){.serializer = transport->serializer,
                                 .visibility = transport->properties,
                                 .message_class = bytes_of(transport->message_class),
                                 .bus = bytes_of(transport->bus),
                                 .redis_serialized = queue_dsn(queue)->redis_serialized};
    choose_serializer(settle, settle->source->child->settings->failure.serializer);
    settle->strategy = &source->child->settings->retry;
    settle->done =
        (struct acknowledgements){.settle = settle, .remove = queue_dsn(queue)->delete_after_ack};
    settle->rejected = (struct acknowledgements){.settle = settle,
                                                 .remove = queue_dsn(queue)->delete_after_reject};
    open_latest(settle, transport);
    return settle;
}

void settle_free(struct settle *settle)
{
    if (settle == NULL)
        return;
    free(settle->done.ids);
    free(settle->rejected.ids);
    latest_free(settle->done.latest);
    buf_free(&settle->body);
    buf_free(&settle->headers);
    buf_free(&settle->member);
    free(settle);
}

static void acknowledge(struct acknowledgements *list, struct stream_id id)
{
    list->ids = xgrow(list->ids, list->len, sizeof(*list->ids));
    if (list->len == list->under_way)
        list->due_ms = clock_monotonic_ms() + TOGETHER_MS;
    list->ids[list->len++] = id;
}

/* The entry leaves the worker with this outcome. */
static void leave(struct settle *settle, struct entry *entry, enum stats_counter outcome)
{
    stats_add(settle->source->child->slot, outcome, 1);
    stats_observe(settle->source->child->slot, STATS_HANDLE_US,
                  clock_monotonic_us() - entry->read_us);
    source_handled(entry->source,
                   outcome == STATS_HANDLED_DONE || outcome == STATS_HANDLED_DROPPED);
    source_release(entry);
}

/* The carried entries were published with this one (batch), or replaced by it (latest): they are done too. */
static void settle_carried(struct entry *entry)
{
    struct settle *settle = entry->source->settle;
    const struct carried *carried = &entry->carried;
    struct stats_slot *slot = settle->source->child->slot;
    bool is_batch = entry_is_batch(entry);

    for (size_t i = 0; i < carried->len; i++) {
        acknowledge(&settle->done, carried->ids[i]);
        source_handled(entry->source, true);
    }
    stats_add(slot, is_batch ? STATS_HANDLED_DONE : STATS_HANDLED_CONFLATED, carried->len);
    if (is_batch)
        stats_observe(slot, STATS_BATCH_MESSAGES, 1000 * ((int64_t)carried->len + 1));
    source_uncarry(entry);
}

static void done(struct settle *settle, struct entry *entry)
{
    latest_add(settle->done.latest, entry);
    settle_carried(entry);
    if (entry->envelope.received_us > 0)
        stats_observe(settle->source->child->slot, STATS_END_TO_END_US,
                      clock_wall_us() - entry->envelope.received_us);
    acknowledge(&settle->done, entry->id);
    /* Acknowledged before the next delivery is counted: if the next message kills us, this one is not charged. */
    if (entry->counted)
        settle->done.due_ms = 0;
    leave(settle, entry, STATS_HANDLED_DONE);
}

static void drop(struct settle *settle, struct entry *entry)
{
    acknowledge(&settle->done, entry->id);
    leave(settle, entry, STATS_HANDLED_DROPPED);
}

void settle_trimmed(struct settle *settle, struct stream_id id)
{
    char text[STREAM_ID_TEXT_SIZE];

    stream_id_format(id, text);
    stats_add(settle->source->child->slot, STATS_TRIMMED, 1);
    log_fault(&settle->trimmed_fault, LOG_LEVEL_WARNING, LOG_WITH(log_text("entry", text)),
              "%s: entry %s was pending but its body is gone (trimmed by stream_max_entries, or "
              "deleted): acknowledged",
              queue_address(settle->queue), text);
    acknowledge(&settle->done, id);
}

void settle_rejected(struct entry *entry)
{
    struct settle *settle = entry->source->settle;

    acknowledge(&settle->rejected, entry->id);
    leave(settle, entry, STATS_HANDLED_REJECT);
}

/* The stamps of a failure. The caller's texts must outlive the result. */
static struct stamp_failure describe(const struct entry *entry, const char *cause,
                                     const char *id_text, const char *entry_text)
{
    return (struct stamp_failure){.exception_class = EXCEPTION_PASSING,
                                  .exception_message = bytes_of(cause),
                                  .stream_id = bytes_of(id_text),
                                  .now_us = clock_wall_us(),
                                  .entry = bytes_of(entry_text),
                                  .identity = entry->identity};
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
    if (result == 0) {
        source_release(call.entry); /* another consumer has the entry */
        return;
    }
    /* In this order: while the entry is open it shows that pending entries are under suspicion. */
    source_fail(call.settle->source, result, err);
    source_forget(call.entry); /* the entry is pending, and will be read again */
}

static void send_retry(struct settle *settle, struct entry *entry, const char *cause,
                       int64_t delay_ms)
{
    char id[STREAM_ID_TEXT_SIZE];
    char uniqid[17];
    struct error err;

    stream_id_format(entry->id, id);
    struct stamp_failure failure = describe(entry, cause, id, NULL);
    failure.delay_ms = delay_ms;
    failure.retry_count = entry->envelope.retry_count + 1;
    snprintf(uniqid, sizeof(uniqid), "%016" PRIx64, sys_random_u64());
    buf_clear(&settle->member);
    if (stamp_failure(&settle->body, &settle->headers, &entry->envelope, &failure, &err) < 0 ||
        retry_member_encode(&settle->member, buf_bytes(&settle->body), buf_bytes(&settle->headers),
                            bytes_of(uniqid), &err) < 0) {
        settle_undecodable(entry, err.text);
        return;
    }
    struct retry_call *call = xmalloc(sizeof(*call));
    *call = (struct retry_call){settle, entry};
    settle->retries_under_way++;
    int64_t due_ms = clock_wall_us() / 1000 + delay_ms;
    source_will_be_due(entry->source, due_ms);
    queue_retry(settle->queue, settle->source->consumer, entry->id, due_ms,
                buf_bytes(&settle->member), retried, call);
}

/* Gives the row in settle->body and settle->headers to the failure transport. */
static void reject_with(struct settle *settle, struct entry *entry, const char *name,
                        const char *cause)
{
    log_error(LOG_WITH(log_bytes("topic", entry->envelope.topic), log_bytes("id", entry->identity),
                       log_text("error", cause)),
              "Message on \"%.*s\" goes to the failure transport: %s",
              BYTES_ARG(entry->envelope.topic), cause);
    /* A message that was sent again from the failure transport gets a new row. The row that it came from may still be
     * there, and is about to be removed. */
    struct buf identity = {0};
    if (entry_identity_is_ours(entry->identity) && !entry->envelope.redriven) {
        buf_append(&identity, BYTES("\"X-Mqtt-Id\":"));
        if (json_quote_php(&identity, entry->identity) < 0)
            buf_free(&identity); /* the headers don't have it either */
    }
    source_set_failing(entry);
    failures_add(settle->failures, entry, name, &identity, &settle->body, &settle->headers);
}

static void put_off(struct settle *settle, struct entry *entry, const char *cause)
{
    log_fault(&settle->put_off_fault, LOG_LEVEL_CRITICAL, LOG_WITH(log_text("error", cause)),
              "A message can't be handled and there is no failure transport: it is put off for an "
              "hour. Set [failure] dsn or DATABASE_URL to keep such messages for inspection");
    send_retry(settle, entry, cause, PUT_OFF_MS);
}

/* If no more rows may wait, leaves the entry in Redis, to be read again when there is room. */
static bool leave_if_full(struct settle *settle, struct entry *entry)
{
    if (!failures_are_full(settle->failures))
        return false;
    log_fault(&settle->full_fault, LOG_LEVEL_WARNING, LOG_PLAIN,
              "%s: no more rows can wait for the failure transport: further messages that can't be "
              "handled stay pending, and are tried again once rows are written",
              queue_address(settle->queue));
    entry_ids_push(&entry->source->unwritten, entry);
    source_release(entry);
    return true;
}

/* The row's stamps, which include the entry's name; name must outlive the result. */
static struct stamp_failure describe_row(const struct entry *entry, const char *cause,
                                         const char *id_text, char name[ENTRY_NAME_SIZE])
{
    const struct settle *settle = entry->source->settle;

    entry_name(entry, source_stream(settle->source), name);
    struct stamp_failure failure = describe(entry, cause, id_text, name);
    failure.receiver = bytes_of(settle->transport);
    return failure;
}

/* The row's body and headers, into settle->body and settle->headers. */
static int write_row(struct settle *settle, const struct envelope *envelope,
                     const struct stamp_failure *failure, struct error *err)
{
    struct envelope converted;
    struct arena arena = {0};
    struct error why;
    int result;

    if (settle->as_it_came || envelope->serializer == settle->format.serializer)
        return stamp_failure(&settle->body, &settle->headers, envelope, failure, err);
    if (envelope_convert(&converted, envelope, &settle->format, &arena, &why) == 0)
        result = stamp_failure(&settle->body, &settle->headers, &converted, failure, err);
    else
        result = error_set(err, ERR_FORMAT,
                           "its entry is kept as it was: [failure] serializer is %s, and %s. It "
                           "failed with: %.*s",
                           envelope_serializer_name(settle->format.serializer), why.text,
                           BYTES_ARG(failure->exception_message));
    arena_free(&arena);
    return result;
}

static void reject(struct settle *settle, struct entry *entry, const char *cause)
{
    char id[STREAM_ID_TEXT_SIZE];
    char name[ENTRY_NAME_SIZE];
    struct error err;

    if (!failures_exist(settle->failures)) {
        put_off(settle, entry, cause);
        return;
    }
    if (leave_if_full(settle, entry))
        return;
    stream_id_format(entry->id, id);
    struct stamp_failure failure = describe_row(entry, cause, id, name);
    if (retry_is_allowed(settle->strategy, entry->envelope.retry_count))
        failure.exception_class = EXCEPTION_FINAL;
    if (write_row(settle, &entry->envelope, &failure, &err) < 0)
        settle_undecodable(entry, err.text);
    else
        reject_with(settle, entry, name, cause);
}

static void retry(struct settle *settle, struct entry *entry, const char *cause)
{
    int64_t count = entry->envelope.retry_count;

    if (!retry_is_allowed(settle->strategy, count)) {
        reject(settle, entry, cause);
        return;
    }
    int64_t delay = retry_delay_ms(settle->strategy, count, sys_random_u64());
    log_warning(LOG_WITH(log_bytes("topic", entry->envelope.topic),
                         log_bytes("id", entry->identity), log_number("retry", count + 1),
                         log_number("delay_ms", delay)),
                "Message on \"%.*s\" failed: %s. Retry %lld of %lld in %lld ms",
                BYTES_ARG(entry->envelope.topic), cause, (long long)count + 1,
                (long long)settle->strategy->max_retries, (long long)delay);
    send_retry(settle, entry, cause, delay);
}

void settle_entry(struct entry *entry, enum verdict verdict, const char *cause)
{
    struct settle *settle = entry->source->settle;

    switch (verdict) {
    case VERDICT_DONE:
        done(settle, entry);
        break;
    case VERDICT_DROPPED:
        drop(settle, entry);
        break;
    case VERDICT_RETRY:
        retry(settle, entry, cause);
        break;
    case VERDICT_REJECT:
        reject(settle, entry, cause);
        break;
    }
}

void settle_undecodable(struct entry *entry, const char *cause)
{
    struct settle *settle = entry->source->settle;
    char id[STREAM_ID_TEXT_SIZE];
    char name[ENTRY_NAME_SIZE];

    stream_id_format(entry->id, id);
    if (!failures_exist(settle->failures)) {
        log_fault(&settle->undecodable_fault, LOG_LEVEL_CRITICAL, LOG_WITH(log_text("entry", id)),
                  "%s: entry %s can't be decoded (%s) and there is no failure transport: it stays "
                  "pending. Set [failure] dsn or DATABASE_URL",
                  queue_address(settle->queue), id, cause);
        source_release(entry);
        return;
    }
    if (leave_if_full(settle, entry))
        return;
    struct stamp_failure failure = describe_row(entry, cause, id, name);
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
        /* The ids are kept and sent again: after a pause, or at once over a new connection. */
        if (queue_is_connected(list->settle->queue))
            list->again_ms = clock_monotonic_ms() + REFUSED_WAIT_MS;
        source_report_error(list->settle->source, ERROR_ACKNOWLEDGE, err);
        return;
    }
    source_clear_error(list->settle->source, ERROR_ACKNOWLEDGE);
    latest_acknowledged(list->latest);
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
    latest_send(list->latest, list->settle->queue);
    list->under_way = list->len < QUEUE_ACKNOWLEDGE_MAX ? list->len : QUEUE_ACKNOWLEDGE_MAX;
    queue_acknowledge(list->settle->queue, list->ids, list->under_way, list->remove, acknowledged,
                      list);
}

void settle_step(struct settle *settle, int64_t now_ms, bool last)
{
    if (settle->forget_latest && queue_is_connected(settle->queue)) {
        settle->forget_latest = false;
        queue_forget_latest(settle->queue, NULL, NULL);
    }
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
