#include "worker/delivery.h"

#include "common/base/clock.h"
#include "worker/settle.h"

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

static void hand_on(struct redelivery *redelivery, const struct queue_entry *found,
                    bool redelivered, struct lane *lane)
{
    struct source *source = redelivery->source;
    struct entry *entry = entry_new(source, found->id);
    struct error err;

    entry->deliveries = found->deliveries;
    entry->redelivered = redelivered;
    if (entry_fill(entry, found->value, source_stream(source), &err) < 0) {
        source_open(source, entry, ENTRY_CURRENT);
        settle_undecodable(entry, err.text);
        return;
    }
    publisher_match(redelivery->publisher, entry);
    if (publication_drops(entry)) {
        source_open(source, entry, ENTRY_CURRENT);
        settle_entry(entry, VERDICT_DROPPED, "");
    } else if (lane != NULL) {
        source_open(source, entry, ENTRY_ASIDE);
        lanes_add_again(lane, entry, clock_monotonic_ms());
    } else if (redelivered) {
        source_open(source, entry, ENTRY_QUEUED);
        redelivery_add(redelivery, entry);
    } else {
        source_open(source, entry, ENTRY_CURRENT);
        publisher_add(redelivery->publisher, entry);
    }
}

size_t delivery_hand_on(struct redelivery *redelivery, const struct queue_entry *entries,
                        size_t len, bool redelivered, struct lane *lane)
{
    size_t whole = count_whole(redelivery->source, entries, len);

    for (size_t i = 0; i < whole; i++)
        if (entries[i].value.data != NULL)
            hand_on(redelivery, &entries[i], redelivered, lane);
        else
            settle_trimmed(redelivery->source->settle, entries[i].id);
    return whole;
}
