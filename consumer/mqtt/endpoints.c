#include "consumer/mqtt/endpoints.h"

#include "common/base/alloc.h"
#include "common/client/resolve.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define URI_SIZE   (RESOLVE_ADDRESS_SIZE + 20) /* tcp://[ADDRESS]:65535 */
#define PLACE_SIZE 400                         /* a name has at most 255 bytes */

struct endpoints {
    struct servers servers;
    struct resolve **resolvers; /* one a server */
    size_t server;              /* in use, or tried last */
    size_t next;                /* to be tried next */
    size_t tried;               /* servers, in this round */

    struct resolve_answer addresses; /* of `server`, where we look them up; else none */
    size_t address;                  /* the one whose turn it is */
    bool goes_on;                    /* the next attempt is for a further one of these */
    bool looks_up;
    char uri[URI_SIZE];
    char place[PLACE_SIZE];
};

static const struct server *server_of(const struct endpoints *dial)
{
    return &dial->servers.at[dial->server];
}

static void note_server(struct endpoints *dial)
{
    dial->addresses.len = 0;
    snprintf(dial->place, sizeof(dial->place), "%.300s", server_of(dial)->address.place);
}

int endpoints_new(struct endpoints **dial, const struct settings_mqtt *settings, struct error *err)
{
    struct endpoints *made = xcalloc(1, sizeof(*made));
    int result = servers_read(&made->servers, settings, err);

    if (result < 0) {
        endpoints_free(made);
        return result;
    }
    made->resolvers = xcalloc(made->servers.len, sizeof(struct resolve *));
    for (size_t i = 0; i < made->servers.len; i++)
        made->resolvers[i] = resolve_new(made->servers.at[i].address.host);
    note_server(made);
    *dial = made;
    return 0;
}

void endpoints_free(struct endpoints *dial)
{
    if (dial == NULL)
        return;
    for (size_t i = 0; i < dial->servers.len; i++)
        resolve_free(dial->resolvers[i]);
    free(dial->resolvers);
    servers_free(&dial->servers);
    free(dial);
}

/* paho took those of IPv4 before all others, and many brokers listen to no others. */
static void put_ipv4_first(struct resolve_answer *answer)
{
    struct resolve_answer sorted = {0};

    for (int ipv6 = 0; ipv6 < 2; ipv6++)
        for (size_t i = 0; i < answer->len; i++)
            if ((strchr(answer->address[i], ':') != NULL) == (ipv6 == 1))
                memcpy(sorted.address[sorted.len++], answer->address[i], RESOLVE_ADDRESS_SIZE);
    *answer = sorted;
}

static void note_address(struct endpoints *dial)
{
    const struct server *server = server_of(dial);
    const char *address = dial->addresses.address[dial->address];

    snprintf(dial->uri, sizeof(dial->uri),
             strchr(address, ':') != NULL ? "tcp://[%s]:%s" : "tcp://%s:%s", address,
             server->address.port);
    if (dial->addresses.len > 1)
        snprintf(dial->place, sizeof(dial->place), "%.300s (%s)", server->address.place, address);
}

void endpoints_start(struct endpoints *dial)
{
    if (dial->goes_on) {
        dial->goes_on = false;
        note_address(dial);
        return;
    }
    dial->server = dial->next;
    note_server(dial);
    dial->looks_up =
        !server_of(dial)->address.tls && !resolve_is_numeric(server_of(dial)->address.host);
    if (dial->looks_up)
        resolve_ask(dial->resolvers[dial->server]);
}

enum endpoints_answer endpoints_take(struct endpoints *dial, char why[160])
{
    if (!dial->looks_up)
        return ENDPOINTS_KNOWS;
    if (!resolve_take(dial->resolvers[dial->server], &dial->addresses))
        return ENDPOINTS_LOOKS_UP;
    dial->looks_up = false;
    if (dial->addresses.len == 0) {
        snprintf(why, 160, "%s", dial->addresses.text);
        return ENDPOINTS_FAILS;
    }
    put_ipv4_first(&dial->addresses);
    dial->address = 0;
    note_address(dial);
    return ENDPOINTS_KNOWS;
}

int endpoints_fd(const struct endpoints *dial)
{
    return dial->looks_up ? resolve_fd(dial->resolvers[dial->server]) : -1;
}

struct server *endpoints_server(struct endpoints *dial)
{
    return &dial->servers.at[dial->server];
}

const char *endpoints_uri(const struct endpoints *dial)
{
    return dial->addresses.len > 0 ? dial->uri : server_of(dial)->address.uri;
}

const char *endpoints_place(const struct endpoints *dial)
{
    return dial->place;
}

const char *endpoints_target(const struct endpoints *dial)
{
    return dial->addresses.len > 0 ? dial->uri + strlen("tcp://") : server_of(dial)->address.place;
}

bool endpoints_is_one_of_several(const struct endpoints *dial)
{
    return dial->addresses.len > 1;
}

size_t endpoints_slot(const struct endpoints *dial)
{
    return dial->server + (dial->addresses.len > 0 ? dial->address : 0);
}

bool endpoints_next(struct endpoints *dial)
{
    if (dial->address + 1 >= dial->addresses.len)
        return endpoints_next_server(dial);
    dial->address++;
    dial->goes_on = true;
    return false;
}

bool endpoints_next_server(struct endpoints *dial)
{
    dial->goes_on = false;
    dial->next = (dial->server + 1) % dial->servers.len;
    return ++dial->tried >= dial->servers.len;
}

void endpoints_same_server(struct endpoints *dial)
{
    dial->goes_on = false;
    dial->next = dial->server;
}

void endpoints_begin_round(struct endpoints *dial)
{
    dial->tried = 0;
}
