/* The consumer's session with the broker: when to connect, to which server, with which version, what to
 * do about every refusal, and why it does not stand. Main calls it; paho is behind mqtt_client.h.
 *
 * MQTT 5, or 3.1.1 where the settings or the broker want it so. Each connection is made by itself, with
 * clean start off; servers of the list, and the addresses of each (endpoints.h), are tried in turn, and
 * after each round there is a wait that doubles, with jitter. What is refused (credentials, a filter, a
 * client id that somebody else uses too) waits likewise, and so does a connection that was lost soon: the
 * back-off only begins again after ten good seconds, and not where another client has taken the session
 * over.
 *
 * Subscribing: on MQTT 5 always, with Retain Handling 1; on 3.1.1 not if the session is present and has
 * the same set already, since each SUBSCRIBE brings all retained messages again. (So a broker of 3.1.1
 * that came back with an older state of the session lacks the filters that were added since, and nothing
 * in the protocol tells.) Filters that the settings no longer have are unsubscribed when the new ones are
 * granted. */
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
