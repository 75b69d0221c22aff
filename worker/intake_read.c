/* What an intake reads, and how it is handed on. */
#include "common/base/clock.h"
#include "common/wire/delayed.h"
#include "worker/intake_internal.h"
#include "worker/settle.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAGE           256                /* entries asked for at a time, at the most */
#define PAGE_BYTES     (16 * 1024 * 1024) /* and about so many bytes */
#define LARGEST_LEAST  1024
#define BLOCK_MS       5000 /* XREADGROUP; anything else wakes us anyway */
#define DUE_EVERY_MS   1000 /* PHP's workers add to the delayed set as well */
#define ADOPT_EVERY_MS 5000
#define KEEP_LEAST_MS  1000
#define CLAIM_PAGES    16 /* looked through in one turn; the next goes on behind them */

/* How many to ask for, so that a page of large entries does not fill the memory. */
static size_t page_size(const struct intake *intake, size_t room)
{
    size_t size = PAGE_BYTES / intake->largest;

    if (size > PAGE)
        size = PAGE;
    if (size > room)
        size = room;
    return size > 0 ? size : 1;
}

static void learn_sizes(struct intake *intake, size_t largest)
{
    intake->largest = largest > intake->largest / 2 ? largest : intake->largest / 2;
    if (intake->largest < LARGEST_LEAST)
        intake->largest = LARGEST_LEAST;
}

static void kept(struct intake *intake, size_t promised)
{
    intake->promised -= promised < intake->promised ? promised : intake->promised;
}

static void open_entry(struct intake *intake, struct entry *entry)
{
    entry->open_previous = NULL;
    entry->open_next = intake->open_first;
    if (intake->open_first != NULL)
        intake->open_first->open_previous = entry;
    intake->open_first = entry;
    intake->open++;
    intake->open_bytes += entry->value.len;
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

void intake_deliver(struct intake *intake, const struct queue_entry *entries, size_t len,
                    bool redelivered)
{
    if (len == 0)
        return;
    struct batch *batch = batch_new(len);
    int64_t now = clock_monotonic_us();
    size_t largest = 0;

    /* Held by one more until all are placed: the first may be settled before the last is looked at. */
    batch->open = len + 1;
    for (size_t i = 0; i < len; i++) {
        struct entry *entry = &batch->entries[i];
        struct error err;

        *entry = (struct entry){.id = entries[i].id,
                                .batch = batch,
                                .intake = intake,
                                .read_us = now,
                                .deliveries = entries[i].deliveries};
        if (entries[i].value.len > largest)
            largest = entries[i].value.len;
        if (entries[i].value.data == NULL) {
            settle_trimmed(intake->settle, entry->id);
            entry_release(entry);
            continue;
        }
        entry->value = arena_copy(&batch->arena, entries[i].value);
        open_entry(intake, entry);
        if (!decode(entry, &err))
            settle_undecodable(entry, err.text);
        else if (redelivered)
            intake_careful_add(intake, entry);
        else
            publisher_add(intake->publisher, entry);
    }
    entry_release(&(struct entry){.batch = batch});
    learn_sizes(intake, largest);
}

struct entry *intake_detach(struct intake *intake, struct entry *entry)
{
    struct entry *alone = batch_new(1)->entries;

    *alone = (struct entry){.id = entry->id,
                            .batch = alone->batch,
                            .intake = intake,
                            .read_us = entry->read_us,
                            .deliveries = entry->deliveries,
                            .rejecting = true};
    open_entry(intake, alone);
    intake->rejecting++;
    intake_settled(intake, entry);
    return alone;
}

static void pending_read(void *context, int result, const struct queue_entry *entries, size_t len,
                         const struct error *err)
{
    struct intake *intake = context;

    intake->asked = false;
    if (intake->phase != INTAKE_PENDING)
        return;
    if (result < 0) {
        intake_fail(intake, result, err);
        return;
    }
    if (len == 0) {
        intake->phase = INTAKE_RUNNING;
        intake->dry = false;
        intake->due_ms = 0;
        intake->adopt_ms = 0;
        intake->claim_ms = clock_monotonic_ms() + queue_dsn(intake->writer)->claim_interval_ms;
        return;
    }
    intake_be_well(intake);
    intake->pending_after = entries[len - 1].id;
    intake_deliver(intake, entries, len, true);
}

void intake_read_pending_page(struct intake *intake, size_t room)
{
    if (intake->careful_head != NULL || intake_careful_in_hand(intake))
        return;
    intake->asked = true;
    queue_read_pending(intake->writer, intake->me.consumer, intake->pending_after,
                       page_size(intake, room), pending_read, intake);
}

static void due_went_wrong(struct intake *intake, const struct error *err)
{
    intake->due_refused = true;
    intake_complain(intake, COMPLAINT_DUE, err);
}

static void next_due_read(void *context, int result, int64_t due_ms, const struct error *err)
{
    struct intake *intake = context;

    intake->moving = false;
    intake->due_ms = clock_monotonic_ms() + DUE_EVERY_MS;
    if (result < 0)
        due_went_wrong(intake, err);
    if (!intake->due_refused)
        intake_content(intake, COMPLAINT_DUE);
    /* One that is due and could not be moved must not keep us busy. */
    if (result == 0 && due_ms >= 0 && (due_ms > clock_wall_us() / 1000 || intake->moved > 0))
        intake_will_be_due(intake, due_ms);
}

static void moved(void *context, int result, int64_t number, const struct error *err)
{
    struct intake *intake = context;

    if (result < 0) {
        due_went_wrong(intake, err);
        return;
    }
    intake->moved++;
    if (number == 1)
        stats_add(intake->child->slot, STATS_MOVED, 1);
}

static void due_read(void *context, int result, const struct bytes *members, size_t len,
                     const struct error *err)
{
    struct intake *intake = context;
    struct buf value = {0};
    struct arena arena = {0};
    struct error fault;
    size_t largest = 0;

    if (result < 0)
        due_went_wrong(intake, err);
    for (size_t i = 0; result == 0 && i < len; i++) {
        if (members[i].len > largest)
            largest = members[i].len;
        buf_clear(&value);
        /* A member that can't be read becomes an entry as it is, and so gets to the failure
         * transport like any other that can't. */
        if (delayed_to_value(&value, members[i], queue_dsn(intake->writer)->redis_serialized,
                             &arena, &fault) < 0) {
            buf_clear(&value);
            buf_append(&value, members[i]);
        }
        queue_move(intake->writer, members[i], buf_bytes(&value), moved, intake);
        arena_clear(&arena);
    }
    if (len > 0)
        learn_sizes(intake, largest);
    arena_free(&arena);
    buf_free(&value);
    queue_next_due(intake->writer, next_due_read, intake);
}

void intake_move_due(struct intake *intake)
{
    intake->moving = true;
    intake->moved = 0;
    intake->due_refused = false;
    queue_read_due(intake->writer, clock_wall_us() / 1000, page_size(intake, PAGE), due_read,
                   intake);
}

/* Entries of others that are ours now: their bodies. */
static void taken_read(void *context, int result, const struct queue_entry *entries, size_t len,
                       const struct error *err)
{
    struct intake *intake = context;

    if (result < 0) {
        intake_fail(intake, result, err);
        return;
    }
    kept(intake, len);
    intake_deliver(intake, entries, len, true);
}

static void read_taken(struct intake *intake, const struct stream_id *ids, size_t len,
                       const char *whose)
{
    if (len == 0)
        return;
    stats_add(intake->child->slot, STATS_CLAIMED, len);
    log_notice(LOG_WITH(log_number("entries", (int64_t)len)), "Took over %zu entries %s", len,
               whose);
    intake->adopt_ms = 0; /* there may be more */
    intake->promised += len;
    queue_read_ids(intake->writer, ids, len, taken_read, intake);
}

static void adopted(void *context, int result, const struct stream_id *ids, size_t len,
                    const struct error *err)
{
    struct intake *intake = context;

    kept(intake, intake->adopt_share);
    intake->adopting = --intake->adopt_left > 0;
    if (result < 0)
        intake_complain(intake, COMPLAINT_ADOPT, err);
    else
        read_taken(intake, ids, len, "of a consumer that is gone");
}

static void names_read(void *context, int result, const struct bytes *names, size_t len,
                       const struct error *err)
{
    struct intake *intake = context;

    if (result < 0)
        intake_complain(intake, COMPLAINT_ADOPT, err);
    else
        intake_content(intake, COMPLAINT_ADOPT);
    if (len > 1)
        intake->adopt_share = intake->adopt_share > len ? intake->adopt_share / len : 1;
    /* One for ourselves, so that answers that come at once don't end the round. */
    intake->adopt_left = 1;
    for (size_t i = 0; result == 0 && i < len; i++) {
        if (bytes_equal_text(names[i], intake->me.consumer))
            continue;
        intake->adopt_left++;
        intake->promised += intake->adopt_share;
        queue_adopt(intake->writer, intake->me.consumer, names[i], intake->adopt_share, adopted,
                    intake);
    }
    intake->adopting = --intake->adopt_left > 0;
}

void intake_adopt(struct intake *intake, size_t room)
{
    intake->adopting = true;
    intake->adopt_ms = clock_monotonic_ms() + ADOPT_EVERY_MS;
    intake->adopt_share = page_size(intake, room);
    queue_read_names(intake->writer, names_read, intake);
}

static void claim_page(struct intake *intake);

/* One that can't be read stays pending, with us or with another, for ever: what comes behind such must be
 * found all the same. */
static void claimed(void *context, int result, const struct stream_id *ids, size_t len,
                    struct stream_id next, const struct error *err)
{
    struct intake *intake = context;

    if (result < 0) {
        intake->claiming = false;
        kept(intake, intake->claim_count);
        intake_complain(intake, COMPLAINT_CLAIM, err);
        return;
    }
    intake_content(intake, COMPLAINT_CLAIM);
    intake->claim_after = next;
    bool more = next.ms != 0 || next.sequence != 0;
    if (len == 0 && more && --intake->claim_pages > 0) {
        claim_page(intake);
        return;
    }
    intake->claiming = false;
    kept(intake, intake->claim_count);
    read_taken(intake, ids, len, "that were pending, and idle, for redeliver_timeout");
    if (len > 0 && more)
        intake->claim_ms = 0;
}

static void claim_page(struct intake *intake)
{
    queue_claim_idle(intake->writer, intake->me.consumer,
                     queue_dsn(intake->writer)->redeliver_timeout_ms, intake->claim_after,
                     intake->claim_count, claimed, intake);
}

void intake_claim(struct intake *intake, size_t room)
{
    intake->claiming = true;
    intake->claim_ms = clock_monotonic_ms() + queue_dsn(intake->writer)->claim_interval_ms;
    intake->claim_count = page_size(intake, room);
    intake->claim_pages = CLAIM_PAGES;
    intake->promised += intake->claim_count;
    claim_page(intake);
}

static void new_read(void *context, int result, const struct queue_entry *entries, size_t len,
                     const struct error *err)
{
    struct intake *intake = context;

    intake->reading = false;
    kept(intake, intake->reading_count);
    if (result < 0) {
        /* Also when the stream is gone: the group is made anew. */
        if (!intake->stopped)
            intake_fail(intake, result, err);
        return;
    }
    if (!intake->proven) {
        intake->proven = true;
        backoff_reset(&intake->backoff);
        intake_be_well(intake);
    }
    intake->dry = len == 0;
    intake_deliver(intake, entries, len, false);
}

void intake_read_more(struct intake *intake, size_t room)
{
    size_t count = page_size(intake, room);

    intake->reading = true;
    /* One that waits for what may never come keeps no room from the others. */
    intake->reading_count = intake->dry ? 0 : count;
    intake->promised += intake->reading_count;
    queue_read_new(intake->reader, intake->me.consumer, count, intake->dry ? BLOCK_MS : 0, new_read,
                   intake);
}

void intake_keep_open(struct intake *intake)
{
    const struct dsn_redis *dsn = queue_dsn(intake->writer);
    struct stream_id ids[PAGE];
    size_t len = 0;

    int64_t every_ms = dsn->redeliver_timeout_ms / 3;

    intake->keep_ms = clock_monotonic_ms() + (every_ms > KEEP_LEAST_MS ? every_ms : KEEP_LEAST_MS);
    for (const struct entry *entry = intake->open_first; entry != NULL; entry = entry->open_next) {
        ids[len++] = entry->id;
        if (len == PAGE || entry->open_next == NULL) {
            queue_keep(intake->writer, intake->me.consumer, ids, len, NULL, NULL);
            len = 0;
        }
    }
}
