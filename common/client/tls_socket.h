/* The socket to a server, with one interface for TCP, UNIX sockets and TLS. Non-blocking, one thread.
 *
 *     tls_socket_open → poll for events, tls_socket_connect until 1 → tls_socket_shake_hands until 1
 *     → tls_socket_read, tls_socket_write
 *
 * Certificate files are read for each socket: a replaced file serves the next connection. Error texts say the fault and
 * what to do about it in the caller's words, without the server's address. */
#ifndef COMMON_CLIENT_TLS_SOCKET_H
#define COMMON_CLIENT_TLS_SOCKET_H

#include "common/base/bytes.h"
#include "common/base/error.h"

#include <sys/types.h>

struct tls_socket;

/* The caller's settings, in error texts. */
struct tls_socket_words {
    const char *ca_file; /* the options' names: "ssl[cafile]" */
    const char *ca_path;
    const char *cert_file;
    const char *key_file;
    const char *key_must;   /* what the file of the key must hold */
    const char *other_name; /* what to do: the certificate is for another name */
    const char *no_tls;     /* the port has no TLS */
    const char *has_tls;    /* the port has TLS, and `enabled` is not set */
};

struct tls_socket_options {
    bool enabled;
    bool verify_peer;
    bool verify_name;
    bool allow_self_signed;
    bool sni;
    const char *ca_file; /* this and the following texts: NULL if not given */
    const char *ca_path; /* neither: the system's authorities */
    const char *cert_file;
    const char *key_file; /* NULL: the key is in cert_file */
    const char *passphrase;
    const char *peer_name; /* that the certificate must have instead of the host */
    const struct tls_socket_words *words;
};

/* Reads the files that the options name. -ERR_REFUSED. */
MUST_CHECK int tls_socket_check(const struct tls_socket_options *options, struct error *err);

/* host: the server's name, for TLS; address: numeric, or the path of a UNIX socket. The options' texts must live as
 * long as the socket. */
MUST_CHECK int tls_socket_open(struct tls_socket **socket, const struct tls_socket_options *options,
                               const char *host, const char *address, int port, struct error *err);
void tls_socket_free(struct tls_socket *socket);

/* 1: connected; 0: wait for events; negative: it failed. */
MUST_CHECK int tls_socket_connect(struct tls_socket *socket, struct error *err);
/* The TLS handshake, with the results of tls_socket_connect; without TLS 1 at once. */
MUST_CHECK int tls_socket_shake_hands(struct tls_socket *socket, struct error *err);

/* Returns how many bytes were read or written; 0: none for now; negative: the connection is broken or closed. With TLS,
 * bytes may wait that poll does not see: read until 0. */
MUST_CHECK ssize_t tls_socket_read(struct tls_socket *socket, char *data, size_t size,
                                   struct error *err);
MUST_CHECK ssize_t tls_socket_write(struct tls_socket *socket, struct bytes data,
                                    struct error *err);
/* revents: from poll. */
bool tls_socket_may_read(const struct tls_socket *socket, short revents);
/* Whether more may wait after a read of so many bytes into a buffer of that size. */
bool tls_socket_has_more(const struct tls_socket *socket, size_t read, size_t size);

int tls_socket_fd(const struct tls_socket *socket);
short tls_socket_events(const struct tls_socket *socket,
                        bool output); /* output: some is to be sent */
/* Drops output that our kernel has not sent yet. */
void tls_socket_drop_output(struct tls_socket *socket);

#endif
