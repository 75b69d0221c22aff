/* TLS to a server, as a DSN asks for it: the files, what is verified, and why a connection does not come about,
 * each with the mend. The files are read at each call: one that was replaced serves the next connection.
 * <openssl/ssl.h> is included in redis_tls.c and redis_socket.c alone. */
#ifndef COMMON_CLIENT_REDIS_TLS_H
#define COMMON_CLIENT_REDIS_TLS_H

#include "common/base/error.h"
#include "common/wire/dsn.h"

struct ssl_st; /* OpenSSL's SSL */

/* For the connected, non-blocking fd. host: the name or address that was asked for, which SNI says and the
 * certificate must have, unless ssl[peer_name] gives another. -ERR_REFUSED names the file or option. */
MUST_CHECK int redis_tls_new(struct ssl_st **ssl, const struct dsn_redis *dsn, const char *host,
                             int fd, struct error *err);
/* After the handshake, before anything is sent. */
MUST_CHECK int redis_tls_check_name(struct ssl_st *ssl, const struct dsn_redis *dsn,
                                    const char *host, struct error *err);

/* A call on ssl failed: err says why and what to do. saved_errno: of that call. Returns -err->code. */
int redis_tls_explain(struct ssl_st *ssl, const struct dsn_redis *dsn, int saved_errno,
                      struct error *err);

#endif
