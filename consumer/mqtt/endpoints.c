#include "consumer/mqtt/endpoints.h"

#include "common/base/alloc.h"
#include "common/client/resolve.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TRY_5_AGAIN_MS (3600 * INT64_C(1000)) /* brokers are upgraded */
#define HANG_UPS_MAX   2

struct endpoints {
    struct server *servers;
    struct resolve **resolvers; /* one a server */
    size_t len;                 /* of both */
    size_t server;              /* in use, or tried last */
    size_t next;                /* to be tried next */
    size_t tried;               /* servers, in this round */

    struct resolve_answer addresses; /* of `server`, where we look them up; else none */
    size_t address;                  /* the one whose turn it is */
    bool goes_on;                    /* the next attempt is for a further one of these */
    bool looks_up;
    struct endpoint current;
};

/* Versions ---------------------------------------------------------------------------------------- */

int server_version(const struct server *server, int64_t now_ms)
{
    bool falls_back = server->fell_back && now_ms - server->fell_back_ms < TRY_5_AGAIN_MS;

    return server->wants_5 && (server->accepted_5 || !falls_back) ? 5 : 4;
}

void server_refused_5(struct server *server, int64_t now_ms)
{
    server->fell_back = true;
    server->fell_back_ms = now_ms;
    server->hang_ups = 0;
}

void server_refused_3_1_1(struct server *server)
{
    server->fell_back = false;
}

void server_hung_up(struct server *server, int64_t now_ms)
{
    if (server_version(server, now_ms) == 4)
        server_refused_3_1_1(server);
    else if (++server->hang_ups == HANG_UPS_MAX)
        server_refused_5(server, now_ms);
}

void server_did_not_hang_up(struct server *server)
{
    server->hang_ups = 0;
}

/* Servers ----------------------------------------------------------------------------------------- */

static struct broker_address *add_server(struct endpoints *endpoints, bool wants_5)
{
    endpoints->servers =
        xrealloc(endpoints->servers, (endpoints->len + 1) * sizeof(*endpoints->servers));
    struct server *server = &endpoints->servers[endpoints->len++];

    *server = (struct server){.wants_5 = wants_5, .maximum_qos = 2};
    return &server->address;
}

static int read_servers(struct endpoints *endpoints, const struct settings_mqtt *settings,
                        struct error *err)
{
    struct bytes list = bytes_of(settings->server_uris), text;
    bool wants_5 = strcmp(settings->version, "5") == 0;

    while (broker_address_next(&list, &text))
        if (broker_address_read(add_server(endpoints, wants_5), text, settings->tls, err) < 0) {
            endpoints->len--;
            return error_wrap(err, "server_uris");
        }
    if (endpoints->len == 0)
        broker_address_of(add_server(endpoints, wants_5), settings);
    return 0;
}

static void note_server(struct endpoints *endpoints)
{
    struct server *server = &endpoints->servers[endpoints->server];
    struct endpoint *current = &endpoints->current;

    endpoints->addresses.len = 0;
    *current = (struct endpoint){.server = server, .slot = endpoints->server};
    snprintf(current->uri, sizeof(current->uri), "%s", server->address.uri);
    snprintf(current->place, sizeof(current->place), "%s", server->address.place);
    snprintf(current->target, sizeof(current->target), "%s", server->address.place);
}

int endpoints_new(struct endpoints **endpoints, const struct settings_mqtt *settings,
                  struct error *err)
{
    struct endpoints *made = xcalloc(1, sizeof(*made));
    int result = read_servers(made, settings, err);

    if (result < 0) {
        endpoints_free(made);
        return result;
    }
    made->resolvers = xcalloc(made->len, sizeof(struct resolve *));
    for (size_t i = 0; i < made->len; i++)
        made->resolvers[i] = resolve_new(made->servers[i].address.host);
    note_server(made);
    *endpoints = made;
    return 0;
}

void endpoints_free(struct endpoints *endpoints)
{
    if (endpoints == NULL)
        return;
    for (size_t i = 0; i < endpoints->len; i++) {
        if (endpoints->resolvers != NULL)
            resolve_free(endpoints->resolvers[i]);
        broker_address_free(&endpoints->servers[i].address);
    }
    free(endpoints->resolvers);
    free(endpoints->servers);
    free(endpoints);
}

size_t endpoints_count(const struct endpoints *endpoints)
{
    return endpoints->len;
}

struct server *endpoints_at(struct endpoints *endpoints, size_t index)
{
    return &endpoints->servers[index];
}

/* Attempts ---------------------------------------------------------------------------------------- */

/* Many brokers listen to no others. */
static void put_ipv4_first(struct resolve_answer *answer)
{
    struct resolve_answer sorted = {0};

    for (int ipv6 = 0; ipv6 < 2; ipv6++)
        for (size_t i = 0; i < answer->len; i++)
            if ((strchr(answer->address[i], ':') != NULL) == (ipv6 == 1))
                memcpy(sorted.address[sorted.len++], answer->address[i], RESOLVE_ADDRESS_SIZE);
    *answer = sorted;
}

static void note_address(struct endpoints *endpoints)
{
    struct endpoint *current = &endpoints->current;
    const struct broker_address *named = &current->server->address;
    const char *address = endpoints->addresses.address[endpoints->address];

    snprintf(current->target, sizeof(current->target),
             strchr(address, ':') != NULL ? "[%s]:%s" : "%s:%s", address, named->port);
    snprintf(current->uri, sizeof(current->uri), "tcp://%.380s", current->target);
    current->one_of_several = endpoints->addresses.len > 1;
    current->slot = endpoints->server + endpoints->address;
    if (current->one_of_several)
        snprintf(current->place, sizeof(current->place), "%.300s (%s)", named->place, address);
}

void endpoints_start(struct endpoints *endpoints)
{
    if (endpoints->goes_on) {
        endpoints->goes_on = false;
        note_address(endpoints);
        return;
    }
    endpoints->server = endpoints->next;
    note_server(endpoints);
    const struct broker_address *address = &endpoints->current.server->address;
    endpoints->looks_up = !address->tls && !resolve_is_numeric(address->host);
    if (endpoints->looks_up)
        resolve_ask(endpoints->resolvers[endpoints->server]);
}

enum endpoints_answer endpoints_take(struct endpoints *endpoints, char why[160])
{
    if (!endpoints->looks_up)
        return ENDPOINTS_KNOWS;
    if (!resolve_take(endpoints->resolvers[endpoints->server], &endpoints->addresses))
        return ENDPOINTS_LOOKS_UP;
    endpoints->looks_up = false;
    if (endpoints->addresses.len == 0) {
        snprintf(why, 160, "%s", endpoints->addresses.text);
        return ENDPOINTS_FAILS;
    }
    put_ipv4_first(&endpoints->addresses);
    endpoints->address = 0;
    note_address(endpoints);
    return ENDPOINTS_KNOWS;
}

int endpoints_fd(const struct endpoints *endpoints)
{
    return endpoints->looks_up ? resolve_fd(endpoints->resolvers[endpoints->server]) : -1;
}

const struct endpoint *endpoints_current(const struct endpoints *endpoints)
{
    return &endpoints->current;
}

bool endpoints_next(struct endpoints *endpoints)
{
    if (endpoints->address + 1 >= endpoints->addresses.len)
        return endpoints_next_server(endpoints);
    endpoints->address++;
    endpoints->goes_on = true;
    return false;
}

bool endpoints_next_server(struct endpoints *endpoints)
{
    endpoints->goes_on = false;
    endpoints->next = (endpoints->server + 1) % endpoints->len;
    return ++endpoints->tried >= endpoints->len;
}

void endpoints_same_server(struct endpoints *endpoints)
{
    endpoints->goes_on = false;
    endpoints->next = endpoints->server;
}

void endpoints_begin_round(struct endpoints *endpoints)
{
    endpoints->tried = 0;
}
