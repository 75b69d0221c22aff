/* Where the next attempt to connect goes: the servers in turn, and of each its addresses in turn, looked up anew
 * each time. Left to itself paho would try one address of a name and no other: the first of IPv4, or the last.
 *
 * With TLS that is what it does here too. It must have the name, for that is what it compares the certificate
 * with, and what it sends as SNI.
 *
 *     endpoints_start(dial);
 *     while (endpoints_take(dial, why) == ENDPOINTS_LOOKS_UP)
 *         poll endpoints_fd for POLLIN
 *     connect to endpoints_uri(dial)
 *     if that fails: endpoints_next(dial), and start again
 *
 * Never blocks; one thread. */
#ifndef CONSUMER_MQTT_ENDPOINTS_H
#define CONSUMER_MQTT_ENDPOINTS_H

#include "consumer/mqtt/servers.h"

struct endpoints;

/* -ERR_USAGE if server_uris can't be read. */
MUST_CHECK int endpoints_new(struct endpoints **dial, const struct settings_mqtt *settings,
                             struct error *err);
void endpoints_free(struct endpoints *dial);

/* The next one's turn; its addresses are asked for if they are not known. */
void endpoints_start(struct endpoints *dial);

enum endpoints_answer {
    ENDPOINTS_LOOKS_UP,
    ENDPOINTS_KNOWS,
    ENDPOINTS_FAILS, /* the name has no address: why says it */
};
enum endpoints_answer endpoints_take(struct endpoints *dial, char why[160]);
/* Readable when there is an answer; -1: nothing is looked up. It changes with each start. */
int endpoints_fd(const struct endpoints *dial);

/* Of the attempt that was started last, until the next one. */
struct server *endpoints_server(struct endpoints *dial);
const char *endpoints_uri(const struct endpoints *dial); /* for the library */
/* host:port; of a name with several addresses "name:port (address)". For people. */
const char *endpoints_place(const struct endpoints *dial);
/* address:port, or name:port where the library looks it up. For reach.h. */
const char *endpoints_target(const struct endpoints *dial);
bool endpoints_is_one_of_several(const struct endpoints *dial);
/* A small number that differs between the servers, and between the addresses of one. */
size_t endpoints_slot(const struct endpoints *dial);

/* It did not come about: next is the next address, or with the last of them the next server. true: all of them
 * have been tried since endpoints_begin_round. */
bool endpoints_next(struct endpoints *dial);
/* The connection was there, and is gone: next is the next server. Returns the same. */
bool endpoints_next_server(struct endpoints *dial);
/* Next is the same server. */
void endpoints_same_server(struct endpoints *dial);
void endpoints_begin_round(struct endpoints *dial);

#endif
