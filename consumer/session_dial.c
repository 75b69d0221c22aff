#include "consumer/session_dial.h"

#include "common/base/alloc.h"
#include "common/client/resolve.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define URI_SIZE   (RESOLVE_ADDRESS_SIZE + 20) /* tcp://[ADDRESS]:65535 */
#define PLACE_SIZE 400                         /* a name has at most 255 bytes */

struct session_dial {
    struct session_servers servers;
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

static const struct session_server *server_of(const struct session_dial *dial)
{
    return &dial->servers.at[dial->server];
}

static void note_server(struct session_dial *dial)
{
    dial->addresses.len = 0;
    snprintf(dial->place, sizeof(dial->place), "%.300s", server_of(dial)->address.place);
}

int session_dial_new(struct session_dial **dial, const struct settings_mqtt *settings,
                     struct error *err)
{
    struct session_dial *made = xcalloc(1, sizeof(*made));
    int result = session_servers_read(&made->servers, settings, err);

    if (result < 0) {
        session_dial_free(made);
        return result;
    }
    made->resolvers = xcalloc(made->servers.len, sizeof(struct resolve *));
    for (size_t i = 0; i < made->servers.len; i++)
        made->resolvers[i] = resolve_new(made->servers.at[i].address.host);
    note_server(made);
    *dial = made;
    return 0;
}

void session_dial_free(struct session_dial *dial)
{
    if (dial == NULL)
        return;
    for (size_t i = 0; i < dial->servers.len; i++)
        resolve_free(dial->resolvers[i]);
    free(dial->resolvers);
    session_servers_free(&dial->servers);
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

static void note_address(struct session_dial *dial)
{
    const struct session_server *server = server_of(dial);
    const char *address = dial->addresses.address[dial->address];

    snprintf(dial->uri, sizeof(dial->uri),
             strchr(address, ':') != NULL ? "tcp://[%s]:%s" : "tcp://%s:%s", address,
             server->address.port);
    if (dial->addresses.len > 1)
        snprintf(dial->place, sizeof(dial->place), "%.300s (%s)", server->address.place, address);
}

void session_dial_start(struct session_dial *dial)
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

enum session_dial_answer session_dial_take(struct session_dial *dial, char why[160])
{
    if (!dial->looks_up)
        return SESSION_DIAL_KNOWS;
    if (!resolve_take(dial->resolvers[dial->server], &dial->addresses))
        return SESSION_DIAL_LOOKS_UP;
    dial->looks_up = false;
    if (dial->addresses.len == 0) {
        snprintf(why, 160, "%s", dial->addresses.text);
        return SESSION_DIAL_FAILS;
    }
    put_ipv4_first(&dial->addresses);
    dial->address = 0;
    note_address(dial);
    return SESSION_DIAL_KNOWS;
}

int session_dial_fd(const struct session_dial *dial)
{
    return dial->looks_up ? resolve_fd(dial->resolvers[dial->server]) : -1;
}

struct session_server *session_dial_server(struct session_dial *dial)
{
    return &dial->servers.at[dial->server];
}

const char *session_dial_uri(const struct session_dial *dial)
{
    return dial->addresses.len > 0 ? dial->uri : server_of(dial)->address.uri;
}

const char *session_dial_place(const struct session_dial *dial)
{
    return dial->place;
}

const char *session_dial_target(const struct session_dial *dial)
{
    return dial->addresses.len > 0 ? dial->uri + strlen("tcp://") : server_of(dial)->address.place;
}

bool session_dial_is_one_of_several(const struct session_dial *dial)
{
    return dial->addresses.len > 1;
}

size_t session_dial_slot(const struct session_dial *dial)
{
    return dial->server + (dial->addresses.len > 0 ? dial->address : 0);
}

bool session_dial_next(struct session_dial *dial)
{
    if (dial->address + 1 >= dial->addresses.len)
        return session_dial_next_server(dial);
    dial->address++;
    dial->goes_on = true;
    return false;
}

bool session_dial_next_server(struct session_dial *dial)
{
    dial->goes_on = false;
    dial->next = (dial->server + 1) % dial->servers.len;
    return ++dial->tried >= dial->servers.len;
}

void session_dial_same_server(struct session_dial *dial)
{
    dial->goes_on = false;
    dial->next = dial->server;
}

void session_dial_begin_round(struct session_dial *dial)
{
    dial->tried = 0;
}
