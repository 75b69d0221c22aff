/* The consumer's session with the broker. It decides when to connect, to which server, with which version, and what to
 * do about every refusal. It tells why there is no connection. Main calls it; paho is behind mqtt_client.h.
 *
 *     AWAY         the wait is over, and a connection is wanted                 → LOOKING_UP
 *     LOOKING_UP   the server's name has no address                             → AWAY
 *                  it has                                                       → CONNECTING
 *     CONNECTING   CONNACK refuses the connection                               → AWAY
 *                  the connection can't be made, or ends without CONNACK        → PROBING
 *                  CONNACK, and every filter is granted already                 → READY
 *                  CONNACK else                                                 → SUBSCRIBING
 *     PROBING      a TCP connection is accepted, refused or unanswered for 3 s  → AWAY
 *     SUBSCRIBING  every filter is granted                                      → READY
 *                  a filter is refused                                          → REFUSED
 *                  two later packets are answered, and a SUBSCRIBE is not       → LEAVING
 *     REFUSED      the wait is over                                             → SUBSCRIBING
 *     READY
 *     LEAVING      DISCONNECT is sent                                           → AWAY
 *
 * SUBSCRIBING, REFUSED and READY are connected: they go to AWAY when the connection is lost, and to LEAVING when none
 * is wanted any more. LOOKING_UP and PROBING then go to AWAY.
 *
 * Version: MQTT 5, unless the settings want 3.1.1. A server gets 3.1.1 if its CONNACK refuses MQTT 5. It also gets
 * 3.1.1 if it has twice accepted a connection and ended it, as some servers do that don't know MQTT 5. A server whose
 * cluster has ever accepted MQTT 5 does not. 3.1.1 is then tried at once, and kept until a connection with it fails.
 * Clean start is off.
 *
 * Waiting: the addresses of all servers are tried in turn; after each round there is a wait that doubles, with jitter.
 * A refused filter, and a connection that was lost within ten seconds, wait in this way too. A connection that stood
 * for longer begins the back-off anew, unless another client has taken its session over.
 *
 * Subscribing (subscriptions.h): on MQTT 5, all filters at each connect, with Retain Handling 1. On 3.1.1, and after a
 * refusal, only filters that are not granted: a SUBSCRIBE of 3.1.1 brings all its retained messages again. (A broker of
 * 3.1.1 that came back with an older session lacks filters that were added since; the protocol has no sign of that.)
 * When all filters are granted, those that the settings no longer have are unsubscribed.
 *
 * A message may take longer to arrive than the keep alive, and what is behind it (SUBACK, PINGRESP) waits for it.
 * The library then sends no second PINGREQ, so the broker would end the connection. Therefore a packet is sent
 * twice in each keep alive, whatever arrives. */
#ifndef CONSUMER_MQTT_SESSION_H
#define CONSUMER_MQTT_SESSION_H

#include "common/base/error.h"
#include "common/runtime/stats.h"
#include "common/settings/settings.h"
#include "consumer/mqtt/receiver.h"
#include "consumer/mqtt/subscriptions.h"

#include <poll.h>

struct session;

struct session_facts {
    bool ready;         /* connected, every filter granted */
    bool away;          /* no connection, and none being made */
    const char *reason; /* "" when ready, else "broker localhost:1883: connection refused" */
    /* What the broker has granted to the connection that was ready last. */
    int version; /* 5 or 4 (which is 3.1.1) */
    bool session_present;
    int64_t session_expiry_s; /* -1: 3.1.1 does not say */
    int lowest_qos;           /* of the filters granted */
    int highest_qos;
};

/* The session owns none of its arguments. -ERR_USAGE if server_uris can't be read. */
MUST_CHECK int session_new(struct session **session, const struct settings_mqtt *settings,
                           struct subscriptions *filters, struct receiver *receiver,
                           struct stats_slot *slot, struct error *err);
/* Only when session_facts says `away`: no connection may stand. */
void session_free(struct session *session);

/* What is wanted: to be connected, or not (the session is kept in the broker). At first: not. */
void session_join(struct session *session);
void session_leave(struct session *session);

#define SESSION_POLL_FDS 2
void session_poll(const struct session *session, struct pollfd fds[SESSION_POLL_FDS]);
int64_t session_deadline_ms(const struct session *session); /* monotonic; -1: none */
/* After poll (fds as it left them), when the deadline is past, and after join or leave. */
void session_process(struct session *session, const struct pollfd fds[SESSION_POLL_FDS],
                     int64_t now_ms);

/* Valid until session_process. */
struct session_facts session_facts(const struct session *session);

#endif
