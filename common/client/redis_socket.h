/* The socket to a server, with one interface for TCP, UNIX sockets and TLS. Non-blocking, one thread.
 *
 *     redis_socket_open → poll for events, redis_socket_connect until 1 → redis_socket_shake_hands until 1
 *     → redis_socket_read, redis_socket_write
 *
 * TLS follows the DSN's options. Certificate files are read for each socket: a replaced file serves the next
 * connection. Error texts say the fault and what to do about it, without the server's address. */
#ifndef COMMON_CLIENT_REDIS_SOCKET_H
#define COMMON_CLIENT_REDIS_SOCKET_H

#include "common/base/bytes.h"
#include "common/base/error.h"
#include "common/wire/dsn.h"

#include <sys/types.h>

struct redis_socket;

/* host: the name from the DSN, for TLS; address: numeric, or NULL for the DSN's UNIX socket. dsn must live as long as
 * the socket. */
MUST_CHECK int redis_socket_open(struct redis_socket **socket, const struct dsn_redis *dsn,
                                 const char *host, const char *address, int port,
                                 struct error *err);
void redis_socket_free(struct redis_socket *socket);

/* 1: connected; 0: wait for events; negative: it failed. */
MUST_CHECK int redis_socket_connect(struct redis_socket *socket, struct error *err);
/* The TLS handshake, with the results of redis_socket_connect; without TLS 1 at once. */
MUST_CHECK int redis_socket_shake_hands(struct redis_socket *socket, struct error *err);

/* Returns how many bytes were read or written; 0: none for now; negative: the connection is broken or closed. With TLS,
 * bytes may wait that poll does not see: read until 0. */
MUST_CHECK ssize_t redis_socket_read(struct redis_socket *socket, char *data, size_t size,
                                     struct error *err);
MUST_CHECK ssize_t redis_socket_write(struct redis_socket *socket, struct bytes data,
                                      struct error *err);
/* revents: from poll. */
bool redis_socket_may_read(const struct redis_socket *socket, short revents);
/* Whether more may wait after a read of so many bytes into a buffer of that size. */
bool redis_socket_has_more(const struct redis_socket *socket, size_t read, size_t size);

int redis_socket_fd(const struct redis_socket *socket);
short redis_socket_events(const struct redis_socket *socket,
                          bool output); /* output: some is to be sent */
/* Drops output that our kernel has not sent yet. */
void redis_socket_drop_output(struct redis_socket *socket);

#endif
