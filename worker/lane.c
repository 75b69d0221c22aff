#include "worker/lane.h"

#include "worker/intake.h"
#include "worker/settle.h"

#include <stdio.h>

/* Twice as long with each strike: a hub that is merely overloaded has some time to recover. */
#define REST_MIN_MS 50
#define REST_MAX_MS 1000

void lane_push(struct lane *lane, struct entry *entry)
{
    entry->next = NULL;
    if (lane->tail != NULL)
        lane->tail->next = entry;
    else
        lane->head = entry;
    lane->tail = entry;
}

void lane_push_before(struct lane *lane, struct entry *entry, uint64_t refused_at)
{
    struct entry *last = NULL;

    if (lane->tail == NULL || lane->tail->refused_at != refused_at) {
        lane_push(lane, entry);
        return;
    }
    /* What is on the wire, or in doubt, is the head. */
    if (lane->sending || lane->doubt != DOUBT_NONE)
        last = lane->head;
    for (struct entry *other = lane->head; other != NULL; other = other->next)
        if (other->refused_at != refused_at)
            last = other;
    if (last == NULL) {
        entry->next = lane->head;
        lane->head = entry;
    } else if (last == lane->tail) {
        lane_push(lane, entry);
    } else {
        entry->next = last->next;
        last->next = entry;
    }
}

struct entry *lane_pop(struct lane *lane)
{
    struct entry *entry = lane->head;

    lane->doubt = DOUBT_NONE;
    lane->head = entry->next;
    if (lane->head == NULL)
        lane->tail = NULL;
    return entry;
}

void lane_forget(struct lane *lane, const struct intake *intake)
{
    struct entry *entry = lane->head;
    bool first = true;

    lane->head = NULL;
    lane->tail = NULL;
    while (entry != NULL) {
        struct entry *next = entry->next;

        if (entry->intake != intake || (first && lane->sending)) {
            lane_push(lane, entry);
        } else {
            intake_settled(entry->intake, entry);
            if (first)
                lane->doubt = DOUBT_NONE;
        }
        first = false;
        entry = next;
    }
}

void lane_yield(struct lane *lane)
{
    struct bytes topic = lane->head->envelope.topic;
    struct lane others = {0};
    struct lane same = {0};

    while (lane->head != NULL) {
        struct entry *entry = lane_pop(lane);

        lane_push(bytes_equal(entry->envelope.topic, topic) ? &same : &others, entry);
    }
    while (others.head != NULL)
        lane_push(lane, lane_pop(&others));
    while (same.head != NULL)
        lane_push(lane, lane_pop(&same));
}

bool lane_has_refused(const struct lane *lane, struct bytes topic)
{
    for (const struct entry *entry = lane->head; entry != NULL; entry = entry->next)
        if (entry->refused_at > 0 && bytes_equal(entry->envelope.topic, topic))
            return true;
    return false;
}

static void settle(struct entry *entry, enum hub_outcome outcome, const char *text)
{
    switch (outcome) {
    case HUB_DONE:
        settle_done(entry);
        break;
    case HUB_RETRY:
        settle_retry(entry, text);
        break;
    case HUB_REJECT:
        settle_reject(entry, text);
        break;
    case HUB_WAIT:
        break;
    }
}

void lane_settle(struct lane *lane, enum hub_outcome outcome, const char *text)
{
    if (intake_may_settle(lane->head->intake, lane->head)) {
        settle(lane_pop(lane), outcome, text);
        return;
    }
    lane->sending = true;
    lane->held = true;
    lane->outcome = outcome;
    snprintf(lane->text, sizeof(lane->text), "%s", text);
}

void lane_settle_held(struct lane *lane)
{
    if (!lane->held || !intake_may_settle(lane->head->intake, lane->head))
        return;
    lane->held = false;
    lane->sending = false;
    settle(lane_pop(lane), lane->outcome, lane->text);
}

int64_t lane_rest_ms(const struct lane *lane, int64_t sufficient_ms)
{
    int64_t rest = (int64_t)REST_MIN_MS << lane->head->strikes;

    if (rest < sufficient_ms)
        rest = sufficient_ms;
    return rest < REST_MAX_MS ? rest : REST_MAX_MS;
}

void lane_failed(struct lane *lane, enum hub_cause cause, uint64_t sent, int64_t sufficient_ms)
{
    bool alone = lane->rest_ms >= 0 && (lane->doubt != DOUBT_NONE || lane->sent == sent);

    if (cause == HUB_CAUSE_LIMIT) {
        /* Says nothing about the message; but at once behind another is too soon. */
        if (lane->doubt == DOUBT_LIGHT)
            lane->doubt = DOUBT_GRAVE;
        return;
    }
    if (!alone)
        lane->doubt = DOUBT_LIGHT;
    else if (lane->rest_ms < lane_rest_ms(lane, sufficient_ms))
        lane->doubt = DOUBT_GRAVE;
    else
        lane->doubt = DOUBT_TRIED;
}

/* FNV-1a: a topic's lane must not change while the program runs, nothing more. */
size_t lanes_number(struct bytes topic, size_t len)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);

    for (size_t i = 0; i < topic.len; i++)
        hash = (hash ^ (unsigned char)topic.data[i]) * UINT64_C(0x100000001b3);
    return (size_t)((hash ^ (hash >> 32)) % len);
}

bool lanes_are_in_doubt(const struct lane *lanes, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (lanes[i].doubt != DOUBT_NONE)
            return true;
    return false;
}

bool lanes_have_no_other(const struct lane *lanes, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (lanes[i].head != NULL && lanes[i].doubt <= DOUBT_LIGHT)
            return false;
    return true;
}

void lanes_acquit(struct lane *lanes, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (lanes[i].doubt == DOUBT_TRIED)
            lanes[i].doubt = DOUBT_LIGHT;
}
