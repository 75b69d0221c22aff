#include "common/client/redis_socket.h"

#include "common/base/alloc.h"
#include "common/client/redis_tls.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define TLS_ALERT 0x15 /* the first byte of such a record */

struct redis_socket {
    int fd;
    const struct dsn_redis *dsn;
    char *host;
    SSL *ssl;         /* NULL: no TLS, or not yet */
    short read_wants; /* TLS: for what the last call of the kind waits */
    short write_wants;
    bool heard; /* the server has said something */
};

static int open_fd(struct redis_socket *made, const struct sockaddr *address, socklen_t len,
                   struct error *err)
{
    int on = 1;

    made->fd = socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (made->fd < 0 || (connect(made->fd, address, len) < 0 && errno != EINPROGRESS))
        return error_set(err, ERR_UNREACHABLE, "%s", strerror(errno));
    /* Not for a UNIX socket, where it fails and does not matter. */
    setsockopt(made->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    return 0;
}

static int open_path(struct redis_socket *made, const char *path, struct error *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    if (strlen(path) >= sizeof(address.sun_path))
        return error_set(err, ERR_REFUSED, "the path of a socket has at most %zu bytes",
                         sizeof(address.sun_path) - 1);
    memcpy(address.sun_path, path, strlen(path));
    return open_fd(made, (const struct sockaddr *)&address, sizeof(address), err);
}

static int open_address(struct redis_socket *made, const char *address, int port, struct error *err)
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

int redis_socket_open(struct redis_socket **socket, const struct dsn_redis *dsn, const char *host,
                      const char *address, int port, struct error *err)
{
    struct redis_socket *made = xcalloc(1, sizeof(*made));

    *made =
        (struct redis_socket){.fd = -1, .dsn = dsn, .read_wants = POLLIN, .write_wants = POLLOUT};
    made->host = host != NULL ? xstrdup(host) : NULL;
    int result =
        address != NULL ? open_address(made, address, port, err) : open_path(made, dsn->path, err);
    if (result < 0) {
        redis_socket_free(made);
        return result;
    }
    *socket = made;
    return 0;
}

void redis_socket_free(struct redis_socket *socket)
{
    if (socket == NULL)
        return;
    SSL_free(socket->ssl);
    if (socket->fd >= 0)
        close(socket->fd);
    free(socket->host);
    free(socket);
}

int redis_socket_connect(struct redis_socket *socket, struct error *err)
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
    if (!socket->dsn->tls)
        return 1;
    int result = redis_tls_new(&socket->ssl, socket->dsn, socket->host, socket->fd, err);
    return result < 0 ? result : 1;
}

/* Others of this thread (libcurl) leave errors of OpenSSL behind, which the next call would be blamed for. */
static void forget_errors(void)
{
    errno = 0;
    ERR_clear_error();
}

/* What a call on the TLS connection came to: 0 it waits for *wants, or negative. */
static int judge(struct redis_socket *socket, int result, short *wants, struct error *err)
{
    int saved_errno = errno;
    int fault = SSL_get_error(socket->ssl, result);

    if (fault == SSL_ERROR_WANT_READ || fault == SSL_ERROR_WANT_WRITE) {
        *wants = fault == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT;
        return 0;
    }
    return redis_tls_explain(socket->ssl, socket->dsn, fault == SSL_ERROR_SYSCALL ? saved_errno : 0,
                             err);
}

int redis_socket_shake_hands(struct redis_socket *socket, struct error *err)
{
    if (socket->ssl == NULL)
        return 1;
    forget_errors();
    int result = SSL_do_handshake(socket->ssl);
    if (result != 1)
        return judge(socket, result, &socket->read_wants, err);
    socket->read_wants = POLLIN;
    result = redis_tls_check_name(socket->ssl, socket->dsn, socket->host, err);
    return result < 0 ? result : 1;
}

static ssize_t read_tls(struct redis_socket *socket, char *data, size_t size, struct error *err)
{
    size_t read = 0;

    forget_errors();
    int result = SSL_read_ex(socket->ssl, data, size, &read);
    if (result != 1)
        return judge(socket, result, &socket->read_wants, err);
    socket->read_wants = POLLIN;
    return (ssize_t)read;
}

/* Without TLS: the server closed the connection (fault 0), or worse. */
static int fail_plain(const struct redis_socket *socket, int fault, struct error *err)
{
    bool ended = fault == 0 || fault == ECONNRESET || fault == EPIPE;

    if (ended && !socket->heard && socket->dsn->path == NULL)
        return error_set(err, ERR_UNREACHABLE,
                         "the server closed the connection before it said anything; if it has TLS "
                         "on that port, write rediss://");
    return error_set(err, ERR_UNREACHABLE, "%s",
                     fault != 0 ? strerror(fault) : "the server closed the connection");
}

ssize_t redis_socket_read(struct redis_socket *socket, char *data, size_t size, struct error *err)
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
        return error_set(err, ERR_REFUSED, "the server has TLS on that port; write rediss://");
    socket->heard = true;
    return len;
}

static ssize_t write_tls(struct redis_socket *socket, struct bytes data, struct error *err)
{
    size_t written = 0;

    forget_errors();
    int result = SSL_write_ex(socket->ssl, data.data, data.len, &written);
    if (result != 1)
        return judge(socket, result, &socket->write_wants, err);
    socket->write_wants = POLLOUT;
    return (ssize_t)written;
}

ssize_t redis_socket_write(struct redis_socket *socket, struct bytes data, struct error *err)
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

bool redis_socket_may_read(const struct redis_socket *socket, short revents)
{
    return (revents & (socket->read_wants | POLLERR | POLLHUP)) != 0;
}

bool redis_socket_has_more(const struct redis_socket *socket, size_t read, size_t size)
{
    return socket->ssl != NULL || read == size;
}

int redis_socket_fd(const struct redis_socket *socket)
{
    return socket->fd;
}

short redis_socket_events(const struct redis_socket *socket, bool output)
{
    return (short)(socket->read_wants | (output ? socket->write_wants : 0));
}

void redis_socket_drop_output(struct redis_socket *socket)
{
    struct linger at_once = {.l_onoff = 1};

    setsockopt(socket->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
}
