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
    size_t digits = 0;
    while (digits < name.len && name.data[digits] >= '0' && name.data[digits] <= '9')
        digits++;
    if (digits == name.len) /* of "redis:6379/messages" */
        return error_set(err, ERR_USAGE,
                         "the DSN's host is a number: behind the scheme comes ://HOST:PORT");
    for (size_t i = 0; i < name.len; i++)
        if ((unsigned char)name.data[i] <= ' ' || name.data[i] == 0x7F)
            return error_set(err, ERR_USAGE, "the DSN's host holds white space");
    host->port = number;
    host->host = xstrndup(name.data, name.len);
    return 0;
}

/* What is no %XX stays as it is, as PHP's rawurldecode has it. */
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

    for (size_t i = 0; i < sizeof(WORDS) / sizeof(WORDS[0]); i++)
        if (strcasecmp(value, WORDS[i]) == 0) {
            *flag = i < 4;
            return true;
        }
    *flag = false;
    return false;
}

bool dsn_is_option_name(const char *name)
{
    static const char characters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                     "0123456789_-.[] ";
    size_t len = strlen(name);

    return len > 0 && len <= NAME_LENGTH_MAX && strspn(name, characters) == len;
}

static void append_host(struct buf *out, const struct dsn_host *host)
{
    bool brackets = strchr(host->host, ':') != NULL;

    buf_printf(out, brackets ? "[%s]" : "%s", host->host);
    if (host->port > 0)
        buf_printf(out, ":%d", host->port);
}

static int compare_hosts(const void *one, const void *other)
{
    const struct dsn_host *a = one, *b = other;
    int order = strcmp(a->host, b->host);

    return order != 0 ? order : a->port - b->port;
}

/* Sorted: several in another order are the same place. */
static void append_hosts(struct buf *out, const struct dsn_redis *dsn)
{
    struct dsn_host sorted[DSN_HOSTS_MAX];

    memcpy(sorted, dsn->hosts, sizeof(sorted));
    qsort(sorted, dsn->hosts_len, sizeof(sorted[0]), compare_hosts);
    for (size_t i = 0; i < dsn->hosts_len; i++) {
        if (i > 0)
            buf_append_char(out, ',');
        append_host(out, &sorted[i]);
    }
}

static void append_redis(struct buf *out, const struct dsn_redis *dsn)
{
    char before = '?';

    buf_append_text(out, dsn->tls ? "rediss://" : "redis://");
    if (dsn->path == NULL) {
        append_hosts(out, dsn);
        buf_printf(out, "/%s", dsn->stream);
    } else {
        buf_append_text(out, dsn->path);
        if (strcmp(dsn->stream, "messages") != 0) {
            buf_printf(out, "?stream=%s", dsn->stream);
            before = '&';
        }
    }
    if (dsn->sentinel_master != NULL) {
        buf_printf(out, "%csentinel_master=%s", before, dsn->sentinel_master);
        before = '&';
    }
    if (dsn->cluster && dsn->hosts_len == 1)
        buf_printf(out, "%ccluster=1", before);
    if (dsn->dbindex != 0)
        buf_printf(out, "%cdbindex=%lld", before, (long long)dsn->dbindex);
}

/* A `?` in a password that was not encoded. */
static bool password_ends_in_query(const struct dsn_member *member, const struct dsn_parts *parts)
{
    return member->userinfo.data == NULL && parts->query.len > 0 &&
           memchr(parts->query.data, '@', parts->query.len) != NULL;
}

/* Any other scheme, or a DSN that has faults: only what can't be a part of a password. */
static void append_parts(struct buf *out, const struct dsn_parts *parts)
{
    struct dsn_member member;
    struct dsn_host host = {0};

    buf_append(out, parts->scheme);
    buf_append_text(out, "://");
    dsn_member_split(&member, parts->middle);
    if (password_ends_in_query(&member, parts) || dsn_host_parse(&host, member.address, NULL) < 0) {
        buf_append_text(out, "...");
        return;
    }
    append_host(out, &host);
    buf_append(out, member.path);
    free(host.host);
}

void dsn_redacted(struct buf *out, const char *text)
{
    struct dsn_parts parts;
    struct dsn_redis redis;

    if (dsn_redis_parse(&redis, text, NULL) == 0) {
        append_redis(out, &redis);
        dsn_redis_free(&redis);
    } else if (dsn_parts_split(&parts, text, NULL) == 0) {
        append_parts(out, &parts);
    } else {
        buf_append_text(out, "(no DSN)");
    }
}

static bool is_secret(struct bytes name)
{
    static const char *const SECRETS[] = {
        "auth", "pass", "sentinel_auth", "sslpassword", "ssl[passphrase]", "token"};
    char *decoded = dsn_decode(name, true);
    bool secret = decoded == NULL;

    for (size_t i = 0; i < sizeof(SECRETS) / sizeof(SECRETS[0]) && !secret; i++)
        secret = strncmp(decoded, SECRETS[i], strlen(SECRETS[i])) == 0;
    free(decoded);
    return secret;
}

static void append_masked_options(struct buf *out, struct bytes options)
{
    struct bytes option, name, value;

    for (char before = '?'; options.len > 0; before = '&') {
        bytes_split(options, '&', &option, &options);
        bytes_split(option, '=', &name, &value);
        buf_append_char(out, before);
        if (value.len > 0 && is_secret(name))
            buf_printf(out, "%.*s=***", BYTES_ARG(name));
        else
            buf_append(out, option);
    }
}

void dsn_masked(struct buf *out, const char *text)
{
    struct dsn_parts parts;
    struct dsn_member member;
    struct bytes user, password;

    if (dsn_parts_split(&parts, text, NULL) < 0) {
        buf_append_text(out, "***");
        return;
    }
    buf_append(out, (struct bytes){text, (size_t)(parts.middle.data - text)});
    dsn_member_split(&member, parts.middle);
    if (password_ends_in_query(&member, &parts)) {
        buf_append_text(out, "***");
        return;
    }
    if (member.userinfo.data != NULL) {
        bool odd = dsn_userinfo_check(member.userinfo, NULL) < 0;

        if (bytes_split(member.userinfo, ':', &user, &password) && !odd)
            buf_printf(out, "%.*s:", BYTES_ARG(user));
        buf_append_text(out, "***@");
    }
    buf_append(out, member.address);
    buf_append(out, member.path);
    append_masked_options(out, parts.query);
}
