#include "common/wire/broker_address.h"

#include "common/base/alloc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void make(struct broker_address *address, struct bytes host, struct bytes port, bool tls)
{
    bool in_brackets = host.len > 1 && host.data[0] == '[' && host.data[host.len - 1] == ']';
    bool bare_ipv6 = memchr(host.data, ':', host.len) != NULL && host.data[0] != '[';
    struct bytes bare = in_brackets ? bytes_slice(host, 1, host.len - 2) : host;
    char *place =
        xasprintf(bare_ipv6 ? "[%.*s]:%.*s" : "%.*s:%.*s", BYTES_ARG(host), BYTES_ARG(port));

    *address = (struct broker_address){.uri = xasprintf("%s://%s", tls ? "ssl" : "tcp", place),
                                       .place = place,
                                       .host = xstrndup(bare.data, bare.len),
                                       .port = xstrndup(port.data, port.len),
                                       .tls = tls};
}

/* Takes the scheme away; false if there is one that is not ours. */
static bool take_scheme(struct bytes *text, bool *tls)
{
    static const struct {
        const char *text;
        bool tls;
    } SCHEMES[] = {{"mqtt://", false}, {"tcp://", false}, {"mqtts://", true}, {"ssl://", true}};

    for (size_t i = 0; i < sizeof(SCHEMES) / sizeof(SCHEMES[0]); i++) {
        struct bytes scheme = bytes_of(SCHEMES[i].text);

        if (!bytes_starts_with(*text, scheme))
            continue;
        *text = bytes_slice(*text, scheme.len, text->len);
        *tls = SCHEMES[i].tls;
        return true;
    }
    return memmem(text->data, text->len, "://", 3) == NULL;
}

/* At the last colon, but for one within brackets. */
static void split_port(struct bytes *host, struct bytes *port)
{
    struct bytes whole = *host;

    for (size_t i = whole.len; i > 0 && whole.data[i - 1] != ']'; i--) {
        if (whole.data[i - 1] != ':')
            continue;
        *port = bytes_slice(whole, i, whole.len);
        *host = bytes_slice(whole, 0, i - 1);
        return;
    }
}

/* No path, no half of a pair of brackets, and a colon within brackets only. */
static bool is_host(struct bytes host)
{
    bool in_brackets = host.len > 2 && host.data[0] == '[' && host.data[host.len - 1] == ']';
    struct bytes bare = in_brackets ? bytes_slice(host, 1, host.len - 2) : host;

    for (size_t i = 0; i < bare.len; i++)
        if (strchr(in_brackets ? "[]/" : "[]/:", bare.data[i]) != NULL)
            return false;
    return bare.len > 0;
}

int broker_address_read(struct broker_address *address, struct bytes text, bool tls,
                        struct error *err)
{
    struct bytes host = text, port = BYTES_NONE;
    uint64_t number = 0;

    *address = (struct broker_address){0};
    if (memchr(text.data, '@', text.len) != NULL) /* not named: a password may stand in it */
        return error_set(err, ERR_USAGE, "an address has no user in it: see username and password");
    if (!take_scheme(&host, &tls))
        return error_set(err, ERR_USAGE, "\"%.*s\": must be mqtt://HOST:PORT or mqtts://HOST:PORT",
                         BYTES_ARG(text));
    split_port(&host, &port);
    if (host.len == 0)
        return error_set(err, ERR_USAGE, "\"%.*s\": there is no host", BYTES_ARG(text));
    if (port.data == NULL)
        port = bytes_of(tls ? "8883" : "1883");
    if (!bytes_to_u64(port, &number) || number == 0 || number > 65535)
        return error_set(err, ERR_USAGE, "\"%.*s\": the port must be 1 to 65535", BYTES_ARG(text));
    if (!is_host(host))
        return error_set(
            err, ERR_USAGE,
            "\"%.*s\": the host must be a name or an address alone, an IPv6 address in "
            "brackets: [::1]:1883",
            BYTES_ARG(text));
    make(address, host, port, tls);
    return 0;
}

void broker_address_of(struct broker_address *address, const struct settings_mqtt *settings)
{
    char port[24];

    snprintf(port, sizeof(port), "%d", (int)settings->port);
    make(address, bytes_of(settings->host), bytes_of(port), settings->tls);
}

void broker_address_free(struct broker_address *address)
{
    free(address->uri);
    free(address->place);
    free(address->host);
    free(address->port);
    *address = (struct broker_address){0};
}

bool broker_address_next(struct bytes *list, struct bytes *text)
{
    static const char SEPARATORS[] = ", \t\r\n";
    size_t from = 0;

    while (from < list->len && strchr(SEPARATORS, list->data[from]) != NULL)
        from++;
    size_t to = from;
    while (to < list->len && strchr(SEPARATORS, list->data[to]) == NULL)
        to++;
    *text = bytes_slice(*list, from, to - from);
    *list = bytes_slice(*list, to, list->len);
    return text->len > 0;
}

char *broker_address_list(const struct settings_mqtt *settings)
{
    struct bytes list = bytes_of(settings->server_uris), text;
    struct broker_address own;

    if (broker_address_next(&list, &text))
        return xstrdup(settings->server_uris);
    broker_address_of(&own, settings);
    char *uri = xstrdup(own.uri);
    broker_address_free(&own);
    return uri;
}
