#include "consumer/mqtt/session.h"

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/wire/mqtt_codes.h"
#include "consumer/mqtt/endpoints.h"
#include "consumer/mqtt/mqtt_client.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GOOD_AFTER_MS  10000
#define LOST_SOON_MANY 3 /* losses in a row that hint at another user of the client id */
#define HANG_UPS_MAX   2 /* in a row with MQTT 5: the server may not know MQTT 5 */
#define PROBE_LIMIT_MS 3000
#define SLOTS          16
#define OVERTAKEN_MAX  2 /* later packets that may be answered before a SUBSCRIBE */

#define BAD_VERSION_3_1_1 1
#define BAD_VERSION_5     0x84
#define TAKEN_OVER        0x8e
#define NO_RETAIN         0x9a
#define NO_SUCH_QOS       0x9b
#define NO_SUBSCRIPTION   0x11 /* UNSUBACK: the broker had no such filter */
#define REFUSED_FROM      0x80

enum state {
    AWAY,
    LOOKING_UP,
    CONNECTING,
    PROBING,
    SUBSCRIBING,
    REFUSED,
    READY,
    LEAVING,
};

struct session {
    const struct settings_mqtt *settings;
    struct subscriptions *filters;
    struct receiver *receiver;
    struct stats_slot *slot;
    struct mqtt_client *client;
    struct endpoints *endpoints;

    bool should_connect;
    enum state state;
    int64_t deadline_ms;        /* deadline of the state; -1: none */
    int64_t connected_ms;       /* when CONNACK came */
    int64_t next_keep_alive_ms; /* when to send the next packet that keeps the session alive */
    int overtaken;              /* later packets answered while SUBSCRIBING */
    int64_t away_until_ms;      /* after LEAVING */
    int lost_soon;              /* connections in a row that were lost soon after they were made */
    bool had_session;
    int probed_version; /* MQTT version of the attempt that is probed */
    struct clock_backoff backoff;
    struct connack connack;
    struct session_facts facts;
    char reason[STATS_REASON_SIZE];
    struct log_fault faults[SLOTS]; /* by the endpoint's slot: each address is logged */

    size_t gone_kept; /* filters to be unsubscribed that stay subscribed in this connection */
    int64_t unsubscribed;
};

static const struct endpoint *endpoint(const struct session *session)
{
    return endpoints_current(session->endpoints);
}

static struct endpoints_server *server_of(const struct session *session)
{
    return endpoint(session)->server;
}

static const char *broker_name(const struct session *session)
{
    return endpoint(session)->name;
}

static void enter(struct session *session, enum state state, int64_t deadline_ms)
{
    session->state = state;
    session->deadline_ms = deadline_ms;
    stats_set(session->slot, STATS_CONNECTED, state == READY);
}

static bool is_connected(const struct session *session)
{
    return session->state == SUBSCRIBING || session->state == REFUSED || session->state == READY;
}

static void set_reason(struct session *session, const char *why)
{
    snprintf(session->reason, sizeof(session->reason), "broker %s: %s", broker_name(session), why);
}

/* Publishes the reason, and logs it. */
static void report_error(struct session *session, const char *why, int64_t wait_ms)
{
    set_reason(session, why);
    log_fault(&session->faults[endpoint(session)->slot % SLOTS], LOG_LEVEL_ERROR,
              LOG_WITH(log_number("retry_ms", wait_ms)), "broker %s: %s", broker_name(session),
              why);
}

static void faults_over(struct session *session)
{
    size_t first = 0;

    while (first < SLOTS - 1 && !session->faults[first].standing)
        first++;
    log_fault_over(&session->faults[first], LOG_PLAIN, "broker %s: connected again",
                   broker_name(session));
    memset(session->faults, 0, sizeof(session->faults));
}

static void save(struct session *session)
{
    struct error err = {0};

    if (subscriptions_save(session->filters, &err) < 0)
        log_error(LOG_PLAIN,
                  "%s; without this file filters that are removed from the settings may stay "
                  "subscribed",
                  err.text);
}

int session_new(struct session **session, const struct settings_mqtt *settings,
                struct subscriptions *filters, struct receiver *receiver, struct stats_slot *slot,
                struct error *err)
{
    struct session *made = xcalloc(1, sizeof(*made));

    *made = (struct session){
        .settings = settings, .filters = filters, .receiver = receiver, .slot = slot};
    made->backoff = (struct clock_backoff){.minimum_ms = settings->reconnect_min_ms,
                                           .maximum_ms = settings->reconnect_max_ms};
    int result = endpoints_new(&made->endpoints, settings, err);
    if (result < 0) {
        session_free(made);
        return result;
    }
    made->client = mqtt_client_new(settings, filters, receiver);
    enter(made, AWAY, -1);
    set_reason(made, "not connected yet");
    *session = made;
    return 0;
}

void session_free(struct session *session)
{
    if (session == NULL)
        return;
    mqtt_client_free(session->client);
    endpoints_free(session->endpoints);
    free(session);
}

/* Enters the wait after a lost or failed connection. Returns the wait's length. */
static int64_t wait_and_retry(struct session *session, int64_t now_ms, bool taken_over)
{
    bool was_connected = is_connected(session);
    bool good = was_connected && now_ms - session->connected_ms >= GOOD_AFTER_MS && !taken_over;
    bool all_tried = endpoints_next(session->endpoints, was_connected);
    int64_t wait_ms = 0;

    if (good)
        clock_backoff_reset(&session->backoff);
    session->lost_soon = was_connected && !good ? session->lost_soon + 1 : 0;
    if (taken_over) /* returning at once would end the other client's session, and so on */
        session->backoff.next_ms = session->settings->reconnect_max_ms;
    if (all_tried || (was_connected && !good)) {
        endpoints_begin_round(session->endpoints);
        wait_ms = clock_backoff_next(&session->backoff);
    }
    enter(session, AWAY, now_ms + wait_ms);
    return wait_ms;
}

static void fail(struct session *session, const char *why, int64_t now_ms)
{
    report_error(session, why, wait_and_retry(session, now_ms, false));
}

static void connect_now(struct session *session, int64_t now_ms)
{
    bool five = session->settings->version == MQTT_VERSION_5 && !server_of(session)->falls_back;
    struct error err = {0};

    subscriptions_connecting(session->filters);
    save(session);
    enter(session, CONNECTING, -1);
    if (mqtt_client_connect(session->client, endpoint(session), five ? 5 : 4, &err) < 0) {
        subscriptions_not_connected(session->filters, false);
        fail(session, err.text, now_ms);
    }
}

static void look_up(struct session *session, int64_t now_ms)
{
    char why[160];

    switch (endpoints_take(session->endpoints, why)) {
    case ENDPOINTS_LOOKS_UP:
        break;
    case ENDPOINTS_KNOWS:
        connect_now(session, now_ms);
        break;
    case ENDPOINTS_FAILS:
        fail(session, why, now_ms);
        break;
    }
}

static void leave_now(struct session *session)
{
    struct error err = {0};

    if (session->state == READY)
        mqtt_client_publish_status(session->client, "offline", &session->connack);
    session->away_until_ms = 0;
    enter(session, LEAVING, -1);
    if (mqtt_client_disconnect(session->client, &err) < 0)
        enter(session, AWAY, 0); /* the connection has ended already */
}

/* Unsubscribes filters one by one, so that no packet exceeds the broker's limit. Failed ones are
 * tried again over the next connection. */
static void unsubscribe_next(struct session *session)
{
    struct error err = {0};
    const char *text;

    while ((text = subscriptions_gone_at(session->filters, session->gone_kept)) != NULL &&
           (int64_t)strlen(text) + 12 > session->connack.maximum_packet)
        session->gone_kept++;
    if (text != NULL) {
        if (mqtt_client_unsubscribe(session->client, text, &err) < 0)
            log_warning(
                LOG_PLAIN,
                "broker %s: filter \"%s\" stays subscribed: %s; tried again at the next connect",
                broker_name(session), text, err.text);
        return;
    }
    save(session);
    if (session->unsubscribed > 0)
        log_info(LOG_WITH(log_number("filters", session->unsubscribed)),
                 "broker %s: unsubscribed from former filters", broker_name(session));
}

static void on_unsubscribed(struct session *session, const struct mqtt_client_event *event)
{
    const char *text = subscriptions_gone_at(session->filters, session->gone_kept);

    if (event->code >= REFUSED_FROM) {
        log_warning(
            LOG_PLAIN,
            "broker %s: filter \"%s\", which is not in topics, stays subscribed (%s); tried "
            "again at the next connect",
            broker_name(session), text, mqtt_codes_text(event->version, event->code));
        session->gone_kept++;
    } else {
        session->unsubscribed += event->code != NO_SUBSCRIPTION;
        subscriptions_forget_gone(session->filters, text);
    }
    unsubscribe_next(session);
}

static void note_granted(struct session *session)
{
    struct session_facts *facts = &session->facts;

    facts->lowest_qos = 2;
    facts->highest_qos = 0;
    for (size_t i = 0; i < subscriptions_count(session->filters); i++) {
        const struct filter *filter = subscriptions_at(session->filters, i);
        int qos = filter->granted;

        facts->lowest_qos = qos < facts->lowest_qos ? qos : facts->lowest_qos;
        facts->highest_qos = qos > facts->highest_qos ? qos : facts->highest_qos;
        if (qos < filter->qos)
            log_warning(LOG_WITH(log_text("filter", filter->text), log_number("qos", qos)),
                        "broker %s: filter \"%s\" was asked for with QoS %d and is granted QoS %d",
                        broker_name(session), filter->text, filter->qos, qos);
    }
}

static void become_ready(struct session *session)
{
    enter(session, READY, -1);
    endpoints_begin_round(session->endpoints);
    session->reason[0] = '\0';
    note_granted(session);
    faults_over(session);
    log_info(LOG_WITH(log_text("version", session->facts.version == 5 ? "5" : "3.1.1"),
                      log_flag("session_present", session->facts.session_present),
                      log_number("filters", (int64_t)subscriptions_count(session->filters))),
             "broker %s: connected and subscribed", broker_name(session));
    mqtt_client_publish_status(session->client, "online", &session->connack);
    unsubscribe_next(session);
}

/* Sends the SUBSCRIBEs. all: even for granted filters. */
static void subscribe(struct session *session, bool all)
{
    struct error err = {0};

    save(session);
    if (!all && subscriptions_all_granted(session->filters)) {
        become_ready(session);
        return;
    }
    set_reason(session, "subscribing");
    session->overtaken = 0;
    enter(session, SUBSCRIBING, -1);
    if (mqtt_client_subscribe(session->client, all, &session->connack, &err) < 0)
        log_warning(LOG_PLAIN, "broker %s: cannot subscribe: %s; tried again at the next connect",
                    broker_name(session), err.text);
}

static void on_subscribed(struct session *session, const struct mqtt_client_event *event,
                          int64_t now_ms)
{
    int code = 0;
    const char *refused = subscriptions_refused(session->filters, &code);
    char why[300];

    if (session->state != SUBSCRIBING)
        return;
    save(session);
    if (refused == NULL) {
        become_ready(session);
        return;
    }
    int64_t wait_ms = clock_backoff_next(&session->backoff);
    snprintf(why, sizeof(why), "filter \"%.120s\" was refused (%s)", refused,
             mqtt_codes_text(event->version, code));
    report_error(session, why, wait_ms);
    enter(session, REFUSED, now_ms + wait_ms);
}

/* Notes an answer to a later packet. The broker answers in order: a SUBSCRIBE that later packets
 * overtake will not be answered. */
static void on_alive(struct session *session, int64_t now_ms)
{
    if (session->state != SUBSCRIBING || ++session->overtaken < OVERTAKEN_MAX)
        return;
    int64_t wait_ms = clock_backoff_next(&session->backoff);
    report_error(session, "does not answer SUBSCRIBE, but later packets", wait_ms);
    leave_now(session);
    session->away_until_ms = now_ms + wait_ms;
}

static void note_server(struct session *session, const struct mqtt_client_event *event)
{
    struct endpoints_server *server = server_of(session);

    server->answered = true;
    server->hang_ups = 0;
    server->no_retain = event->connack.no_retain;
    server->maximum_qos = event->connack.maximum_qos;
    if (event->version == 5)
        subscriptions_note_5(session->filters);
}

static void note_session(struct session *session, const struct mqtt_client_event *event)
{
    bool present = event->connack.session_present;
    bool known = subscriptions_has_session(session->filters);
    int64_t expiry_s = event->connack.session_expiry_s;

    if (event->version == 5 && expiry_s < 0)
        expiry_s = session->settings->session_expiry_ms / 1000;
    session->connack = event->connack;
    session->facts.version = event->version;
    session->facts.session_present = present;
    session->facts.session_expiry_s = expiry_s;
    if (!present && known)
        log_warning(LOG_PLAIN,
                    "broker %s: our session is gone: what was published since the last connection "
                    "and not retained is lost",
                    broker_name(session));
    subscriptions_connected(session->filters, present);
    if (present && !known)
        log_warning(
            LOG_PLAIN,
            "broker %s: the session of client id \"%s\" was made by another program: the "
            "filters of [mqtt] former_topics (\"%s\") are unsubscribed; name others that it "
            "had there, or messages come that topics does not match, or twice",
            broker_name(session), session->settings->client_id, session->settings->former_topics);
    if (session->had_session)
        stats_add(session->slot, STATS_RECONNECTS, 1);
    session->had_session = true;
}

/* Returns the interval that suits the keep alive in force: Server Keep Alive, which paho need
 * not heed, or that of the settings. */
static int64_t keep_alive_every_ms(const struct session *session)
{
    int64_t keep_alive_ms = session->settings->keepalive_ms;
    int64_t servers_ms = session->connack.keep_alive_s * INT64_C(1000);

    if (servers_ms > 0 && servers_ms < keep_alive_ms)
        keep_alive_ms = servers_ms;
    return keep_alive_ms / 2;
}

static void on_connected(struct session *session, const struct mqtt_client_event *event,
                         int64_t now_ms)
{
    note_server(session, event);
    note_session(session, event);
    session->connected_ms = now_ms;
    session->gone_kept = 0;
    session->unsubscribed = 0;
    session->next_keep_alive_ms = now_ms + keep_alive_every_ms(session);
    subscribe(session, event->version == 5);
}

static void fall_back(struct session *session, int64_t now_ms)
{
    log_notice(LOG_PLAIN, "broker %s: refuses MQTT 5; falling back to 3.1.1", broker_name(session));
    server_of(session)->falls_back = true;
    server_of(session)->hang_ups = 0;
    connect_now(session, now_ms);
}

/* Handles a CONNACK that refuses the connection. */
static void on_refused(struct session *session, const struct mqtt_client_event *event,
                       int64_t now_ms)
{
    struct endpoints_server *server = server_of(session);
    bool bad_version = event->code == BAD_VERSION_3_1_1 || event->code == BAD_VERSION_5;
    char why[300];

    server->answered = true;
    server->hang_ups = 0;
    if (event->version == 5 && bad_version) {
        fall_back(session, now_ms);
        return;
    }
    if (event->code == NO_RETAIN) /* its only use is the last will */
        server->no_retain = true;
    if (event->code == NO_SUCH_QOS)
        server->maximum_qos = 0;
    snprintf(why, sizeof(why), "refused the connection: %s%s",
             mqtt_codes_text(event->version, event->code),
             mqtt_codes_hint(event->version, event->code));
    fail(session, why, now_ms);
}

static void on_connect_failed(struct session *session, const struct mqtt_client_event *event,
                              int64_t now_ms)
{
    subscriptions_not_connected(session->filters, event->code == 0 && !event->unsent);
    save(session);
    if (event->version == 4)
        server_of(session)->falls_back = false;
    if (event->code != 0) {
        on_refused(session, event, now_ms);
    } else if (event->text[0] != '\0') {
        fail(session, event->text, now_ms);
    } else {
        set_reason(session, "cannot connect");
        endpoints_probe(session->endpoints);
        enter(session, PROBING, now_ms + PROBE_LIMIT_MS);
        session->probed_version = event->version;
    }
}

/* Returns why the connection ended. The hint at TLS is a guess, and left out for a server that
 * has answered before. */
static const char *explain_end(const struct endpoints_server *server)
{
    if (server->answered)
        return "accepts connections, but ends ours without an answer";
    if (server->address.tls)
        return "accepts connections, but ends ours in the TLS handshake: it has no TLS there, or a "
               "certificate for another name";
    return "accepts connections, but ends ours without an answer: does it want TLS (MQTT_TLS)?";
}

/* Handles the probe's result. Some brokers without MQTT 5 end the connection at CONNECT; so does
 * a load balancer without a backend. */
static void on_probed(struct session *session, int64_t now_ms)
{
    struct endpoints_server *server = server_of(session);
    int fault = endpoints_probed(session->endpoints);

    if (fault == 0 && session->probed_version == 5 && ++server->hang_ups >= HANG_UPS_MAX &&
        !subscriptions_accepted_5(session->filters))
        fall_back(session, now_ms);
    else
        fail(session, fault == 0 ? explain_end(server) : strerror(fault), now_ms);
}

static void report_loss(struct session *session, const struct mqtt_client_event *event,
                        int64_t wait_ms)
{
    char why[400];

    if (event->code == TAKEN_OVER)
        snprintf(why, sizeof(why),
                 "another client uses the client id \"%.80s\" (MQTT_CLIENT_ID): it has taken the "
                 "session over",
                 session->settings->client_id);
    else if (event->code != 0)
        snprintf(why, sizeof(why), "ended the connection: %s%s%s%s",
                 mqtt_codes_text(event->version, event->code),
                 mqtt_codes_hint(event->version, event->code), event->text[0] != '\0' ? ": " : "",
                 event->text);
    else
        snprintf(why, sizeof(why), "the connection was lost%s",
                 session->lost_soon > 1 ? " again soon after it was made" : "");
    report_error(session, why, wait_ms);
    /* Brokers that hand a session to another client often don't tell the old one (Mosquitto 2.0
     * does not). */
    if (event->code == 0 && session->lost_soon == LOST_SOON_MANY)
        log_warning(LOG_PLAIN,
                    "broker %s: %d connections in a row were lost soon after they were made: is "
                    "there another client with the client id \"%s\" (MQTT_CLIENT_ID)?",
                    broker_name(session), session->lost_soon, session->settings->client_id);
}

static void on_lost(struct session *session, const struct mqtt_client_event *event, int64_t now_ms)
{
    if (session->state == LEAVING) {
        enter(session, AWAY, session->away_until_ms);
        if (session->away_until_ms == 0)
            set_reason(session, "left");
        return;
    }
    if (!is_connected(session))
        return;
    report_loss(session, event, wait_and_retry(session, now_ms, event->code == TAKEN_OVER));
}

static void on_event(struct session *session, const struct mqtt_client_event *event, int64_t now_ms)
{
    switch (event->kind) {
    case MQTT_CLIENT_CONNECTED:
        on_connected(session, event, now_ms);
        break;
    case MQTT_CLIENT_CONNECT_FAILED:
        on_connect_failed(session, event, now_ms);
        break;
    case MQTT_CLIENT_LOST:
        on_lost(session, event, now_ms);
        break;
    case MQTT_CLIENT_SUBSCRIBED:
        on_subscribed(session, event, now_ms);
        break;
    case MQTT_CLIENT_UNSUBSCRIBED:
        on_unsubscribed(session, event);
        break;
    case MQTT_CLIENT_ALIVE:
        on_alive(session, now_ms);
        break;
    }
}

void session_join(struct session *session)
{
    if (session->should_connect)
        return;
    session->should_connect = true;
    if (session->state == AWAY)
        session->deadline_ms = clock_monotonic_ms();
}

void session_leave(struct session *session)
{
    session->should_connect = false;
}

static bool is_due(int64_t deadline_ms, int64_t now_ms)
{
    return deadline_ms >= 0 && now_ms >= deadline_ms;
}

void session_process(struct session *session, const struct pollfd fds[SESSION_POLL_FDS],
                     int64_t now_ms)
{
    struct mqtt_client_event event;

    while (fds[0].revents != 0 && mqtt_client_take(session->client, &event))
        on_event(session, &event, now_ms);
    if (fds[1].revents != 0 && session->state == LOOKING_UP)
        look_up(session, now_ms);
    if (is_connected(session) && now_ms >= session->next_keep_alive_ms) {
        mqtt_client_keep_alive(session->client);
        session->next_keep_alive_ms = now_ms + keep_alive_every_ms(session);
    }

    bool due = is_due(session->deadline_ms, now_ms);
    if (is_connected(session) && !session->should_connect) {
        leave_now(session);
    } else if ((session->state == LOOKING_UP || session->state == PROBING) &&
               !session->should_connect) {
        enter(session, AWAY, -1);
    } else if (session->state == PROBING && (due || fds[1].revents != 0)) {
        on_probed(session, now_ms);
    } else if (session->state == AWAY && session->should_connect && due) {
        endpoints_start(session->endpoints);
        enter(session, LOOKING_UP, -1);
        look_up(session, now_ms);
    } else if (session->state == REFUSED && due) {
        subscribe(session, false);
    }
}

void session_poll(const struct session *session, struct pollfd fds[SESSION_POLL_FDS])
{
    fds[0] = (struct pollfd){.fd = mqtt_client_fd(session->client), .events = POLLIN};
    fds[1] = session->state == LOOKING_UP || session->state == PROBING
                 ? endpoints_poll(session->endpoints)
                 : (struct pollfd){.fd = -1};
}

int64_t session_deadline_ms(const struct session *session)
{
    if (session->state == AWAY && !session->should_connect)
        return -1;
    return clock_earlier_ms(is_connected(session) ? session->next_keep_alive_ms : -1,
                            session->deadline_ms);
}

struct session_facts session_facts(const struct session *session)
{
    struct session_facts facts = session->facts;

    facts.ready = session->state == READY;
    facts.away = session->state == AWAY;
    facts.reason = session->reason;
    return facts;
}
