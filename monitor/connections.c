#include "monitor/connections.h"

#include "common/base/clock.h"

#include <netinet/in.h>
#include <string.h>

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

/* One of the address that has the most connections. */
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

/* Of the connections from that one's address; of two that are as old, the one that was added first. */
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
