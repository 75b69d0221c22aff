/* The HTTP server's listening socket, and the list of its connections, which decides which one to close.
 *
 * A connection has CONNECTION_REQUEST_MS for a whole request, counted from its start or from the end of the last
 * answer. It has CONNECTION_ANSWER_MS to take an answer. If one address has more than CONNECTIONS_PER_ADDRESS, its
 * oldest connection is closed for a new one. If all together have more than CONNECTIONS_MAX, it is the oldest of the
 * address with the most. So a client that holds many connections keeps no probe out. IPv6 addresses of one /64 count
 * as one. */
#ifndef MONITOR_CONNECTIONS_H
#define MONITOR_CONNECTIONS_H

#include "common/base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#define CONNECTIONS_MAX         256
#define CONNECTIONS_PER_ADDRESS 64
#define CONNECTION_REQUEST_MS   15000
#define CONNECTION_ANSWER_MS    120000

/* Opens a listening, non-blocking socket. address: [http] listen, checked; with port 0 the kernel chooses the port.
 * *bound becomes the address with the port in use ("127.0.0.1:41237"); to be freed.
 * -ERR_UNREACHABLE if the host has no address, -ERR_SYSTEM if it can't be bound. */
MUST_CHECK int connections_listen(int *fd, const char *address, char **bound, struct error *err);

struct connection {
    int fd;
    unsigned char address[16]; /* IPv4 as ::ffff:a.b.c.d; of IPv6 the first 64 bits */
    int64_t since_ms;          /* waits for a request, or takes an answer, since then */
    bool takes_answer;
};

struct connections {
    struct connection items[CONNECTIONS_MAX + 1];
    size_t len;
};

/* Pure, as all functions below. Returns the descriptor of a connection that must be closed for the new one, and removes
 * it from the list; -1: none. */
int connections_add(struct connections *connections, int fd, const struct sockaddr *address,
                    int64_t now_ms);
void connections_remove(struct connections *connections, int fd);
/* The answer to a connection's request begins or is done. A descriptor that is not in the list is ignored. */
void connections_answer(struct connections *connections, int fd, bool begins, int64_t now_ms);

/* Returns the descriptor of a connection whose time is up, and removes it from the list; -1: there is none. */
int connections_take_overdue(struct connections *connections, int64_t now_ms);
/* When the next connection's time is up; -1: never. */
int64_t connections_deadline(const struct connections *connections);

#endif
