#include "consumer/session_servers.h"

#include "common/base/alloc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TRY_5_AGAIN_MS (3600 * INT64_C(1000))
#define HANG_UPS_MAX   2

static void add_server(struct session_servers *servers, struct bytes host, struct bytes port,
                       bool tls)
{
    bool in_brackets = host.data[0] == '[' && host.data[host.len - 1] == ']';
    bool bare_ipv6 = memchr(host.data, ':', host.len) != NULL && host.data[0] != '[';
    struct bytes bare = in_brackets ? bytes_slice(host, 1, host.len - 2) : host;
    char *place =
        xasprintf(bare_ipv6 ? "[%.*s]:%.*s" : "%.*s:%.*s", BYTES_ARG(host), BYTES_ARG(port));

    servers->at = xrealloc(servers->at, (servers->len + 1) * sizeof(*servers->at));
    servers->at[servers->len++] =
        (struct session_server){.uri = xasprintf("%s://%s", tls ? "ssl" : "tcp", place),
                                .place = place,
                                .host = xstrndup(bare.data, bare.len),
                                .port = xstrndup(port.data, port.len),
                                .tls = tls};
}

/* Takes the scheme away; false if there is one that is not ours. */
static bool take_scheme(struct bytes *uri, bool *tls)
{
    static const struct {
        const char *text;
        bool tls;
    } SCHEMES[] = {{"mqtt://", false}, {"tcp://", false}, {"mqtts://", true}, {"ssl://", true}};

    for (size_t i = 0; i < sizeof(SCHEMES) / sizeof(SCHEMES[0]); i++) {
        struct bytes scheme = bytes_of(SCHEMES[i].text);

        if (!bytes_starts_with(*uri, scheme))
            continue;
        *uri = bytes_slice(*uri, scheme.len, uri->len);
        *tls = SCHEMES[i].tls;
        return true;
    }
    return memmem(uri->data, uri->len, "://", 3) == NULL;
}

/* [SCHEME://]HOST[:PORT], an IPv6 address in brackets. */
static int add_uri(struct session_servers *servers, struct bytes uri, bool tls, struct error *err)
{
    struct bytes host = uri, port = BYTES_NONE;
    uint64_t number = 0;

    if (!take_scheme(&host, &tls))
        return error_set(err, ERR_USAGE,
                         "server_uris: \"%.*s\": must be mqtt://HOST:PORT or mqtts://HOST:PORT",
                         BYTES_ARG(uri));
    for (size_t i = host.len; i > 0 && host.data[i - 1] != ']'; i--) {
        if (host.data[i - 1] != ':')
            continue;
        port = bytes_slice(host, i, host.len);
        host = bytes_slice(host, 0, i - 1);
        break;
    }
    if (host.len == 0)
        return error_set(err, ERR_USAGE, "server_uris: \"%.*s\": there is no host", BYTES_ARG(uri));
    if (port.data == NULL)
        port = bytes_of(tls ? "8883" : "1883");
    if (!bytes_to_u64(port, &number) || number == 0 || number > 65535)
        return error_set(err, ERR_USAGE, "server_uris: \"%.*s\": the port must be 1 to 65535",
                         BYTES_ARG(uri));
    add_server(servers, host, port, tls);
    return 0;
}

int session_servers_read(struct session_servers *servers, const struct settings_mqtt *settings,
                         struct error *err)
{
    const char *at = settings->server_uris;
    char port[24];

    *servers = (struct session_servers){0};
    while (*(at += strspn(at, ", \t\r\n")) != '\0') {
        size_t len = strcspn(at, ", \t\r\n");
        int result = add_uri(servers, (struct bytes){at, len}, settings->tls, err);

        if (result < 0) {
            session_servers_free(servers);
            return result;
        }
        at += len;
    }
    snprintf(port, sizeof(port), "%d", (int)settings->port);
    if (servers->len == 0)
        add_server(servers, bytes_of(settings->host), bytes_of(port), settings->tls);
    for (size_t i = 0; i < servers->len; i++)
        servers->at[i].wants_5 = strcmp(settings->version, "5") == 0;
    return 0;
}

void session_servers_free(struct session_servers *servers)
{
    for (size_t i = 0; i < servers->len; i++) {
        free(servers->at[i].uri);
        free(servers->at[i].place);
        free(servers->at[i].host);
        free(servers->at[i].port);
    }
    free(servers->at);
    *servers = (struct session_servers){0};
}

int session_server_version(const struct session_server *server, int64_t now_ms)
{
    bool falls_back = server->fell_back && now_ms - server->fell_back_ms < TRY_5_AGAIN_MS;

    return server->wants_5 && !falls_back ? 5 : 4;
}

void session_server_refused_5(struct session_server *server, int64_t now_ms)
{
    server->fell_back = true;
    server->fell_back_ms = now_ms;
    server->hang_ups = 0;
}

void session_server_refused_3_1_1(struct session_server *server)
{
    server->fell_back = false;
}

void session_server_hung_up(struct session_server *server, int64_t now_ms)
{
    if (session_server_version(server, now_ms) == 4)
        session_server_refused_3_1_1(server);
    else if (++server->hang_ups == HANG_UPS_MAX)
        session_server_refused_5(server, now_ms);
}

void session_server_did_not_hang_up(struct session_server *server)
{
    server->hang_ups = 0;
}
