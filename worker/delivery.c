#include "worker/delivery.h"

#include "common/base/clock.h"
#include "common/wire/retry.h"
#include "worker/settle.h"

#include <inttypes.h>
#include <stdio.h>
#include <utlist.h>

/* An entry whose answer takes longer waits for the hub: a kill of the worker after that is not charged to it. */
#define WAITING_MS     1000
#define DUE_PAGE       256
#define PENDING_PAGE   256 /* entries of one command */
#define UNCHANGED      (-1)
#define DUE_EVERY_MS   1000 /* PHP's workers add to the delayed set as well */
#define DEAD_EVERY_MS  5000
#define IDLE_LEAST_MS  3000 /* a live worker touches its entries more often than that */
#define EVERY_LEAST_MS 100  /* claim_interval may be less, as under PHP: at each read */
#define SWEEP_LEAST_MS 1000 /* a live PHP worker removes an entry sooner after its XACK */
#define SEARCH_PAGES   16   /* pages of one search; the next search goes on behind them */

void delivery_redeliver(struct delivery *delivery, struct entry *entry)
{
    DL_APPEND(delivery->head, entry);
    delivery->active = true;
}

static struct entry *take_head(struct delivery *delivery)
{
    struct entry *entry = delivery->head;

    DL_DELETE(delivery->head, entry);
    return entry;
}

void delivery_forget(struct delivery *delivery)
{
    while (delivery->head != NULL)
        source_release(take_head(delivery));
}

int64_t delivery_deadline_ms(const struct delivery *delivery)
{
    const struct source *source = delivery->source;

    if (source->counted == NULL || !source_can_count(source))
        return -1;
    return source->counted_ms + WAITING_MS;
}

/* An entry of a handler does not count here: its delivery count stands until the handler answers, and others go on. */
static bool is_at_work(const struct source *source)
{
    return source->entries[ENTRY_CURRENT] > 0;
}

bool delivery_is_busy(struct delivery *delivery)
{
    delivery->active = delivery->active && (delivery->head != NULL || is_at_work(delivery->source));
    return delivery->active;
}

static void hand_on_next(struct delivery *delivery)
{
    struct entry *entry = take_head(delivery);
    int64_t limit = delivery->source->child->settings->worker.delivery_limit;
    char cause[400];

    source_set_state(entry, ENTRY_CURRENT);
    if ((int64_t)entry->deliveries > limit) {
        snprintf(cause, sizeof(cause), "its worker%s died %u times%s%.*s",
                 entry->match->handler != NULL ? " or handler" : "", entry->deliveries - 1,
                 entry->death.len > 0 ? ", the last time: " : "", BYTES_ARG(entry->death));
        settle_entry(entry, VERDICT_REJECT, cause);
        return;
    }
    publisher_add(delivery->publisher, entry);
}

void delivery_step(struct delivery *delivery, int64_t now_ms)
{
    struct publisher *publisher = delivery->publisher;
    int64_t waiting_ms = delivery_deadline_ms(delivery);

    if (waiting_ms >= 0 && now_ms >= waiting_ms)
        source_set_aside(delivery->source->counted);
    while (delivery->head != NULL && !is_at_work(delivery->source) &&
           (!publisher_is_blocked(publisher) || publisher_wants_another(publisher)))
        hand_on_next(delivery);
}

/* How many entries come before the first one whose value the reading had no room for. */
static size_t count_whole(struct source *source, const struct queue_entry *entries, size_t len)
{
    size_t whole = len, largest = 0;

    if (len == 0)
        return 0;
    for (size_t i = len; i-- > 0;) {
        if (entries[i].value.data == NULL && entries[i].value.len > 0)
            whole = i;
        if (entries[i].value.len > largest)
            largest = entries[i].value.len;
    }
    source_learn_size(source, largest);
    return whole;
}

static void hand_on(struct delivery *delivery, const struct queue_entry *found, bool redelivered,
                    struct lane *lane)
{
    struct source *source = delivery->source;
    struct entry *entry = entry_new(source, found->id);
    struct error err;

    entry->deliveries = found->deliveries > 0 ? found->deliveries : 1;
    entry->redelivered = redelivered && found->deliveries > 0;
    if (entry_fill(entry, found->value, source_stream(source), &err) < 0) {
        source_open(source, entry, ENTRY_CURRENT);
        settle_undecodable(entry, err.text);
        return;
    }
    publisher_match(delivery->publisher, entry);
    source_correct_deliveries(entry);
    if (publication_drops(entry)) {
        source_open(source, entry, ENTRY_CURRENT);
        settle_entry(entry, VERDICT_DROPPED, "");
    } else if (lane != NULL) {
        source_open(source, entry, ENTRY_ASIDE);
        lanes_add_again(lane, entry, clock_monotonic_ms());
    } else if (entry->redelivered) {
        source_open(source, entry, ENTRY_QUEUED);
        delivery_redeliver(delivery, entry);
    } else {
        source_open(source, entry, ENTRY_CURRENT);
        publisher_add(delivery->publisher, entry);
    }
}

/* Claims own entries, a page of them with each command. */
struct claim {
    const struct source *source;
    int64_t deliveries; /* what the counts are set to; UNCHANGED: only the idle time is reset */
    struct stream_id ids[PENDING_PAGE];
    size_t len;
};

static void send_claim(struct claim *claim)
{
    const struct source *source = claim->source;

    if (claim->len > 0)
        queue_claim(source->writer, source->consumer, claim->ids, claim->len, claim->deliveries,
                    NULL, NULL);
    claim->len = 0;
}

static void add_to_claim(struct claim *claim, struct stream_id id)
{
    claim->ids[claim->len++] = id;
    if (claim->len == PENDING_PAGE)
        send_claim(claim);
}

/* Entries that were given back count as delivered before they are handled: Redis gets the command before the hub or a
 * handler gets them. Those that the reading had no room for stay new. */
static void count_given_back(const struct source *source, const struct queue_entry *entries,
                             size_t len)
{
    struct claim claim = {.source = source, .deliveries = 1};

    for (size_t i = 0; i < len; i++)
        if (entries[i].deliveries == 0 && entries[i].value.data != NULL)
            add_to_claim(&claim, entries[i].id);
    send_claim(&claim);
}

size_t delivery_hand_on(struct delivery *delivery, const struct queue_entry *entries, size_t len,
                        bool redelivered, struct lane *lane)
{
    size_t whole = count_whole(delivery->source, entries, len);

    count_given_back(delivery->source, entries, whole);
    for (size_t i = 0; i < whole; i++)
        if (entries[i].value.data != NULL)
            hand_on(delivery, &entries[i], redelivered, lane);
        else
            settle_trimmed(delivery->source->settle, entries[i].id);
    return whole;
}

static void refuse(struct delivery *delivery, const struct error *err)
{
    delivery->due.refused = true;
    source_report_error(delivery->source, ERROR_DUE, err);
}

static void next_read(void *context, int result, int64_t due_ms, const struct error *err)
{
    struct delivery *delivery = context;

    delivery->due.moving = false;
    delivery->source->due_ms = clock_monotonic_ms() + DUE_EVERY_MS;
    if (result < 0)
        refuse(delivery, err);
    if (!delivery->due.refused)
        source_clear_error(delivery->source, ERROR_DUE);
    /* A member that is due and could not be moved must not keep the loop spinning. */
    if (result == 0 && due_ms >= 0 && (due_ms > clock_wall_us() / 1000 || delivery->due.moved > 0))
        source_will_be_due(delivery->source, due_ms);
}

static void moved(void *context, int result, int64_t number, const struct error *err)
{
    struct delivery *delivery = context;

    if (result < 0) {
        refuse(delivery, err);
        return;
    }
    delivery->due.moved++;
    if (number == 1)
        stats_add(delivery->source->child->slot, STATS_MOVED, 1);
}

/* A member that can't be decoded becomes an entry unchanged, and so gets to the failure transport like any undecodable
 * entry. */
static void move(struct delivery *delivery, struct bytes member, struct buf *value,
                 struct arena *arena)
{
    struct queue *queue = delivery->source->writer;

    buf_clear(value);
    if (retry_member_to_value(value, member, queue_dsn(queue)->redis_serialized, arena) < 0) {
        buf_clear(value);
        buf_append(value, member);
    }
    queue_move(queue, member, buf_bytes(value), clock_wall_us() / 1000, moved, delivery);
    arena_clear(arena);
}

static void members_read(void *context, int result, const struct bytes *members, size_t len,
                         const struct error *err)
{
    struct delivery *delivery = context;
    struct buf value = {0};
    struct arena arena = {0};
    size_t largest = 0;

    if (result < 0)
        refuse(delivery, err);
    for (size_t i = 0; result == 0 && i < len; i++) {
        if (members[i].len > largest)
            largest = members[i].len;
        if (members[i].data != NULL) /* NULL: no room in this reading, it comes in the next */
            move(delivery, members[i], &value, &arena);
    }
    if (len > 0)
        source_learn_size(delivery->source, largest);
    arena_free(&arena);
    buf_free(&value);
    queue_next_due(delivery->source->writer, next_read, delivery);
}

void delivery_move_due(struct delivery *delivery, int64_t now_ms, size_t bytes)
{
    if (delivery->due.moving || now_ms < delivery->source->due_ms)
        return;
    delivery->due.moving = true;
    delivery->due.moved = 0;
    delivery->due.refused = false;
    queue_read_due(delivery->source->writer, clock_wall_us() / 1000,
                   source_page_size(delivery->source, DUE_PAGE, bytes), bytes, members_read,
                   delivery);
}

int64_t delivery_due_ms(const struct delivery *delivery)
{
    return delivery->due.moving ? -1 : delivery->source->due_ms;
}

/* When the next search for idle entries of other consumers is due. */
static int64_t next_search_ms(const struct delivery *delivery)
{
    int64_t interval_ms = queue_dsn(delivery->source->writer)->claim_interval_ms;

    return clock_monotonic_ms() + (interval_ms > EVERY_LEAST_MS ? interval_ms : EVERY_LEAST_MS);
}

static void add_found(struct delivery *delivery, const struct queue_entry *found, size_t len,
                      const char *whose)
{
    if (len == 0)
        return;
    stats_add(delivery->source->child->slot, STATS_CLAIMED, len);
    log_notice(LOG_WITH(log_number("entries", (int64_t)len)), "Took over %zu entries %s", len,
               whose);
    delivery->takeover.dead_ms = 0; /* there may be more */
    for (size_t i = 0; i < len; i++)
        entry_ids_push_left(&delivery->source->unread,
                            (struct entry_left){.source = delivery->source,
                                                .id = found[i].id,
                                                .redelivered = found[i].deliveries > 0});
}

static void report(struct delivery *delivery, enum source_error about, const struct error *err)
{
    delivery->takeover.unanswered = true;
    source_report_error(delivery->source, about, err);
}

static void dead_taken(void *context, int result, const struct queue_entry *found, size_t len,
                       const struct error *err)
{
    struct delivery *delivery = context;

    delivery->takeover.names_left--;
    if (result < 0)
        report(delivery, ERROR_DEAD, err);
    else
        add_found(delivery, found, len, "of a consumer that is gone");
}

static void names_read(void *context, int result, const struct bytes *names, size_t len,
                       const struct error *err)
{
    struct delivery *delivery = context;
    struct delivery_takeover *takeover = &delivery->takeover;
    struct source *source = delivery->source;

    if (result < 0)
        source_report_error(source, ERROR_DEAD, err);
    else
        source_clear_error(source, ERROR_DEAD);
    if (len > 1)
        takeover->count = takeover->count > len ? takeover->count / len : 1;
    for (size_t i = 0; result == 0 && i < len; i++) {
        if (bytes_equal_text(names[i], source->consumer))
            continue;
        takeover->names_left++;
        queue_take_over_dead(source->writer, source->consumer, names[i], takeover->count,
                             dead_taken, delivery);
    }
    takeover->names_left--;
}

static void search(struct delivery *delivery);

/* An undecodable entry may stay pending for ever, here or with another worker. A page of such entries must not end the
 * search for the idle entries behind it. */
static void idle_taken(void *context, int result, const struct queue_entry *found, size_t len,
                       struct stream_id next, const struct error *err)
{
    struct delivery *delivery = context;
    struct delivery_takeover *takeover = &delivery->takeover;

    takeover->searching = false;
    if (result < 0) {
        report(delivery, ERROR_IDLE, err);
        return;
    }
    source_clear_error(delivery->source, ERROR_IDLE);
    takeover->after = next;
    bool more = next.ms != 0 || next.sequence != 0;
    if (len == 0 && more && --takeover->pages_left > 0) {
        search(delivery);
        return;
    }
    add_found(delivery, found, len, "that were pending, and idle, for redeliver_timeout");
    if (len > 0 && more)
        takeover->idle_ms = 0;
}

static void search(struct delivery *delivery)
{
    struct delivery_takeover *takeover = &delivery->takeover;
    struct source *source = delivery->source;
    int64_t timeout_ms = queue_dsn(source->writer)->redeliver_timeout_ms;

    takeover->searching = true;
    queue_take_over_idle(source->writer, source->consumer,
                         timeout_ms > IDLE_LEAST_MS ? timeout_ms : IDLE_LEAST_MS, takeover->after,
                         takeover->search_count, idle_taken, delivery);
}

/* A failed sweep is logged at debug only: the entries were handled, they merely take room. */
static void swept(void *context, int result, struct bytes until, int64_t removed,
                  const struct error *err)
{
    struct delivery *delivery = context;
    struct delivery_takeover *takeover = &delivery->takeover;

    takeover->sweeping = false;
    if (result < 0) {
        log_debug(LOG_PLAIN, "The search for entries that others left in the stream failed: %s",
                  err->text);
        return;
    }
    snprintf(takeover->swept_until, sizeof(takeover->swept_until), "%.*s", BYTES_ARG(until));
    if (removed > 0)
        log_notice(LOG_WITH(log_number("entries", removed)),
                   "Removed %" PRId64
                   " entries that others had acknowledged and left in the stream",
                   removed);
}

static void sweep(struct delivery *delivery, int64_t now_ms)
{
    struct delivery_takeover *takeover = &delivery->takeover;
    const struct dsn_redis *dsn = queue_dsn(delivery->source->writer);
    int64_t interval_ms = dsn->claim_interval_ms;

    if (!dsn->delete_after_ack || !dsn->delete_after_reject || takeover->sweeping ||
        now_ms < takeover->sweep_ms)
        return;
    takeover->sweeping = true;
    takeover->sweep_ms = now_ms + (interval_ms > SWEEP_LEAST_MS ? interval_ms : SWEEP_LEAST_MS);
    queue_sweep(delivery->source->writer, takeover->swept_until, swept, delivery);
}

void delivery_take_over(struct delivery *delivery, int64_t now_ms, size_t count)
{
    struct delivery_takeover *takeover = &delivery->takeover;

    if (takeover->names_left == 0 && now_ms >= takeover->dead_ms) {
        takeover->names_left = 1; /* the reading of the names itself */
        takeover->dead_ms = now_ms + DEAD_EVERY_MS;
        takeover->count = count;
        queue_read_names(delivery->source->writer, names_read, delivery);
    }
    if (!takeover->searching && now_ms >= takeover->idle_ms) {
        takeover->idle_ms = next_search_ms(delivery);
        takeover->search_count = count;
        takeover->pages_left = SEARCH_PAGES;
        search(delivery);
    }
    sweep(delivery, now_ms);
}

bool delivery_claims_unanswered(const struct delivery *delivery)
{
    const struct delivery_takeover *takeover = &delivery->takeover;

    return takeover->unanswered || takeover->names_left > 0 || takeover->searching;
}

int64_t delivery_search_ms(const struct delivery *delivery)
{
    return delivery->takeover.searching ? -1 : delivery->takeover.idle_ms;
}

static void note_redelivered(void *context, const struct entry_left *left)
{
    bool *found = context;

    *found = *found || left->redelivered;
}

bool delivery_has_redelivered(const struct delivery *delivery)
{
    bool found = false;

    lanes_each_pending(publisher_lanes(delivery->publisher), delivery->source, note_redelivered,
                       &found);
    return found;
}

static void add_pending(void *context, const struct entry_left *left)
{
    struct claim *claim = context;

    if (claim->deliveries != 0 || !left->redelivered)
        add_to_claim(claim, left->id);
}

static void claim_all_pending(const struct delivery *delivery, int64_t deliveries)
{
    struct claim claim = {.source = delivery->source, .deliveries = deliveries};

    lanes_each_pending(publisher_lanes(delivery->publisher), delivery->source, add_pending, &claim);
    send_claim(&claim);
}

void delivery_touch_pending(const struct delivery *delivery)
{
    claim_all_pending(delivery, UNCHANGED);
}

void delivery_give_back(const struct delivery *delivery)
{
    source_uncount_all(delivery->source);
    claim_all_pending(delivery, 0);
}

void delivery_begin(struct delivery *delivery)
{
    struct delivery_takeover *takeover = &delivery->takeover;

    delivery->due.moving = false;
    delivery->source->due_ms = 0;
    takeover->names_left = 0;
    takeover->searching = false;
    takeover->dead_ms = 0;
    takeover->idle_ms = next_search_ms(delivery);
    takeover->sweeping = false;
    takeover->unanswered = false;
    takeover->sweep_ms = 0;
    takeover->swept_until[0] = '\0';
    source_forget_overcounts(delivery->source);
}
