/* Entries that a worker may have died of: one at a time, each charged before anything is done with it. The
 * charge is kept in Redis, where whoever takes the entry over finds it; memory that we share with the
 * supervisor would know nothing of a take-over, nor outlive the supervisor. */
#include "common/base/clock.h"
#include "worker/intake_internal.h"
#include "worker/settle.h"

#include <stdio.h>

/* A hub that takes longer is what we wait for: a kill from then on costs the entry nothing. */
#define WAITING_MS 1000

void intake_careful_add(struct intake *intake, struct entry *entry)
{
    entry->careful = true;
    entry->next = NULL;
    if (intake->careful_tail != NULL)
        intake->careful_tail->next = entry;
    else
        intake->careful_head = entry;
    intake->careful_tail = entry;
    intake->careful_len++;
    intake->careful = true;
}

void intake_careful_forget(struct intake *intake)
{
    struct entry *entry = intake->careful_head;

    intake->careful_head = NULL;
    intake->careful_tail = NULL;
    intake->careful_len = 0;
    while (entry != NULL) {
        struct entry *next = entry->next;

        intake_settled(intake, entry);
        entry = next;
    }
}

bool intake_careful_in_hand(const struct intake *intake)
{
    return intake->charging ||
           intake->open > intake->careful_len + intake->rejecting + intake->refused;
}

/* Its lease is ours and can be talked about. */
static bool is_in_charge(const struct intake *intake)
{
    return intake->phase > INTAKE_LEASE && intake->phase < INTAKE_RELEASING &&
           queue_is_connected(intake->writer);
}

static void charged(void *context, int result, const struct error *err)
{
    struct intake *intake = context;

    intake->charging = false;
    if (result < 0) {
        intake_fail(intake, result, err); /* it is pending, and will be read again */
        return;
    }
    if (intake->in_hand == NULL || !is_in_charge(intake))
        return;
    intake->in_hand->charged = true;
    intake->charged_ms = clock_monotonic_ms();
}

bool intake_charge(struct intake *intake, struct entry *entry)
{
    if (!entry->careful || entry->charged)
        return true;
    if (intake->charging || !is_in_charge(intake))
        return false;
    intake->charging = true;
    queue_charge(intake->writer, intake->me.consumer, entry->id, entry->deliveries + 1, charged,
                 intake);
    return false;
}

bool intake_may_settle(struct intake *intake, struct entry *entry)
{
    return !is_in_charge(intake) || intake_charge(intake, entry);
}

void intake_waiting(struct intake *intake, struct entry *entry)
{
    if (!entry->charged || !is_in_charge(intake))
        return;
    entry->charged = false;
    queue_charge(intake->writer, intake->me.consumer, entry->id, entry->deliveries, NULL, NULL);
}

void intake_refused(struct intake *intake, struct entry *entry)
{
    if (intake->in_hand == entry && intake->charging)
        entry->charged = true; /* as good as */
    intake_waiting(intake, entry);
    if (entry->refused_at == 0)
        intake->refused++;
    entry->careful = false;
    if (intake->in_hand == entry)
        intake->in_hand = NULL;
}

void intake_careful_release(struct intake *intake)
{
    if (intake->in_hand != NULL && intake->charging)
        intake->in_hand->charged = true; /* as good as */
    if (intake->in_hand != NULL)
        intake_waiting(intake, intake->in_hand);
}

int64_t intake_careful_deadline_ms(const struct intake *intake)
{
    if (intake->in_hand == NULL || !intake->in_hand->charged || !is_in_charge(intake))
        return -1;
    return intake->charged_ms + WAITING_MS;
}

static bool may_hand_on(const struct intake *intake)
{
    return intake->careful_head != NULL && !intake_careful_in_hand(intake) &&
           (!publisher_is_resting(intake->publisher) || publisher_wants_another(intake->publisher));
}

static void hand_on(struct intake *intake)
{
    struct entry *entry = intake->careful_head;
    char cause[100];

    intake->careful_head = entry->next;
    if (intake->careful_head == NULL)
        intake->careful_tail = NULL;
    intake->careful_len--;
    entry->next = NULL;
    if ((int64_t)entry->deliveries > intake->child->settings->worker.delivery_limit) {
        snprintf(cause, sizeof(cause), "its worker died %u times", entry->deliveries - 1);
        settle_reject(entry, cause);
        return;
    }
    intake->in_hand = entry;
    publisher_add(intake->publisher, entry);
    (void)intake_charge(intake, entry); /* it would be in the next turn */
}

/* The next one, once the one before is settled, or need not be waited for: nothing may come that would begin
 * another turn. */
void intake_careful_turn(struct intake *intake, int64_t now_ms)
{
    int64_t waiting_ms = intake_careful_deadline_ms(intake);

    if (waiting_ms >= 0 && now_ms >= waiting_ms)
        intake_waiting(intake, intake->in_hand);
    while (may_hand_on(intake))
        hand_on(intake);
}
