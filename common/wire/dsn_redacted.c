#include "common/wire/dsn.h"
#include "common/wire/dsn_parts.h"

#include <stdlib.h>
#include <string.h>

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
        bool odd = memmem(member.userinfo.data, member.userinfo.len, "://", 3) != NULL;

        if (bytes_split(member.userinfo, ':', &user, &password) && !odd)
            buf_printf(out, "%.*s:", BYTES_ARG(user));
        buf_append_text(out, "***@");
    }
    buf_append(out, member.address);
    buf_append(out, member.path);
    append_masked_options(out, parts.query);
}
