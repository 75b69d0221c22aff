/* The HTTP server's sockets: the one that it listens on; who is connected, and since when, to say whom to disconnect.
 *
 * A connection has CONNECTION_REQUEST_MS for the whole of a request, counted from its start or from the end of
 * the answer before, and CONNECTION_ANSWER_MS to take an answer. Where one address has more than
 * CONNECTIONS_PER_ADDRESS, or all have more than CONNECTIONS_MAX, the new connection stays and the oldest ends:
 * of that address, or of the address that has the most. So nobody keeps a probe out by holding connections.
 * IPv6 addresses of one /64 count as one. */
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

/* A listening, non-blocking socket. address: [http] listen as the settings have checked it, or with port 0, for which
 * the kernel chooses one. *bound becomes the address with the port in use ("127.0.0.1:41237"); to be freed.
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

/* Pure, as all below. Returns the descriptor of the connection that must end for it, which is forgotten; -1: none. */
int connections_add(struct connections *connections, int fd, const struct sockaddr *address,
                    int64_t now_ms);
void connections_remove(struct connections *connections, int fd);
/* An answer to its request begins or is done. A descriptor that was forgotten is passed over. */
void connections_answer(struct connections *connections, int fd, bool begins, int64_t now_ms);

/* The descriptor of one whose time is up, which is forgotten; -1: there is none. */
int connections_take_overdue(struct connections *connections, int64_t now_ms);
/* When the next one's time is up; -1: never. */
int64_t connections_deadline(const struct connections *connections);

#endif
