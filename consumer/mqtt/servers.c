#include "consumer/mqtt/servers.h"

#include "common/base/alloc.h"

#include <stdlib.h>
#include <string.h>

#define TRY_5_AGAIN_MS (3600 * INT64_C(1000))
#define HANG_UPS_MAX   2

static struct broker_address *add_server(struct servers *servers, bool wants_5)
{
    servers->at = xrealloc(servers->at, (servers->len + 1) * sizeof(*servers->at));
    struct server *server = &servers->at[servers->len++];

    *server = (struct server){.wants_5 = wants_5};
    return &server->address;
}

int servers_read(struct servers *servers, const struct settings_mqtt *settings, struct error *err)
{
    struct bytes list = bytes_of(settings->server_uris), text;
    struct error why = {0};
    bool wants_5 = strcmp(settings->version, "5") == 0;

    *servers = (struct servers){0};
    while (broker_address_next(&list, &text)) {
        int result = broker_address_read(add_server(servers, wants_5), text, settings->tls, &why);

        if (result < 0) {
            servers_free(servers);
            return error_set(err, why.code, "server_uris: %s", why.text);
        }
    }
    if (servers->len == 0)
        broker_address_of(add_server(servers, wants_5), settings);
    return 0;
}

void servers_free(struct servers *servers)
{
    for (size_t i = 0; i < servers->len; i++)
        broker_address_free(&servers->at[i].address);
    free(servers->at);
    *servers = (struct servers){0};
}

int server_version(const struct server *server, int64_t now_ms)
{
    bool falls_back = server->fell_back && now_ms - server->fell_back_ms < TRY_5_AGAIN_MS;

    return server->wants_5 && !falls_back ? 5 : 4;
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
