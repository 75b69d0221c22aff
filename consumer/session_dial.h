/* Where the next attempt to connect goes: the servers in turn, and of each its addresses in turn, looked up anew
 * each time. Left to itself paho would try one address of a name and no other: the first of IPv4, or the last.
 *
 * With TLS that is what it does here too. It must have the name, for that is what it compares the certificate
 * with, and what it sends as SNI.
 *
 *     session_dial_start(dial);
 *     while (session_dial_take(dial, why) == SESSION_DIAL_LOOKS_UP)
 *         poll session_dial_fd for POLLIN
 *     connect to session_dial_uri(dial)
 *     if that fails: session_dial_next(dial), and start again
 *
 * Never blocks; one thread. */
#ifndef CONSUMER_SESSION_DIAL_H
#define CONSUMER_SESSION_DIAL_H

#include "consumer/session_servers.h"

struct session_dial;

/* -ERR_USAGE if server_uris can't be read. */
MUST_CHECK int session_dial_new(struct session_dial **dial, const struct settings_mqtt *settings,
                                struct error *err);
void session_dial_free(struct session_dial *dial);

/* The next one's turn; its addresses are asked for if they are not known. */
void session_dial_start(struct session_dial *dial);

enum session_dial_answer {
    SESSION_DIAL_LOOKS_UP,
    SESSION_DIAL_KNOWS,
    SESSION_DIAL_FAILS, /* the name has no address: why says it */
};
enum session_dial_answer session_dial_take(struct session_dial *dial, char why[160]);
/* Readable when there is an answer; -1: nothing is looked up. It changes with each start. */
int session_dial_fd(const struct session_dial *dial);

/* Of the attempt that was started last, until the next one. */
struct session_server *session_dial_server(struct session_dial *dial);
const char *session_dial_uri(const struct session_dial *dial); /* for the library */
/* host:port; of a name with several addresses "name:port (address)". For people. */
const char *session_dial_place(const struct session_dial *dial);
/* address:port, or name:port where the library looks it up. For reach.h. */
const char *session_dial_target(const struct session_dial *dial);
bool session_dial_is_one_of_several(const struct session_dial *dial);
/* A small number that differs between the servers, and between the addresses of one. */
size_t session_dial_slot(const struct session_dial *dial);

/* It did not come about: next is the next address, or with the last of them the next server. true: all of them
 * have been tried since session_dial_begin_round. */
bool session_dial_next(struct session_dial *dial);
/* The connection was there, and is gone: next is the next server. Returns the same. */
bool session_dial_next_server(struct session_dial *dial);
/* Next is the same server. */
void session_dial_same_server(struct session_dial *dial);
void session_dial_begin_round(struct session_dial *dial);

#endif
