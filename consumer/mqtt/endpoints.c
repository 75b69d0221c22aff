#include "consumer/mqtt/endpoints.h"

#include "common/base/alloc.h"
#include "common/base/file.h"
#include "common/client/resolve.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

struct endpoints {
    struct endpoints_server *servers;
    size_t len;
    size_t server; /* index of the server that is in use, or was tried last */
    size_t next;   /* index of the server to be tried next */
    size_t tried;  /* number of servers tried in this round */

    struct resolve_answer addresses; /* looked-up addresses of `server`, or none */
    size_t address;                  /* index of the address that is tried, or was tried last */
    bool next_address_pending;       /* the next attempt goes to `address` */
    bool looks_up;
    struct endpoint current;
    int probe_fd; /* -1: none */
    int probe_fault;
};

static struct broker_address *add_server(struct endpoints *endpoints)
{
    endpoints->servers =
        xrealloc(endpoints->servers, (endpoints->len + 1) * sizeof(*endpoints->servers));
    struct endpoints_server *server = &endpoints->servers[endpoints->len++];

    *server = (struct endpoints_server){.maximum_qos = 2};
    return &server->address;
}

static int read_servers(struct endpoints *endpoints, const struct settings_mqtt *settings,
                        struct error *err)
{
    struct bytes list = bytes_of(settings->server_uris), text;

    while (bytes_next_item(&list, &text))
        if (broker_address_read(add_server(endpoints), text, settings->tls, err) < 0) {
            endpoints->len--;
            return error_wrap(err, "server_uris");
        }
    if (endpoints->len == 0)
        broker_address_of(add_server(endpoints), settings);
    return 0;
}

static void note_server(struct endpoints *endpoints)
{
    struct endpoints_server *server = &endpoints->servers[endpoints->server];
    struct endpoint *current = &endpoints->current;

    endpoints->addresses.len = endpoints->address = 0;
    *current = (struct endpoint){
        .server = server, .slot = endpoints->server, .address = server->address.host};
    snprintf(current->uri, sizeof(current->uri), "%s", server->address.uri);
    snprintf(current->name, sizeof(current->name), "%s", server->address.name);
}

int endpoints_new(struct endpoints **endpoints, const struct settings_mqtt *settings,
                  struct error *err)
{
    struct endpoints *made = xcalloc(1, sizeof(*made));

    made->probe_fd = -1;
    int result = read_servers(made, settings, err);

    if (result < 0) {
        endpoints_free(made);
        return result;
    }
    for (size_t i = 0; i < made->len; i++)
        made->servers[i].resolver = resolve_new(made->servers[i].address.host);
    note_server(made);
    *endpoints = made;
    return 0;
}

void endpoints_free(struct endpoints *endpoints)
{
    if (endpoints == NULL)
        return;
    for (size_t i = 0; i < endpoints->len; i++) {
        resolve_free(endpoints->servers[i].resolver);
        broker_address_free(&endpoints->servers[i].address);
    }
    file_close(&endpoints->probe_fd);
    free(endpoints->servers);
    free(endpoints);
}

/* Fills the current endpoint from the address. With TLS paho looks up again, and takes the first
 * address of IPv4, else the last. */
static void note_address(struct endpoints *endpoints)
{
    struct endpoint *current = &endpoints->current;
    const struct broker_address *named = &current->server->address;
    struct resolve_answer *addresses = &endpoints->addresses;

    if (named->tls && strchr(addresses->address[0], ':') != NULL)
        endpoints->address = addresses->len - 1;
    current->address = addresses->address[endpoints->address];
    current->slot = endpoints->server + endpoints->address;
    if (!named->tls)
        snprintf(current->uri, sizeof(current->uri),
                 strchr(current->address, ':') != NULL ? "tcp://[%s]:%s" : "tcp://%s:%s",
                 current->address, named->port);
    if (addresses->len > 1 && named->tls)
        snprintf(current->name, sizeof(current->name),
                 "%.250s (%s, the one of its %zu addresses that is tried with TLS)", named->name,
                 current->address, addresses->len);
    else if (addresses->len > 1)
        snprintf(current->name, sizeof(current->name), "%.300s (%s)", named->name,
                 current->address);
}

void endpoints_start(struct endpoints *endpoints)
{
    file_close(&endpoints->probe_fd);
    if (endpoints->next_address_pending) {
        endpoints->next_address_pending = false;
        note_address(endpoints);
        return;
    }
    endpoints->server = endpoints->next;
    note_server(endpoints);
    endpoints->looks_up = true;
    resolve_ask(endpoints->current.server->resolver);
}

enum endpoints_answer endpoints_take(struct endpoints *endpoints, char why[160])
{
    if (!endpoints->looks_up)
        return ENDPOINTS_KNOWS;
    if (!resolve_take(endpoints->current.server->resolver, &endpoints->addresses))
        return ENDPOINTS_LOOKS_UP;
    endpoints->looks_up = false;
    if (endpoints->addresses.len == 0) {
        snprintf(why, 160, "%s", endpoints->addresses.text);
        return ENDPOINTS_FAILS;
    }
    resolve_put_ipv4_first(&endpoints->addresses);
    note_address(endpoints);
    return ENDPOINTS_KNOWS;
}

const struct endpoint *endpoints_current(const struct endpoints *endpoints)
{
    return &endpoints->current;
}

bool endpoints_next(struct endpoints *endpoints, bool next_server)
{
    bool is_last = endpoints->address + 1 >= endpoints->addresses.len ||
                   endpoints->current.server->address.tls;

    endpoints->next_address_pending = !next_server && !is_last;
    if (endpoints->next_address_pending) {
        endpoints->address++;
        return false;
    }
    endpoints->next = (endpoints->server + 1) % endpoints->len;
    return ++endpoints->tried >= endpoints->len;
}

void endpoints_begin_round(struct endpoints *endpoints)
{
    endpoints->tried = 0;
}

void endpoints_probe(struct endpoints *endpoints)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST}, *address;
    const struct endpoint *current = &endpoints->current;

    file_close(&endpoints->probe_fd);
    endpoints->probe_fault = EADDRNOTAVAIL;
    if (getaddrinfo(current->address, current->server->address.port, &hints, &address) != 0)
        return;
    endpoints->probe_fd = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    bool connects = endpoints->probe_fd >= 0 &&
                    connect(endpoints->probe_fd, address->ai_addr, address->ai_addrlen) == 0;
    endpoints->probe_fault = connects ? 0 : errno;
    freeaddrinfo(address);
}

int endpoints_probed(struct endpoints *endpoints)
{
    struct pollfd probe = {.fd = endpoints->probe_fd, .events = POLLOUT};
    int fault = endpoints->probe_fault;
    socklen_t size = sizeof(fault);

    if (fault == EINPROGRESS && poll(&probe, 1, 0) == 0)
        fault = ETIMEDOUT;
    else if (fault == EINPROGRESS)
        getsockopt(endpoints->probe_fd, SOL_SOCKET, SO_ERROR, &fault, &size);
    file_close(&endpoints->probe_fd);
    return fault;
}

struct pollfd endpoints_poll(const struct endpoints *endpoints)
{
    if (endpoints->looks_up)
        return (struct pollfd){.fd = resolve_fd(endpoints->current.server->resolver),
                               .events = POLLIN};
    return (struct pollfd){.fd = endpoints->probe_fd, .events = POLLOUT};
}
