/* The servers of one cluster, in the order in which they are tried: [mqtt] server_uris, or the one that
 * host, port and tls name; and which version of MQTT is spoken to each. Pure.
 *
 * Where MQTT 5 is wanted and a server refuses it, that server gets 3.1.1 from then on: an attempt with 5
 * before every connect would cost the table of unreleased QoS 2 messages each time (inflight.h). 5 is tried
 * again after an hour, since brokers are upgraded, and at once where 3.1.1 is refused too. */
#ifndef CONSUMER_SESSION_SERVERS_H
#define CONSUMER_SESSION_SERVERS_H

#include "common/base/error.h"
#include "common/base/settings.h"
#include "common/wire/broker_address.h"

struct session_server {
    struct broker_address address;
    bool wants_5;         /* by the settings */
    bool fell_back;       /* to 3.1.1 */
    int64_t fell_back_ms; /* monotonic */
    int hang_ups;         /* with MQTT 5, in a row */
};

struct session_servers {
    struct session_server *at;
    size_t len; /* at least 1 */
};

/* -ERR_USAGE with nothing to be freed. */
MUST_CHECK int session_servers_read(struct session_servers *servers,
                                    const struct settings_mqtt *settings, struct error *err);
void session_servers_free(struct session_servers *servers);

/* For the next connect: 5 or 4 (which is 3.1.1). */
int session_server_version(const struct session_server *server, int64_t now_ms);
void session_server_refused_5(struct session_server *server, int64_t now_ms);
void session_server_refused_3_1_1(struct session_server *server);
/* It accepts connections, and ended ours without an answer. Some brokers that don't know MQTT 5 do that, and
 * others that are not well: after two the next attempt is made with 3.1.1, and if that fails too, with 5. */
void session_server_hung_up(struct session_server *server, int64_t now_ms);
/* It answered, or could not be reached at all: the count of such ends begins anew. */
void session_server_did_not_hang_up(struct session_server *server);

#endif
