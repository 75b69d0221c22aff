#include "worker/redelivery.h"

#include <stdio.h>
#include <utlist.h>

/* A hub that takes longer is what we wait for: a kill from then on costs the entry nothing. */
#define WAITING_MS 1000

void redelivery_add(struct redelivery *redelivery, struct entry *entry)
{
    DL_APPEND(redelivery->head, entry);
    redelivery->active = true;
}

static struct entry *take_head(struct redelivery *redelivery)
{
    struct entry *entry = redelivery->head;

    DL_DELETE(redelivery->head, entry);
    return entry;
}

void redelivery_forget(struct redelivery *redelivery)
{
    while (redelivery->head != NULL)
        source_release(take_head(redelivery));
}

static bool is_for_handler(const struct entry *entry)
{
    return entry != NULL && (entry->state == ENTRY_WAITING || entry->state == ENTRY_HANDLING);
}

int64_t redelivery_deadline_ms(const struct redelivery *redelivery)
{
    const struct source *source = redelivery->source;

    if (source->counted == NULL || !source_can_count(source))
        return -1;
    if (is_for_handler(source->counted))
        return -1; /* however long that takes, it may die of it */
    return source->counted_ms + WAITING_MS;
}

/* What waits for its handler is at work from when it is counted: before that the handler may not even run. */
static bool is_at_work(const struct source *source)
{
    return source->entries[ENTRY_CURRENT] + source->entries[ENTRY_HANDLING] > 0 ||
           is_for_handler(source->counted) || is_for_handler(source->counting);
}

bool redelivery_is_busy(struct redelivery *redelivery)
{
    redelivery->active =
        redelivery->active && (redelivery->head != NULL || is_at_work(redelivery->source));
    return redelivery->active;
}

static void note_redelivered(void *context, const struct left *left)
{
    bool *found = context;

    *found = *found || left->redelivered;
}

bool redelivery_may_be_pending(const struct redelivery *redelivery)
{
    bool found = false;

    lanes_each_pending(publisher_lanes(redelivery->publisher), redelivery->source, note_redelivered,
                       &found);
    return found;
}

static void hand_on(struct redelivery *redelivery)
{
    struct entry *entry = take_head(redelivery);
    int64_t limit = redelivery->source->child->settings->worker.delivery_limit;
    char cause[400];

    source_set_state(entry, ENTRY_CURRENT);
    if ((int64_t)entry->deliveries > limit) {
        snprintf(cause, sizeof(cause), "its worker%s died %u times%s%.*s",
                 entry->match->handler != NULL ? " or handler" : "", entry->deliveries - 1,
                 entry->death.len > 0 ? ", the last time: " : "", BYTES_ARG(entry->death));
        settle_entry(entry, VERDICT_REJECT, cause);
        return;
    }
    publisher_add(redelivery->publisher, entry);
}

void redelivery_step(struct redelivery *redelivery, int64_t now_ms)
{
    struct publisher *publisher = redelivery->publisher;
    int64_t waiting_ms = redelivery_deadline_ms(redelivery);

    if (waiting_ms >= 0 && now_ms >= waiting_ms)
        source_set_aside(redelivery->source->counted);
    while (redelivery->head != NULL && !is_at_work(redelivery->source) &&
           (!publisher_is_blocked(publisher) || publisher_wants_another(publisher)))
        hand_on(redelivery);
}
