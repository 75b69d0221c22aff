#include "common/settings/broker_address.h"

#include "common/base/alloc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void make(struct broker_address *address, struct bytes host, struct bytes port, bool tls)
{
    bool in_brackets = host.len > 1 && host.data[0] == '[' && host.data[host.len - 1] == ']';
    bool bare_ipv6 = memchr(host.data, ':', host.len) != NULL && host.data[0] != '[';
    struct bytes bare = in_brackets ? bytes_slice(host, 1, host.len - 2) : host;
    char *name =
        xasprintf(bare_ipv6 ? "[%.*s]:%.*s" : "%.*s:%.*s", BYTES_ARG(host), BYTES_ARG(port));

    *address = (struct broker_address){.uri = xasprintf("%s://%s", tls ? "ssl" : "tcp", name),
                                       .name = name,
                                       .host = xstrndup(bare.data, bare.len),
                                       .port = xstrndup(port.data, port.len),
                                       .tls = tls};
}

/* Cuts the scheme off; false if the text has a scheme that MQTT does not use. */
static bool take_scheme(struct bytes *text, bool *tls)
{
    static const struct {
        const char *text;
        bool tls;
    } SCHEMES[] = {{"mqtt://", false},
                   {"tcp://", false},
                   {"mqtts://", true},
                   {"ssl://", true},
                   {"tls://", true}};

    for (size_t i = 0; i < LENGTH_OF(SCHEMES); i++) {
        struct bytes scheme = bytes_of(SCHEMES[i].text);

        if (!bytes_starts_with(*text, scheme))
            continue;
        *text = bytes_slice(*text, scheme.len, text->len);
        if (text->len > 0 && text->data[text->len - 1] == '/')
            text->len--;
        *tls = SCHEMES[i].tls;
        return true;
    }
    return memmem(text->data, text->len, "://", 3) == NULL;
}

static bool is_host(struct bytes host)
{
    for (size_t i = 0; i < host.len; i++)
        if (strchr("/, \t", host.data[i]) != NULL)
            return false;
    return true;
}

int broker_address_read(struct broker_address *address, struct bytes text, bool tls,
                        struct error *err)
{
    struct bytes rest = text, host, port;
    uint16_t number;

    *address = (struct broker_address){0};
    if (memchr(text.data, '@', text.len) != NULL) /* not shown, since it may hold a password */
        return error_set(err, ERR_USAGE, "an address has no user in it: see username and password");
    if (!take_scheme(&rest, &tls))
        return error_set(err, ERR_USAGE, "\"%.*s\": must be mqtt://HOST:PORT or mqtts://HOST:PORT",
                         BYTES_ARG(text));
    bool split = bytes_split_port(rest, &host, &port);
    if (!split || !is_host(host))
        return error_set(
            err, ERR_USAGE,
            "\"%.*s\": the host must be a name or an address alone, an IPv6 address in "
            "brackets: [::1]:1883",
            BYTES_ARG(text));
    if (host.len == 0)
        return error_set(err, ERR_USAGE, "\"%.*s\": there is no host", BYTES_ARG(text));
    bool has_port = port.data != NULL;
    if (!has_port)
        port = bytes_of(tls ? "8883" : "1883");
    if (!bytes_to_port(port, &number))
        return error_set(err, ERR_USAGE, "\"%.*s\": the port must be 1 to 65535", BYTES_ARG(text));
    make(address, host, port, tls);
    address->has_scheme = rest.data != text.data;
    address->has_port = has_port;
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
    free(address->name);
    free(address->host);
    free(address->port);
    *address = (struct broker_address){0};
}

char *broker_address_list(const struct settings_mqtt *settings)
{
    struct bytes list = bytes_of(settings->server_uris), text;
    struct broker_address own;

    if (bytes_next_item(&list, &text))
        return xstrdup(settings->server_uris);
    broker_address_of(&own, settings);
    char *uri = xstrdup(own.uri);
    broker_address_free(&own);
    return uri;
}
