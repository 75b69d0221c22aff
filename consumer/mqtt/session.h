/* The consumer's session with the broker: when to connect, to which server, with which version, what to
 * do about every refusal, and why it does not stand. Main calls it; paho is behind mqtt_client.h.
 *
 *     AWAY         no connection; if there should be one, made when the wait is over    → LOOKING_UP
 *     LOOKING_UP   the server's addresses; not found                                    → AWAY
 *                  found                                                                → CONNECTING
 *     CONNECTING   CONNACK refuses, or none comes                                       → AWAY
 *                  CONNACK, and every filter is granted already                         → READY
 *                  CONNACK else                                                         → SUBSCRIBING
 *     SUBSCRIBING  every filter is granted                                              → READY
 *                  a filter is refused: subscribes again when the wait is over          → REFUSED → SUBSCRIBING
 *                  nothing arrives for 30 s                                             → LEAVING
 *     READY
 *     LEAVING      DISCONNECT is on its way                                             → AWAY
 *     All of the connected three go to AWAY when the connection is lost, and to LEAVING when there should be
 *     none, or when CONNACK wants a shorter keep alive (to come back with it at once).
 *
 * MQTT 5, or 3.1.1 where the settings or the server want it so (endpoints.h). Clean start is off. The addresses
 * of all servers are tried in turn, and after each round there is a wait that doubles, with jitter. What is
 * refused waits likewise, and so does a connection that was lost soon: the back-off begins again after ten good
 * seconds, and not where another client has taken the session over.
 *
 * Subscribing (subscriptions.h): on MQTT 5 all filters at each connect, with Retain Handling 1; on 3.1.1, and
 * when one was refused, those that are not granted, since a SUBSCRIBE of 3.1.1 brings all its retained messages
 * again. (So a broker of 3.1.1 that came back with an older state of the session lacks the filters that were
 * added since, and nothing in the protocol tells.) When all are granted, filters that the settings no longer
 * have are unsubscribed, and in a session that another program made those that we don't know (inherited.h).
 *
 * A message may take longer to arrive than any limit here: while bytes arrive the broker lives, and it is shown
 * that we do. */
#ifndef CONSUMER_MQTT_SESSION_H
#define CONSUMER_MQTT_SESSION_H

#include "common/base/error.h"
#include "common/base/settings.h"
#include "common/base/stats.h"
#include "consumer/mqtt/receiver.h"
#include "consumer/mqtt/subscriptions.h"

#include <poll.h>

struct session;

/* What the broker granted; the line that says what is promised shows it. */
struct session_facts {
    int version; /* 5 or 4 (which is 3.1.1) */
    bool session_present;
    int64_t session_expiry_s; /* -1: 3.1.1 does not say */
    int lowest_qos;           /* of the filters granted */
    int highest_qos;
};

/* Nothing is owned but what it makes itself. -ERR_USAGE if server_uris can't be read. */
MUST_CHECK int session_new(struct session **session, const struct settings_mqtt *settings,
                           struct subscriptions *filters, struct receiver *receiver,
                           struct stats_slot *slot, struct error *err);
/* Not while a connection stands (session_is_away). */
void session_free(struct session *session);

/* What is wanted: to be connected, or not (the session is kept in the broker). At first: not. */
void session_join(struct session *session);
void session_leave(struct session *session);

#define SESSION_POLL_FDS 3
void session_poll(const struct session *session, struct pollfd fds[SESSION_POLL_FDS]);
int64_t session_deadline_ms(const struct session *session); /* monotonic; -1: none */
/* After poll (fds as it left them), when the deadline is past, and after join or leave. */
void session_process(struct session *session, const struct pollfd fds[SESSION_POLL_FDS],
                     int64_t now_ms);

bool session_is_ready(const struct session *session); /* connected, every filter granted */
bool session_is_away(const struct session *session);  /* no connection, and none being made */
/* "" when ready, else "broker localhost:1883: connection refused". */
const char *session_reason(const struct session *session);
/* Of the connection that is ready. */
const struct session_facts *session_facts(const struct session *session);

#endif
