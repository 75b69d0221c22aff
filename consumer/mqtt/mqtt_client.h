/* The MQTT library (paho's MQTTAsync) behind requests and events. session.h decides when to ask for what; all calls of
 * the library for the session are here.
 *
 * Each connection has a handle of its own. Requests of the previous connection are gone with its handle, and a
 * connection may have another version, server or TLS. What must outlive a connection is in the spool: the receiver
 * gives each new handle the QoS 2 messages that are not released.
 *
 * The library answers in its own threads, under its own lock. Its callbacks write an event into a pipe; main takes
 * them one by one. Requests are for main alone. Nothing here blocks but on that lock (a callback holds it as long
 * as one append to the spool). */
#ifndef CONSUMER_MQTT_MQTT_CLIENT_H
#define CONSUMER_MQTT_MQTT_CLIENT_H

#include "common/base/error.h"
#include "common/settings/settings.h"
#include "consumer/mqtt/endpoints.h"
#include "consumer/mqtt/receiver.h"
#include "consumer/mqtt/subscriptions.h"

struct mqtt_client;

/* What CONNACK says about this connection. The other properties of CONNACK don't concern us. We publish nothing above
 * QoS 0 (Receive Maximum), use no aliases (Topic Alias Maximum) and always have a client id (Assigned Client
 * Identifier). The library does not give a CONNACK's Reason String. */
struct connack {
    bool session_present;
    int64_t session_expiry_s; /* the broker's own, or -1 */
    int maximum_qos;
    bool no_retain;
    bool no_wildcards;
    bool no_shared;
    int64_t maximum_packet; /* INT64_MAX: none */
    int keep_alive_s;       /* Server Keep Alive, or -1 */
};

enum mqtt_client_event_kind {
    MQTT_CLIENT_CONNECTED,
    MQTT_CLIENT_CONNECT_FAILED, /* code: CONNACK's, or 0 when there was none; text: what is known */
    MQTT_CLIENT_LOST, /* a connection that stood is gone, or we left; code: the broker's DISCONNECT, or 0 */
    MQTT_CLIENT_SUBSCRIBED,   /* every SUBSCRIBE is answered: see subscriptions_at */
    MQTT_CLIENT_UNSUBSCRIBED, /* code: UNSUBACK's; 0 of 3.1.1, which has none */
    MQTT_CLIENT_ALIVE,        /* the answer to mqtt_client_keep_alive */
};

struct mqtt_client_event {
    enum mqtt_client_event_kind kind;
    int version;
    int code;
    bool unsent; /* MQTT_CLIENT_CONNECT_FAILED: CONNECT was never sent */
    struct connack connack;
    char text[160]; /* also the broker's Reason String */
};

struct mqtt_client *mqtt_client_new(const struct settings_mqtt *settings,
                                    struct subscriptions *filters, struct receiver *receiver);
/* Not while a connection stands. */
void mqtt_client_free(struct mqtt_client *client);

int mqtt_client_fd(const struct mqtt_client *client);
bool mqtt_client_take(struct mqtt_client *client, struct mqtt_client_event *event);

/* Each of these asks only; an event answers. -ERR_UNREACHABLE if the library refuses at once (there is
 * no connection any more: MQTT_CLIENT_LOST is on its way), -ERR_USAGE if it never can. version: 5 or 4. */
MUST_CHECK int mqtt_client_connect(struct mqtt_client *client, const struct endpoint *endpoint,
                                   int version, struct error *err);
/* The filters that are not granted, or all; what the broker can't have by its CONNACK is refused here. */
MUST_CHECK int mqtt_client_subscribe(struct mqtt_client *client, bool all,
                                     const struct connack *connack, struct error *err);
/* One at a time. */
MUST_CHECK int mqtt_client_unsubscribe(struct mqtt_client *client, const char *text,
                                       struct error *err);
MUST_CHECK int mqtt_client_disconnect(struct mqtt_client *client, struct error *err);

/* Publishes to the status topic with QoS 0, retained if the server takes that. A loss is harmless: the last will says
 * `offline` by itself. */
void mqtt_client_publish_status(struct mqtt_client *client, const char *status,
                                const struct connack *connack);
/* Sends a packet that changes nothing, an UNSUBSCRIBE of a filter that nobody has: the library has no call for
 * PINGREQ. MQTT_CLIENT_ALIVE answers. */
void mqtt_client_keep_alive(struct mqtt_client *client);

#endif
