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

static void append_redis(struct buf *out, const struct dsn_redis *dsn)
{
    buf_append_text(out, dsn->tls ? "rediss://" : "redis://");
    if (dsn->path != NULL) {
        bool usual = strcmp(dsn->stream, "messages") == 0;

        buf_append_text(out, dsn->path);
        if (!usual)
            buf_printf(out, "?stream=%s", dsn->stream);
        if (dsn->dbindex != 0)
            buf_printf(out, "%cdbindex=%lld", usual ? '?' : '&', (long long)dsn->dbindex);
        return;
    }
    for (size_t i = 0; i < dsn->hosts_len; i++) {
        if (i > 0)
            buf_append_char(out, ',');
        append_host(out, &dsn->hosts[i]);
    }
    buf_printf(out, "/%s", dsn->stream);
    if (dsn->dbindex != 0)
        buf_printf(out, "?dbindex=%lld", (long long)dsn->dbindex);
}

/* Any other scheme, or a DSN that has faults: only what can't be a part of a password. */
static void append_parts(struct buf *out, const struct dsn_parts *parts)
{
    struct dsn_member member;
    struct dsn_host host = {0};

    buf_append(out, parts->scheme);
    buf_append_text(out, "://");
    dsn_member_split(&member, parts->middle);
    bool password_ends_in_query = member.userinfo.data == NULL && parts->query.len > 0 &&
                                  memchr(parts->query.data, '@', parts->query.len) != NULL;
    if (password_ends_in_query || dsn_host_parse(&host, member.address, NULL) < 0) {
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
