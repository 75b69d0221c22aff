/* The servers of one cluster, in the order in which they are tried: [mqtt] server_uris, or the one that
 * host, port and tls name; and which version of MQTT is spoken to each. Pure.
 *
 * Where MQTT 5 is wanted and a server refuses it, that server gets 3.1.1 from then on: an attempt with 5
 * before every connect would cost the table of unreleased QoS 2 messages each time (receiver.h). 5 is tried
 * again after an hour, since brokers are upgraded, and at once where 3.1.1 is refused too. */
#ifndef CONSUMER_MQTT_SERVERS_H
#define CONSUMER_MQTT_SERVERS_H

#include "common/base/error.h"
#include "common/base/settings.h"
#include "common/wire/broker_address.h"

struct server {
    struct broker_address address;
    bool wants_5;         /* by the settings */
    bool fell_back;       /* to 3.1.1 */
    int64_t fell_back_ms; /* monotonic */
    int hang_ups;         /* with MQTT 5, in a row */
};

struct servers {
    struct server *at;
    size_t len; /* at least 1 */
};

/* -ERR_USAGE with nothing to be freed. */
MUST_CHECK int servers_read(struct servers *servers, const struct settings_mqtt *settings,
                            struct error *err);
void servers_free(struct servers *servers);

/* For the next connect: 5 or 4 (which is 3.1.1). */
int server_version(const struct server *server, int64_t now_ms);
void server_refused_5(struct server *server, int64_t now_ms);
void server_refused_3_1_1(struct server *server);
/* It accepts connections, and ended ours without an answer. Some brokers that don't know MQTT 5 do that, and
 * others that are not well: after two the next attempt is made with 3.1.1, and if that fails too, with 5. */
void server_hung_up(struct server *server, int64_t now_ms);
/* It answered, or could not be reached at all: the count of such ends begins anew. */
void server_did_not_hang_up(struct server *server);

#endif
