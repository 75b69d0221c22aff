/* One MQTTAsync client of paho: requests down, events up. All that is said to the library for the
 * session, and nothing of when and why: that is session.h.
 *
 * The library answers in its own threads, under its own lock. Its callbacks put an event into a small
 * mailbox and write an eventfd; the owner, main, takes them one by one. Requests are for main alone.
 * Nothing here blocks but on that lock (a callback holds it as long as one append to the spool). */
#ifndef CONSUMER_MQTT_MQTT_CLIENT_H
#define CONSUMER_MQTT_MQTT_CLIENT_H

#include "common/base/error.h"
#include "common/base/settings.h"
#include "consumer/mqtt/receiver.h"
#include "consumer/mqtt/servers.h"
#include "consumer/mqtt/subscriptions.h"

struct mqtt_client;

enum session_event_kind {
    SESSION_CONNECTED,
    SESSION_CONNECT_FAILED, /* code: CONNACK's, or 0 when there was none; text: what is known */
    SESSION_LOST,       /* a connection that stood is gone; code: the broker's DISCONNECT, or 0 */
    SESSION_SUBSCRIBED, /* every filter is answered: see subscriptions_at()->granted */
    SESSION_UNSUBSCRIBED,
    SESSION_LEFT, /* we went, in good order */
};

struct session_event {
    enum session_event_kind kind;
    int version;
    int code;
    bool session_present;
    int64_t session_expiry_s; /* the broker's own, or -1 */
    int maximum_qos;
    char text[160];
};

struct mqtt_client *mqtt_client_new(const struct settings_mqtt *settings,
                                    struct subscriptions *filters, struct receiver *receiver);
/* Not while a connection stands. */
void mqtt_client_free(struct mqtt_client *link);

int mqtt_client_fd(const struct mqtt_client *link);
bool mqtt_client_take(struct mqtt_client *link, struct session_event *event);

/* Each of these asks only; an event answers. -ERR_UNREACHABLE if the library refuses at once (there is
 * no connection any more: SESSION_LOST is on its way), -ERR_USAGE if it never can. uri: the server's, or one
 * with an address of its host. version: 5 or 4. */
MUST_CHECK int mqtt_client_connect(struct mqtt_client *link, const struct server *server,
                                   const char *uri, int version, struct error *err);
MUST_CHECK int mqtt_client_subscribe(struct mqtt_client *link, struct error *err);
MUST_CHECK int mqtt_client_unsubscribe_stale(struct mqtt_client *link, struct error *err);
MUST_CHECK int mqtt_client_disconnect(struct mqtt_client *link, struct error *err);

/* Retained, QoS 0, to the status topic. Best effort: the last will says `offline` by itself. */
void mqtt_client_publish_status(struct mqtt_client *link, const char *status);

#endif
