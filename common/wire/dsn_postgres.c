/* The DSNs of a database: postgresql:// for libpq, and doctrine:// of Messenger. */
#include "common/base/alloc.h"
#include "common/base/words.h"
#include "common/wire/dsn.h"

#include <stdlib.h>
#include <string.h>

/* Options that libpq knows: PostgreSQL's manual, "Parameter Key Words". */
static const char *const PASSED_ON[] = {
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "passfile",
    "channel_binding",
    "connect_timeout",
    "options",
    "application_name",
    "fallback_application_name",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_count",
    "tcp_user_timeout",
    "gssencmode",
    "sslmode",
    "sslcompression",
    "sslcert",
    "sslkey",
    "sslpassword",
    "sslrootcert",
    "sslcrl",
    "sslcrldir",
    "sslsni",
    "ssl_min_protocol_version",
    "ssl_max_protocol_version",
    "krbsrvname",
    "gsslib",
    "target_session_attrs",
    NULL,
};

/* Options of Doctrine that don't concern the server. */
static const char *const IGNORED[] = {
    "serverVersion",
    "server_version",
    "charset",
    "driver",
    "driverClass",
    "driverOptions",
    "wrapperClass",
    "defaultTableOptions",
    "persistent",
    "use_savepoints",
    "keepReplica",
    "idle_connection_ttl",
    NULL,
};

static bool is_among(const char *name, const char *const names[])
{
    for (size_t i = 0; names[i] != NULL; i++)
        if (strcmp(names[i], name) == 0)
            return true;
    return false;
}

static const char *nearest_option(const char *name)
{
    struct words_nearest nearest = {.name = bytes_of(name)};

    for (size_t i = 0; IGNORED[i] != NULL; i++)
        words_consider(&nearest, IGNORED[i]);
    for (size_t i = 0; PASSED_ON[i] != NULL; i++)
        words_consider(&nearest, PASSED_ON[i]);
    return nearest.best;
}

/* Appends key='value'. Of a key that is given twice libpq takes the last value. */
static void append_pair(struct buf *out, const char *key, const char *value)
{
    if (out->len > 0)
        buf_append_char(out, ' ');
    buf_printf(out, "%s='", key);
    for (; *value != '\0'; value++) {
        if (*value == '\'' || *value == '\\')
            buf_append_char(out, '\\');
        buf_append_char(out, *value);
    }
    buf_append_char(out, '\'');
}

static int append_decoded(struct buf *out, const char *key, struct bytes text, struct error *err)
{
    char *value = dsn_decode(text, false);

    if (value == NULL)
        return error_set(err, ERR_USAGE, "the DSN holds a NUL byte (%%00)");
    append_pair(out, key, value);
    free(value);
    return 0;
}

static int append_userinfo(struct buf *out, struct bytes userinfo, struct error *err)
{
    struct bytes user, password;
    int result = dsn_userinfo_check(userinfo, err);

    bytes_split(userinfo, ':', &user, &password);
    if (result == 0 && user.len > 0)
        result = append_decoded(out, "user", user, err);
    if (result == 0 && password.len > 0)
        result = append_decoded(out, "password", password, err);
    return result;
}

/* "db", "db:5432", "a:5432,b:5433" become host='a,b' port='5432,5433'. */
static int append_hosts(struct buf *out, struct bytes address, struct error *err)
{
    struct buf hosts = {0}, ports = {0};
    bool more = address.len > 0;
    bool several = false;
    int result = 0;

    while (more) {
        struct bytes text;
        struct dsn_host host = {0};

        more = bytes_split(address, ',', &text, &address);
        result = dsn_host_parse(&host, bytes_trim(text), err);
        if (result < 0)
            break;
        buf_printf(&hosts, "%s%s", several ? "," : "", host.host);
        buf_printf(&ports, "%s%d", several ? "," : "", host.port > 0 ? host.port : 5432);
        free(host.host);
        several = true;
    }
    if (result == 0 && hosts.len > 0) {
        append_pair(out, "host", buf_text(&hosts));
        append_pair(out, "port", buf_text(&ports));
    }
    buf_free(&hosts);
    buf_free(&ports);
    return result;
}

/* Appends an entry of the list "`sslmod` (did you mean `sslmode`?), `schema`". */
static void add_overlooked(struct buf *overlooked, const char *name)
{
    const char *nearest = nearest_option(name);

    buf_printf(overlooked, "%s`%s`", overlooked->len > 0 ? ", " : "", name);
    if (nearest != NULL && strcmp(nearest, name) != 0)
        buf_printf(overlooked, " (did you mean `%s`?)", nearest);
}

static int append_option(struct buf *out, char *name, const char *value, struct buf *overlooked,
                         struct error *err)
{
    char *key;

    if (name == NULL || value == NULL)
        return error_set(err, ERR_USAGE, "the DSN holds a NUL byte (%%00)");
    if (!dsn_is_option_name(name))
        return error_set(
            err, ERR_USAGE,
            "the DSN has an option whose name no option can have (`?`, `&` and `@` in a "
            "password are written %%3F, %%26 and %%40)");
    dsn_option_split(name, &key);
    if (key == NULL && is_among(name, PASSED_ON))
        append_pair(out, name, value);
    else if (!is_among(name, IGNORED) && overlooked != NULL)
        add_overlooked(overlooked, name);
    return 0;
}

static int append_options(struct buf *out, struct bytes query, struct buf *overlooked,
                          struct error *err)
{
    char *name, *value;
    int result = 0;

    while (result == 0 && dsn_query_next(&query, &name, &value)) {
        result = append_option(out, name, value, overlooked, err);
        free(name);
        free(value);
    }
    return result;
}

static int check_scheme(struct bytes scheme, struct error *err)
{
    static const char *const schemes[] = {"postgresql", "postgres", "pgsql", "pdo-pgsql"};
    static const char *const others[] = {"mysql",  "mysql2",  "mariadb",
                                         "sqlite", "sqlite3", "mssql"};

    for (size_t i = 0; i < LENGTH_OF(schemes); i++)
        if (bytes_equal_text(scheme, schemes[i]))
            return 0;
    if (bytes_starts_with(scheme, BYTES("postgresql+")) ||
        bytes_starts_with(scheme, BYTES("postgres+")))
        return error_set(err, ERR_USAGE,
                         "the database's DSN names a driver (`+`) that is not used here: "
                         "write postgresql://");
    for (size_t i = 0; i < LENGTH_OF(others); i++)
        if (bytes_equal_text(scheme, others[i]))
            return error_set(
                err, ERR_USAGE,
                "the failure transport is kept in PostgreSQL or Redis, not in %s; leave it "
                "empty to go without one",
                others[i]);
    return error_set(err, ERR_USAGE,
                     "the database's DSN begins with postgresql://; leave it empty to go without "
                     "a failure transport");
}

int dsn_postgres_to_conninfo(struct buf *out, const char *text, struct buf *overlooked,
                             struct error *err)
{
    struct dsn_parts parts;
    struct dsn_member member;
    struct buf conninfo = {0};
    int result;

    result = dsn_parts_split(&parts, text, err);
    if (result < 0)
        return result;
    result = check_scheme(parts.scheme, err);
    if (result < 0)
        return result;
    dsn_member_split(&member, parts.middle);
    if (member.userinfo.data != NULL)
        result = append_userinfo(&conninfo, member.userinfo, err);
    if (result == 0)
        result = append_hosts(&conninfo, member.address, err);
    if (result == 0 && member.path.len > 1)
        result =
            append_decoded(&conninfo, "dbname", bytes_slice(member.path, 1, member.path.len), err);
    else if (result == 0)
        append_pair(&conninfo, "dbname", "postgres"); /* Doctrine's default */
    if (result == 0)
        result = append_options(&conninfo, parts.query, overlooked, err);
    if (result == 0 && out->len > 0)
        buf_append_char(out, ' ');
    if (result == 0)
        buf_append(out, buf_bytes(&conninfo));
    if (conninfo.len > 0)
        explicit_bzero(conninfo.data, conninfo.len);
    buf_free(&conninfo);
    return result;
}

bool dsn_is_doctrine(const char *text)
{
    return bytes_starts_with(bytes_of(text), BYTES("doctrine:"));
}

static int read_option(struct dsn_doctrine *dsn, const char *name, const char *value,
                       struct error *err)
{
    /* The options of Symfony's Connection and PostgreSqlConnection. Those that concern only a
     * reader have no effect here. */
    static const char *const known[] = {"queue_name",        "table_name", "auto_setup",
                                        "redeliver_timeout", "use_notify", "check_delayed_interval",
                                        "get_notify_timeout"};
    struct words_nearest nearest = {.name = bytes_of(name)};
    char **text = strcmp(name, known[0]) == 0   ? &dsn->queue_name
                  : strcmp(name, known[1]) == 0 ? &dsn->table_name
                                                : NULL;

    if (text != NULL) {
        free(*text);
        *text = xstrdup(value);
        return 0;
    }
    if (strcmp(name, known[2]) == 0) {
        dsn->has_auto_setup = true;
        (void)dsn_read_flag(value, &dsn->auto_setup); /* any other word is false, as in PHP */
        return 0;
    }
    for (size_t i = 0; i < LENGTH_OF(known); i++) {
        if (strcmp(name, known[i]) == 0)
            return 0;
        words_consider(&nearest, known[i]);
    }
    return error_set(err, ERR_USAGE, "doctrine:// has no option \"%.40s\"%s%s%s",
                     dsn_is_option_name(name) ? name : "...",
                     nearest.best != NULL ? "; did you mean `" : "",
                     nearest.best != NULL ? nearest.best : "", nearest.best != NULL ? "`?" : "");
}

static int read_options(struct dsn_doctrine *dsn, struct bytes query, struct error *err)
{
    char *name, *value;
    int result = 0;

    while (result == 0 && dsn_query_next(&query, &name, &value)) {
        if (name == NULL || value == NULL)
            result = error_set(err, ERR_USAGE, "the DSN's options must not hold a NUL byte");
        else
            result = read_option(dsn, name, value, err);
        free(name);
        free(value);
    }
    return result;
}

int dsn_doctrine_parse(struct dsn_doctrine *dsn, const char *text, struct error *err)
{
    struct dsn_parts parts;

    *dsn = (struct dsn_doctrine){0};
    int result = dsn_parts_split(&parts, text, err);
    if (result == 0)
        result = read_options(dsn, parts.query, err);
    if (result < 0) {
        dsn_doctrine_free(dsn);
        return result;
    }
    dsn->connection = xstrndup(parts.middle.data, parts.middle.len);
    return 0;
}

void dsn_doctrine_free(struct dsn_doctrine *dsn)
{
    free(dsn->connection);
    free(dsn->queue_name);
    free(dsn->table_name);
    *dsn = (struct dsn_doctrine){0};
}
