/* The address that the HTTP server listens on: [http] listen.
 *
 * "127.0.0.1:9080", "localhost:9080", "[::1]:9080", "0.0.0.0:9080"; ":9080" is every address. Port 0
 * lets the kernel choose, which is for tests: the log says what it chose. */
#ifndef MONITOR_LISTEN_H
#define MONITOR_LISTEN_H

#include "common/base/error.h"

#include <stdint.h>

#define LISTEN_HOST_SIZE 256

struct listen_address {
    char host[LISTEN_HOST_SIZE]; /* without brackets; "" : every address */
    uint16_t port;
};

/* Pure. -ERR_USAGE says what is wrong with the text. */
MUST_CHECK int listen_parse(struct listen_address *address, const char *text, struct error *err);

/* A listening, non-blocking socket. Writes the address with the port in use ("127.0.0.1:41237", or
 * "[::1]:41237") to bound. -ERR_UNREACHABLE if the host has no address, -ERR_SYSTEM if it can't be
 * bound. */
#define LISTEN_BOUND_SIZE (LISTEN_HOST_SIZE + 16)
MUST_CHECK int listen_open(int *fd, const struct listen_address *address,
                           char bound[LISTEN_BOUND_SIZE], struct error *err);

#endif
