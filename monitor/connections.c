#include "monitor/connections.h"

#include "common/base/alloc.h"
#include "common/base/bytes.h"
#include "common/base/clock.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
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

int connections_listen(int *fd, const char *address, char **bound, struct error *err)
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

static void read_address(unsigned char out[16], const struct sockaddr *address)
{
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;

    memset(out, 0, 16);
    if (address->sa_family == AF_INET) {
        memcpy(&v4, address, sizeof v4);
        out[10] = out[11] = 0xff;
        memcpy(out + 12, &v4.sin_addr, 4);
    } else if (address->sa_family == AF_INET6) {
        memcpy(&v6, address, sizeof v6);
        memcpy(out, &v6.sin6_addr, IN6_IS_ADDR_V4MAPPED(&v6.sin6_addr) ? 16 : 8);
    }
}

static bool is_same_address(const struct connection *one, const struct connection *other)
{
    return memcmp(one->address, other->address, sizeof one->address) == 0;
}

static size_t count_of_address(const struct connections *connections, const struct connection *like)
{
    size_t count = 0;

    for (size_t i = 0; i < connections->len; i++)
        count += is_same_address(&connections->items[i], like);
    return count;
}

/* Returns a connection of the address that has the most connections. */
static struct connection *find_busiest(struct connections *connections)
{
    struct connection *busiest = connections->items;
    size_t most = 0;

    for (size_t i = 0; i < connections->len; i++) {
        size_t count = count_of_address(connections, &connections->items[i]);

        if (count <= most)
            continue;
        most = count;
        busiest = &connections->items[i];
    }
    return busiest;
}

static struct connection *find(struct connections *connections, int fd)
{
    for (size_t i = 0; i < connections->len; i++)
        if (connections->items[i].fd == fd)
            return &connections->items[i];
    return NULL;
}

static int forget(struct connections *connections, struct connection *connection)
{
    int fd = connection->fd;

    *connection = connections->items[--connections->len];
    return fd;
}

/* Forgets the oldest connection from the same address. Of equally old ones the first that was
 * added goes. */
static int forget_oldest(struct connections *connections, struct connection *oldest)
{
    for (size_t i = connections->len; i-- > 0;) {
        struct connection *item = &connections->items[i];

        if (is_same_address(item, oldest) && item->since_ms <= oldest->since_ms)
            oldest = item;
    }
    return forget(connections, oldest);
}

int connections_add(struct connections *connections, int fd, const struct sockaddr *address,
                    int64_t now_ms)
{
    struct connection *added = &connections->items[connections->len++];

    *added = (struct connection){.fd = fd, .since_ms = now_ms};
    read_address(added->address, address);
    if (count_of_address(connections, added) > CONNECTIONS_PER_ADDRESS)
        return forget_oldest(connections, added);
    if (connections->len > CONNECTIONS_MAX)
        return forget_oldest(connections, find_busiest(connections));
    return -1;
}

void connections_remove(struct connections *connections, int fd)
{
    struct connection *connection = find(connections, fd);

    if (connection != NULL)
        forget(connections, connection);
}

void connections_answer(struct connections *connections, int fd, bool begins, int64_t now_ms)
{
    struct connection *connection = find(connections, fd);

    if (connection == NULL)
        return;
    connection->takes_answer = begins;
    connection->since_ms = now_ms;
}

static int64_t deadline_of(const struct connection *connection)
{
    return connection->since_ms +
           (connection->takes_answer ? CONNECTION_ANSWER_MS : CONNECTION_REQUEST_MS);
}

int connections_take_overdue(struct connections *connections, int64_t now_ms)
{
    for (size_t i = 0; i < connections->len; i++)
        if (deadline_of(&connections->items[i]) <= now_ms)
            return forget(connections, &connections->items[i]);
    return -1;
}

int64_t connections_deadline(const struct connections *connections)
{
    int64_t first = -1;

    for (size_t i = 0; i < connections->len; i++)
        first = clock_earlier_ms(first, deadline_of(&connections->items[i]));
    return first;
}
