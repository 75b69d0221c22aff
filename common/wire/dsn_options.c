#include "common/wire/dsn_options.h"

#include "common/base/alloc.h"
#include "common/wire/dsn_parts.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum option_kind {
    OPTION_TEXT,
    OPTION_FLAG,
    OPTION_NUMBER,
    OPTION_SECONDS, /* kept in ms */
    OPTION_REAL,
    OPTION_SERIALIZER,
    OPTION_AUTH,
    OPTION_HOST,
    OPTION_SSL,
    OPTION_UNUSED, /* known to PHP, without a meaning here */
};

struct option {
    const char *name;
    enum option_kind kind;
    size_t offset;
};

struct reader {
    struct dsn_redis *dsn;
    bool auth_seen;
    struct buf unknown; /* for the error */
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
    {"lazy", OPTION_FLAG, FIELD(lazy)},
    {"auth", OPTION_AUTH, 0},
    {"serializer", OPTION_SERIALIZER, FIELD(redis_serialized)},
    {"timeout", OPTION_REAL, FIELD(timeout_s)},
    {"read_timeout", OPTION_REAL, FIELD(read_timeout_s)},
    {"retry_interval", OPTION_UNUSED, 0},
    {"persistent_id", OPTION_UNUSED, 0},
    {"sentinel_master", OPTION_TEXT, FIELD(sentinel_master)},
    {"redis_sentinel", OPTION_TEXT, FIELD(sentinel_master)},
    {"sentinel", OPTION_TEXT, FIELD(sentinel_master)},
    {"cluster", OPTION_FLAG, FIELD(cluster)},
    {"host", OPTION_HOST, 0},
    {"ssl", OPTION_SSL, 0},
};

static const struct option SSL_OPTIONS[] = {
    {"verify_peer", OPTION_FLAG, FIELD(tls_verify_peer)},
    {"verify_peer_name", OPTION_FLAG, FIELD(tls_verify_name)},
    {"cafile", OPTION_TEXT, FIELD(tls_ca_file)},
    {"local_cert", OPTION_TEXT, FIELD(tls_cert_file)},
    {"local_pk", OPTION_TEXT, FIELD(tls_key_file)},
    {"peer_name", OPTION_TEXT, FIELD(tls_peer_name)},
    {"SNI_enabled", OPTION_UNUSED, 0},
    {"disable_compression", OPTION_UNUSED, 0},
    {"capture_peer_cert", OPTION_UNUSED, 0},
    {"capture_peer_cert_chain", OPTION_UNUSED, 0},
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static const struct option *find(const struct option *options, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(options[i].name, name) == 0)
            return &options[i];
    return NULL;
}

static const char *find_nearest(const struct option *options, size_t count, const char *name)
{
    const char *names[COUNT(OPTIONS) + 1];

    for (size_t i = 0; i < count; i++)
        names[i] = options[i].name;
    names[count] = NULL;
    return dsn_nearest(name, names);
}

static int set_flag(bool *flag, const char *name, const char *value, struct error *err)
{
    static const char *const yes[] = {"1", "true", "on", "yes"};
    static const char *const no[] = {"0", "false", "off", "no", ""};

    for (size_t i = 0; i < COUNT(yes); i++)
        if (strcasecmp(value, yes[i]) == 0) {
            *flag = true;
            return 0;
        }
    for (size_t i = 0; i < COUNT(no); i++)
        if (strcasecmp(value, no[i]) == 0) {
            *flag = false;
            return 0;
        }
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
    *real = parsed;
    return 0;
}

/* php-redis's OPT_SERIALIZER: 0 none, 1 PHP, 2 igbinary, 3 msgpack, 4 JSON. */
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

/* auth=PASSWORD, or a list: auth[]=USER&auth[]=PASSWORD. A list of one is the password. Goes before
 * what stands in front of the host. */
static int set_auth(struct reader *reader, const char *key, const char *value, struct error *err)
{
    struct dsn_redis *dsn = reader->dsn;

    if (!reader->auth_seen || key == NULL) {
        set_text(&dsn->user, "");
        set_text(&dsn->password, "");
    }
    reader->auth_seen = true;
    if (key != NULL && (strcmp(key, "user") == 0 || strcmp(key, "0") == 0)) {
        set_text(&dsn->user, value);
        return 0;
    }
    if (key != NULL && key[0] == '\0') {
        set_text(&dsn->user, dsn->password);
    } else if (key != NULL && strcmp(key, "pass") != 0 && strcmp(key, "1") != 0) {
        return error_set(err, ERR_USAGE,
                         "the DSN's option \"auth\" is a password, or a list of user and "
                         "password (auth[]=...&auth[]=...)");
    }
    set_text(&dsn->password, value);
    return 0;
}

static int add_host(struct dsn_redis *dsn, const char *address, struct error *err)
{
    if (address == NULL)
        return error_set(err, ERR_USAGE,
                         "hosts are written host[NAME:PORT] among the DSN's options");
    if (dsn->hosts_len == DSN_HOSTS_MAX)
        return error_set(err, ERR_USAGE, "the DSN has more than %d hosts", DSN_HOSTS_MAX);
    if (address[0] == '/')
        return error_set(err, ERR_USAGE, "a socket path is written redis:///PATH, not host[PATH]");
    int result = dsn_host_parse(&dsn->hosts[dsn->hosts_len], bytes_of(address), err);
    if (result == 0)
        dsn->hosts_len++;
    return result;
}

static int set_ssl(struct reader *reader, const char *key, const char *value, struct error *err);

/* name is the option's name for people: "ssl[cafile]" where `option` has "cafile". */
static int set_option(struct reader *reader, const struct option *option, const char *name,
                      const char *key, const char *value, struct error *err)
{
    char *field = (char *)reader->dsn + option->offset;

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
        return set_auth(reader, key, value, err);
    case OPTION_HOST:
        return add_host(reader->dsn, key, err);
    case OPTION_SSL:
        return set_ssl(reader, key, value, err);
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
    const struct option *option = key != NULL ? find(SSL_OPTIONS, COUNT(SSL_OPTIONS), key) : NULL;
    int result = 0;

    if (option != NULL) {
        result = set_option(reader, option, name, NULL, value, err);
    } else {
        const char *nearest =
            key != NULL ? find_nearest(SSL_OPTIONS, COUNT(SSL_OPTIONS), key) : "verify_peer";
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

    /* A host may be an IPv6 address and longer than any option. */
    if (strncmp(name, "host[", 5) != 0 && !dsn_is_option_name(name))
        return error_set(
            err, ERR_USAGE,
            "the DSN has an option whose name no option can have (`?`, `&` and `@` in a "
            "password are written %%3F, %%26 and %%40)");
    dsn_option_split(name, &key);
    const struct option *option = find(OPTIONS, COUNT(OPTIONS), name);
    if (option == NULL) {
        add_unknown(&reader->unknown, name, find_nearest(OPTIONS, COUNT(OPTIONS), name));
        return 0;
    }
    if (key != NULL && option->kind != OPTION_AUTH && option->kind != OPTION_HOST &&
        option->kind != OPTION_SSL)
        return error_set(err, ERR_USAGE, "the DSN's option \"%s\" is one value, not a list", name);
    return set_option(reader, option, name, key, value, err);
}

int dsn_options_read(struct dsn_redis *dsn, struct bytes query, struct error *err)
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
