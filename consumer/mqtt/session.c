#include "consumer/mqtt/session.h"

#include "common/base/alloc.h"
#include "common/base/backoff.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/wire/mqtt_codes.h"
#include "consumer/mqtt/diagnosis.h"
#include "consumer/mqtt/endpoints.h"
#include "consumer/mqtt/inherited.h"
#include "consumer/mqtt/mqtt_client.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GOOD_AFTER_MS             10000
#define LOST_SOON_MANY            3 /* in a row: somebody else may use the client id */
#define SUBSCRIBE_LIMIT_MS        30000
#define WATCH_MAX_MS              10000
#define SILENT_BYTES              256 /* PINGRESPs, with TLS around */
#define CANDIDATES_UNANSWERED_MAX 2
#define EXAMINE_EVERY_MS          1000
#define EXAMINE_LIMIT_MS          300000
#define SLOTS                     16

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
    SUBSCRIBING,
    REFUSED,
    READY,
    LEAVING,
};

/* What the UNSUBSCRIBE under way is about. */
enum unsubscribing { NOTHING, GONE_FILTERS, CANDIDATES };

struct session {
    const struct settings_mqtt *settings;
    struct subscriptions *filters;
    struct receiver *receiver;
    struct stats_slot *slot;
    struct mqtt_client *client;
    struct endpoints *endpoints;
    struct diagnosis *diagnosis;

    bool should_connect;
    enum state state;
    int64_t deadline_ms;   /* of the state; -1: none */
    int64_t connected_ms;  /* since when it is, with every filter granted or not */
    int64_t rest_until_ms; /* not connected again before then, once we have left */
    int lost_soon;         /* connections in a row, with none that could not be made between */
    bool said_client_id;
    bool had_session;
    struct backoff backoff;
    struct connack connack;
    struct session_facts facts;
    char reason[STATS_REASON_SIZE];
    struct log_fault
        faults[SLOTS]; /* by the endpoint's slot: each address has its turn in the log */

    int64_t watch_ms; /* when the link is looked at next; -1: not */
    uint64_t bytes;   /* received until the last look */
    uint64_t messages;

    enum unsubscribing unsubscribing;
    const char *unsubscribed[MQTT_UNSUBSCRIBE_MAX];
    size_t unsubscribed_len;
    struct inherited *inherited; /* NULL: nothing to be looked for */
    int64_t examine_ms;          /* next; -1: not */
    int64_t examine_until_ms;
    uint64_t unwanted;         /* messages that no filter wants, until the last look */
    int candidates_unanswered; /* connections that were lost with an UNSUBSCRIBE of them under way */
};

static const struct endpoint *endpoint(const struct session *session)
{
    return endpoints_current(session->endpoints);
}

static struct server *server_of(const struct session *session)
{
    return endpoint(session)->server;
}

static const char *place(const struct session *session)
{
    return endpoint(session)->place;
}

static void enter(struct session *session, enum state state, int64_t deadline_ms)
{
    session->state = state;
    session->deadline_ms = deadline_ms;
    stats_set(session->slot, STATS_CONNECTED, state == READY);
    if (state == AWAY)
        session->watch_ms = session->examine_ms = -1;
}

static bool is_connected(const struct session *session)
{
    return session->state == SUBSCRIBING || session->state == REFUSED || session->state == READY;
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
    log_fault(&session->faults[slot % SLOTS], LOG_LEVEL_ERROR,
              LOG_WITH(log_number("retry_ms", wait_ms)), "broker %s: %s", where, why);
}

static void complain(struct session *session, const char *why, int64_t wait_ms)
{
    complain_of(session, endpoint(session)->slot, place(session), why, wait_ms);
}

static void faults_over(struct session *session)
{
    struct log_fault *oldest = &session->faults[0];

    for (size_t i = 1; i < SLOTS; i++)
        if (session->faults[i].standing &&
            (!oldest->standing || session->faults[i].since_ms < oldest->since_ms))
            oldest = &session->faults[i];
    log_fault_over(oldest, LOG_PLAIN, "broker %s: connected again", place(session));
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
    made->backoff = (struct backoff){.minimum_ms = settings->reconnect_min_ms,
                                     .maximum_ms = settings->reconnect_max_ms};
    int result = endpoints_new(&made->endpoints, settings, err);
    if (result < 0) {
        session_free(made);
        return result;
    }
    for (size_t i = 0; i < endpoints_count(made->endpoints); i++) {
        struct server *server = endpoints_at(made->endpoints, i);

        server->accepted_5 = subscriptions_accepts_5(filters, server->address.place);
    }
    made->diagnosis = diagnosis_new();
    made->client = mqtt_client_new(settings, filters, receiver);
    enter(made, AWAY, -1);
    say(made, "not connected yet");
    *session = made;
    return 0;
}

void session_free(struct session *session)
{
    if (session == NULL)
        return;
    mqtt_client_free(session->client);
    diagnosis_free(session->diagnosis);
    endpoints_free(session->endpoints);
    inherited_free(session->inherited);
    free(session);
}

/* Waiting and connecting -------------------------------------------------------------------------- */

/* The connection is gone or did not come about. Returns how long the next one waits. */
static int64_t wait_and_retry(struct session *session, int64_t now_ms, bool taken_over)
{
    bool was_connected = is_connected(session);
    bool good =
        session->state == READY && now_ms - session->connected_ms >= GOOD_AFTER_MS && !taken_over;
    int64_t wait_ms = 0;
    bool all_tried = true;

    if (good)
        backoff_reset(&session->backoff);
    session->lost_soon = was_connected && !good ? session->lost_soon + 1 : 0;
    if (taken_over) {
        /* Coming back at once would throw the other client out, and so on for ever. */
        session->backoff.next_ms = session->settings->reconnect_max_ms;
        endpoints_same_server(session->endpoints);
    } else if (was_connected) {
        all_tried = endpoints_next_server(session->endpoints);
    } else {
        all_tried = endpoints_next(session->endpoints);
    }
    if (all_tried || (was_connected && !good)) {
        endpoints_begin_round(session->endpoints);
        wait_ms = backoff_next(&session->backoff);
    }
    enter(session, AWAY, now_ms + wait_ms);
    return wait_ms;
}

static void connect_now(struct session *session, int64_t now_ms)
{
    int version = server_version(server_of(session), now_ms);
    struct error err = {0};

    subscriptions_connecting(session->filters);
    save(session);
    enter(session, CONNECTING, -1);
    if (mqtt_client_connect(session->client, endpoint(session), version, &err) < 0) {
        subscriptions_not_connected(session->filters, false);
        complain(session, err.text, wait_and_retry(session, now_ms, false));
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
        complain(session, why, wait_and_retry(session, now_ms, false));
        break;
    }
}

static void leave_now(struct session *session)
{
    struct error err = {0};

    if (session->state == READY)
        mqtt_client_publish_status(session->client, "offline", &session->connack);
    enter(session, LEAVING, -1);
    if (mqtt_client_disconnect(session->client, &err) < 0)
        enter(session, AWAY, session->rest_until_ms); /* it is gone already */
}

/* Unsubscribing ----------------------------------------------------------------------------------- */

static void unsubscribe(struct session *session, enum unsubscribing what)
{
    struct error err = {0};

    session->unsubscribing = NOTHING;
    if (session->unsubscribed_len == 0)
        return;
    if (mqtt_client_unsubscribe(session->client, session->unsubscribed, session->unsubscribed_len,
                                &err) < 0)
        log_warning(LOG_PLAIN, "broker %s: former filters stay subscribed for now: %s",
                    place(session), err.text);
    else
        session->unsubscribing = what;
}

/* What one UNSUBSCRIBE does not hold has its turn with the next connection. */
static void unsubscribe_gone(struct session *session)
{
    int64_t room = session->connack.maximum_packet - 12;
    size_t len = 0;

    for (size_t i = 0; i < subscriptions_gone_count(session->filters); i++) {
        const char *text = subscriptions_gone_at(session->filters, i);
        int64_t size = (int64_t)strlen(text) + 2;

        if (len < MQTT_UNSUBSCRIBE_MAX && size <= room) {
            session->unsubscribed[len++] = text;
            room -= size;
        }
    }
    session->unsubscribed_len = len;
    unsubscribe(session, GONE_FILTERS);
}

static void on_gone(struct session *session)
{
    size_t kept = 0;
    char *texts[MQTT_UNSUBSCRIBE_MAX];

    for (size_t i = 0; i < session->unsubscribed_len; i++)
        texts[i] = xstrdup(session->unsubscribed[i]);
    for (size_t i = 0; i < session->unsubscribed_len; i++) {
        int code = mqtt_client_unsubscribed(session->client, i);

        if (code < REFUSED_FROM) {
            subscriptions_forget_gone(session->filters, texts[i]);
        } else {
            kept++;
            log_warning(LOG_PLAIN,
                        "broker %s: filter \"%s\", which the settings no longer have, stays "
                        "subscribed (%s); tried again at the next connect",
                        place(session), texts[i], mqtt_code_text(5, code));
        }
        free(texts[i]);
    }
    if (kept < session->unsubscribed_len)
        log_info(LOG_WITH(log_number("filters", (int64_t)(session->unsubscribed_len - kept))),
                 "broker %s: unsubscribed from former filters", place(session));
    save(session);
}

static void on_candidates(struct session *session, int version)
{
    for (size_t i = 0; i < session->unsubscribed_len && version == 5; i++)
        if (mqtt_client_unsubscribed(session->client, i) == 0)
            log_notice(LOG_WITH(log_text("filter", session->unsubscribed[i])),
                       "broker %s: unsubscribed from \"%s\", which another program had subscribed",
                       place(session), session->unsubscribed[i]);
}

static void on_unsubscribed(struct session *session, int version)
{
    if (session->unsubscribing == GONE_FILTERS)
        on_gone(session);
    else if (session->unsubscribing == CANDIDATES)
        on_candidates(session, version);
    session->unsubscribing = NOTHING;
}

/* A session that another program made: its filters are looked for until none is likely to be left. */
static void begin_examination(struct session *session, int64_t now_ms)
{
    if (subscriptions_origin(session->filters) != ORIGIN_UNKNOWN)
        return;
    if (session->inherited == NULL)
        session->inherited = inherited_new(session->filters);
    else
        inherited_again(session->inherited);
    session->examine_ms = now_ms;
    session->examine_until_ms = now_ms + EXAMINE_LIMIT_MS;
}

static void end_examination(struct session *session)
{
    log_notice(LOG_WITH(log_number("messages", (int64_t)session->unwanted)),
               "broker %s: the session's unknown filters were looked for%s; %" PRIu64
               " messages came that no filter of ours matches",
               place(session),
               inherited_is_full(session->inherited) ? " as far as can be done" : "",
               session->unwanted);
    subscriptions_set_examined(session->filters);
    save(session);
    inherited_free(session->inherited);
    session->inherited = NULL;
    session->examine_ms = -1;
}

static void examine(struct session *session, int64_t now_ms)
{
    uint64_t unwanted = receiver_unwanted(session->receiver);
    char *topic;

    session->examine_ms = now_ms + EXAMINE_EVERY_MS;
    while ((topic = receiver_take_topic(session->receiver)) != NULL) {
        inherited_add(session->inherited, bytes_of(topic));
        free(topic);
    }
    if (unwanted > session->unwanted)
        session->examine_until_ms = now_ms + EXAMINE_LIMIT_MS;
    session->unwanted = unwanted;
    if (session->unsubscribing != NOTHING)
        return;
    size_t room = session->connack.maximum_packet < UINT16_MAX
                      ? (size_t)session->connack.maximum_packet - 12
                      : UINT16_MAX;
    session->unsubscribed_len =
        inherited_next(session->inherited, session->unsubscribed, MQTT_UNSUBSCRIBE_MAX, room);
    unsubscribe(session, CANDIDATES);
    if (session->unsubscribed_len == 0 &&
        (inherited_is_full(session->inherited) || now_ms >= session->examine_until_ms))
        end_examination(session);
}

/* Subscribing ------------------------------------------------------------------------------------- */

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
                        place(session), filter->text, filter->qos, qos);
    }
}

static void become_ready(struct session *session, int64_t now_ms)
{
    enter(session, READY, -1);
    endpoints_begin_round(session->endpoints);
    session->reason[0] = '\0';
    note_granted(session);
    faults_over(session);
    log_info(LOG_WITH(log_text("version", session->facts.version == 5 ? "5" : "3.1.1"),
                      log_flag("session_present", session->facts.session_present),
                      log_number("filters", (int64_t)subscriptions_count(session->filters))),
             "broker %s: connected and subscribed", place(session));
    mqtt_client_publish_status(session->client, "online", &session->connack);
    unsubscribe_gone(session);
    begin_examination(session, now_ms);
}

/* all: also what is granted. */
static void subscribe(struct session *session, bool all, int64_t now_ms)
{
    struct error err = {0};

    subscriptions_ask(session->filters);
    save(session);
    if (!all && subscriptions_all_granted(session->filters)) {
        become_ready(session, now_ms);
        return;
    }
    say(session, "subscribing");
    enter(session, SUBSCRIBING, now_ms + SUBSCRIBE_LIMIT_MS);
    if (mqtt_client_subscribe(session->client, all, &session->connack, &err) < 0)
        log_warning(LOG_PLAIN, "broker %s: cannot subscribe: %s", place(session), err.text);
}

static void on_subscribed(struct session *session, const struct session_event *event,
                          int64_t now_ms)
{
    int code = 0;
    const char *refused = subscriptions_refused(session->filters, &code);
    char why[300];

    if (session->state != SUBSCRIBING)
        return;
    save(session);
    if (refused == NULL) {
        become_ready(session, now_ms);
        return;
    }
    int64_t wait_ms = backoff_next(&session->backoff);
    snprintf(why, sizeof(why), "filter \"%.120s\" was refused (%s)", refused,
             mqtt_code_text(event->version, code));
    complain(session, why, wait_ms);
    enter(session, REFUSED, now_ms + wait_ms);
}

/* CONNACK ----------------------------------------------------------------------------------------- */

static void note_server(struct session *session, const struct session_event *event)
{
    struct server *server = server_of(session);

    server->answered = true;
    server_did_not_hang_up(server);
    diagnosis_forget(session->diagnosis, server);
    server->no_retain = event->connack.no_retain;
    server->maximum_qos = event->connack.maximum_qos;
    if (event->version == 5) {
        server->accepted_5 = true;
        subscriptions_note_5(session->filters, server->address.place);
    }
}

static void note_session(struct session *session, const struct session_event *event)
{
    bool present = event->connack.session_present;
    int64_t expiry_s = event->connack.session_expiry_s;

    if (event->version == 5 && expiry_s < 0)
        expiry_s = session->settings->session_expiry_ms / 1000;
    session->connack = event->connack;
    session->facts.version = event->version;
    session->facts.session_present = present;
    session->facts.session_expiry_s = expiry_s;
    if (!present && subscriptions_origin(session->filters) != ORIGIN_UNKNOWN)
        log_warning(LOG_PLAIN,
                    "broker %s: has no session of ours any more: what was published since then and "
                    "not retained is lost",
                    place(session));
    subscriptions_connected(session->filters, present);
    if (present && !session->had_session &&
        subscriptions_origin(session->filters) == ORIGIN_UNKNOWN)
        log_warning(LOG_PLAIN,
                    "broker %s: the session of client id \"%s\" was made by another program: "
                    "filters of it that we don't know are looked for and removed; what they bring "
                    "until then is stored as well",
                    place(session), session->settings->client_id);
    if (session->had_session)
        stats_add(session->slot, STATS_RECONNECTS, 1);
    session->had_session = true;
}

static void on_connected(struct session *session, const struct session_event *event, int64_t now_ms)
{
    struct server *server = server_of(session);
    int keep_alive_s = event->connack.keep_alive_s;
    int64_t watch_every_ms = session->settings->keepalive_ms / 2;
    int64_t used_s =
        server->keep_alive_s > 0 ? server->keep_alive_s : session->settings->keepalive_ms / 1000;
    bool too_long = keep_alive_s > 0 && keep_alive_s < used_s; /* it only falls */

    note_server(session, event);
    note_session(session, event);
    session->connected_ms = now_ms;
    session->unsubscribing = NOTHING;
    session->watch_ms = now_ms + (watch_every_ms < WATCH_MAX_MS ? watch_every_ms : WATCH_MAX_MS);
    session->bytes = mqtt_client_bytes_received(session->client);
    session->messages = receiver_count(session->receiver);
    if (too_long) { /* the library can't change it while it is connected */
        log_info(LOG_WITH(log_number("keep_alive_s", keep_alive_s)),
                 "broker %s: wants a keep alive of %d s; connecting again with it", place(session),
                 keep_alive_s);
        server->keep_alive_s = keep_alive_s;
        save(session);
        endpoints_same_server(session->endpoints);
        session->rest_until_ms = now_ms;
        leave_now(session);
        return;
    }
    subscribe(session, event->version == 5, now_ms);
}

static void fall_back(struct session *session, int64_t now_ms)
{
    log_notice(LOG_PLAIN, "broker %s: refuses MQTT 5; falling back to 3.1.1", place(session));
    server_refused_5(server_of(session), now_ms);
    connect_now(session, now_ms);
}

/* CONNACK said no. */
static void on_refused(struct session *session, const struct session_event *event, int64_t now_ms)
{
    struct server *server = server_of(session);
    bool bad_version = event->code == BAD_VERSION_3_1_1 || event->code == BAD_VERSION_5;
    char why[300];

    server->answered = true;
    server_did_not_hang_up(server);
    if (event->version == 5 && bad_version && !server->accepted_5) {
        fall_back(session, now_ms);
        return;
    }
    if (event->version == 4 && event->code == BAD_VERSION_3_1_1)
        server_refused_3_1_1(server);
    if (event->code == NO_RETAIN) /* its only use is the last will */
        server->no_retain = true;
    if (event->code == NO_SUCH_QOS)
        server->maximum_qos = 0;
    snprintf(why, sizeof(why), "refused the connection: %s%s",
             mqtt_code_text(event->version, event->code),
             mqtt_code_hint(event->version, event->code));
    complain(session, why, wait_and_retry(session, now_ms, false));
}

static void on_connect_failed(struct session *session, const struct session_event *event,
                              int64_t now_ms)
{
    subscriptions_not_connected(session->filters, event->code == 0 && !event->unsent);
    save(session);
    if (event->code != 0) {
        on_refused(session, event, now_ms);
    } else if (event->text[0] != '\0') {
        complain(session, event->text, wait_and_retry(session, now_ms, false));
    } else {
        say(session, "cannot connect");
        diagnosis_ask(session->diagnosis, endpoint(session)); /* on_diagnosis then complains */
        wait_and_retry(session, now_ms, false);
    }
}

static void on_diagnosis(struct session *session, int64_t now_ms)
{
    struct diagnosis_answer answer;
    int64_t wait_ms = session->state == AWAY ? session->deadline_ms - now_ms : 0;

    if (diagnosis_take(session->diagnosis, now_ms, &answer) && session->state != READY)
        complain_of(session, answer.slot, answer.place, answer.text, wait_ms);
}

/* Losses ------------------------------------------------------------------------------------------ */

/* Brokers that take a session over often don't tell the old client (Mosquitto 2.0 does not): guessed once,
 * when connections are lost soon again and again and can always be made. */
static void guess_client_id(struct session *session)
{
    if (session->lost_soon < LOST_SOON_MANY || session->said_client_id)
        return;
    session->said_client_id = true;
    log_warning(LOG_PLAIN,
                "broker %s: %d connections in a row were lost soon after they were made: is there "
                "another client with the client id \"%s\" (MQTT_CLIENT_ID)?",
                place(session), session->lost_soon, session->settings->client_id);
}

static void complain_of_loss(struct session *session, const struct session_event *event,
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
                 mqtt_code_text(event->version, event->code),
                 mqtt_code_hint(event->version, event->code), event->text[0] != '\0' ? ": " : "",
                 event->text);
    else
        snprintf(why, sizeof(why), "the connection was lost%s",
                 session->lost_soon > 1 ? " again soon after it was made" : "");
    complain(session, why, wait_ms);
    if (event->code == 0)
        guess_client_id(session);
}

static void on_lost(struct session *session, const struct session_event *event, int64_t now_ms)
{
    if (session->state == AWAY || session->state == LOOKING_UP)
        return;
    if (session->state == LEAVING) {
        enter(session, AWAY, session->rest_until_ms);
        return;
    }
    /* A broker may refuse so many filters, or so long a packet, by hanging up. */
    if (session->unsubscribing == CANDIDATES && session->inherited != NULL &&
        ++session->candidates_unanswered == CANDIDATES_UNANSWERED_MAX)
        end_examination(session);
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
        on_unsubscribed(session, event->version);
        break;
    case SESSION_LEFT:
        enter(session, AWAY, session->rest_until_ms);
        say(session, "left");
        break;
    }
}

/* Main's ------------------------------------------------------------------------------------------ */

/* What stands behind a long message (SUBACK, PINGRESP) is waited for while bytes of it arrive. paho sends no
 * second PINGREQ meanwhile, so the broker would end the connection. */
static void watch_link(struct session *session, int64_t now_ms)
{
    uint64_t bytes = mqtt_client_bytes_received(session->client);
    uint64_t messages = receiver_count(session->receiver);
    bool moves = bytes > session->bytes + SILENT_BYTES;
    int64_t every_ms = session->settings->keepalive_ms / 2;

    if (moves && session->state == SUBSCRIBING)
        session->deadline_ms = now_ms + SUBSCRIBE_LIMIT_MS;
    if (moves && messages == session->messages)
        mqtt_client_show_life(session->client);
    session->bytes = bytes;
    session->messages = messages;
    session->watch_ms = now_ms + (every_ms < WATCH_MAX_MS ? every_ms : WATCH_MAX_MS);
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
    struct session_event event;

    while (fds[0].revents != 0 && mqtt_client_take(session->client, &event))
        on_event(session, &event, now_ms);
    if (fds[1].revents != 0)
        on_diagnosis(session, now_ms);
    if (session->state == LOOKING_UP && !session->should_connect)
        enter(session, AWAY, -1);
    else if (session->state == LOOKING_UP && fds[2].revents != 0)
        look_up(session, now_ms);
    if (is_due(session->watch_ms, now_ms))
        watch_link(session, now_ms);
    if (is_due(session->examine_ms, now_ms) && session->state == READY)
        examine(session, now_ms);

    bool due = is_due(session->deadline_ms, now_ms);
    if (is_connected(session) && !session->should_connect) {
        leave_now(session);
    } else if (session->state == AWAY && session->should_connect && due) {
        endpoints_start(session->endpoints);
        enter(session, LOOKING_UP, -1);
        look_up(session, now_ms);
    } else if (session->state == REFUSED && due) {
        subscribe(session, false, now_ms);
    } else if (session->state == SUBSCRIBING && due) {
        complain(session, "does not answer SUBSCRIBE", wait_and_retry(session, now_ms, false));
        session->rest_until_ms = session->deadline_ms;
        leave_now(session);
    }
}

void session_poll(const struct session *session, struct pollfd fds[SESSION_POLL_FDS])
{
    fds[0] = (struct pollfd){.fd = mqtt_client_fd(session->client), .events = POLLIN};
    fds[1] = (struct pollfd){.fd = diagnosis_fd(session->diagnosis), .events = POLLIN};
    fds[2] = (struct pollfd){.fd = endpoints_fd(session->endpoints), .events = POLLIN};
}

int64_t session_deadline_ms(const struct session *session)
{
    int64_t deadline_ms = clock_earlier_ms(session->watch_ms, session->examine_ms);

    if (session->state == AWAY && !session->should_connect)
        return -1;
    return clock_earlier_ms(deadline_ms, session->deadline_ms);
}

bool session_is_ready(const struct session *session)
{
    return session->state == READY;
}

bool session_is_away(const struct session *session)
{
    return session->state == AWAY;
}

const char *session_reason(const struct session *session)
{
    return session->reason;
}

const struct session_facts *session_facts(const struct session *session)
{
    return &session->facts;
}
