/* Where the next attempt to connect goes. The servers of one cluster ([mqtt] server_uris, or host, port and tls) are
 * tried in turn. The addresses of a server are tried in turn too, looked up anew each time, IPv4 first. (paho itself
 * tries one address of a name only. With TLS that holds here too: paho needs the name for the certificate and SNI.)
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
struct endpoints_server {
    struct broker_address address;
    struct resolve *resolver;
    bool falls_back; /* gets MQTT 3.1.1, until a connection with that fails */
    int hang_ups;    /* connections that the server ended without an answer, in a row */
    bool answered;   /* the server has answered a CONNECT of this process */
    int maximum_qos; /* for messages that we publish */
    bool no_retain;  /* the server takes no retained messages */
};

/* One attempt. */
struct endpoint {
    struct endpoints_server *server;
    size_t slot;         /* a small number that differs between servers and addresses */
    char uri[400];       /* for the library */
    char name[400];      /* for people: host:port; of several addresses "name:port (address)" */
    const char *address; /* numeric */
};

struct endpoints;

/* -ERR_USAGE if server_uris can't be read. */
MUST_CHECK int endpoints_new(struct endpoints **endpoints, const struct settings_mqtt *settings,
                             struct error *err);
void endpoints_free(struct endpoints *endpoints);

/* Begins the next attempt; looks its server's addresses up if they are not known. */
void endpoints_start(struct endpoints *endpoints);

enum endpoints_answer {
    ENDPOINTS_LOOKS_UP,
    ENDPOINTS_KNOWS,
    ENDPOINTS_FAILS, /* the name has no address: why says it */
};
enum endpoints_answer endpoints_take(struct endpoints *endpoints, char why[160]);
/* The attempt that was started last, until the next one. */
const struct endpoint *endpoints_current(const struct endpoints *endpoints);

/* The library says "TCP connect failure" whatever the cause: this makes a TCP connection to the address to find it. */
void endpoints_probe(struct endpoints *endpoints);
/* Ends the probe. Returns 0 if the connection was accepted, else an errno; ETIMEDOUT while there is no answer. */
int endpoints_probed(struct endpoints *endpoints);

/* Ready when the look-up or the probe has an answer. The descriptor changes with each look-up and probe. */
struct pollfd endpoints_poll(const struct endpoints *endpoints);

/* The attempt has failed. The next one goes to the next address of the server. After the last address, or if
 * next_server, it goes to the next server. true: all servers have been tried since endpoints_begin_round. */
bool endpoints_next(struct endpoints *endpoints, bool next_server);
void endpoints_begin_round(struct endpoints *endpoints);

#endif
