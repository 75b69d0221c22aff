#include "worker/delivery.h"

#include "common/base/clock.h"
#include "worker/settle.h"

#include <stdio.h>
#include <utlist.h>

/* A hub that takes longer is what we wait for: a kill from then on costs the entry nothing. */
#define WAITING_MS 1000

/* One at a time ---------------------------------------------------------------------------------------*/

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

/* Not what a handler has, or will have: its count stands until the handler has answered, whatever goes on beside. */
static bool is_at_work(const struct source *source)
{
    return source->entries[ENTRY_CURRENT] > 0;
}

bool delivery_is_busy(struct delivery *delivery)
{
    delivery->active = delivery->active && (delivery->head != NULL || is_at_work(delivery->source));
    return delivery->active;
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

/* What was read ----------------------------------------------------------------------------------------*/

/* How many come before the first one that was left out. */
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

    entry->deliveries = found->deliveries;
    entry->redelivered = redelivered;
    if (entry_fill(entry, found->value, source_stream(source), &err) < 0) {
        source_open(source, entry, ENTRY_CURRENT);
        settle_undecodable(entry, err.text);
        return;
    }
    publisher_match(delivery->publisher, entry);
    if (publication_drops(entry)) {
        source_open(source, entry, ENTRY_CURRENT);
        settle_entry(entry, VERDICT_DROPPED, "");
    } else if (lane != NULL) {
        source_open(source, entry, ENTRY_ASIDE);
        lanes_add_again(lane, entry, clock_monotonic_ms());
    } else if (redelivered) {
        source_open(source, entry, ENTRY_QUEUED);
        delivery_redeliver(delivery, entry);
    } else {
        source_open(source, entry, ENTRY_CURRENT);
        publisher_add(delivery->publisher, entry);
    }
}

size_t delivery_hand_on(struct delivery *delivery, const struct queue_entry *entries, size_t len,
                        bool redelivered, struct lane *lane)
{
    size_t whole = count_whole(delivery->source, entries, len);

    for (size_t i = 0; i < whole; i++)
        if (entries[i].value.data != NULL)
            hand_on(delivery, &entries[i], redelivered, lane);
        else
            settle_trimmed(delivery->source->settle, entries[i].id);
    return whole;
}
