#include "worker/publisher.h"

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "worker/breaker.h"
#include "worker/handler.h"
#include "worker/intake.h"
#include "worker/lane.h"
#include "worker/pace.h"
#include "worker/settle.h"

#include <stdio.h>
#include <stdlib.h>

#define REST_MIN_MS 20
#define REST_MAX_MS 5000
/* So often may one entry stop the hub, with others passing in between, before it costs a retry. */
#define STRIKES_MAX 3
/* What refuses because of too many at once does so by then: others need not wait for a time-out. */
#define ALONE_MS 250

struct publisher {
    const struct child *child;
    struct hub *hub;
    struct handler *handler;
    struct lane *lanes;
    size_t lanes_len;
    size_t turn; /* the lane that is asked first */
    struct breaker breaker;
    struct pace pace;
    uint64_t sent;         /* requests so far */
    uint64_t passes;       /* of them, and one more */
    int64_t passed_ms;     /* when the last passed */
    int64_t sufficient_ms; /* how long after the one before it that was sent: this rest is enough */
    bool own_probe;        /* ours is on the wire, on connection 0 */
    int64_t own_rest_ms;
    uint64_t own_refused_at; /* as an entry's */
    bool asked;              /* the hub has refused since the last entry came */
    bool trial;              /* a head that is in doubt is on the wire */
    int64_t trial_ms;
    int64_t wake_ms; /* when one can be tried, or others sent beside it; -1: not waited for */
    char trouble[160];
    struct log_fault fault;
};

static void answered(void *context, size_t connection, const struct hub_result *result);

int publisher_new(struct publisher **publisher, const struct child *child, struct error *err)
{
    struct publisher *made = xcalloc(1, sizeof(*made));

    alloc_give_back_large(); /* forms of several MB, one on each connection */
    if (hub_new(&made->hub, &child->settings->mercure, answered, made, err) < 0) {
        free(made);
        return -(int)err->code;
    }
    made->child = child;
    made->handler = handler_new(&child->settings->mercure);
    made->lanes_len = hub_connections(made->hub);
    made->lanes = xcalloc(made->lanes_len, sizeof(struct lane));
    breaker_init(&made->breaker, REST_MIN_MS, REST_MAX_MS);
    pace_init(&made->pace, made->lanes_len);
    made->passes = 1;
    made->wake_ms = -1;
    *publisher = made;
    return 0;
}

void publisher_free(struct publisher *publisher)
{
    if (publisher == NULL)
        return;
    hub_free(publisher->hub);
    for (size_t i = 0; i < publisher->lanes_len; i++)
        while (publisher->lanes[i].head != NULL) {
            struct entry *entry = lane_pop(&publisher->lanes[i]);

            intake_settled(entry->intake, entry);
        }
    handler_free(publisher->handler);
    free(publisher->lanes);
    free(publisher);
}

struct hub *publisher_hub(struct publisher *publisher)
{
    return publisher->hub;
}

/* Its turn does not come, and it need not be waited for. */
static void refuse(struct publisher *publisher, struct entry *entry)
{
    intake_refused(entry->intake, entry);
    entry->refused_at = publisher->passes;
}

void publisher_add(struct publisher *publisher, struct entry *entry)
{
    struct bytes topic = entry->envelope.topic;
    struct lane *lane = &publisher->lanes[lanes_number(topic, publisher->lanes_len)];

    publisher->asked = false;
    if (lane_has_refused(lane, topic)) {
        refuse(publisher, entry);
        lane_push(lane, entry);
    } else {
        lane_push_before(lane, entry, publisher->passes);
    }
}

/* Counts one more on the wire; returns how long ago the last one passed, or -1: the wire is not empty. */
static int64_t note_sending(struct publisher *publisher)
{
    publisher->sent++;
    if (hub_busy(publisher->hub) > 0)
        return -1;
    return clock_monotonic_ms() - publisher->passed_ms;
}

/* Puts the head of a lane on the wire; what the hub would refuse anyway leaves without asking it. */
static bool send_head(struct publisher *publisher, size_t number)
{
    struct lane *lane = &publisher->lanes[number];

    while (lane->head != NULL && intake_charge(lane->head->intake, lane->head)) {
        struct bytes id;
        struct error err;
        struct buf *form = hub_form(publisher->hub, number);

        if (handler_update(publisher->handler, lane->head, form, &id, &err) == 0) {
            lane->sending = true;
            lane->rest_ms = note_sending(publisher);
            lane->sent = publisher->sent;
            hub_send(publisher->hub, number, id);
            return true;
        }
        settle_reject(lane_pop(lane), err.text);
    }
    return false;
}

static void send_own_probe(struct publisher *publisher)
{
    struct bytes id;

    handler_probe(hub_form(publisher->hub, 0), &id);
    publisher->own_probe = true;
    publisher->own_rest_ms = note_sending(publisher);
    hub_send(publisher->hub, 0, id);
}

/* Nothing that passed since then speaks for another try. */
static bool is_refused(const struct publisher *publisher, const struct entry *entry)
{
    return entry->refused_at == publisher->passes;
}

static bool send_probe_of(struct publisher *publisher, bool refused)
{
    for (size_t i = 0; i < publisher->lanes_len; i++) {
        size_t number = (publisher->turn + i) % publisher->lanes_len;
        const struct lane *lane = &publisher->lanes[number];

        if (lane->doubt == DOUBT_NONE && !lane->sending && lane->head != NULL &&
            is_refused(publisher, lane->head) == refused && send_head(publisher, number)) {
            publisher->turn = number + 1;
            return true;
        }
    }
    return false;
}

static bool is_in_question(const struct publisher *publisher, const struct lane *lane)
{
    return lane->head != NULL && lane->doubt == DOUBT_NONE && !is_refused(publisher, lane->head);
}

/* What would be asked with is not on the wire only because Redis has not confirmed its charge. */
static bool is_charge_awaited(const struct publisher *publisher)
{
    for (size_t i = 0; i < publisher->lanes_len; i++)
        if (!publisher->lanes[i].sending && is_in_question(publisher, &publisher->lanes[i]))
            return true;
    return false;
}

/* The head of a lane that is in no doubt: what failed may be one message that the hub chokes on, and that
 * must not stop the others. Where there is none, one of our own. Its charge is waited for: with one that
 * was refused instead, it would no longer be charged when the next probe is due, again and again. */
static void send_probe(struct publisher *publisher)
{
    if (send_probe_of(publisher, false) || is_charge_awaited(publisher))
        return;
    if (!send_probe_of(publisher, true))
        send_own_probe(publisher);
}

static void count_answer(struct stats_slot *slot, const struct hub_result *result)
{
    stats_observe(slot, STATS_HUB_US, result->took_us);
    if (result->status == 0)
        stats_add(slot, STATS_HUB_ERROR, 1);
    else if (result->answer.outcome == HUB_DONE)
        stats_add(slot, STATS_HUB_OK, 1);
    else if (result->status == 401)
        stats_add(slot, STATS_HUB_AUTH, 1);
    else if (result->answer.outcome == HUB_WAIT)
        stats_add(slot, STATS_HUB_BUSY, 1);
    else
        stats_add(slot, STATS_HUB_REFUSED, 1);
}

static void begin_rest(struct publisher *publisher, const struct lane *lane,
                       const struct hub_result *result)
{
    struct bytes topic = lane != NULL ? lane->head->envelope.topic : HANDLER_PROBE_TOPIC;

    if (publisher->breaker.state == BREAKER_CLOSED)
        pace_waited(&publisher->pace);
    breaker_failed(&publisher->breaker, clock_monotonic_ms(), result->retry_after_ms);
    snprintf(publisher->trouble, sizeof(publisher->trouble), "hub %s", result->text);
    log_fault(&publisher->fault, LOG_LEVEL_ERROR,
              LOG_WITH(log_number("status", result->status), log_bytes("topic", topic)),
              "The hub takes no updates: %s. Messages wait in their order, no retry is spent",
              result->text);
}

/* Somebody is at work there: those that failed alone have one strike more. */
static void convict(struct publisher *publisher)
{
    for (size_t i = 0; i < publisher->lanes_len; i++) {
        struct lane *lane = &publisher->lanes[i];

        if (lane->doubt != DOUBT_TRIED)
            continue;
        lane->doubt = DOUBT_GRAVE;
        if (++lane->head->strikes < STRIKES_MAX)
            continue;
        lane->doubt = DOUBT_NONE;
        lane_settle(lane, HUB_RETRY,
                    "the hub failed on this message again and again, and not on others");
    }
}

/* Token or URL are wrong, for all, or for this message's topic: others go next. */
static void refuse_settings(struct publisher *publisher, struct lane *lane)
{
    struct bytes topic = lane->head->envelope.topic;

    lane->doubt = DOUBT_NONE;
    for (struct entry *entry = lane->head; entry != NULL; entry = entry->next)
        if (bytes_equal(entry->envelope.topic, topic))
            refuse(publisher, entry);
    lane_yield(lane);
}

/* Our own probe may be refused for its topic alone, and then it will never pass: real ones are the next
 * probes, also those that failed before. */
static void refuse_own_probe(struct publisher *publisher)
{
    publisher->own_refused_at = publisher->passes;
    for (size_t i = 0; i < publisher->lanes_len; i++)
        publisher->lanes[i].doubt = DOUBT_NONE;
}

static void must_wait(struct publisher *publisher, struct lane *lane,
                      const struct hub_result *result)
{
    enum hub_cause cause = result->answer.cause;
    bool probe = publisher->breaker.state == BREAKER_HALF_OPEN;

    begin_rest(publisher, lane, result);
    publisher->asked = true;
    if (cause == HUB_CAUSE_SETTINGS) {
        convict(publisher);
        if (lane != NULL)
            refuse_settings(publisher, lane);
        else
            refuse_own_probe(publisher);
        return;
    }
    if (probe && cause != HUB_CAUSE_LIMIT) /* a limit says nothing of those */
        lanes_acquit(publisher->lanes, publisher->lanes_len);
    if (lane == NULL)
        return;
    lane_failed(lane, cause, publisher->sent, publisher->sufficient_ms);
    intake_waiting(lane->head->intake, lane->head);
}

/* rest_ms: before it was sent. on_trial: it was given that rest because it had failed without. */
static void passed(struct publisher *publisher, int64_t rest_ms, bool on_trial)
{
    bool works = false;

    publisher->passed_ms = clock_monotonic_ms();
    publisher->sufficient_ms = rest_ms;
    if (breaker_passed(&publisher->breaker))
        convict(publisher);
    else if (!on_trial && publisher->breaker.state == BREAKER_CLOSED)
        works = pace_passed(&publisher->pace);
    if (works)
        breaker_works(&publisher->breaker);
    if (publisher->trouble[0] == '\0' || publisher->breaker.state != BREAKER_CLOSED ||
        (!works && !lanes_have_no_other(publisher->lanes, publisher->lanes_len)))
        return;
    publisher->trouble[0] = '\0';
    log_fault_over(&publisher->fault, LOG_PLAIN, "The hub takes updates again");
}

/* Its head is refused once more although another has passed since: it is its topic, and no reason to rest. */
static bool is_told_apart(const struct publisher *publisher, const struct lane *lane,
                          const struct hub_result *result)
{
    return lane != NULL && result->answer.outcome == HUB_WAIT &&
           result->answer.cause == HUB_CAUSE_SETTINGS && lane->head->refused_at > 0 &&
           !is_refused(publisher, lane->head);
}

static void answered(void *context, size_t connection, const struct hub_result *result)
{
    struct publisher *publisher = context;
    bool own_probe = publisher->own_probe && connection == 0;
    struct lane *lane = own_probe ? NULL : &publisher->lanes[connection];
    enum lane_doubt doubt = own_probe ? DOUBT_NONE : lane->doubt;
    enum hub_outcome outcome = result->answer.outcome;
    char text[sizeof(result->text)];

    count_answer(publisher->child->slot, result);
    if (doubt != DOUBT_NONE)
        publisher->trial = false;
    if (own_probe)
        publisher->own_probe = false;
    else
        lane->sending = false;
    if (is_told_apart(publisher, lane, result)) {
        snprintf(text, sizeof(text), "for this message and not for others: %.150s", result->text);
        outcome = HUB_RETRY;
    }
    if (outcome == HUB_WAIT) {
        must_wait(publisher, lane, result);
        return;
    }
    if (outcome == HUB_DONE)
        publisher->passes++;
    if (!own_probe) {
        lane->doubt = DOUBT_NONE;
        lane_settle(lane, outcome, outcome == result->answer.outcome ? result->text : text);
    }
    passed(publisher, own_probe ? publisher->own_rest_ms : lane->rest_ms, doubt == DOUBT_GRAVE);
    /* The connection is idle: keep it busy without waiting for the next turn. */
    if (!own_probe && lane->head != NULL && !lane->sending && pace_is_full(&publisher->pace) &&
        publisher->breaker.state == BREAKER_CLOSED &&
        !lanes_are_in_doubt(publisher->lanes, publisher->lanes_len))
        send_head(publisher, connection);
}

/* Those in doubt go one at a time, the lighter doubts first; those whose charge Redis has not confirmed hold
 * nobody up. Returns true if the others may go on. */
static bool try_doubtful(struct publisher *publisher, enum lane_doubt doubt, int64_t now_ms)
{
    bool others_may = true;

    for (size_t i = 0; i < publisher->lanes_len; i++) {
        const struct lane *lane = &publisher->lanes[i];
        int64_t due_ms = now_ms;

        if (lane->doubt != doubt || lane->sending)
            continue;
        if (doubt == DOUBT_GRAVE)
            due_ms = publisher->passed_ms + lane_rest_ms(lane, publisher->sufficient_ms);
        if (due_ms > now_ms) {
            publisher->wake_ms = clock_earlier_ms(publisher->wake_ms, due_ms);
            others_may = false;
        } else if (send_head(publisher, i)) {
            publisher->trial = true;
            publisher->trial_ms = now_ms;
            publisher->wake_ms = now_ms + ALONE_MS;
            return false;
        }
    }
    return others_may;
}

static bool may_others_go(struct publisher *publisher, int64_t now_ms)
{
    if (publisher->trial) {
        if (now_ms >= publisher->trial_ms + ALONE_MS)
            return true;
        publisher->wake_ms = publisher->trial_ms + ALONE_MS;
        return false;
    }
    if (!lanes_are_in_doubt(publisher->lanes, publisher->lanes_len))
        return true;
    return hub_busy(publisher->hub) == 0 && try_doubtful(publisher, DOUBT_LIGHT, now_ms) &&
           try_doubtful(publisher, DOUBT_GRAVE, now_ms);
}

static void send_all(struct publisher *publisher)
{
    size_t first = publisher->turn;

    for (size_t i = 0; i < publisher->lanes_len; i++) {
        size_t number = (first + i) % publisher->lanes_len;
        const struct lane *lane = &publisher->lanes[number];

        if (hub_busy(publisher->hub) >= publisher->pace.window)
            return;
        if (lane->head != NULL && !lane->sending && lane->doubt == DOUBT_NONE &&
            hub_is_idle(publisher->hub, number) && send_head(publisher, number))
            publisher->turn = number + 1;
    }
}

void publisher_turn(struct publisher *publisher, int64_t now_ms)
{
    for (size_t i = 0; i < publisher->lanes_len; i++)
        lane_settle_held(&publisher->lanes[i]);
    publisher->wake_ms = -1;
    switch (publisher->breaker.state) {
    case BREAKER_OPEN:
        /* What was under way when it opened comes home first. */
        if (hub_busy(publisher->hub) == 0 && breaker_probe_due(&publisher->breaker, now_ms))
            send_probe(publisher);
        break;
    case BREAKER_HALF_OPEN:
        if (hub_busy(publisher->hub) == 0) /* its charge was waited for */
            send_probe(publisher);
        break;
    case BREAKER_CLOSED:
        if (may_others_go(publisher, now_ms))
            send_all(publisher);
        break;
    }
    stats_set(publisher->child->slot, STATS_BREAKER_OPEN, publisher_is_resting(publisher));
}

void publisher_forget(struct publisher *publisher, const struct intake *intake)
{
    for (size_t i = 0; i < publisher->lanes_len; i++)
        lane_forget(&publisher->lanes[i], intake);
}

size_t publisher_in_flight(const struct publisher *publisher, const struct intake *intake)
{
    size_t count = 0;

    for (size_t i = 0; i < publisher->lanes_len; i++)
        if (publisher->lanes[i].sending && publisher->lanes[i].head->intake == intake)
            count++;
    return count;
}

bool publisher_is_resting(const struct publisher *publisher)
{
    return publisher->breaker.state != BREAKER_CLOSED;
}

bool publisher_wants_another(const struct publisher *publisher)
{
    bool refused = publisher->own_refused_at == publisher->passes;

    if (publisher->breaker.state == BREAKER_CLOSED)
        return false;
    for (size_t i = 0; i < publisher->lanes_len; i++) {
        const struct lane *lane = &publisher->lanes[i];

        if (lane->head == NULL || lane->doubt != DOUBT_NONE)
            continue;
        if (lane->sending || !is_refused(publisher, lane->head))
            return false;
        refused = true;
    }
    return refused;
}

bool publisher_wants_beyond(const struct publisher *publisher)
{
    return publisher->asked && publisher_wants_another(publisher);
}

const char *publisher_trouble(const struct publisher *publisher)
{
    return publisher->trouble;
}

int64_t publisher_deadline_ms(const struct publisher *publisher)
{
    switch (publisher->breaker.state) {
    case BREAKER_OPEN:
        /* While something is still under way its answer wakes the loop, and the probe waits for it. */
        return hub_busy(publisher->hub) > 0 ? -1 : publisher->breaker.until_ms;
    case BREAKER_HALF_OPEN:
        return -1;
    case BREAKER_CLOSED:
        return publisher->wake_ms;
    }
    return -1;
}
