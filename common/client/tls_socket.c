#include "common/client/tls_socket.h"

#include "common/base/alloc.h"
#include "common/base/file.h"
#include "common/client/tls.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define TLS_ALERT 0x15 /* the first byte of an alert record */
#define NAMES_MAX 80   /* bytes of a certificate's names in an error text */

struct tls_socket {
    int fd;
    struct tls_socket_options options;
    char *host;
    bool local;        /* a UNIX socket */
    SSL *ssl;          /* NULL: no TLS, or none yet */
    short read_wants;  /* TLS: the events that the last read waits for */
    short write_wants; /* TLS: the events that the last write waits for */
    bool heard;        /* the server has sent something */
};

static int fail_file(struct error *err, const char *option, const char *file, const char *must)
{
    int result = error_set(err, ERR_REFUSED, "TLS: %s %s: %s; it must hold %s", option, file,
                           tls_reason(), must);

    ERR_clear_error();
    return result;
}

static int load_authorities(const struct tls_socket_options *options, SSL_CTX *context,
                            struct error *err)
{
    const char *file = options->ca_file, *path = options->ca_path;

    if (file == NULL && path == NULL)
        SSL_CTX_set_default_verify_paths(context);
    else if (SSL_CTX_load_verify_locations(context, file, path) != 1)
        return fail_file(err, file != NULL ? options->words->ca_file : options->words->ca_path,
                         file != NULL ? file : path, "certificates (PEM)");
    return 0;
}

static int load_our_certificate(const struct tls_socket_options *options, SSL_CTX *context,
                                struct error *err)
{
    const struct tls_socket_words *words = options->words;
    const char *certificate = options->cert_file;
    const char *key = options->key_file != NULL ? options->key_file : certificate;

    if (certificate == NULL)
        return 0;
    if (SSL_CTX_use_certificate_chain_file(context, certificate) != 1)
        return fail_file(err, words->cert_file, certificate, "our certificate (PEM)");
    SSL_CTX_set_default_passwd_cb(context, tls_give_passphrase);
    SSL_CTX_set_default_passwd_cb_userdata(context, (void *)(uintptr_t)options->passphrase);
    if (SSL_CTX_use_PrivateKey_file(context, key, SSL_FILETYPE_PEM) != 1)
        return fail_file(err, key == certificate ? words->cert_file : words->key_file, key,
                         words->key_must);
    return 0;
}

/* Accepts a self-signed certificate under allow_self_signed, as PHP does. */
static int verify(int good, X509_STORE_CTX *store)
{
    const SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
    const struct tls_socket_options *options = SSL_get_app_data(ssl);

    if (!good && options->allow_self_signed &&
        X509_STORE_CTX_get_error(store) == X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT) {
        X509_STORE_CTX_set_error(store, X509_V_OK);
        return 1;
    }
    return good;
}

/* Returns the name or address for SNI, which the certificate must have. */
static const char *name_of_peer(const struct tls_socket *socket)
{
    return socket->options.peer_name != NULL ? socket->options.peer_name : socket->host;
}

static bool is_address(const char *name)
{
    ASN1_OCTET_STRING *address = a2i_IPADDRESS(name);

    ASN1_OCTET_STRING_free(address);
    return address != NULL;
}

static SSL_CTX *make_context(const struct tls_socket_options *options, struct error *err)
{
    ERR_clear_error();
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    if (context == NULL) {
        error_set(err, ERR_REFUSED, "TLS: %s", tls_reason());
        return NULL;
    }
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
#ifdef SSL_OP_IGNORE_UNEXPECTED_EOF
    /* An ending Redis sends no close_notify. A cut answer is noticed anyway, since RESP tells
     * the length. */
    SSL_CTX_set_options(context, SSL_OP_IGNORE_UNEXPECTED_EOF);
#endif
    if (load_authorities(options, context, err) < 0 ||
        load_our_certificate(options, context, err) < 0) {
        SSL_CTX_free(context);
        return NULL;
    }
    return context;
}

int tls_socket_check(const struct tls_socket_options *options, struct error *err)
{
    SSL_CTX *context = make_context(options, err);

    SSL_CTX_free(context);
    return context != NULL ? 0 : -(int)err->code;
}

static int new_tls(struct tls_socket *socket, struct error *err)
{
    struct tls_socket_options *options = &socket->options;
    SSL_CTX *context = make_context(options, err);

    if (context == NULL)
        return -(int)err->code;
    SSL *ssl = SSL_new(context);
    socket->ssl = ssl;
    SSL_CTX_free(context); /* ssl holds a reference */
    if (ssl == NULL || SSL_set_fd(ssl, socket->fd) != 1)
        return error_set(err, ERR_REFUSED, "TLS: %s", tls_reason());
    SSL_set_app_data(ssl, options);
    SSL_set_verify(ssl, options->verify_peer ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, verify);
    if (options->sni && !is_address(name_of_peer(socket)))
        SSL_set_tlsext_host_name(ssl, name_of_peer(socket));
    SSL_set_connect_state(ssl);
    ERR_clear_error();
    return 0;
}

/* Checks the certificate's name after the handshake, before anything is sent. */
static int check_name(const struct tls_socket *socket, struct error *err)
{
    const char *name = name_of_peer(socket);
    struct buf names = {0};
    int result = 0;

    if (!socket->options.verify_peer || !socket->options.verify_name)
        return 0;
    X509 *certificate = SSL_get_peer_certificate(socket->ssl);
    if (certificate == NULL)
        return error_set(err, ERR_REFUSED, "TLS: the server has no certificate");
    if (X509_check_host(certificate, name, 0, 0, NULL) != 1 &&
        X509_check_ip_asc(certificate, name, 0) != 1) {
        tls_append_names(&names, certificate);
        result = error_set(err, ERR_REFUSED,
                           "TLS: the server's certificate is not for %s, but for %.*s; %s", name,
                           NAMES_MAX, buf_text(&names), socket->options.words->other_name);
        buf_free(&names);
    }
    X509_free(certificate);
    return result;
}

static int explain_certificate(const struct tls_socket_options *options, long fault,
                               struct error *err)
{
    const char *words = X509_verify_cert_error_string(fault);
    const char *authority = options->ca_file != NULL ? options->ca_file : options->ca_path;

    if (fault == X509_V_ERR_CERT_HAS_EXPIRED || fault == X509_V_ERR_CERT_NOT_YET_VALID)
        return error_set(err, ERR_REFUSED,
                         "TLS: the server's %s; renew it, or set this machine's clock", words);
    return error_set(err, ERR_REFUSED,
                     "TLS: the server's certificate is not trusted (%s); %s must hold the "
                     "authority that signed it, and is %s",
                     words, options->words->ca_file,
                     authority != NULL ? authority : "not given: the system's authorities");
}

/* True if the server's alert is about the client certificate. */
static bool concerns_client_certificate(const char *text)
{
    return strstr(text, "alert") != NULL &&
           (strstr(text, "certificate") != NULL || strstr(text, "unknown ca") != NULL ||
            strstr(text, "handshake failure") != NULL || strstr(text, "access denied") != NULL);
}

static int explain_reason(const struct tls_socket_options *options, struct error *err)
{
    const struct tls_socket_words *words = options->words;
    const char *text = tls_reason();

    if (strstr(text, "wrong version number") != NULL ||
        strstr(text, "packet length too long") != NULL)
        return error_set(err, ERR_REFUSED, "TLS: there is none on that port; %s", words->no_tls);
    if (concerns_client_certificate(text) && options->cert_file == NULL)
        return error_set(err, ERR_REFUSED,
                         "TLS: the server wants a certificate of ours (%s); give it with %s and %s",
                         text, words->cert_file, words->key_file);
    if (concerns_client_certificate(text))
        return error_set(err, ERR_REFUSED,
                         "TLS: the server does not take our certificate (%s); see %s, which is %s",
                         text, words->cert_file, options->cert_file);
    return error_set(err, ERR_UNREACHABLE, "TLS: %s", text);
}

/* True if the errno of a call says that the server ended the connection; 0: the call found its end. */
static bool is_end(int fault)
{
    return fault == 0 || fault == ECONNRESET || fault == EPIPE;
}

static int fail_errno(int fault, struct error *err)
{
    return error_set(err, ERR_UNREACHABLE, "%s",
                     fault != 0 ? strerror(fault) : "the server closed the connection");
}

/* Fills err after a failed TLS call: why, and what to do. saved_errno is the errno of that call. */
static int explain(struct tls_socket *socket, int saved_errno, struct error *err)
{
    long fault = SSL_get_verify_result(socket->ssl);
    bool shaken = SSL_is_init_finished(socket->ssl);
    int result;

    if (!shaken && fault != X509_V_OK && socket->options.verify_peer)
        result = explain_certificate(&socket->options, fault, err);
    else if (ERR_peek_error() != 0)
        result = explain_reason(&socket->options, err);
    else if (!shaken && is_end(saved_errno))
        result = error_set(err, ERR_UNREACHABLE,
                           "TLS: the server ends the connection in the handshake; is there TLS on "
                           "that port? If not, %s",
                           socket->options.words->no_tls);
    else
        result = fail_errno(saved_errno, err);
    ERR_clear_error();
    return result;
}

static int open_fd(struct tls_socket *made, const struct sockaddr *address, socklen_t len,
                   struct error *err)
{
    int on = 1;

    made->fd = socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (made->fd < 0 || (connect(made->fd, address, len) < 0 && errno != EINPROGRESS))
        return error_set(err, ERR_UNREACHABLE, "%s", strerror(errno));
    /* The call fails for a UNIX socket, which is harmless. */
    setsockopt(made->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    return 0;
}

static int open_path(struct tls_socket *made, const char *path, struct error *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    if (strlen(path) >= sizeof(address.sun_path))
        return error_set(err, ERR_REFUSED, "the path of a socket has at most %zu bytes",
                         sizeof(address.sun_path) - 1);
    memcpy(address.sun_path, path, strlen(path));
    return open_fd(made, (const struct sockaddr *)&address, sizeof(address), err);
}

static int open_address(struct tls_socket *made, const char *address, int port, struct error *err)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                             .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV};
    struct addrinfo *found = NULL;
    char service[16];

    snprintf(service, sizeof(service), "%d", port);
    int fault = getaddrinfo(address, service, &hints, &found);
    if (fault != 0)
        return error_set(err, ERR_UNREACHABLE, "%s", gai_strerror(fault));
    int result = open_fd(made, found->ai_addr, found->ai_addrlen, err);
    freeaddrinfo(found);
    return result;
}

int tls_socket_open(struct tls_socket **socket, const struct tls_socket_options *options,
                    const char *host, const char *address, int port, struct error *err)
{
    struct tls_socket *made = xcalloc(1, sizeof(*made));

    *made = (struct tls_socket){.fd = -1,
                                .options = *options,
                                .host = host != NULL ? xstrdup(host) : NULL,
                                .local = address[0] == '/',
                                .read_wants = POLLIN,
                                .write_wants = POLLOUT};
    int result =
        made->local ? open_path(made, address, err) : open_address(made, address, port, err);
    if (result < 0) {
        tls_socket_free(made);
        return result;
    }
    *socket = made;
    return 0;
}

void tls_socket_free(struct tls_socket *socket)
{
    if (socket == NULL)
        return;
    SSL_free(socket->ssl);
    file_close(&socket->fd);
    free(socket->host);
    free(socket);
}

int tls_socket_connect(struct tls_socket *socket, struct error *err)
{
    struct pollfd poll_fd = {.fd = socket->fd, .events = POLLOUT};
    int fault = 0;
    socklen_t len = sizeof(fault);

    if (poll(&poll_fd, 1, 0) <= 0)
        return 0;
    if (getsockopt(socket->fd, SOL_SOCKET, SO_ERROR, &fault, &len) < 0)
        fault = errno;
    if (fault != 0)
        return error_set(err, ERR_UNREACHABLE, "%s", strerror(fault));
    if (!socket->options.enabled)
        return 1;
    int result = new_tls(socket, err);
    return result < 0 ? result : 1;
}

/* Clears OpenSSL's errors of this thread: errors left by libcurl would be taken for those of the
 * next call. */
static void forget_errors(void)
{
    errno = 0;
    ERR_clear_error();
}

/* Judges a TLS call that moved no bytes: returns 0 if it waits for *wants, or a negative error. */
static int judge(struct tls_socket *socket, int result, short *wants, struct error *err)
{
    int saved_errno = errno;
    int fault = SSL_get_error(socket->ssl, result);

    if (fault == SSL_ERROR_WANT_READ || fault == SSL_ERROR_WANT_WRITE) {
        *wants = fault == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT;
        return 0;
    }
    return explain(socket, fault == SSL_ERROR_SYSCALL ? saved_errno : 0, err);
}

int tls_socket_shake_hands(struct tls_socket *socket, struct error *err)
{
    if (socket->ssl == NULL)
        return 1;
    forget_errors();
    int result = SSL_do_handshake(socket->ssl);
    if (result != 1)
        return judge(socket, result, &socket->read_wants, err);
    socket->read_wants = POLLIN;
    result = check_name(socket, err);
    return result < 0 ? result : 1;
}

static ssize_t read_tls(struct tls_socket *socket, char *data, size_t size, struct error *err)
{
    size_t read = 0;

    forget_errors();
    int result = SSL_read_ex(socket->ssl, data, size, &read);
    if (result != 1)
        return judge(socket, result, &socket->read_wants, err);
    socket->read_wants = POLLIN;
    return (ssize_t)read;
}

/* Fails a connection without TLS: the server closed it (fault 0), or the call failed with the
 * errno `fault`. */
static int fail_plain(const struct tls_socket *socket, int fault, struct error *err)
{
    if (is_end(fault) && !socket->heard && !socket->local)
        return error_set(err, ERR_UNREACHABLE,
                         "the server closed the connection before it said anything; if it has TLS "
                         "on that port, %s",
                         socket->options.words->has_tls);
    return fail_errno(fault, err);
}

ssize_t tls_socket_read(struct tls_socket *socket, char *data, size_t size, struct error *err)
{
    ssize_t len;

    if (socket->ssl != NULL)
        return read_tls(socket, data, size, err);
    do
        len = recv(socket->fd, data, size, 0);
    while (len < 0 && errno == EINTR);
    if (len < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        return 0;
    if (len <= 0)
        return fail_plain(socket, len < 0 ? errno : 0, err);
    if (!socket->heard && data[0] == TLS_ALERT)
        return error_set(err, ERR_REFUSED, "the server has TLS on that port; %s",
                         socket->options.words->has_tls);
    socket->heard = true;
    return len;
}

static ssize_t write_tls(struct tls_socket *socket, struct bytes data, struct error *err)
{
    size_t written = 0;

    forget_errors();
    int result = SSL_write_ex(socket->ssl, data.data, data.len, &written);
    if (result != 1)
        return judge(socket, result, &socket->write_wants, err);
    socket->write_wants = POLLOUT;
    return (ssize_t)written;
}

ssize_t tls_socket_write(struct tls_socket *socket, struct bytes data, struct error *err)
{
    ssize_t len;

    if (socket->ssl != NULL)
        return write_tls(socket, data, err);
    do
        len = send(socket->fd, data.data, data.len, MSG_NOSIGNAL);
    while (len < 0 && errno == EINTR);
    if (len < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        return 0;
    return len < 0 ? fail_plain(socket, errno, err) : len;
}

bool tls_socket_may_read(const struct tls_socket *socket, short revents)
{
    return (revents & (socket->read_wants | POLLERR | POLLHUP)) != 0;
}

bool tls_socket_has_more(const struct tls_socket *socket, size_t read, size_t size)
{
    return socket->ssl != NULL || read == size;
}

int tls_socket_fd(const struct tls_socket *socket)
{
    return socket->fd;
}

short tls_socket_events(const struct tls_socket *socket, bool output)
{
    return (short)(socket->read_wants | (output ? socket->write_wants : 0));
}

void tls_socket_drop_output(struct tls_socket *socket)
{
    struct linger at_once = {.l_onoff = 1};

    setsockopt(socket->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
}
