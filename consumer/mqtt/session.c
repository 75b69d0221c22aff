#include "consumer/mqtt/session.h"

#include "common/base/alloc.h"
#include "common/base/backoff.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/wire/mqtt_codes.h"
#include "consumer/mqtt/connect_diagnosis.h"
#include "consumer/mqtt/endpoints.h"
#include "consumer/mqtt/mqtt_client.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GOOD_AFTER_MS      10000
#define SUBSCRIBE_LIMIT_MS 30000
#define BAD_VERSION_3_1_1  1
#define BAD_VERSION_5      0x84
#define TAKEN_OVER         0x8e

enum phase {
    AWAY, /* no connection; if one is wanted, at `deadline_ms` */
    LOOKING_UP,
    CONNECTING,
    SUBSCRIBING, /* given up at the deadline */
    REFUSED,     /* connected, but a filter was refused: subscribes again at the deadline */
    READY,
    LEAVING,
};

struct session {
    const struct settings_mqtt *settings;
    struct subscriptions *filters;
    struct stats_slot *slot;
    struct mqtt_client *link;
    struct endpoints *dial;
    struct connect_diagnosis *why;

    bool should_connect;
    enum phase phase;
    int64_t deadline_ms;   /* of the phase; -1: none */
    int64_t ready_ms;      /* since when it is */
    int64_t rest_until_ms; /* not connected again before then, once we have left */
    int short_lived;       /* connections in a row that were lost soon */
    bool had_session;
    struct backoff backoff;
    struct session_facts facts;
    char reason[STATS_REASON_SIZE];
};

static struct server *server_of(struct session *session)
{
    return endpoints_server(session->dial);
}

static const char *place(const struct session *session)
{
    return endpoints_place(session->dial);
}

static void enter(struct session *session, enum phase phase, int64_t deadline_ms)
{
    session->phase = phase;
    session->deadline_ms = deadline_ms;
    stats_set(session->slot, STATS_CONNECTED, phase == READY);
}

static bool is_connected(const struct session *session)
{
    return session->phase == SUBSCRIBING || session->phase == REFUSED || session->phase == READY;
}

static void say(struct session *session, const char *why)
{
    snprintf(session->reason, sizeof(session->reason), "broker %s: %s", place(session), why);
}

/* The reason, and the log line for it. */
static void complain_of(struct session *session, size_t slot, const char *where, const char *why,
                        int64_t wait_ms)
{
    snprintf(session->reason, sizeof(session->reason), "broker %s: %s", where, why);
    connect_diagnosis_log(session->why, slot, session->reason, wait_ms);
}

static void complain(struct session *session, const char *why, int64_t wait_ms)
{
    complain_of(session, endpoints_slot(session->dial), place(session), why, wait_ms);
}

int session_new(struct session **session, const struct settings_mqtt *settings,
                struct subscriptions *filters, struct receiver *receiver, struct stats_slot *slot,
                struct error *err)
{
    struct session *made = xcalloc(1, sizeof(*made));

    *made = (struct session){.settings = settings, .filters = filters, .slot = slot};
    made->backoff = (struct backoff){.minimum_ms = settings->reconnect_min_ms,
                                     .maximum_ms = settings->reconnect_max_ms};
    int result = endpoints_new(&made->dial, settings, err);
    if (result < 0) {
        session_free(made);
        return result;
    }
    made->why = connect_diagnosis_new();
    made->link = mqtt_client_new(settings, filters, receiver);
    enter(made, AWAY, -1);
    say(made, "not connected yet");
    *session = made;
    return 0;
}

void session_free(struct session *session)
{
    if (session == NULL)
        return;
    mqtt_client_free(session->link);
    connect_diagnosis_free(session->why);
    endpoints_free(session->dial);
    free(session);
}

/* Waiting -------------------------------------------------------------------------------------- */

/* The connection is gone or did not come about. Returns how long the next one waits. */
static int64_t wait_and_retry(struct session *session, int64_t now_ms, bool taken_over)
{
    bool good =
        session->phase == READY && now_ms - session->ready_ms >= GOOD_AFTER_MS && !taken_over;
    bool lost_soon = is_connected(session) && !good;
    int64_t wait_ms = 0;
    bool all_tried = true;

    if (good) {
        backoff_reset(&session->backoff);
        session->short_lived = 0;
    } else if (lost_soon) {
        session->short_lived++;
    }
    if (taken_over) {
        /* Coming back at once would throw the other client out, and so on for ever. */
        session->backoff.next_ms = session->settings->reconnect_max_ms;
        endpoints_same_server(session->dial);
    } else if (is_connected(session)) {
        all_tried = endpoints_next_server(session->dial);
    } else {
        all_tried = endpoints_next(session->dial);
    }
    if (all_tried || lost_soon) {
        endpoints_begin_round(session->dial);
        wait_ms = backoff_next(&session->backoff);
    }
    enter(session, AWAY, now_ms + wait_ms);
    return wait_ms;
}

static void connect_now(struct session *session, int64_t now_ms)
{
    int version = server_version(server_of(session), now_ms);
    struct error err = {0};

    enter(session, CONNECTING, -1);
    if (mqtt_client_connect(session->link, server_of(session), endpoints_uri(session->dial),
                            version, &err) < 0)
        complain(session, err.text, wait_and_retry(session, now_ms, false));
}

static void look_up(struct session *session, int64_t now_ms)
{
    char why[160];

    switch (endpoints_take(session->dial, why)) {
    case ENDPOINTS_LOOKS_UP:
        break;
    case ENDPOINTS_KNOWS:
        connect_now(session, now_ms);
        break;
    case ENDPOINTS_FAILS:
        complain(session, why, wait_and_retry(session, now_ms, false));
        break;
    }
}

/* Subscribing ---------------------------------------------------------------------------------- */

static void note_granted(struct session *session)
{
    session->facts.lowest_qos = 2;
    session->facts.highest_qos = 0;
    for (size_t i = 0; i < subscriptions_count(session->filters); i++) {
        const struct filter *filter = subscriptions_at(session->filters, i);
        int qos = filter->granted;

        session->facts.lowest_qos =
            qos < session->facts.lowest_qos ? qos : session->facts.lowest_qos;
        session->facts.highest_qos =
            qos > session->facts.highest_qos ? qos : session->facts.highest_qos;
        if (qos < filter->qos)
            log_warning(LOG_WITH(log_text("filter", filter->text), log_number("qos", qos)),
                        "broker %s: filter \"%s\" was asked for with QoS %d and is granted QoS %d",
                        place(session), filter->text, filter->qos, qos);
    }
}

static void be_ready(struct session *session, int64_t now_ms)
{
    struct error err = {0};

    enter(session, READY, -1);
    session->ready_ms = now_ms;
    endpoints_begin_round(session->dial);
    session->reason[0] = '\0';
    note_granted(session);
    connect_diagnosis_over(session->why, place(session));
    log_info(LOG_WITH(log_text("version", session->facts.version == 5 ? "5" : "3.1.1"),
                      log_flag("session_present", session->facts.session_present),
                      log_number("filters", (int64_t)subscriptions_count(session->filters))),
             "broker %s: connected and subscribed", place(session));
    mqtt_client_publish_status(session->link, "online");
    if (subscriptions_stale_count(session->filters) > 0 &&
        mqtt_client_unsubscribe_stale(session->link, &err) < 0)
        log_warning(LOG_PLAIN, "broker %s: former filters stay subscribed for now: %s",
                    place(session), err.text);
}

static void save_filters(struct session *session)
{
    struct error err = {0};

    if (subscriptions_save(session->filters, &err) < 0)
        log_error(LOG_PLAIN, "%s; filters that are removed from the settings may stay subscribed",
                  err.text);
}

static void subscribe(struct session *session, int64_t now_ms)
{
    struct error err = {0};

    /* Remembered before it is asked for: what was subscribed once must be unsubscribed some day. */
    if (!subscriptions_are_known(session->filters))
        save_filters(session);
    say(session, "subscribing");
    enter(session, SUBSCRIBING, now_ms + SUBSCRIBE_LIMIT_MS);
    if (mqtt_client_subscribe(session->link, &err) < 0)
        log_warning(LOG_PLAIN, "broker %s: cannot subscribe: %s", place(session), err.text);
}

static void on_subscribed(struct session *session, const struct session_event *event,
                          int64_t now_ms)
{
    char why[300];

    if (session->phase != SUBSCRIBING)
        return;
    save_filters(session);
    for (size_t i = 0; i < subscriptions_count(session->filters); i++) {
        const struct filter *filter = subscriptions_at(session->filters, i);

        if (filter->granted != FILTER_REFUSED)
            continue;
        int64_t wait_ms = backoff_next(&session->backoff);
        snprintf(why, sizeof(why), "filter \"%.120s\" was refused (%s)", filter->text,
                 mqtt_code_text(event->version, event->code));
        complain(session, why, wait_ms);
        enter(session, REFUSED, now_ms + wait_ms);
        return;
    }
    be_ready(session, now_ms);
}

/* Events --------------------------------------------------------------------------------------- */

static void on_connected(struct session *session, const struct session_event *event, int64_t now_ms)
{
    int64_t expiry_s = event->session_expiry_s;

    if (event->version == 5 && expiry_s < 0)
        expiry_s = session->settings->session_expiry_ms / 1000;
    session->facts.version = event->version;
    session->facts.session_present = event->session_present;
    session->facts.session_expiry_s = expiry_s;
    server_did_not_hang_up(server_of(session));
    connect_diagnosis_forget(session->why, server_of(session));
    if (!event->session_present &&
        (session->had_session || subscriptions_are_known(session->filters)))
        log_warning(LOG_PLAIN,
                    "broker %s: has no session of ours any more: what was published since then and "
                    "not retained is lost",
                    place(session));
    if (session->had_session)
        stats_add(session->slot, STATS_RECONNECTS, 1);
    session->had_session = true;
    if (!event->session_present)
        subscriptions_forget_stale(session->filters);
    if (event->version == 4 && event->session_present && subscriptions_are_known(session->filters))
        be_ready(session, now_ms);
    else
        subscribe(session, now_ms);
}

static void fall_back(struct session *session, int64_t now_ms)
{
    log_notice(LOG_PLAIN, "broker %s: refuses MQTT 5; falling back to 3.1.1", place(session));
    server_refused_5(server_of(session), now_ms);
    connect_now(session, now_ms);
}

static void on_connect_failed(struct session *session, const struct session_event *event,
                              int64_t now_ms)
{
    char why[300];

    if (event->version == 5 && (event->code == BAD_VERSION_3_1_1 || event->code == BAD_VERSION_5)) {
        fall_back(session, now_ms);
        return;
    }
    if (event->code != 0) {
        server_did_not_hang_up(server_of(session));
        if (event->version == 4 && event->code == BAD_VERSION_3_1_1)
            server_refused_3_1_1(server_of(session));
        snprintf(why, sizeof(why), "refused the connection: %s%s",
                 mqtt_code_text(event->version, event->code),
                 mqtt_code_hint(event->version, event->code));
        complain(session, why, wait_and_retry(session, now_ms, false));
    } else if (event->text[0] != '\0') {
        complain(session, event->text, wait_and_retry(session, now_ms, false));
    } else {
        say(session, "cannot connect");
        connect_diagnosis_ask(session->why, session->dial); /* on_why then complains */
        wait_and_retry(session, now_ms, false);
    }
}

static void on_why(struct session *session, int64_t now_ms)
{
    struct connect_diagnosis_answer answer;
    int64_t wait_ms = session->phase == AWAY ? session->deadline_ms - now_ms : 0;

    if (connect_diagnosis_take(session->why, now_ms, &answer) && session->phase != READY)
        complain_of(session, answer.slot, answer.place, answer.text, wait_ms);
}

/* Brokers that take a session over often don't tell the old client (Mosquitto 2.0 does not). */
static void complain_of_loss(struct session *session, const struct session_event *event,
                             int64_t wait_ms)
{
    const char *client_id = session->settings->client_id;
    char why[300];

    if (event->code == TAKEN_OVER)
        snprintf(why, sizeof(why),
                 "another client uses the client id \"%.80s\" (MQTT_CLIENT_ID): it has taken the "
                 "session over",
                 client_id);
    else if (event->code != 0)
        snprintf(why, sizeof(why), "ended the connection: %s%s",
                 mqtt_code_text(event->version, event->code),
                 mqtt_code_hint(event->version, event->code));
    else if (session->short_lived > 1)
        snprintf(why, sizeof(why),
                 "the connection was lost again soon after it was made: is there another client "
                 "with the client id \"%.80s\" (MQTT_CLIENT_ID)?",
                 client_id);
    else
        snprintf(why, sizeof(why), "the connection was lost");
    complain(session, why, wait_ms);
}

static void on_lost(struct session *session, const struct session_event *event, int64_t now_ms)
{
    if (session->phase == AWAY || session->phase == LOOKING_UP)
        return;
    if (session->phase == LEAVING) {
        enter(session, AWAY, session->rest_until_ms);
        return;
    }
    complain_of_loss(session, event, wait_and_retry(session, now_ms, event->code == TAKEN_OVER));
}

static void on_event(struct session *session, const struct session_event *event, int64_t now_ms)
{
    switch (event->kind) {
    case SESSION_CONNECTED:
        on_connected(session, event, now_ms);
        break;
    case SESSION_CONNECT_FAILED:
        on_connect_failed(session, event, now_ms);
        break;
    case SESSION_LOST:
        on_lost(session, event, now_ms);
        break;
    case SESSION_SUBSCRIBED:
        on_subscribed(session, event, now_ms);
        break;
    case SESSION_UNSUBSCRIBED:
        log_info(
            LOG_WITH(log_number("filters", (int64_t)subscriptions_stale_count(session->filters))),
            "broker %s: unsubscribed from former filters", place(session));
        subscriptions_forget_stale(session->filters);
        save_filters(session);
        break;
    case SESSION_LEFT:
        enter(session, AWAY, session->rest_until_ms);
        say(session, "left");
        break;
    }
}

static void leave_now(struct session *session)
{
    struct error err = {0};

    if (session->phase == READY)
        mqtt_client_publish_status(session->link, "offline");
    enter(session, LEAVING, -1);
    if (mqtt_client_disconnect(session->link, &err) < 0)
        enter(session, AWAY, session->rest_until_ms); /* it is gone already */
}

void session_join(struct session *session)
{
    if (session->should_connect)
        return;
    session->should_connect = true;
    if (session->phase == AWAY)
        session->deadline_ms = clock_monotonic_ms();
}

void session_leave(struct session *session)
{
    session->should_connect = false;
}

void session_process(struct session *session, const struct pollfd fds[SESSION_POLL_FDS],
                     int64_t now_ms)
{
    struct session_event event;

    while (fds[0].revents != 0 && mqtt_client_take(session->link, &event))
        on_event(session, &event, now_ms);
    if (fds[1].revents != 0)
        on_why(session, now_ms);

    bool due = session->deadline_ms >= 0 && now_ms >= session->deadline_ms;
    if (session->phase == LOOKING_UP && !session->should_connect)
        enter(session, AWAY, -1);
    else if (session->phase == LOOKING_UP && fds[2].revents != 0)
        look_up(session, now_ms);

    if (is_connected(session) && !session->should_connect) {
        leave_now(session);
    } else if (session->phase == AWAY && session->should_connect && due) {
        endpoints_start(session->dial);
        enter(session, LOOKING_UP, -1);
        look_up(session, now_ms);
    } else if (session->phase == REFUSED && due) {
        subscribe(session, now_ms);
    } else if (session->phase == SUBSCRIBING && due) {
        complain(session, "does not answer SUBSCRIBE", wait_and_retry(session, now_ms, false));
        session->rest_until_ms = session->deadline_ms;
        leave_now(session);
    }
}

void session_poll(const struct session *session, struct pollfd fds[SESSION_POLL_FDS])
{
    fds[0] = (struct pollfd){.fd = mqtt_client_fd(session->link), .events = POLLIN};
    fds[1] = (struct pollfd){.fd = connect_diagnosis_fd(session->why), .events = POLLIN};
    fds[2] = (struct pollfd){.fd = endpoints_fd(session->dial), .events = POLLIN};
}

int64_t session_deadline_ms(const struct session *session)
{
    if (session->phase == AWAY && !session->should_connect)
        return -1;
    return session->deadline_ms;
}

bool session_is_ready(const struct session *session)
{
    return session->phase == READY;
}

bool session_is_away(const struct session *session)
{
    return session->phase == AWAY;
}

const char *session_reason(const struct session *session)
{
    return session->reason;
}

const struct session_facts *session_facts(const struct session *session)
{
    return &session->facts;
}
