/* Where the next attempt to connect goes: the servers of one cluster ([mqtt] server_uris, or the one of host, port
 * and tls) in turn, and of each its addresses in turn, looked up anew each time, those of IPv4 first. (Left to
 * itself paho would try one address of a name and no other. With TLS it does so here too: it must have the name,
 * for the certificate and SNI.)
 *
 *     endpoints_start(endpoints);
 *     while (endpoints_take(endpoints, why) == ENDPOINTS_LOOKS_UP)
 *         poll endpoints_poll
 *     connect to endpoints_current(endpoints)
 *     if that fails: endpoints_probe, poll endpoints_poll, endpoints_probed to know why
 *     endpoints_next(endpoints, false), and start again
 *
 * Never blocks; one thread. */
#ifndef CONSUMER_MQTT_ENDPOINTS_H
#define CONSUMER_MQTT_ENDPOINTS_H

#include "common/base/error.h"
#include "common/settings/broker_address.h"
#include "common/settings/settings.h"

#include <poll.h>

/* What is known of a server. */
struct server {
    struct broker_address address;
    struct resolve *resolver;
    bool falls_back; /* to 3.1.1, until a connection with that fails */
    int hang_ups;    /* connections that it ended without an answer, in a row */
    bool answered;   /* a CONNECT, in this process */
    int maximum_qos; /* of what we publish there */
    bool no_retain;  /* it takes no retained messages */
};

/* One attempt. */
struct endpoint {
    struct server *server;
    size_t slot;         /* a small number, another for each server and address */
    char uri[400];       /* for the library */
    char name[400];      /* for people: host:port; of several addresses "name:port (address)" */
    const char *address; /* numeric */
};

struct endpoints;

/* -ERR_USAGE if server_uris can't be read. */
MUST_CHECK int endpoints_new(struct endpoints **endpoints, const struct settings_mqtt *settings,
                             struct error *err);
void endpoints_free(struct endpoints *endpoints);

/* The next one's turn; its addresses are asked for if they are not known. */
void endpoints_start(struct endpoints *endpoints);

enum endpoints_answer {
    ENDPOINTS_LOOKS_UP,
    ENDPOINTS_KNOWS,
    ENDPOINTS_FAILS, /* the name has no address: why says it */
};
enum endpoints_answer endpoints_take(struct endpoints *endpoints, char why[160]);
/* The attempt that was started last, until the next one. */
const struct endpoint *endpoints_current(const struct endpoints *endpoints);

/* The library says "TCP connect failure" whatever it was: this makes a TCP connection to the same address. */
void endpoints_probe(struct endpoints *endpoints);
/* What it came to, an errno; 0: it was accepted. ETIMEDOUT while there is no answer. Ends the probe. */
int endpoints_probed(struct endpoints *endpoints);

/* Ready when the look-up or the probe has an answer. It changes with each of them. */
struct pollfd endpoints_poll(const struct endpoints *endpoints);

/* The attempt did not come about: next is the next address, or with the last of them the next server. Or the next
 * server at any rate. true: all of them have been tried since endpoints_begin_round. */
bool endpoints_next(struct endpoints *endpoints, bool next_server);
void endpoints_begin_round(struct endpoints *endpoints);

#endif
