/* From a DSN to a connected and authenticated server. One mechanism serves a single server, Sentinels and a Cluster; a
 * hop is one server on the way:
 *
 *     DSN         hops                                    greeting
 *     one server  the server                              AUTH, SELECT
 *     Sentinels   each in turn, until one answers         AUTH (sentinel_auth), SENTINEL GET-MASTER-ADDR-BY-NAME
 *                 the primary that it names               AUTH, SELECT, ROLE: it must be the primary
 *     Cluster     the slot's last known node, or each     AUTH, EXISTS of the stream: MOVED names the node
 *                 member in turn
 *                 the node that MOVED names               AUTH, EXISTS of the stream
 *
 * Each hop has four steps, enum dial_step. A thread looks its name up (resolve.h); its addresses are tried one after
 * the other, IPv4 first; TLS; the greeting. If ROLE or EXISTS is forbidden or renamed, the server is taken to be the
 * right one. Nothing blocks. One thread. */
#ifndef COMMON_CLIENT_REDIS_DIAL_H
#define COMMON_CLIENT_REDIS_DIAL_H

#include "common/client/tls_socket.h"
#include "common/wire/dsn.h"

struct redis_dial;

/* timeout_ms: for each of look-up, connecting and greeting; the DSN's hosts share it. */
struct redis_dial *redis_dial_new(int64_t timeout_ms);
void redis_dial_free(struct redis_dial *dial);

/* 0: under way. dsn must live as long as the resulting connection. Errors name the host if there are several. */
MUST_CHECK int redis_dial_begin(struct redis_dial *dial, const struct dsn_redis *dsn,
                                struct error *err);
/* Connects to the Cluster's node of an ASK ("host:port"), whatever its slots are. */
MUST_CHECK int redis_dial_begin_at(struct redis_dial *dial, const struct dsn_redis *dsn,
                                   struct bytes address, struct error *err);
void redis_dial_end(struct redis_dial *dial); /* gives up */

bool redis_dial_is_under_way(const struct redis_dial *dial);
int redis_dial_fd(const struct redis_dial *dial); /* changes with each step */
short redis_dial_events(const struct redis_dial *dial);
int64_t redis_dial_deadline_ms(const struct redis_dial *dial);
/* Call after poll, and at the deadline. 0: under way; 1: done; negative: it failed. */
MUST_CHECK int redis_dial_step(struct redis_dial *dial, struct error *err);
/* Takes the socket once redis_dial_step is done; the caller owns it. */
struct tls_socket *redis_dial_take(struct redis_dial *dial);

/* A server answered "MOVED 866 10.0.0.7:7002": the next redis_dial_begin starts at that node. */
void redis_dial_note_moved(struct redis_dial *dial, struct bytes moved);
/* "10.0.0.7:7002" of a MOVED or an ASK; empty for any other answer. */
struct bytes redis_dial_redirection(struct bytes answer);

#endif
