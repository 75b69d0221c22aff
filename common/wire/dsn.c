#include "common/wire/dsn.h"

#include "common/base/alloc.h"
#include "common/base/words.h"

#include <math.h>
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
        .tls_sni = true,
    };
}

bool dsn_is_redis(const char *text)
{
    static const char *const SCHEMES[] = {"redis", "rediss", "valkey", "valkeys"};
    struct bytes scheme, behind;

    if (!bytes_split(bytes_of(text), ':', &scheme, &behind))
        return false;
    for (size_t i = 0; i < LENGTH_OF(SCHEMES); i++)
        if (bytes_equal_caseless(scheme, SCHEMES[i]))
            return true;
    return false;
}

/* The schemes of Messenger's other transports. An unknown scheme is not shown in an error, since
 * it may be the front of a password. */
static bool is_other_scheme(struct bytes scheme)
{
    static const char *const OTHERS[] = {"doctrine", "amqp",      "amqps", "beanstalkd",
                                         "sqs",      "https",     "sync",  "null",
                                         "kafka",    "in-memory", "mysql", "tcp"};

    for (size_t i = 0; i < LENGTH_OF(OTHERS); i++)
        if (bytes_equal_caseless(scheme, OTHERS[i]))
            return true;
    return false;
}

static int read_scheme(struct dsn_redis *dsn, struct bytes scheme, struct error *err)
{
    dsn->tls = bytes_equal_caseless(scheme, "rediss") || bytes_equal_caseless(scheme, "valkeys");
    if (dsn->tls || bytes_equal_caseless(scheme, "redis") || bytes_equal_caseless(scheme, "valkey"))
        return 0;
    if (is_other_scheme(scheme))
        return error_set(err, ERR_USAGE,
                         "%.*s:// is another transport: the bridge takes part in one in Redis, "
                         "redis://HOST:6379/messages",
                         BYTES_ARG(scheme));
    return error_set(err, ERR_USAGE,
                     "the Redis DSN begins with redis:// or rediss:// (valkey://, valkeys://)");
}

/* Reads "user:password", ":password" or "password". A password alone means Redis's user
 * "default". */
static int read_userinfo(struct dsn_redis *dsn, struct bytes userinfo, struct error *err)
{
    struct bytes user, password;
    int result = dsn_userinfo_check(userinfo, err);

    if (result < 0)
        return result;
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

enum option_kind {
    OPTION_TEXT,
    OPTION_FLAG,
    OPTION_NUMBER,
    OPTION_SECONDS, /* the field holds ms */
    OPTION_REAL,
    OPTION_SERIALIZER,
    OPTION_AUTH,
    OPTION_SENTINEL_AUTH,
    OPTION_HOST,
    OPTION_SSL,
    OPTION_UNUSED,      /* PHP knows the option; the bridge ignores it */
    OPTION_UNUSED_FLAG, /* the same, but a wrong value is an error */
    OPTION_UNUSED_REAL,
};

struct option {
    const char *name;
    enum option_kind kind;
    size_t offset;
};

struct reader {
    struct dsn_redis *dsn;
    bool auth_seen;
    bool sentinel_auth_seen;
    struct buf unknown; /* the unknown options, for the error */
};

#define FIELD(name) offsetof(struct dsn_redis, name)

static const struct option OPTIONS[] = {
    {"stream", OPTION_TEXT, FIELD(stream)},
    {"group", OPTION_TEXT, FIELD(group)},
    {"consumer", OPTION_TEXT, FIELD(consumer)},
    {"auto_setup", OPTION_FLAG, FIELD(auto_setup)},
    {"delete_after_ack", OPTION_FLAG, FIELD(delete_after_ack)},
    {"delete_after_reject", OPTION_FLAG, FIELD(delete_after_reject)},
    {"stream_max_entries", OPTION_NUMBER, FIELD(stream_max_entries)},
    {"dbindex", OPTION_NUMBER, FIELD(dbindex)},
    {"redeliver_timeout", OPTION_SECONDS, FIELD(redeliver_timeout_ms)},
    {"claim_interval", OPTION_NUMBER, FIELD(claim_interval_ms)},
    {"lazy", OPTION_UNUSED_FLAG, 0},
    {"auth", OPTION_AUTH, 0},
    {"serializer", OPTION_SERIALIZER, FIELD(redis_serialized)},
    {"timeout", OPTION_REAL, FIELD(timeout_s)},
    {"read_timeout", OPTION_UNUSED_REAL, 0},
    {"retry_interval", OPTION_UNUSED, 0},
    {"persistent_id", OPTION_UNUSED, 0},
    {"sentinel_master", OPTION_TEXT, FIELD(sentinel_master)},
    {"redis_sentinel", OPTION_TEXT, FIELD(sentinel_master)},
    {"sentinel", OPTION_TEXT, FIELD(sentinel_master)},
    {"sentinel_auth", OPTION_SENTINEL_AUTH, 0},
    {"cluster", OPTION_FLAG, FIELD(cluster)},
    {"redis_cluster", OPTION_FLAG, FIELD(cluster)},
    {"host", OPTION_HOST, 0},
    {"ssl", OPTION_SSL, 0},
};

static const struct option SSL_OPTIONS[] = {
    {"verify_peer", OPTION_FLAG, FIELD(tls_verify_peer)},
    {"verify_peer_name", OPTION_FLAG, FIELD(tls_verify_name)},
    {"allow_self_signed", OPTION_FLAG, FIELD(tls_allow_self_signed)},
    {"cafile", OPTION_TEXT, FIELD(tls_ca_file)},
    {"capath", OPTION_TEXT, FIELD(tls_ca_path)},
    {"local_cert", OPTION_TEXT, FIELD(tls_cert_file)},
    {"local_pk", OPTION_TEXT, FIELD(tls_key_file)},
    {"passphrase", OPTION_TEXT, FIELD(tls_passphrase)},
    {"peer_name", OPTION_TEXT, FIELD(tls_peer_name)},
    {"SNI_enabled", OPTION_FLAG, FIELD(tls_sni)},
    {"disable_compression", OPTION_UNUSED, 0},
    {"capture_peer_cert", OPTION_UNUSED, 0},
    {"capture_peer_cert_chain", OPTION_UNUSED, 0},
};

static const struct option *find(const struct option *options, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(options[i].name, name) == 0)
            return &options[i];
    return NULL;
}

static const char *find_nearest(const struct option *options, size_t count, const char *name)
{
    struct words_nearest nearest = {.name = bytes_of(name)};

    for (size_t i = 0; i < count; i++)
        words_consider(&nearest, options[i].name);
    return nearest.best;
}

static int set_flag(bool *flag, const char *name, const char *value, struct error *err)
{
    if (dsn_read_flag(value, flag))
        return 0;
    return error_set(err, ERR_USAGE, "the DSN's option \"%s\" is true or false, not \"%.40s\"",
                     name, value);
}

static int set_number(int64_t *number, const char *name, const char *value, int64_t factor,
                      struct error *err)
{
    uint64_t parsed;

    if (!bytes_to_u64(bytes_of(value), &parsed) || parsed > (uint64_t)(INT64_MAX / factor))
        return error_set(err, ERR_USAGE,
                         "the DSN's option \"%s\" is a whole number, 0 or more, not \"%.40s\"",
                         name, value);
    *number = (int64_t)parsed * factor;
    return 0;
}

static int set_real(double *real, const char *name, const char *value, struct error *err)
{
    char *end;
    double parsed = strtod(value, &end);

    if (end == value || *end != '\0' || !isfinite(parsed) || parsed < 0 || parsed > INT32_MAX)
        return error_set(err, ERR_USAGE,
                         "the DSN's option \"%s\" is a number of seconds, not \"%.40s\"", name,
                         value);
    /* The settings hold whole milliseconds. A shorter time-out would become 0, which means none
     * at all or an immediate end. */
    if (parsed > 0 && parsed < 0.001)
        return error_set(
            err, ERR_USAGE,
            "the DSN's option \"%s\" is 0 (the default) or at least 0.001 seconds, not "
            "\"%.40s\"",
            name, value);
    *real = parsed;
    return 0;
}

/* The value is php-redis's OPT_SERIALIZER: 0 none, 1 PHP, 2 igbinary, 3 msgpack, 4 JSON. */
static int set_serializer(bool *serialized, const char *value, struct error *err)
{
    if (strcmp(value, "0") == 0 || strcmp(value, "1") == 0) {
        *serialized = value[0] == '1';
        return 0;
    }
    return error_set(
        err, ERR_USAGE,
        "the DSN's option \"serializer\" can be 1 (PHP) or 0 (none) here, not \"%.40s\"", value);
}

static void set_text(char **text, const char *value)
{
    free(*text);
    *text = xstrdup(value);
}

/* The option is auth=PASSWORD, or a list: auth[]=USER&auth[]=PASSWORD. A list with one element
 * holds the password. */
static int set_auth(char **user, char **password, bool *seen, const char *name, const char *key,
                    const char *value, struct error *err)
{
    if (!*seen || key == NULL) {
        set_text(user, "");
        set_text(password, "");
    }
    *seen = true;
    if (key != NULL && (strcmp(key, "user") == 0 || strcmp(key, "0") == 0)) {
        set_text(user, value);
        return 0;
    }
    if (key != NULL && key[0] == '\0') {
        set_text(user, *password);
    } else if (key != NULL && strcmp(key, "pass") != 0 && strcmp(key, "1") != 0) {
        return error_set(err, ERR_USAGE,
                         "the DSN's option \"%s\" is a password, or a list of user and "
                         "password (%s[]=...&%s[]=...)",
                         name, name, name);
    }
    set_text(password, value);
    return 0;
}

static int add_host_option(struct dsn_redis *dsn, const char *address, struct error *err)
{
    if (address == NULL)
        return error_set(err, ERR_USAGE,
                         "hosts are written host[NAME:PORT] among the DSN's options");
    if (address[0] == '/')
        return error_set(err, ERR_USAGE, "a socket path is written redis:///PATH, not host[PATH]");
    return add_host(dsn, bytes_of(address), err);
}

static int set_ssl(struct reader *reader, const char *key, const char *value, struct error *err);

/* `name` is the option's name as a person writes it: "ssl[cafile]" where option->name is
 * "cafile". */
static int set_option(struct reader *reader, const struct option *option, const char *name,
                      const char *key, const char *value, struct error *err)
{
    struct dsn_redis *dsn = reader->dsn;
    char *field = (char *)dsn + option->offset;

    switch (option->kind) {
    case OPTION_TEXT:
        set_text((char **)(void *)field, value);
        return 0;
    case OPTION_FLAG:
        return set_flag((bool *)field, name, value, err);
    case OPTION_NUMBER:
        return set_number((int64_t *)(void *)field, name, value, 1, err);
    case OPTION_SECONDS:
        return set_number((int64_t *)(void *)field, name, value, 1000, err);
    case OPTION_REAL:
        return set_real((double *)(void *)field, name, value, err);
    case OPTION_SERIALIZER:
        return set_serializer((bool *)field, value, err);
    case OPTION_AUTH:
        /* The option overrides the user and password in front of the host. */
        return set_auth(&dsn->user, &dsn->password, &reader->auth_seen, name, key, value, err);
    case OPTION_SENTINEL_AUTH:
        return set_auth(&dsn->sentinel_user, &dsn->sentinel_password, &reader->sentinel_auth_seen,
                        name, key, value, err);
    case OPTION_HOST:
        return add_host_option(dsn, key, err);
    case OPTION_SSL:
        return set_ssl(reader, key, value, err);
    case OPTION_UNUSED_FLAG:
        return set_flag(&(bool){false}, name, value, err);
    case OPTION_UNUSED_REAL:
        return set_real(&(double){0}, name, value, err);
    case OPTION_UNUSED:
        return 0;
    }
    return 0;
}

static void add_unknown(struct buf *unknown, const char *name, const char *nearest)
{
    if (unknown->len > 0)
        buf_append_text(unknown, ", ");
    buf_printf(unknown, "\"%s\"", name);
    if (strcmp(name, "tls") == 0)
        buf_append_text(unknown, " (TLS is what rediss:// says)");
    else if (nearest != NULL)
        buf_printf(unknown, " (did you mean \"%s\"?)", nearest);
}

static int set_ssl(struct reader *reader, const char *key, const char *value, struct error *err)
{
    char *name = xasprintf("ssl[%s]", key != NULL ? key : "");
    const struct option *option =
        key != NULL ? find(SSL_OPTIONS, LENGTH_OF(SSL_OPTIONS), key) : NULL;
    int result = 0;

    if (option != NULL) {
        result = set_option(reader, option, name, NULL, value, err);
    } else {
        const char *nearest =
            key != NULL ? find_nearest(SSL_OPTIONS, LENGTH_OF(SSL_OPTIONS), key) : "verify_peer";
        char *nearest_name = nearest != NULL ? xasprintf("ssl[%s]", nearest) : NULL;

        add_unknown(&reader->unknown, name, nearest_name);
        free(nearest_name);
    }
    free(name);
    return result;
}

static int read_option(struct reader *reader, char *name, const char *value, struct error *err)
{
    char *key;

    /* The host in `host[...]` may be an IPv6 address, and longer than any option's name. */
    if (strncmp(name, "host[", 5) != 0 && !dsn_is_option_name(name))
        return error_set(
            err, ERR_USAGE,
            "the DSN has an option whose name no option can have (`?`, `&` and `@` in a "
            "password are written %%3F, %%26 and %%40)");
    dsn_option_split(name, &key);
    const struct option *option = find(OPTIONS, LENGTH_OF(OPTIONS), name);
    if (option == NULL) {
        add_unknown(&reader->unknown, name, find_nearest(OPTIONS, LENGTH_OF(OPTIONS), name));
        return 0;
    }
    if (key != NULL && option->kind != OPTION_AUTH && option->kind != OPTION_SENTINEL_AUTH &&
        option->kind != OPTION_HOST && option->kind != OPTION_SSL)
        return error_set(err, ERR_USAGE, "the DSN's option \"%s\" is one value, not a list", name);
    return set_option(reader, option, name, key, value, err);
}

/* Reads the options as Symfony's Redis transport does. Hosts of `host[...]` are appended to
 * dsn->hosts. One error names all unknown options, each with the nearest known one. */
static int read_options(struct dsn_redis *dsn, struct bytes query, struct error *err)
{
    struct reader reader = {.dsn = dsn};
    char *name, *value;
    int result = 0;

    while (result == 0 && dsn_query_next(&query, &name, &value)) {
        if (name == NULL || value == NULL)
            result = error_set(err, ERR_USAGE, "the DSN holds a NUL byte (%%00)");
        else
            result = read_option(&reader, name, value, err);
        free(name);
        free(value);
    }
    if (result == 0 && reader.unknown.len > 0)
        result = error_set(err, ERR_USAGE,
                           "Invalid option(s) %s passed to the Redis Messenger transport",
                           buf_text(&reader.unknown));
    buf_free(&reader.unknown);
    return result;
}

/* Each member of a cluster may be a DSN itself: redis://a:1,redis://b:2. */
static struct bytes without_scheme(struct bytes member)
{
    static const char *const schemes[] = {"redis://", "rediss://", "valkey://", "valkeys://"};

    for (size_t i = 0; i < LENGTH_OF(schemes); i++)
        if (bytes_starts_with(member, bytes_of(schemes[i])))
            return bytes_slice(member, strlen(schemes[i]), member.len);
    return member;
}

/* Reads the hosts between the scheme and the options. *path is the last member's path: stream,
 * group and consumer. Without a host that path is the socket's. */
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

/* Splits as PHP's explode('/', rtrim($path, '/')). A name in the path overrides the option of
 * that name. */
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
    for (size_t i = 0; i < LENGTH_OF(fields) && more; i++) {
        struct bytes part;

        more = bytes_split(path, '/', &part, &path);
        free(*fields[i]);
        *fields[i] = xstrndup(part.len > 0 ? part.data : "", part.len);
    }
}

static int read_host_or_path(struct dsn_redis *dsn, struct bytes path, struct error *err)
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

static int check_options(const struct dsn_redis *dsn, struct error *err)
{
    if (dsn->tls_key_file != NULL && dsn->tls_cert_file == NULL)
        return error_set(err, ERR_USAGE,
                         "the DSN's option \"ssl[local_pk]\" needs ssl[local_cert] with it");
    if (dsn->sentinel_password != NULL && dsn->sentinel_master == NULL)
        return error_set(err, ERR_USAGE,
                         "the DSN's option \"sentinel_auth\" needs sentinel_master with it");
    if (dsn->path != NULL && (dsn->sentinel_master != NULL || dsn->cluster))
        return error_set(
            err, ERR_USAGE,
            "Sentinels and the members of a Cluster have hosts: write redis://HOST:PORT"
            " instead of a socket's path");
    return 0;
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
    dsn->dbindex = 0; /* a cluster has only database 0, and PHP selects none */
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
    result = check_options(dsn, err);
    return result < 0 ? result : check_cluster(dsn, err);
}

/* Sets an empty text to NULL: an empty option counts as not given. */
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
        result = read_options(dsn, parts.query, err);
    if (result == 0)
        result = read_host_or_path(dsn, path, err);
    drop_empty(&dsn->user);
    drop_empty(&dsn->password);
    drop_empty(&dsn->sentinel_master);
    drop_empty(&dsn->sentinel_user);
    drop_empty(&dsn->sentinel_password);
    drop_empty(&dsn->tls_ca_file);
    drop_empty(&dsn->tls_ca_path);
    drop_empty(&dsn->tls_cert_file);
    drop_empty(&dsn->tls_key_file);
    drop_empty(&dsn->tls_passphrase);
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
    free(dsn->sentinel_user);
    free(dsn->sentinel_password);
    free(dsn->tls_ca_file);
    free(dsn->tls_ca_path);
    free(dsn->tls_cert_file);
    free(dsn->tls_key_file);
    free(dsn->tls_passphrase);
    free(dsn->tls_peer_name);
    *dsn = (struct dsn_redis){0};
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

/* Appends the hosts in sorted order, so that DSNs that list one cluster's hosts differently
 * compare equal. */
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

/* True if an unencoded `?` in the password has cut the DSN: the `@` then lies in the query. */
static bool password_ends_in_query(const struct dsn_member *member, const struct dsn_parts *parts)
{
    return member->userinfo.data == NULL && parts->query.len > 0 &&
           memchr(parts->query.data, '@', parts->query.len) != NULL;
}

/* Appends a DSN of another scheme, or a faulty one: only the parts that can't belong to a
 * password. */
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

    for (size_t i = 0; i < LENGTH_OF(SECRETS) && !secret; i++)
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
