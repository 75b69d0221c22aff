#include "worker/publisher.h"

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "worker/breaker.h"

#include <stdio.h>
#include <stdlib.h>

#define BACKOFF_MIN_MS 20
#define BACKOFF_MAX_MS 5000
/* A message that is tried with nothing else in flight holds up the others for no longer than that. */
#define TRIAL_MS 250
/* The most overdue requests that are waited for, beside the window. */
#define OVERDUE_MAX 256
/* After the first strike a message is tried again soon; after later ones a hub that restarts gets more time. */
#define FIRST_PAUSE_MS 50
#define NEXT_PAUSE_MS  500
/* A worker that ends, or has a new connection to Redis, waits so long for an overdue answer. */
#define END_WAIT_MS   1500
#define WHY_SIZE      300
#define LIMIT_DOUBLES 4 /* a limiter's pause: FIRST_PAUSE_MS, doubled so often */

/* What probes the hub next after a rate limiter opened the breaker. A message comes first, since our own probe would
 * use up what the limiter allows. If two messages are refused, the limit may be on their topics alone. So two probes of
 * our own follow; a limiter for all would refuse the second. */
enum limited { NOT_LIMITED, FIRST_MESSAGE, SECOND_MESSAGE, FIRST_PROBE, SECOND_PROBE };

struct publisher {
    const struct child *child;
    struct hub *hub;
    struct publication *publication;
    struct handlers *handlers;
    struct breaker breaker;
    struct breaker_window window;

    struct lanes lanes;

    uint64_t serial;  /* number of the last request */
    uint64_t passed;  /* highest number of a request that passed */
    size_t successes; /* in a row */
    size_t failures;  /* in a row */
    bool probing;     /* our own probe is in flight */
    uint64_t probe_serial;
    int64_t probed_ms;
    bool cancelling;         /* we end an overdue request ourselves: not a failure of the hub */
    unsigned probe_timeouts; /* in a row: the next probe waits longer */
    bool probe_refused;      /* with 401 or 403: messages are the probes */
    enum limited limited;
    bool refused_lately; /* the hub has refused something since the last entry came */
    struct lane *trial;  /* in flight as a probe, or with nothing else in flight; NULL: none */
    int64_t trial_ms;
    bool ended;      /* nothing is sent any more */
    int64_t wake_ms; /* -1: nothing is waited for but answers */
    char trouble[200];
    struct log_fault fault;
    struct log_fault strike_fault;
    struct log_fault batch_fault;
};

static void answered(void *context, void *owner, const struct hub_result *result);
static void add_to_lane(void *context, struct entry *entry);

int publisher_new(struct publisher **publisher, const struct child *child, struct error *err)
{
    struct publisher *made = xcalloc(1, sizeof(*made));
    const struct settings_mercure *settings = &child->settings->mercure;

    alloc_give_back_large(); /* forms of several MB, one for each request in flight */
    if (hub_new(&made->hub, settings, answered, made, err) < 0) {
        free(made);
        return -(int)err->code;
    }
    made->child = child;
    made->lanes.aside_max = (size_t)child->settings->worker.prefetch_bytes;
    made->publication = publication_new(child->settings);
    made->lanes.publication = made->publication;
    made->handlers = handlers_new(child, add_to_lane, made);
    breaker_init(&made->breaker, BACKOFF_MIN_MS, BACKOFF_MAX_MS);
    breaker_window_init(&made->window,
                        settings->connections > 0 ? (size_t)settings->connections : 1);
    made->wake_ms = -1;
    *publisher = made;
    return 0;
}

void publisher_free(struct publisher *publisher)
{
    if (publisher == NULL)
        return;
    hub_free(publisher->hub);
    handlers_free(publisher->handlers);
    lanes_free(&publisher->lanes);
    publication_free(publisher->publication);
    free(publisher);
}

struct hub *publisher_hub(struct publisher *publisher)
{
    return publisher->hub;
}

static void wake_at(struct publisher *publisher, int64_t when_ms)
{
    publisher->wake_ms = clock_earlier_ms(publisher->wake_ms, when_ms);
}

void publisher_match(struct publisher *publisher, struct entry *entry)
{
    publication_match(publisher->publication, entry);
}

static void add_to_lane(void *context, struct entry *entry)
{
    struct publisher *publisher = context;

    publisher->refused_lately = false;
    lanes_add(&publisher->lanes, entry, clock_monotonic_ms());
    wake_at(publisher, clock_monotonic_ms());
}

void publisher_add(struct publisher *publisher, struct entry *entry)
{
    if (entry->match->handler != NULL)
        handlers_add(publisher->handlers, entry->match->handler, entry);
    else
        add_to_lane(publisher, entry);
}

static void set_aside(const struct publisher *publisher, struct lane *lane)
{
    lane_set_aside(lane, publisher->lanes.aside_max);
}

/* Messages of a failed batch are published one at a time, so that only the message to blame is set aside. */
static void divide_batch(struct publisher *publisher, struct lane *lane, const char *why)
{
    log_fault(&publisher->batch_fault, LOG_LEVEL_WARNING,
              LOG_WITH(log_number("messages", (int64_t)lane->head->carried.len + 1)),
              "[route:%s]: a batch failed: %s. Its messages are published one at a time",
              lane->route->name, why);
    lane_leave_batches(lane);
    lanes_place(&publisher->lanes, lane);
}

/* Decides about messages that were published together. True: they stay with the publisher. A newest value that failed
 * waits for another window, where a newer value may replace it. After the last retry it alone is rejected, and the
 * value before it is published in its place. */
static bool keep_carried(struct publisher *publisher, struct lane *lane, enum verdict *verdict,
                         const char *why)
{
    int64_t max_retries = publisher->child->settings->retry.max_retries;

    if (lane_publish(lane) == PUBLISH_EACH || *verdict == VERDICT_DONE)
        return false;
    if (lane_publish(lane) == PUBLISH_BATCH) {
        bool is_one = lane->head->carried.len == 0;

        if (!is_one)
            divide_batch(publisher, lane, why);
        return !is_one;
    }
    if (*verdict == VERDICT_RETRY && lane->head->failures < max_retries) {
        lanes_put_off(&publisher->lanes, lane, clock_monotonic_ms());
        return true;
    }
    *verdict = VERDICT_REJECT;
    lane_leave_one_before(lane);
    return false;
}

/* Settles the lane's first entry; the lane goes on with the next one, or is freed. */
static void finish(struct publisher *publisher, struct lane *lane, enum verdict verdict,
                   const char *why)
{
    char text[WHY_SIZE];

    if (!source_may_settle(lane->head)) {
        lane->verdict = verdict;
        lane_explain(lane, why);
        lane_move(lane, &publisher->lanes.held);
        return;
    }
    if (keep_carried(publisher, lane, &verdict, why))
        return;
    snprintf(text, sizeof(text), "%s", why);
    /* A token that does not allow one message of a topic does not allow the next. */
    uint64_t refused_at = verdict == VERDICT_RETRY ? lane->refused_at : 0;
    struct entry *entry = lane_pop(lane);
    lane->refused_at = refused_at;
    lanes_place(&publisher->lanes, lane);
    settle_entry(entry, verdict, text); /* may free lanes */
}

static void finish_held(struct publisher *publisher)
{
    for (size_t left = publisher->lanes.held.len; left > 0 && publisher->lanes.held.head != NULL;
         left--) {
        struct lane *lane = publisher->lanes.held.head;
        char why[WHY_SIZE];

        snprintf(why, sizeof(why), "%s", lane->why);
        finish(publisher, lane, lane->verdict, why);
    }
}

static void pause_lane(struct publisher *publisher, struct lane *lane, int64_t pause_ms)
{
    lane->due_ms = clock_monotonic_ms() + pause_ms;
    lane_move(lane, &publisher->lanes.paused);
    wake_at(publisher, lane->due_ms);
}

static void pause_limited(struct publisher *publisher, struct lane *lane, int64_t after_ms)
{
    int64_t pause_ms = (int64_t)FIRST_PAUSE_MS << lane->limits;

    if (lane->limits < LIMIT_DOUBLES)
        lane->limits++;
    else
        set_aside(publisher, lane); /* the limit may be on this topic alone: others go on */
    if (pause_ms < after_ms)
        pause_ms = after_ms < BACKOFF_MAX_MS ? after_ms : BACKOFF_MAX_MS;
    pause_lane(publisher, lane, pause_ms);
}

static void strike(struct publisher *publisher, struct lane *lane)
{
    struct bytes topic = lane->head->envelope.topic;

    log_fault(&publisher->strike_fault, LOG_LEVEL_WARNING, LOG_WITH(log_bytes("topic", topic)),
              "The hub failed on a message on \"%.*s\" and not on others: %s. It is tried again "
              "alone, others go on",
              BYTES_ARG(topic), lane->why);
    set_aside(publisher, lane);
    pause_lane(publisher, lane, lane->suspicion.strikes == 1 ? FIRST_PAUSE_MS : NEXT_PAUSE_MS);
}

static void give_verdict(struct publisher *publisher, struct lane *lane, enum verdict verdict)
{
    char text[WHY_SIZE];

    snprintf(text, sizeof(text), "%s: %s",
             lane->suspicion.strikes >= breaker_window_strikes(&publisher->window)
                 ? "the hub failed on this message again and again, and not on others"
                 : "for this message and not for others",
             lane->why);
    finish(publisher, lane, verdict, text);
}

/* after_ms: with ON_LIMITED, the pause that the limiter asks for; 0: it has not said. */
static void tell(struct publisher *publisher, struct lane *lane, enum suspicion_event event,
                 int64_t after_ms)
{
    unsigned strikes = breaker_window_strikes(&publisher->window);

    switch (suspicion_step(&lane->suspicion, event, strikes)) {
    case SUSPICION_NOTHING:
        break;
    case SUSPICION_SET_ASIDE:
        lane->failed_at = publisher->serial;
        if (event != SUSPICION_ON_FAILED && lane->refused_at == 0)
            lane->refused_at = publisher->serial;
        lane_move(lane, &publisher->lanes.aside);
        set_aside(publisher, lane);
        break;
    case SUSPICION_PAUSE:
        pause_limited(publisher, lane, after_ms);
        break;
    case SUSPICION_STRIKE:
        strike(publisher, lane);
        break;
    case SUSPICION_READY:
        lane_move(lane, &publisher->lanes.ready);
        break;
    case SUSPICION_RECALL:
        lane_move(lane, &publisher->lanes.recalled);
        break;
    case SUSPICION_DONE:
        if (entry_has_more_updates(lane->head)) {
            lane_go_on(lane);
            lanes_place(&publisher->lanes, lane);
        } else {
            finish(publisher, lane, VERDICT_DONE, "");
        }
        break;
    case SUSPICION_RETRY:
        give_verdict(publisher, lane, VERDICT_RETRY);
        break;
    case SUSPICION_REJECT:
        give_verdict(publisher, lane, VERDICT_REJECT);
        break;
    }
}

/* Tells all lanes that are set aside and failed before that request was sent. */
static void tell_aside(struct publisher *publisher, enum suspicion_event event, uint64_t serial)
{
    for (size_t left = publisher->lanes.aside.len; left > 0; left--) {
        struct lane *lane = publisher->lanes.aside.head;

        if (lane == NULL || lane->failed_at >= serial)
            return;
        lane_move(lane, &publisher->lanes.aside); /* to the end: each lane is looked at once */
        tell(publisher, lane, event, 0);
    }
}

static void open_breaker(struct publisher *publisher, struct bytes topic,
                         const struct hub_result *result)
{
    bool was_closed = publisher->breaker.state == BREAKER_CLOSED;

    breaker_failed(&publisher->breaker, clock_monotonic_ms(), result->retry_after_ms);
    publisher->limited = result->answer.outcome == HUB_LIMITED ? FIRST_MESSAGE : NOT_LIMITED;
    if (was_closed && publisher->limited != NOT_LIMITED)
        breaker_window_shrink(&publisher->window);
    breaker_window_forget_failing(&publisher->window);
    publisher->trial = NULL;
    snprintf(publisher->trouble, sizeof(publisher->trouble), "hub %s", result->text);
    log_fault(&publisher->fault, LOG_LEVEL_ERROR,
              LOG_WITH(log_number("status", result->status), log_bytes("topic", topic)),
              "The hub takes no updates: %s. Messages wait in their order, no retry is spent",
              result->text);
}

static void note_passed(struct publisher *publisher, uint64_t serial, bool was_probe)
{
    bool nothing_left = publisher->lanes.ready.len == 0 && publisher->lanes.recalled.len == 0;

    publisher->failures = 0;
    publisher->successes += !was_probe;
    if (publisher->passed < serial)
        publisher->passed = serial;
    if (was_probe)
        (void)breaker_passed(&publisher->breaker);
    if (publisher->breaker.state != BREAKER_CLOSED ||
        (publisher->successes < publisher->window.size && !nothing_left))
        return;
    breaker_works(&publisher->breaker);
    publisher->trouble[0] = '\0';
    /* Not logged for our own probe alone: beside messages that a limiter never lets pass it would come each second. */
    if (publisher->fault.standing && publisher->successes > 0)
        log_fault_over(&publisher->fault, LOG_PLAIN, "The hub takes updates again");
}

/* So many failures in a row without a pass are the hub's, not a message's. */
static bool are_too_many(const struct publisher *publisher)
{
    return publisher->failures >= (publisher->window.size > 1 ? publisher->window.size : 2);
}

static const struct {
    enum suspicion_event event;
    enum stats_counter counter;
} OUTCOMES[] = {[HUB_PASSED] = {SUSPICION_ON_PASSED, STATS_HUB_OK},
                [HUB_FAILED] = {SUSPICION_ON_FAILED, STATS_HUB_BUSY},
                [HUB_LIMITED] = {SUSPICION_ON_LIMITED, STATS_HUB_BUSY},
                [HUB_REFUSED] = {SUSPICION_ON_REFUSED, STATS_HUB_REFUSED},
                [HUB_UNAUTHORIZED] = {SUSPICION_ON_UNAUTHORIZED, STATS_HUB_AUTH}};

static void count_answer(struct stats_slot *slot, const struct hub_result *result)
{
    stats_observe(slot, STATS_HUB_US, result->took_us);
    stats_add(slot,
              result->status == 0 ? STATS_HUB_ERROR : OUTCOMES[result->answer.outcome].counter, 1);
}

static void lane_failed(struct publisher *publisher, struct lane *lane, bool was_probe,
                        enum suspicion_event event, const struct hub_result *result)
{
    bool refused = event == SUSPICION_ON_REFUSED || event == SUSPICION_ON_UNAUTHORIZED;
    bool topic_is_refused = refused && lane->refused_at > 0 && publisher->passed > lane->refused_at;

    /* Once a topic was refused with 400, 403 or 413, its further refusals are rejected at once. They count as
     * failures, so that few messages are rejected if it is the hub that has got worse. A 401 ends in a retry, and
     * does not count. */
    bool counts = event != SUSPICION_ON_UNAUTHORIZED || !topic_is_refused;
    struct bytes topic = lane->head->envelope.topic;

    lane_explain(lane, result->text);
    publisher->successes = 0;
    publisher->failures += counts && !publisher->cancelling;
    publisher->refused_lately = publisher->refused_lately || refused;
    if (was_probe && !refused)
        publisher->probe_refused = false; /* the hub may be away: our own probe is enough */
    tell(publisher, lane, event, result->retry_after_ms);
    enum limited before = publisher->limited;
    if (was_probe || (publisher->breaker.state == BREAKER_CLOSED && are_too_many(publisher)))
        open_breaker(publisher, topic, result);
    if (was_probe && event == SUSPICION_ON_LIMITED)
        publisher->limited = before == FIRST_MESSAGE ? SECOND_MESSAGE : FIRST_PROBE;
    if (topic_is_refused && (!counts || !are_too_many(publisher)))
        tell(publisher, lane, SUSPICION_ON_CONTRAST, 0);
    if (publisher->breaker.state != BREAKER_CLOSED)
        tell_aside(publisher, SUSPICION_ON_HUB_DOWN, UINT64_MAX);
}

static void lane_answered(struct publisher *publisher, struct lane *lane,
                          const struct hub_result *result)
{
    enum suspicion_event event = OUTCOMES[result->answer.outcome].event;
    bool was_probe = publisher->trial == lane && publisher->breaker.state == BREAKER_HALF_OPEN;
    uint64_t serial = lane->serial;

    if (publisher->trial == lane)
        publisher->trial = NULL;
    breaker_window_answered(&publisher->window, event == SUSPICION_ON_LIMITED);
    if (lane->suspicion.state == SUSPICION_SENT && publisher->breaker.state == BREAKER_CLOSED)
        breaker_window_tried(&publisher->window, event == SUSPICION_ON_FAILED);
    if (event != SUSPICION_ON_PASSED) {
        lane_failed(publisher, lane, was_probe, event, result);
        return;
    }
    if (lane->list == &publisher->lanes.flight)
        breaker_window_took(&publisher->window, result->took_us);
    tell(publisher, lane, event, 0);
    note_passed(publisher, serial, was_probe);
    tell_aside(publisher, SUSPICION_ON_CONTRAST, serial);
}

/* Our own probes passed where messages were refused: the limit is on those topics, which pause while others go on. */
static void pause_all_limited(struct publisher *publisher)
{
    struct lane *next;

    breaker_works(&publisher->breaker);
    for (struct lane *lane = publisher->lanes.ready.head; lane != NULL; lane = next) {
        next = lane->next;
        if (lane->limits == 0)
            continue;
        set_aside(publisher, lane);
        pause_lane(publisher, lane, (int64_t)FIRST_PAUSE_MS << LIMIT_DOUBLES);
    }
}

static void probe_passed(struct publisher *publisher)
{
    bool is_half_open = publisher->breaker.state == BREAKER_HALF_OPEN;

    if (is_half_open && publisher->limited == FIRST_PROBE) {
        publisher->limited = SECOND_PROBE;
        return;
    }
    note_passed(publisher, publisher->probe_serial, is_half_open);
    if (is_half_open && publisher->limited == SECOND_PROBE)
        pause_all_limited(publisher);
    tell_aside(publisher, SUSPICION_ON_CONTRAST, publisher->probe_serial);
}

static void probe_answered(struct publisher *publisher, const struct hub_result *result)
{
    uint64_t serial = publisher->probe_serial;

    publisher->probing = false;
    publisher->probe_refused = result->status == 401 || result->status == 403;
    publisher->refused_lately = publisher->refused_lately || publisher->probe_refused;
    publisher->probe_timeouts = result->status == 0 ? publisher->probe_timeouts + 1 : 0;
    if (result->answer.outcome == HUB_PASSED) {
        probe_passed(publisher);
        return;
    }
    bool is_closed = publisher->breaker.state == BREAKER_CLOSED;
    if (publisher->probe_refused && is_closed)
        tell_aside(publisher, SUSPICION_ON_AT_WORK, serial);
    bool nothing_waits = publisher->lanes.aside.len == 0 &&
                         (publisher->lanes.flight.len == 0 || publisher->probe_refused);
    /* Ignored if later requests have passed, or if no lane waits for an answer any more. */
    if (is_closed && (publisher->passed > serial || nothing_waits))
        return;
    open_breaker(publisher, HUB_PROBE_ID, result);
    tell_aside(publisher, SUSPICION_ON_HUB_DOWN, UINT64_MAX);
}

static int64_t short_timeout_ms(const struct publisher *publisher)
{
    return breaker_window_short_timeout_ms(&publisher->window, publisher->probe_timeouts,
                                           publisher->child->settings->mercure.timeout_ms);
}

static void send_own_probe(struct publisher *publisher)
{
    size_t slot = hub_idle_slot(publisher->hub);

    hub_probe_form(hub_form(publisher->hub, slot));
    publisher->probing = true;
    publisher->probe_serial = ++publisher->serial;
    publisher->probed_ms = clock_monotonic_ms();
    hub_send(publisher->hub, slot, HUB_PROBE_ID, short_timeout_ms(publisher), NULL);
}

/* False: no update can be made of the entry; it was rejected. */
static bool send_lane(struct publisher *publisher, struct lane *lane)
{
    size_t slot = hub_idle_slot(publisher->hub);
    int64_t timeout_ms = publisher->child->settings->mercure.timeout_ms;
    struct bytes id;
    struct error err;

    if (publication_update(publisher->publication, lane->head, lane->route,
                           hub_form(publisher->hub, slot), &id, &err) < 0) {
        finish(publisher, lane, VERDICT_REJECT, err.text);
        return false;
    }
    (void)suspicion_step(&lane->suspicion, SUSPICION_ON_SEND, 1);
    if (lane->suspicion.state == SUSPICION_ALONE || publisher->breaker.state != BREAKER_CLOSED)
        timeout_ms = short_timeout_ms(publisher);
    lane->slot = slot;
    lane->serial = ++publisher->serial;
    lane->sent_ms = clock_monotonic_ms();
    lane_move(lane, &publisher->lanes.flight);
    hub_send(publisher->hub, slot, id, timeout_ms, lane);
    return true;
}

static void send_ready(struct publisher *publisher)
{
    size_t left = publisher->lanes.ready.len;

    while (left > 0 && publisher->lanes.ready.head != NULL &&
           publisher->lanes.flight.len < publisher->window.size) {
        struct lane *lane = publisher->lanes.ready.head;

        lane_gather_refresh(lane);
        if (!source_count_delivery(lane->head)) {
            lane_move(lane, &publisher->lanes.ready);
            left--;
        } else if (send_lane(publisher, lane)) {
            left--;
        } else {
            wake_at(publisher, clock_monotonic_ms()); /* for the next entry of the lane */
        }
    }
}

/* Sends the first lane of the list that may be sent, and waits for its answer. Lanes that were never refused come
 * first, even if their delivery must be counted before. */
static void send_trial(struct publisher *publisher, const struct lane_list *list)
{
    bool refused = !lane_list_has_unrefused(list);

    for (struct lane *lane = list->head; lane != NULL; lane = lane->next) {
        if ((lane->refused_at > 0) != refused)
            continue;
        lane_gather_refresh(lane);
        if (!source_count_delivery(lane->head))
            continue;
        if (send_lane(publisher, lane)) {
            publisher->trial = lane;
            publisher->trial_ms = clock_monotonic_ms();
        } else {
            wake_at(publisher, clock_monotonic_ms()); /* to try the next lane */
        }
        return;
    }
}

/* Half-open: sends our own probe, or a message where our own probe would tell nothing. */
static void send_probe(struct publisher *publisher)
{
    size_t waiting = publisher->lanes.ready.len + publisher->lanes.recalled.len;
    bool is_message = publisher->limited == FIRST_MESSAGE || publisher->limited == SECOND_MESSAGE;

    if (is_message)
        waiting += publisher->lanes.paused.len;
    if (waiting == 0 || (!publisher->probe_refused && !is_message))
        send_own_probe(publisher);
    else if (publisher->lanes.ready.len == 0 ||
             (!lane_list_has_unrefused(&publisher->lanes.ready) &&
              lane_list_has_unrefused(&publisher->lanes.recalled)))
        send_trial(publisher, &publisher->lanes.recalled);
    else
        send_trial(publisher, &publisher->lanes.ready);
}

static void mark_overdue(struct publisher *publisher, struct lane *lane, int64_t now_ms)
{
    lane->due_ms = now_ms + END_WAIT_MS;
    lane_move(lane, &publisher->lanes.overdue);
    set_aside(publisher, lane);
}

/* Lanes that failed just before the breaker opened are sent one at a time. True while they hold up the others. */
static bool try_recalled(struct publisher *publisher, int64_t now_ms)
{
    if (publisher->trial != NULL) {
        if (now_ms < publisher->trial_ms + TRIAL_MS) {
            wake_at(publisher, publisher->trial_ms + TRIAL_MS);
            return true;
        }
        mark_overdue(publisher, publisher->trial, now_ms);
        publisher->trial = NULL;
    }
    if (publisher->lanes.recalled.len == 0)
        return false;
    if (publisher->lanes.flight.len == 0 && !publisher->probing && publisher->lanes.aside.len == 0)
        send_trial(publisher, &publisher->lanes.recalled);
    return true;
}

/* A lane is set aside or unanswered, and no other message in flight will give the contrast. */
static bool is_probe_needed(struct publisher *publisher, int64_t now_ms)
{
    const struct lane *oldest = publisher->lanes.aside.head;
    const struct lane *youngest =
        publisher->lanes.flight.len > 0 ? publisher->lanes.flight.head->prev : NULL;

    if (publisher->probing || (oldest == NULL && youngest == NULL))
        return false;
    if (youngest == NULL || (oldest != NULL && youngest->serial <= oldest->failed_at))
        return true;
    int64_t since_ms =
        youngest->sent_ms > publisher->probed_ms ? youngest->sent_ms : publisher->probed_ms;
    int64_t due_ms = since_ms + breaker_window_overdue_ms(&publisher->window);
    wake_at(publisher, due_ms);
    return now_ms >= due_ms;
}

static void send_closed(struct publisher *publisher, int64_t now_ms)
{
    if (!try_recalled(publisher, now_ms))
        send_ready(publisher);
    if (is_probe_needed(publisher, now_ms))
        send_own_probe(publisher);
}

static void cancel_request(struct publisher *publisher, const struct lane *lane)
{
    publisher->cancelling = true;
    hub_cancel(publisher->hub, lane->slot, "no answer yet, and later requests were answered");
    publisher->cancelling = false;
}

/* Too many requests are overdue, or entries that are set aside take so much that nothing more is read. A worker that
 * ends reads nothing more: it waits for the answers. */
static bool is_crowded(const struct publisher *publisher)
{
    const struct lane *oldest = publisher->lanes.overdue.head;

    if (publisher->lanes.ending)
        return false;
    return publisher->lanes.overdue.len > OVERDUE_MAX ||
           (oldest != NULL &&
            load_is_crowded(oldest->head->source->total, publisher->lanes.aside_max));
}

/* A request is overdue once a later one has passed and its time is over: it then takes no place in the window. */
static void note_overdue(struct publisher *publisher, int64_t now_ms)
{
    int64_t overdue_ms = breaker_window_overdue_ms(&publisher->window);
    struct lane *lane;

    while ((lane = publisher->lanes.flight.head) != NULL && lane->serial < publisher->passed) {
        if (now_ms < lane->sent_ms + overdue_ms) {
            wake_at(publisher, lane->sent_ms + overdue_ms);
            break;
        }
        mark_overdue(publisher, lane, now_ms);
    }
    while (is_crowded(publisher))
        cancel_request(publisher, publisher->lanes.overdue.head);
    for (lane = publisher->lanes.overdue.head; lane != NULL && lane->due_ms <= now_ms;
         lane = lane->next)
        ;
    if (lane != NULL)
        wake_at(publisher, lane->due_ms);
}

static void advance(struct publisher *publisher, int64_t now_ms)
{
    if (publisher->ended)
        return;
    switch (publisher->breaker.state) {
    case BREAKER_OPEN:
        if (!publisher->probing && breaker_probe_due(&publisher->breaker, now_ms))
            send_probe(publisher);
        break;
    case BREAKER_HALF_OPEN:
        if (!publisher->probing && publisher->trial == NULL)
            send_probe(publisher); /* the message had to wait for its delivery count or its pause */
        break;
    case BREAKER_CLOSED:
        send_closed(publisher, now_ms);
        break;
    }
}

static void answered(void *context, void *owner, const struct hub_result *result)
{
    struct publisher *publisher = context;

    count_answer(publisher->child->slot, result);
    if (owner == NULL)
        probe_answered(publisher, result);
    else
        lane_answered(publisher, owner, result);
    /* A place in the window is free: fill it without waiting for the next step. */
    if (publisher->breaker.state == BREAKER_CLOSED && !publisher->ended)
        send_closed(publisher, clock_monotonic_ms());
}

void publisher_step(struct publisher *publisher, int64_t now_ms)
{
    finish_held(publisher);
    if (publisher->lanes.ending)
        lanes_keep_waiting(&publisher->lanes);
    publisher->wake_ms = lanes_end_windows(&publisher->lanes, now_ms);
    wake_at(publisher, lanes_resume(&publisher->lanes, now_ms));
    note_overdue(publisher, now_ms);
    advance(publisher, now_ms);
    /* After sending: delivery counts are taken one at a time, and a handler may hold the one that it takes for long. */
    handlers_step(publisher->handlers, now_ms);
    stats_set(publisher->child->slot, STATS_BREAKER_OPEN, publisher_is_blocked(publisher));
}

void publisher_forget(struct publisher *publisher, const struct source *source, int64_t now_ms)
{
    const struct lane *late;

    while ((late = lanes_find_late(&publisher->lanes, source, now_ms)) != NULL)
        cancel_request(publisher, late);
    lanes_forget(&publisher->lanes, source);
    handlers_forget(publisher->handlers, source);
}

struct lanes *publisher_lanes(struct publisher *publisher)
{
    return &publisher->lanes;
}

struct handlers *publisher_handlers(struct publisher *publisher)
{
    return publisher->handlers;
}

void publisher_stop(struct publisher *publisher)
{
    handlers_stop(publisher->handlers);
    publisher->lanes.ending = true;
}

void publisher_end(struct publisher *publisher)
{
    publisher->ended = true;
    handlers_redeliver(publisher->handlers);
}

bool publisher_is_drained(const struct publisher *publisher, int64_t now_ms)
{
    const struct lane *last =
        publisher->lanes.overdue.head != NULL ? publisher->lanes.overdue.head->prev : NULL;

    return publisher->lanes.flight.len == 0 && publisher->lanes.held.len == 0 &&
           (last == NULL || now_ms >= last->due_ms);
}

bool publisher_is_blocked(const struct publisher *publisher)
{
    return publisher->breaker.state != BREAKER_CLOSED;
}

bool publisher_wants_another(const struct publisher *publisher)
{
    if (!publisher_is_blocked(publisher) || !publisher->probe_refused || publisher->trial != NULL)
        return false;
    return !lane_list_has_unrefused(&publisher->lanes.ready) && publisher->lanes.recalled.len == 0;
}

bool publisher_wants_beyond(const struct publisher *publisher)
{
    return !publisher_is_blocked(publisher) || publisher->refused_lately;
}

const char *publisher_trouble(const struct publisher *publisher)
{
    return publisher->trouble[0] != '\0' ? publisher->trouble
                                         : handlers_trouble(publisher->handlers);
}

int64_t publisher_deadline_ms(const struct publisher *publisher)
{
    int64_t deadline =
        clock_earlier_ms(publisher->wake_ms, handlers_deadline_ms(publisher->handlers));

    if (publisher->breaker.state != BREAKER_OPEN || publisher->probing || publisher->ended)
        return deadline;
    return clock_earlier_ms(deadline, publisher->breaker.until_ms);
}
