#include "monitor/listen.h"

#include "common/base/alloc.h"
#include "common/base/bytes.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define BACKLOG 64

static unsigned port_of(int fd)
{
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } name = {0};
    socklen_t len = sizeof name;

    if (getsockname(fd, &name.any, &len) < 0)
        return 0;
    return ntohs(name.any.sa_family == AF_INET6 ? name.v6.sin6_port : name.v4.sin_port);
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

int listen_open(int *fd, const char *address, char **bound, struct error *err)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC,
                             .ai_socktype = SOCK_STREAM,
                             .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *found = NULL;
    struct bytes host_part, port_part;

    if (!bytes_split_port(bytes_of(address), &host_part, &port_part))
        return error_set(err, ERR_USAGE, "[http] listen: %s: must be HOST:PORT", address);
    char *host = xstrndup(host_part.data, host_part.len);
    int result = getaddrinfo(host, port_part.data, &hints, &found);
    free(host);
    if (result != 0)
        return error_set(err, ERR_UNREACHABLE, "[http] listen: %s: %s", address,
                         gai_strerror(result));
    *fd = -1;
    for (const struct addrinfo *info = found; info != NULL && *fd < 0; info = info->ai_next)
        *fd = open_one(info);
    if (*fd < 0)
        error_system(err, "[http] listen: %s", address);
    freeaddrinfo(found);
    if (*fd < 0)
        return -ERR_SYSTEM;
    *bound = xasprintf("%.*s:%u", (int)(port_part.data - address) - 1, address, port_of(*fd));
    return 0;
}
