#include "monitor/host.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define NAME_LEN_MAX 253 /* RFC 1035, without the dot at the end */

static bool is_made_of_name_characters(struct bytes name, bool with_colons)
{
    for (size_t i = 0; i < name.len; i++) {
        char c = name.data[i];
        bool letter_or_digit =
            (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');

        if (!letter_or_digit && c != '.' && c != '-' && c != '_' && !(with_colons && c == ':'))
            return false;
    }
    return name.len > 0 && name.len <= NAME_LEN_MAX;
}

struct bytes host_name(struct bytes given)
{
    bool bracketed = bytes_starts_with(given, BYTES("["));
    struct bytes name, port;
    uint16_t number;

    if (!bytes_split_port(given, &name, &port))
        return BYTES_NONE;
    if (!bracketed && name.len > 1 && name.data[name.len - 1] == '.')
        name.len--;
    if ((port.len > 0 && !bytes_to_port(port, &number)) ||
        !is_made_of_name_characters(name, bracketed))
        return BYTES_NONE;
    return name;
}

static bool is_address(struct bytes name)
{
    char text[INET6_ADDRSTRLEN];
    unsigned char address[sizeof(struct in6_addr)];

    if (name.len >= sizeof text)
        return false;
    snprintf(text, sizeof text, "%.*s", BYTES_ARG(name));
    return inet_pton(strchr(text, ':') != NULL ? AF_INET6 : AF_INET, text, address) == 1;
}

static bool is_same_name(struct bytes one, struct bytes other)
{
    return one.len == other.len && strncasecmp(one.data, other.data, one.len) == 0;
}

bool host_is_allowed(struct bytes given, const char *hosts, const char *listen)
{
    struct bytes name = host_name(given);
    struct bytes rest = bytes_of(hosts);
    struct bytes item;

    while (bytes_next_item(&rest, &item))
        if (bytes_equal_text(item, "*") || (name.len > 0 && is_same_name(item, name)))
            return true;
    return name.len > 0 && (is_address(name) || is_same_name(name, BYTES("localhost")) ||
                            is_same_name(name, host_name(bytes_of(listen))));
}
