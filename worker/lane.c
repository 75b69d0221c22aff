#include "worker/lane.h"

#include "worker/intake.h"

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
    lane->cause = cause;
    if (!alone)
        lane->doubt = DOUBT_LIGHT;
    else if (lane->rest_ms < lane_rest_ms(lane, sufficient_ms))
        lane->doubt = DOUBT_GRAVE;
    else
        lane->doubt = DOUBT_TRIED;
}
