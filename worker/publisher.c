#include "worker/publisher.h"

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/wire/update.h"
#include "worker/breaker.h"
#include "worker/handler.h"
#include "worker/intake.h"
#include "worker/settle.h"

#include <stdio.h>
#include <stdlib.h>

#define REST_MIN_MS 250
#define REST_MAX_MS 5000
/* So often may one entry stop the hub, with others passing in between, before it costs a retry. */
#define STRIKES_MAX 3

struct lane {
    struct entry *head;
    struct entry *tail;
    bool sending; /* the head is on the wire, or its answer is held */
    bool failed;  /* its head got "wait" since the breaker opened */
    bool held; /* what became of the head is known, but it must be charged before it is settled */
    enum hub_outcome outcome;
    char text[sizeof(((struct hub_result *)NULL)->text)];
};

struct publisher {
    const struct child *child;
    struct hub *hub;
    struct handler *handler;
    struct lane *lanes;
    size_t lanes_len;
    struct breaker breaker;
    size_t probe_from; /* lane where the search for a probe begins */
    bool own_probe;    /* ours is on the wire, on connection 0 */
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
    *publisher = made;
    return 0;
}

static struct entry *lane_pop(struct lane *lane)
{
    struct entry *entry = lane->head;

    lane->head = entry->next;
    if (lane->head == NULL)
        lane->tail = NULL;
    return entry;
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

/* FNV-1a: a topic's lane must not change while the program runs, nothing more. */
static size_t lane_of(const struct publisher *publisher, struct bytes topic)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);

    for (size_t i = 0; i < topic.len; i++)
        hash = (hash ^ (unsigned char)topic.data[i]) * UINT64_C(0x100000001b3);
    return (size_t)((hash ^ (hash >> 32)) % publisher->lanes_len);
}

void publisher_add(struct publisher *publisher, struct entry *entry)
{
    struct lane *lane = &publisher->lanes[lane_of(publisher, entry->envelope.topic)];

    entry->next = NULL;
    if (lane->tail != NULL)
        lane->tail->next = entry;
    else
        lane->head = entry;
    lane->tail = entry;
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
            hub_send(publisher->hub, number, id);
            return true;
        }
        settle_reject(lane_pop(lane), err.text);
    }
    return false;
}

/* A private update to a topic of our own that nobody reads. */
static void send_own_probe(struct publisher *publisher)
{
    struct update update = {.topic = BYTES("urn:mqtt-bridge:probe"),
                            .private_update = true,
                            .id = BYTES("urn:mqtt-bridge:probe")};

    update_form(hub_form(publisher->hub, 0), &update);
    publisher->own_probe = true;
    hub_send(publisher->hub, 0, update.id);
}

/* The head of a lane that has not failed yet: it may be one message that the hub chokes on, and that
 * must not stop the others. When all have failed, one of our own. */
static void send_probe(struct publisher *publisher)
{
    for (size_t i = 0; i < publisher->lanes_len; i++) {
        size_t number = (publisher->probe_from + i) % publisher->lanes_len;
        const struct lane *lane = &publisher->lanes[number];

        if (!lane->failed && !lane->sending && lane->head != NULL && send_head(publisher, number)) {
            publisher->probe_from = number + 1;
            return;
        }
    }
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

static void begin_rest(struct publisher *publisher, const struct hub_result *result)
{
    breaker_failed(&publisher->breaker, clock_monotonic_ms());
    snprintf(publisher->trouble, sizeof(publisher->trouble), "hub %s", result->text);
    log_fault(&publisher->fault, LOG_LEVEL_ERROR, LOG_WITH(log_number("status", result->status)),
              "The hub takes no updates: %s. Messages wait in their order, no retry is spent",
              result->text);
}

static void settle_answer(struct publisher *publisher, struct entry *entry,
                          enum hub_outcome outcome, const char *text)
{
    const struct envelope *envelope = &entry->envelope;

    switch (outcome) {
    case HUB_DONE:
        if (envelope->received_us > 0)
            stats_observe(publisher->child->slot, STATS_END_TO_END_US,
                          clock_wall_us() - envelope->received_us);
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

/* At once, or, if the entry has waited for the hub and is no longer charged, once it is again: an entry that
 * kills us here would otherwise do so for ever. */
static void settle_head(struct publisher *publisher, struct lane *lane, enum hub_outcome outcome,
                        const char *text)
{
    if (intake_may_settle(lane->head->intake, lane->head)) {
        settle_answer(publisher, lane_pop(lane), outcome, text);
        return;
    }
    lane->sending = true;
    lane->held = true;
    lane->outcome = outcome;
    snprintf(lane->text, sizeof(lane->text), "%s", text);
}

static void settle_held(struct publisher *publisher, struct lane *lane)
{
    if (!lane->held || !intake_may_settle(lane->head->intake, lane->head))
        return;
    lane->held = false;
    lane->sending = false;
    settle_answer(publisher, lane_pop(lane), lane->outcome, lane->text);
}

/* The probe passed: those that failed meanwhile have one strike more. */
static void end_rest(struct publisher *publisher)
{
    publisher->trouble[0] = '\0';
    log_fault_over(&publisher->fault, LOG_PLAIN, "The hub takes updates again");
    for (size_t i = 0; i < publisher->lanes_len; i++) {
        struct lane *lane = &publisher->lanes[i];
        bool failed = lane->failed;

        lane->failed = false;
        if (failed && lane->head != NULL && !lane->sending && ++lane->head->strikes >= STRIKES_MAX)
            settle_head(publisher, lane, HUB_RETRY,
                        "the hub failed on this message again and again, and not on others");
    }
}

static void answered(void *context, size_t connection, const struct hub_result *result)
{
    struct publisher *publisher = context;
    struct lane *lane = &publisher->lanes[connection];
    bool own_probe = publisher->own_probe && connection == 0;

    count_answer(publisher->child->slot, result);
    if (own_probe)
        publisher->own_probe = false;
    else
        lane->sending = false;
    if (result->answer.outcome == HUB_WAIT) {
        begin_rest(publisher, result);
        if (!own_probe) {
            lane->failed = true;
            intake_waiting(lane->head->intake, lane->head);
        }
        return;
    }
    if (!own_probe)
        settle_head(publisher, lane, result->answer.outcome, result->text);
    if (breaker_passed(&publisher->breaker))
        end_rest(publisher);
    /* The connection is idle: keep it busy without waiting for the next turn. */
    if (publisher->breaker.state == BREAKER_CLOSED && lane->head != NULL && !lane->sending)
        send_head(publisher, connection);
}

void publisher_turn(struct publisher *publisher, int64_t now_ms)
{
    for (size_t i = 0; i < publisher->lanes_len; i++)
        settle_held(publisher, &publisher->lanes[i]);
    switch (publisher->breaker.state) {
    case BREAKER_OPEN:
        /* What was under way when it opened comes home first. */
        if (hub_busy(publisher->hub) == 0 && breaker_probe_due(&publisher->breaker, now_ms))
            send_probe(publisher);
        break;
    case BREAKER_HALF_OPEN:
        break;
    case BREAKER_CLOSED:
        for (size_t i = 0; i < publisher->lanes_len; i++)
            if (publisher->lanes[i].head != NULL && !publisher->lanes[i].sending &&
                hub_is_idle(publisher->hub, i))
                send_head(publisher, i);
        break;
    }
    stats_set(publisher->child->slot, STATS_BREAKER_OPEN,
              publisher->breaker.state != BREAKER_CLOSED);
}

void publisher_forget(struct publisher *publisher, const struct intake *intake)
{
    for (size_t i = 0; i < publisher->lanes_len; i++) {
        struct lane *lane = &publisher->lanes[i];
        struct lane kept = *lane;
        bool first = true;

        kept.head = NULL;
        kept.tail = NULL;

        while (lane->head != NULL) {
            struct entry *entry = lane_pop(lane);
            bool on_wire = first && kept.sending;

            first = false;
            if (entry->intake == intake && !on_wire) {
                intake_settled(entry->intake, entry);
                continue;
            }
            entry->next = NULL;
            if (kept.tail != NULL)
                kept.tail->next = entry;
            else
                kept.head = entry;
            kept.tail = entry;
        }
        *lane = kept;
    }
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

const char *publisher_trouble(const struct publisher *publisher)
{
    return publisher->trouble;
}

int64_t publisher_deadline_ms(const struct publisher *publisher)
{
    /* While something is still under way its answer wakes the loop, and the probe waits for it. */
    if (publisher->breaker.state != BREAKER_OPEN || hub_busy(publisher->hub) > 0)
        return -1;
    return publisher->breaker.until_ms;
}
