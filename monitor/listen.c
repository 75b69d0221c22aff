#include "monitor/listen.h"

#include "common/base/bytes.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BACKLOG 64

/* Splits "[host]:port" or "host:port". */
static bool split(struct bytes text, struct bytes *host, struct bytes *port)
{
    struct bytes rest;

    if (text.len > 0 && text.data[0] == '[') {
        if (!bytes_split(bytes_slice(text, 1, text.len), ']', host, &rest))
            return false;
        if (host->len == 0 || rest.len == 0 || rest.data[0] != ':')
            return false;
        *port = bytes_slice(rest, 1, rest.len);
        return true;
    }
    /* A second colon would be an IPv6 address without brackets: where does its port begin? */
    return bytes_split(text, ':', host, port) && memchr(port->data, ':', port->len) == NULL;
}

int listen_parse(struct listen_address *address, const char *text, struct error *err)
{
    struct bytes host;
    struct bytes port;
    uint64_t number;

    if (!split(bytes_of(text), &host, &port))
        return error_set(err, ERR_USAGE, "%s: expected HOST:PORT, as 127.0.0.1:9080 or [::1]:9080",
                         text);
    if (!bytes_to_u64(port, &number) || number > UINT16_MAX)
        return error_set(err, ERR_USAGE, "%s: the port must be a number from 0 to 65535", text);
    if (host.len >= sizeof address->host)
        return error_set(err, ERR_USAGE, "%.60s...: the host name is too long", text);
    snprintf(address->host, sizeof address->host, "%.*s", BYTES_ARG(host));
    address->port = (uint16_t)number;
    return 0;
}

static void name_of_socket(int fd, const char *host, char bound[LISTEN_BOUND_SIZE])
{
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } name = {0};
    socklen_t len = sizeof name;
    unsigned port = 0;

    if (getsockname(fd, &name.any, &len) == 0)
        port = ntohs(name.any.sa_family == AF_INET6 ? name.v6.sin6_port : name.v4.sin_port);
    if (strchr(host, ':') != NULL)
        snprintf(bound, LISTEN_BOUND_SIZE, "[%s]:%u", host, port);
    else
        snprintf(bound, LISTEN_BOUND_SIZE, "%s:%u", host[0] != '\0' ? host : "0.0.0.0", port);
}

static int open_one(const struct addrinfo *info)
{
    int on = 1;
    int fd = socket(info->ai_family, info->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK,
                    info->ai_protocol);

    if (fd < 0)
        return -1;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
        bind(fd, info->ai_addr, info->ai_addrlen) < 0 || listen(fd, BACKLOG) < 0) {
        close(fd);
        return -1;
    }
    return fd;
}

int listen_open(int *fd, const struct listen_address *address, char bound[LISTEN_BOUND_SIZE],
                struct error *err)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC,
                             .ai_socktype = SOCK_STREAM,
                             .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *found = NULL;
    const char *host = address->host[0] != '\0' ? address->host : "0.0.0.0";
    char port[8];

    snprintf(port, sizeof port, "%u", (unsigned)address->port);
    int result = getaddrinfo(host, port, &hints, &found);
    if (result != 0)
        return error_set(err, ERR_UNREACHABLE, "[http] listen: %s: %s", host, gai_strerror(result));
    *fd = -1;
    for (const struct addrinfo *info = found; info != NULL && *fd < 0; info = info->ai_next)
        *fd = open_one(info);
    if (*fd < 0)
        error_system(err, "[http] listen: %s port %s", host, port);
    freeaddrinfo(found);
    if (*fd < 0)
        return -ERR_SYSTEM;
    name_of_socket(*fd, host, bound);
    return 0;
}
