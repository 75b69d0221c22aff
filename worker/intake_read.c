/* What an intake reads, and how it is handed on. */
#include "common/base/clock.h"
#include "common/wire/delayed.h"
#include "worker/intake_internal.h"
#include "worker/settle.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAGE           256  /* pending entries, due members, adopted entries at a time */
#define BLOCK_MS       5000 /* XREADGROUP; anything else wakes us anyway */
#define DUE_EVERY_MS   1000 /* PHP's workers add to the delayed set as well */
#define ADOPT_EVERY_MS 5000

static void open_entry(struct intake *intake, struct entry *entry)
{
    entry->open_previous = NULL;
    entry->open_next = intake->open_first;
    if (intake->open_first != NULL)
        intake->open_first->open_previous = entry;
    intake->open_first = entry;
    intake->open++;
}

/* Fills the entry from what was read; false: it can't be decoded, err says why. */
static bool decode(struct entry *entry, struct error *err)
{
    struct arena *arena = &entry->batch->arena;
    char id[STREAM_ID_TEXT_SIZE];

    stream_id_format(entry->id, id);
    entry->identity = arena_copy(arena, bytes_of(id));
    if (envelope_decode(&entry->envelope, entry->value, arena, err) < 0) {
        entry->envelope = (struct envelope){.topic = BYTES("?")};
        return false;
    }
    if (entry->envelope.mqtt_id.len > 0)
        entry->identity = entry->envelope.mqtt_id;
    return true;
}

static void careful_add(struct intake *intake, struct entry *entry)
{
    entry->next = NULL;
    if (intake->careful_tail != NULL)
        intake->careful_tail->next = entry;
    else
        intake->careful_head = entry;
    intake->careful_tail = entry;
}

void intake_deliver(struct intake *intake, const struct queue_entry *entries, size_t len,
                    bool redelivered)
{
    if (len == 0)
        return;
    struct batch *batch = batch_new(len);
    int64_t now = clock_monotonic_us();

    /* Held by one more until all are placed: the first may be settled before the last is looked at. */
    batch->open = len + 1;
    for (size_t i = 0; i < len; i++) {
        struct entry *entry = &batch->entries[i];
        struct error err;

        *entry = (struct entry){.id = entries[i].id,
                                .batch = batch,
                                .intake = intake,
                                .read_us = now,
                                .deliveries = entries[i].deliveries,
                                .redelivered = redelivered};
        if (entries[i].value.data == NULL) {
            settle_trimmed(intake->settle, entry->id);
            entry_release(entry);
            continue;
        }
        open_entry(intake, entry);
        entry->value = arena_copy(&batch->arena, entries[i].value);
        if (!decode(entry, &err))
            settle_undecodable(entry, err.text);
        else if (redelivered && intake->careful)
            careful_add(intake, entry);
        else
            publisher_add(intake->publisher, entry);
    }
    entry_release(&(struct entry){.batch = batch});
}

static void charged(void *context, int result, const struct error *err)
{
    struct intake *intake = context;
    struct entry *entry = intake->careful_asked;

    (void)err;
    intake->careful_asked = NULL;
    if (result < 0) {
        intake_settled(intake, entry); /* the connection broke: it will be read again */
        return;
    }
    entry->charged = true;
    publisher_add(intake->publisher, entry);
}

static bool careful_in_hand(const struct intake *intake)
{
    size_t waiting = 0;

    for (const struct entry *entry = intake->careful_head; entry != NULL; entry = entry->next)
        waiting++;
    return intake->careful_asked != NULL || intake->open > waiting;
}

/* The next of those that a worker died with, once the one before is settled. */
void intake_careful_turn(struct intake *intake)
{
    struct entry *entry = intake->careful_head;
    char cause[100];

    if (entry == NULL || careful_in_hand(intake) || publisher_is_resting(intake->publisher))
        return;
    intake->careful_head = entry->next;
    if (intake->careful_head == NULL)
        intake->careful_tail = NULL;
    entry->next = NULL;
    if ((int64_t)entry->deliveries > intake->child->settings->worker.delivery_limit) {
        snprintf(cause, sizeof(cause), "its worker died %u times", entry->deliveries - 1);
        settle_reject(entry, cause);
        return;
    }
    intake->careful_asked = entry;
    queue_charge(intake->writer, intake->me.consumer, entry->id, entry->deliveries + 1, charged,
                 intake);
}

void intake_waiting(struct intake *intake, struct entry *entry)
{
    if (!entry->charged || !queue_is_connected(intake->writer))
        return;
    entry->charged = false;
    queue_charge(intake->writer, intake->me.consumer, entry->id, entry->deliveries, NULL, NULL);
}

static void pending_read(void *context, int result, const struct queue_entry *entries, size_t len,
                         const struct error *err)
{
    struct intake *intake = context;

    intake->asked = false;
    if (intake->phase != INTAKE_PENDING)
        return;
    if (result < 0) {
        intake_distrust(intake, err->text);
        return;
    }
    if (len == 0) {
        intake->phase = INTAKE_RUNNING;
        intake->due_ms = 0;
        intake->adopt_ms = 0;
        intake->claim_ms = clock_monotonic_ms() + queue_dsn(intake->writer)->claim_interval_ms;
        return;
    }
    intake->pending_after = entries[len - 1].id;
    intake_deliver(intake, entries, len, true);
}

void intake_read_pending_page(struct intake *intake)
{
    if (intake->careful_head != NULL || intake->careful_asked != NULL)
        return;
    intake->asked = true;
    queue_read_pending(intake->writer, intake->me.consumer, intake->pending_after, PAGE,
                       pending_read, intake);
}

static void next_due_read(void *context, int result, int64_t due_ms, const struct error *err)
{
    struct intake *intake = context;

    (void)err;
    intake->moving = false;
    intake->due_ms = clock_monotonic_ms() + DUE_EVERY_MS;
    if (result == 0 && due_ms >= 0)
        intake_will_be_due(intake, due_ms);
}

static void moved(void *context, int result, int64_t number, const struct error *err)
{
    struct intake *intake = context;

    (void)err;
    if (result == 0 && number == 1)
        stats_add(intake->child->slot, STATS_MOVED, 1);
}

static void due_read(void *context, int result, const struct bytes *members, size_t len,
                     const struct error *err)
{
    struct intake *intake = context;
    struct buf value = {0};
    struct arena arena = {0};
    struct error fault;

    (void)err;
    for (size_t i = 0; result == 0 && i < len; i++) {
        buf_clear(&value);
        /* A member that can't be read becomes an entry as it is, and so gets to the failure
         * transport like any other that can't. */
        if (delayed_to_value(&value, members[i], queue_dsn(intake->writer)->redis_serialized,
                             &arena, &fault) < 0) {
            buf_clear(&value);
            buf_append(&value, members[i]);
        }
        queue_move(intake->writer, members[i], buf_bytes(&value), moved, intake);
    }
    arena_free(&arena);
    buf_free(&value);
    queue_next_due(intake->writer, next_due_read, intake);
}

void intake_move_due(struct intake *intake)
{
    intake->moving = true;
    queue_read_due(intake->writer, clock_wall_us() / 1000, PAGE, due_read, intake);
}

/* Entries of others that are ours now: their bodies. */
static void taken_read(void *context, int result, const struct queue_entry *entries, size_t len,
                       const struct error *err)
{
    struct intake *intake = context;

    if (result < 0) {
        intake_distrust(intake, err->text);
        return;
    }
    intake_deliver(intake, entries, len, true);
}

static void taken(void *context, int result, const struct stream_id *ids, size_t len,
                  const struct error *err)
{
    struct intake *intake = context;

    intake->claiming = false;
    if (result < 0) {
        if (result != -ERR_UNREACHABLE)
            intake_distrust(intake, err->text);
        return;
    }
    if (len == 0)
        return;
    stats_add(intake->child->slot, STATS_CLAIMED, len);
    log_notice(LOG_WITH(log_number("entries", (int64_t)len)),
               "Took over %zu entries of a consumer that is gone", len);
    intake->adopt_ms = 0; /* there may be more */
    queue_read_ids(intake->writer, ids, len, taken_read, intake);
}

static void names_read(void *context, int result, const struct bytes *names, size_t len,
                       const struct error *err)
{
    struct intake *intake = context;

    (void)err;
    intake->adopting = false;
    for (size_t i = 0; result == 0 && i < len; i++)
        if (!bytes_equal_text(names[i], intake->me.consumer))
            queue_adopt(intake->writer, intake->me.consumer, names[i], PAGE, taken, intake);
}

void intake_adopt(struct intake *intake, size_t room)
{
    (void)room;
    intake->adopting = true;
    intake->adopt_ms = clock_monotonic_ms() + ADOPT_EVERY_MS;
    queue_read_names(intake->writer, names_read, intake);
}

void intake_claim(struct intake *intake, size_t room)
{
    const struct dsn_redis *dsn = queue_dsn(intake->writer);

    intake->claiming = true;
    intake->claim_ms = clock_monotonic_ms() + dsn->claim_interval_ms;
    queue_claim_idle(intake->writer, intake->me.consumer, dsn->redeliver_timeout_ms,
                     room < PAGE ? room : PAGE, taken, intake);
}

static void new_read(void *context, int result, const struct queue_entry *entries, size_t len,
                     const struct error *err)
{
    struct intake *intake = context;

    intake->reading = false;
    if (result == -ERR_NOT_FOUND) {
        intake_distrust(intake, err->text); /* the stream is gone: the group is made anew */
    } else if (result < 0) {
        if (!intake->stopped && intake->phase > INTAKE_CONNECTING)
            intake_distrust(intake, err->text);
    } else {
        intake->dry = len == 0;
        intake_deliver(intake, entries, len, false);
    }
}

void intake_read_more(struct intake *intake, size_t room)
{
    intake->reading = true;
    queue_read_new(intake->reader, intake->me.consumer, room, intake->dry ? BLOCK_MS : 0, new_read,
                   intake);
}

void intake_keep_open(struct intake *intake)
{
    const struct dsn_redis *dsn = queue_dsn(intake->writer);
    struct stream_id ids[PAGE];
    size_t len = 0;

    intake->keep_ms = clock_monotonic_ms() + dsn->redeliver_timeout_ms / 3;
    for (const struct entry *entry = intake->open_first; entry != NULL; entry = entry->open_next) {
        ids[len++] = entry->id;
        if (len == PAGE || entry->open_next == NULL) {
            queue_keep(intake->writer, intake->me.consumer, ids, len, NULL, NULL);
            len = 0;
        }
    }
}
