#include "common/wire/dsn.h"

#include "common/base/alloc.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define NAME_LENGTH_MAX 40

int dsn_parts_split(struct dsn_parts *parts, const char *text, struct error *err)
{
    static const char scheme_characters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                            "0123456789+.-";
    size_t scheme_len = strspn(text, scheme_characters);

    if (scheme_len == 0 || text[scheme_len] != ':')
        return error_set(err, ERR_USAGE,
                         "a DSN begins with its scheme, like redis:// or postgresql://");
    parts->scheme = (struct bytes){text, scheme_len};
    struct bytes rest = bytes_of(text + scheme_len + 1);
    bytes_split(rest, '?', &parts->middle, &parts->query);
    if (bytes_starts_with(parts->middle, BYTES("//")))
        parts->middle = bytes_slice(parts->middle, 2, parts->middle.len);
    return 0;
}

void dsn_member_split(struct dsn_member *member, struct bytes text)
{
    const char *at = text.len > 0 ? memrchr(text.data, '@', text.len) : NULL;

    member->userinfo = BYTES_NONE;
    if (at != NULL) {
        size_t before = (size_t)(at - text.data);

        member->userinfo = bytes_slice(text, 0, before);
        text = bytes_slice(text, before + 1, text.len);
    }
    bytes_split(text, '/', &member->address, &member->path);
    member->path = bytes_slice(text, member->address.len, text.len);
}

int dsn_userinfo_check(struct bytes userinfo, struct error *err)
{
    if (memmem(userinfo.data, userinfo.len, "://", 3) == NULL)
        return 0;
    return error_set(err, ERR_USAGE,
                     "before the `@` the DSN has a `://`: `:` and `/` in a user or password are "
                     "written %%3A and %%2F");
}

int dsn_host_parse(struct dsn_host *host, struct bytes address, struct error *err)
{
    struct bytes name, port;
    uint16_t number = 0;

    bool split = bytes_split_port(address, &name, &port);
    if (name.len == 0)
        return error_set(err, ERR_USAGE, "the DSN has no host");
    if (!split || (port.len > 0 && !bytes_to_port(port, &number)))
        return error_set(err, ERR_USAGE,
                         "the DSN's host and port must be HOST, HOST:PORT or [IPV6]:PORT, the port "
                         "1 to 65535 (`:`, `/`, `?` and `@` in a password are written %%3A, %%2F, "
                         "%%3F and %%40)");
    if (bytes_leading_digits(name) == name.len) /* the DSN was "redis:6379/messages" */
        return error_set(err, ERR_USAGE,
                         "the DSN's host is a number: behind the scheme comes ://HOST:PORT");
    for (size_t i = 0; i < name.len; i++)
        if ((unsigned char)name.data[i] <= ' ' || name.data[i] == 0x7F)
            return error_set(err, ERR_USAGE, "the DSN's host holds white space");
    host->port = number;
    host->host = xstrndup(name.data, name.len);
    return 0;
}

/* A `%` that begins no %XX stays unchanged, as in PHP's rawurldecode. */
char *dsn_decode(struct bytes text, bool query)
{
    char *decoded = xmalloc(text.len + 1);
    size_t len = 0;

    for (size_t i = 0; i < text.len; i++) {
        char c = text.data[i];
        int high = -1, low = -1;

        if (c == '%' && text.len - i > 2) {
            high = bytes_hex_digit(text.data[i + 1]);
            low = bytes_hex_digit(text.data[i + 2]);
        }
        if (high >= 0 && low >= 0) {
            c = (char)(high * 16 + low);
            i += 2;
        } else if (query && c == '+') {
            c = ' ';
        }
        if (c == '\0') {
            free(decoded);
            return NULL;
        }
        decoded[len++] = c;
    }
    decoded[len] = '\0';
    return decoded;
}

bool dsn_query_next(struct bytes *query, char **name, char **value)
{
    struct bytes pair = BYTES_NONE;

    while (pair.len == 0) {
        if (query->len == 0)
            return false;
        bytes_split(*query, '&', &pair, query);
    }
    struct bytes left, right;
    bytes_split(pair, '=', &left, &right);
    *name = dsn_decode(left, true);
    *value = dsn_decode(right, true);
    return true;
}

void dsn_option_split(char *name, char **key)
{
    char *open = strchr(name, '[');
    size_t len = strlen(name);

    *key = NULL;
    if (open == NULL || name[len - 1] != ']')
        return;
    name[len - 1] = '\0';
    *open = '\0';
    *key = open + 1;
}

bool dsn_read_flag(const char *value, bool *flag)
{
    static const char *const WORDS[] = {"1", "true", "on", "yes", "", "0", "false", "off", "no"};

    for (size_t i = 0; i < LENGTH_OF(WORDS); i++)
        if (strcasecmp(value, WORDS[i]) == 0) {
            *flag = i < 4;
            return true;
        }
    *flag = false;
    return false;
}

bool dsn_is_option_name(const char *name)
{
    struct bytes text = bytes_of(name);

    return text.len > 0 && text.len <= NAME_LENGTH_MAX && bytes_only_holds(text, "_-.[] ");
}
