/* From a DSN to a server that has let us in: its address is found, it is connected, and greeted. One mechanism for
 * one server, for Sentinels and for a Cluster; a hop is one server on the way:
 *
 *     DSN         hops                                    greeting
 *     one server  the server                              AUTH, SELECT
 *     Sentinels   each in turn, until one answers         AUTH (sentinel_auth), SENTINEL GET-MASTER-ADDR-BY-NAME
 *                 the primary that it names               AUTH, SELECT, ROLE: it must be the primary
 *     Cluster     the slot's last known node, or each     AUTH, EXISTS of the stream: MOVED names the node
 *                 member in turn
 *                 the node that MOVED names               the same
 *
 * Each hop has four steps, enum dial_step: its name is looked up by a thread (resolve.h); its addresses are tried one
 * after the other, IPv4 first; TLS; the greeting. What a server may not tell (ROLE, EXISTS are forbidden or renamed) is
 * taken for good. Nothing blocks. One thread. */
#ifndef COMMON_CLIENT_REDIS_DIAL_H
#define COMMON_CLIENT_REDIS_DIAL_H

#include "common/client/redis_socket.h"

struct redis_dial;

/* timeout_ms: for the look-up, for connecting and for the greeting of a hop; several hosts share it. */
struct redis_dial *redis_dial_new(int64_t timeout_ms);
void redis_dial_free(struct redis_dial *dial);

/* 0: under way. dsn must live as long as what comes of it. Errors name the host where there are several. */
MUST_CHECK int redis_dial_begin(struct redis_dial *dial, const struct dsn_redis *dsn,
                                struct error *err);
/* That node of the Cluster, whatever its slots are: "host:port" of an ASK. */
MUST_CHECK int redis_dial_begin_at(struct redis_dial *dial, const struct dsn_redis *dsn,
                                   struct bytes place, struct error *err);
void redis_dial_end(struct redis_dial *dial); /* gives up */

bool redis_dial_is_under_way(const struct redis_dial *dial);
int redis_dial_fd(const struct redis_dial *dial); /* another one after each step */
short redis_dial_events(const struct redis_dial *dial);
int64_t redis_dial_deadline_ms(const struct redis_dial *dial);
/* After poll, and at the deadline. 0: under way; 1: done; negative: it came to nothing. */
MUST_CHECK int redis_dial_step(struct redis_dial *dial, struct error *err);
/* Once it is done: the caller's from now on. */
struct redis_socket *redis_dial_take(struct redis_dial *dial);

/* What the server that was found says of itself: "MOVED 866 10.0.0.7:7002". The next time begins there. */
void redis_dial_note_moved(struct redis_dial *dial, struct bytes moved);
/* "10.0.0.7:7002" of a MOVED or an ASK; empty if it is none. */
struct bytes redis_dial_redirection(struct bytes answer);

#endif
