/* Where the next attempt to connect goes, and with which version of MQTT: the servers of one cluster ([mqtt]
 * server_uris, or the one of host, port and tls) in turn, and of each its addresses in turn, looked up anew each
 * time, those of IPv4 first. (Left to itself paho would try one address of a name and no other. With TLS it does
 * so here too: it must have the name, for the certificate and SNI.)
 *
 *     endpoints_start(endpoints);
 *     while (endpoints_take(endpoints, why) == ENDPOINTS_LOOKS_UP)
 *         poll endpoints_fd for POLLIN
 *     connect to endpoints_current(endpoints)
 *     if that fails: endpoints_next(endpoints), and start again
 *
 * Never blocks; one thread. */
#ifndef CONSUMER_MQTT_ENDPOINTS_H
#define CONSUMER_MQTT_ENDPOINTS_H

#include "common/base/error.h"
#include "common/base/settings.h"
#include "common/wire/broker_address.h"

/* What is known of a server. It speaks 3.1.1 where the settings say so, or for an hour after it has refused
 * MQTT 5, or for one attempt after it has twice accepted a connection and ended it (as some do that don't know
 * MQTT 5); but never one that has accepted MQTT 5 once. */
struct server {
    struct broker_address address;
    bool wants_5;         /* by the settings */
    bool accepted_5;      /* once */
    bool fell_back;       /* to 3.1.1 */
    int64_t fell_back_ms; /* monotonic */
    int hang_ups;         /* with MQTT 5, in a row */
    bool answered;        /* a CONNECT, in this process */
    int keep_alive_s;     /* Server Keep Alive; 0: none */
    int maximum_qos;      /* of what we publish there */
    bool no_retain;       /* it takes no retained messages */
};

/* For the next connect: 5 or 4 (which is 3.1.1). */
int server_version(const struct server *server, int64_t now_ms);
void server_refused_5(struct server *server, int64_t now_ms);
void server_refused_3_1_1(struct server *server);
/* It accepts connections, and ended ours without an answer. */
void server_hung_up(struct server *server, int64_t now_ms);
/* It answered, or could not be reached at all. */
void server_did_not_hang_up(struct server *server);

/* One attempt. */
struct endpoint {
    struct server *server;
    size_t slot;         /* a small number, another for each server and address */
    bool one_of_several; /* addresses of its name */
    char uri[400];       /* for the library */
    char place[400];     /* host:port; of several addresses "name:port (address)" */
    char target[400];    /* address:port, or name:port where the library looks it up */
};

struct endpoints;

/* -ERR_USAGE if server_uris can't be read. */
MUST_CHECK int endpoints_new(struct endpoints **endpoints, const struct settings_mqtt *settings,
                             struct error *err);
void endpoints_free(struct endpoints *endpoints);
size_t endpoints_count(const struct endpoints *endpoints);
struct server *endpoints_at(struct endpoints *endpoints, size_t index);

/* The next one's turn; its addresses are asked for if they are not known. */
void endpoints_start(struct endpoints *endpoints);

enum endpoints_answer {
    ENDPOINTS_LOOKS_UP,
    ENDPOINTS_KNOWS,
    ENDPOINTS_FAILS, /* the name has no address: why says it */
};
enum endpoints_answer endpoints_take(struct endpoints *endpoints, char why[160]);
/* Readable when there is an answer; -1: nothing is looked up. It changes with each start. */
int endpoints_fd(const struct endpoints *endpoints);
/* The attempt that was started last, until the next one. */
const struct endpoint *endpoints_current(const struct endpoints *endpoints);

/* It did not come about: next is the next address, or with the last of them the next server. true: all of them
 * have been tried since endpoints_begin_round. */
bool endpoints_next(struct endpoints *endpoints);
/* The connection was there, and is gone: next is the next server. Returns the same. */
bool endpoints_next_server(struct endpoints *endpoints);
/* Next is the same server. */
void endpoints_same_server(struct endpoints *endpoints);
void endpoints_begin_round(struct endpoints *endpoints);

#endif
