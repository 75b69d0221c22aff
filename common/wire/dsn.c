#include "common/wire/dsn.h"

#include "common/base/alloc.h"
#include "common/wire/dsn_options.h"
#include "common/wire/dsn_parts.h"

#include <stdlib.h>
#include <string.h>

#define REDIS_PORT 6379

static void set_defaults(struct dsn_redis *dsn)
{
    *dsn = (struct dsn_redis){
        .stream = xstrdup("messages"),
        .group = xstrdup("symfony"),
        .auto_setup = true,
        .delete_after_ack = true,
        .delete_after_reject = true,
        .redeliver_timeout_ms = 3600 * 1000,
        .claim_interval_ms = 60 * 1000,
        .redis_serialized = true,
        .tls_verify_peer = true,
        .tls_verify_name = true,
    };
}

static bool scheme_is(struct bytes scheme, const char *name)
{
    return scheme.len == strlen(name) && strncasecmp(scheme.data, name, scheme.len) == 0;
}

static int read_scheme(struct dsn_redis *dsn, struct bytes scheme, struct error *err)
{
    dsn->tls = scheme_is(scheme, "rediss") || scheme_is(scheme, "valkeys");
    if (dsn->tls || scheme_is(scheme, "redis") || scheme_is(scheme, "valkey"))
        return 0;
    return error_set(err, ERR_USAGE,
                     "the Redis DSN begins with redis:// or rediss:// (valkey://, valkeys://), not "
                     "\"%.*s:\"",
                     (int)(scheme.len < 20 ? scheme.len : 20), scheme.data);
}

/* "user:password", ":password" or "password"; the user "default" is what a password alone means. */
static int read_userinfo(struct dsn_redis *dsn, struct bytes userinfo, struct error *err)
{
    struct bytes user, password;

    if (!bytes_split(userinfo, ':', &user, &password)) {
        password = user;
        user = BYTES_NONE;
    }
    free(dsn->user);
    free(dsn->password);
    dsn->user = NULL;
    dsn->password = NULL;
    if (user.len > 0 && !bytes_equal_text(user, "default")) {
        dsn->user = dsn_decode(user, false);
        if (dsn->user == NULL)
            return error_set(err, ERR_USAGE, "the DSN's user holds a NUL byte");
    }
    if (password.len > 0) {
        dsn->password = dsn_decode(password, false);
        if (dsn->password == NULL)
            return error_set(err, ERR_USAGE, "the DSN's password holds a NUL byte");
    }
    return 0;
}

static int add_host(struct dsn_redis *dsn, struct bytes address, struct error *err)
{
    if (dsn->hosts_len == DSN_HOSTS_MAX)
        return error_set(err, ERR_USAGE, "the DSN has more than %d hosts", DSN_HOSTS_MAX);
    int result = dsn_host_parse(&dsn->hosts[dsn->hosts_len], address, err);
    if (result == 0)
        dsn->hosts_len++;
    return result;
}

/* A cluster's members may each be a DSN of their own: redis://a:1,redis://b:2. */
static struct bytes without_scheme(struct bytes member)
{
    static const char *const schemes[] = {"redis://", "rediss://", "valkey://", "valkeys://"};

    for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++)
        if (bytes_starts_with(member, bytes_of(schemes[i])))
            return bytes_slice(member, strlen(schemes[i]), member.len);
    return member;
}

/* What is between the scheme and the options. *path is the last one written: stream, group and
 * consumer, unless there is no host: then it is the socket's. */
static int read_members(struct dsn_redis *dsn, struct bytes middle, struct bytes *path,
                        struct error *err)
{
    bool more = middle.len > 0;
    bool several = false;
    int result = 0;

    *path = BYTES_NONE;
    while (more && result == 0) {
        struct bytes text;
        struct dsn_member member;

        more = bytes_split(middle, ',', &text, &middle);
        several = several || more;
        dsn_member_split(&member, without_scheme(bytes_trim(text)));
        if (member.userinfo.data != NULL)
            result = read_userinfo(dsn, member.userinfo, err);
        if (member.path.len > 0)
            *path = member.path;
        if (result == 0 && member.address.len > 0)
            result = add_host(dsn, member.address, err);
        else if (result == 0 && several)
            result = error_set(err, ERR_USAGE,
                               "Missing host in DSN, it must be defined when using "
                               "Redis Cluster");
    }
    return result;
}

/* As PHP's explode('/', rtrim($path, '/')): what is written in the path goes before the option. */
static void read_path(struct dsn_redis *dsn, struct bytes path)
{
    char **fields[] = {&dsn->stream, &dsn->group, &dsn->consumer};
    bool more;

    while (path.len > 0 && path.data[path.len - 1] == '/')
        path.len--;
    if (path.len == 0)
        return;
    path = bytes_slice(path, 1, path.len);
    more = true;
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]) && more; i++) {
        struct bytes part;

        more = bytes_split(path, '/', &part, &path);
        free(*fields[i]);
        *fields[i] = xstrndup(part.len > 0 ? part.data : "", part.len);
    }
}

static int read_place(struct dsn_redis *dsn, struct bytes path, struct error *err)
{
    if (dsn->hosts_len > 0) {
        read_path(dsn, path);
        return 0;
    }
    if (path.len < 2)
        return error_set(err, ERR_USAGE,
                         "the Redis DSN has no host: write redis://HOST:PORT/STREAM");
    if (dsn->tls)
        return error_set(err, ERR_USAGE,
                         "a socket has no TLS: write redis://%.*s, or rediss://HOST",
                         (int)(path.len < 100 ? path.len : 100), path.data);
    dsn->path = xstrndup(path.data, path.len);
    return 0;
}

static bool has_hash_tag(const char *stream)
{
    const char *open = strchr(stream, '{');
    const char *end = open != NULL ? strchr(open, '}') : NULL;

    return end != NULL && end > open + 1;
}

static int check_cluster(struct dsn_redis *dsn, struct error *err)
{
    if (dsn->sentinel_master != NULL && dsn->cluster)
        return error_set(err, ERR_USAGE,
                         "Cannot configure Redis Sentinel and Redis Cluster instance at "
                         "the same time");
    if (dsn->sentinel_master == NULL && dsn->hosts_len > 1)
        dsn->cluster = true;
    if (!dsn->cluster)
        return 0;
    if (!has_hash_tag(dsn->stream))
        return error_set(
            err, ERR_USAGE,
            "on a Redis Cluster the stream's name needs a hash tag, which keeps its delayed "
            "set in the same slot: write {%.100s}",
            dsn->stream);
    dsn->dbindex = 0; /* a cluster has no other, and PHP asks for none */
    return 0;
}

static int check_named(const char *name, const char *value, struct error *err)
{
    if (value[0] == '\0')
        return error_set(err, ERR_USAGE, "\"%s\" should be configured, got an empty string", name);
    return 0;
}

static int check(struct dsn_redis *dsn, struct error *err)
{
    int result = check_named("stream", dsn->stream, err);

    if (result == 0)
        result = check_named("group", dsn->group, err);
    if (result == 0 && dsn->consumer != NULL)
        result = check_named("consumer", dsn->consumer, err);
    if (result < 0)
        return result;
    for (size_t i = 0; i < dsn->hosts_len; i++)
        if (dsn->hosts[i].port == 0)
            dsn->hosts[i].port = REDIS_PORT;
    return check_cluster(dsn, err);
}

/* "" says the same as not written. */
static void drop_empty(char **text)
{
    if (*text != NULL && **text == '\0') {
        free(*text);
        *text = NULL;
    }
}

int dsn_redis_parse(struct dsn_redis *dsn, const char *text, struct error *err)
{
    struct dsn_parts parts;
    struct bytes path;
    int result;

    set_defaults(dsn);
    result = dsn_parts_split(&parts, text, err);
    if (result == 0)
        result = read_scheme(dsn, parts.scheme, err);
    if (result == 0)
        result = read_members(dsn, parts.middle, &path, err);
    if (result == 0)
        result = dsn_options_read(dsn, parts.query, err);
    if (result == 0)
        result = read_place(dsn, path, err);
    drop_empty(&dsn->user);
    drop_empty(&dsn->password);
    drop_empty(&dsn->sentinel_master);
    drop_empty(&dsn->tls_ca_file);
    drop_empty(&dsn->tls_cert_file);
    drop_empty(&dsn->tls_key_file);
    drop_empty(&dsn->tls_peer_name);
    if (result == 0)
        result = check(dsn, err);
    if (result < 0)
        dsn_redis_free(dsn);
    return result;
}

void dsn_redis_free(struct dsn_redis *dsn)
{
    for (size_t i = 0; i < dsn->hosts_len; i++)
        free(dsn->hosts[i].host);
    free(dsn->path);
    free(dsn->user);
    free(dsn->password);
    free(dsn->stream);
    free(dsn->group);
    free(dsn->consumer);
    free(dsn->sentinel_master);
    free(dsn->tls_ca_file);
    free(dsn->tls_cert_file);
    free(dsn->tls_key_file);
    free(dsn->tls_peer_name);
    *dsn = (struct dsn_redis){0};
}
