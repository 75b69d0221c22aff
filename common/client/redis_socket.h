/* The socket to a server, in one way for TCP, UNIX and TLS. Non-blocking, one thread.
 *
 *     redis_socket_open → poll for events, redis_socket_connect until 1 → redis_socket_shake_hands until 1
 *     → redis_socket_read, redis_socket_write
 *
 * TLS is as the DSN asks for it. Its files are read for each socket: one that was replaced serves the next connection.
 * Errors have the words of the fault and the mend, without the server's address. */
#ifndef COMMON_CLIENT_REDIS_SOCKET_H
#define COMMON_CLIENT_REDIS_SOCKET_H

#include "common/base/bytes.h"
#include "common/base/error.h"
#include "common/wire/dsn.h"

#include <sys/types.h>

struct redis_socket;

/* host: as it was asked for, for TLS; address: numeric. address NULL: the DSN's UNIX socket. dsn must live as long
 * as the socket. */
MUST_CHECK int redis_socket_open(struct redis_socket **socket, const struct dsn_redis *dsn,
                                 const char *host, const char *address, int port,
                                 struct error *err);
void redis_socket_free(struct redis_socket *socket);

/* 1: connected; 0: wait for events; negative: it will not be. */
MUST_CHECK int redis_socket_connect(struct redis_socket *socket, struct error *err);
/* The same for TLS; without TLS 1 at once. */
MUST_CHECK int redis_socket_shake_hands(struct redis_socket *socket, struct error *err);

/* How many bytes; 0: none for now; negative: it is broken, or the server closed it. With TLS bytes may wait that
 * poll does not see: read until 0. */
MUST_CHECK ssize_t redis_socket_read(struct redis_socket *socket, char *data, size_t size,
                                     struct error *err);
MUST_CHECK ssize_t redis_socket_write(struct redis_socket *socket, struct bytes data,
                                      struct error *err);
bool redis_socket_may_read(const struct redis_socket *socket,
                           short revents); /* as poll gave them */
/* May more wait after a read that filled so much of that size? */
bool redis_socket_has_more(const struct redis_socket *socket, size_t read, size_t size);

int redis_socket_fd(const struct redis_socket *socket);
short redis_socket_events(const struct redis_socket *socket, bool output); /* output: some waits */
/* What still lies in our kernel is not sent any more. */
void redis_socket_drop_output(struct redis_socket *socket);

#endif
