/* The socket that the HTTP server listens on. */
#ifndef MONITOR_LISTEN_H
#define MONITOR_LISTEN_H

#include "common/base/error.h"

/* A listening, non-blocking socket. address: [http] listen as the settings have checked it, or with port 0, for which
 * the kernel chooses one. *bound becomes the address with the port in use ("127.0.0.1:41237"); to be freed.
 * -ERR_UNREACHABLE if the host has no address, -ERR_SYSTEM if it can't be bound. */
MUST_CHECK int listen_open(int *fd, const char *address, char **bound, struct error *err);

#endif
