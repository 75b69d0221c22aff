/* Connection strings: Messenger's Redis DSN with every option of the Symfony transport, and Doctrine's DATABASE_URL.
 * Errors name the part and the remedy; texts never show a password. Pure. */
#ifndef COMMON_WIRE_DSN_H
#define COMMON_WIRE_DSN_H

#include "common/base/buf.h"
#include "common/base/error.h"

#define DSN_HOSTS_MAX 16

struct dsn_host {
    char *host; /* NULL when `path` is set */
    int port;
};

/* redis://[[user]:password@]host[:port][/stream[/group[/consumer]]][?options], rediss://, valkey://,
 * valkeys://, redis:///path/to/socket?…, several hosts (cluster, sentinel). Strings are owned. */
struct dsn_redis {
    struct dsn_host hosts[DSN_HOSTS_MAX]; /* the server; a Cluster's members; the Sentinels */
    size_t hosts_len;
    char *path; /* UNIX socket, or NULL */
    bool tls;
    char *user;     /* NULL if none */
    char *password; /* NULL if none */
    char *stream;   /* messages */
    char *group;    /* symfony */
    char *consumer; /* NULL if the DSN has none (PHP would say "consumer") */
    bool auto_setup;
    bool delete_after_ack;
    bool delete_after_reject;
    int64_t stream_max_entries;
    int64_t dbindex;
    int64_t redeliver_timeout_ms; /* the option is in seconds */
    int64_t claim_interval_ms;
    bool redis_serialized; /* option serializer: 1 (default) or 0 */
    double timeout_s;      /* 0: the client's default */
    char *sentinel_master; /* NULL: the hosts are no Sentinels */
    char *sentinel_user;   /* for the Sentinels themselves; NULL if none */
    char *sentinel_password;
    bool cluster;
    bool tls_verify_peer;       /* ssl[verify_peer]; default true */
    bool tls_verify_name;       /* default true */
    bool tls_sni;               /* default true */
    bool tls_allow_self_signed; /* default false */
    char *tls_ca_file;          /* this and the following texts: NULL if not given */
    char *tls_ca_path;
    char *tls_cert_file;
    char *tls_key_file; /* NULL: the key is in tls_cert_file */
    char *tls_passphrase;
    char *tls_peer_name;
};

/* True if the text begins with one of the schemes of Redis. */
bool dsn_is_redis(const char *text);
MUST_CHECK int dsn_redis_parse(struct dsn_redis *dsn, const char *text, struct error *err);
void dsn_redis_free(struct dsn_redis *dsn);

/* Appends a libpq connection string in key='value' form for postgresql://, postgres:// or pgsql:// (postgresql+…:// is
 * refused with a hint). Of Doctrine's query options, serverVersion and charset are ignored; sslmode, sslrootcert,
 * connect_timeout, application_name and others are passed on. Unknown options are ignored, as under PHP; their names
 * are appended to overlooked, unless it is NULL. */
MUST_CHECK int dsn_postgres_to_conninfo(struct buf *out, const char *text, struct buf *overlooked,
                                        struct error *err);

/* doctrine://CONNECTION[?queue_name=…&table_name=…&auto_setup=…]: Messenger's transport in the application's own
 * database. Doctrine's connection says which database: DATABASE_URL for `default`. Strings are owned. */
struct dsn_doctrine {
    char *connection;
    char *queue_name; /* NULL if the DSN has none */
    char *table_name; /* NULL if the DSN has none */
    bool has_auto_setup;
    bool auto_setup;
};

bool dsn_is_doctrine(const char *text);
MUST_CHECK int dsn_doctrine_parse(struct dsn_doctrine *dsn, const char *text, struct error *err);
void dsn_doctrine_free(struct dsn_doctrine *dsn);

/* Appends the DSN's address, "redis://redis:6379/messages?dbindex=1", for texts and to compare addresses: without user,
 * password, and options that do not belong to the address. */
void dsn_redacted(struct buf *out, const char *text);
/* Appends the DSN as written, with *** in place of passwords, also among the options: for `config`. */
void dsn_masked(struct buf *out, const char *text);

/* What connection strings have in common, for dsn_*.c:
 *
 *     scheme:[//][user[:password]@]host[:port][,host[:port]...][/path][?name=value&...]
 *
 * The user ends at the last `@` before the `?`, so that a password may hold a `/` or an `@` as it is. */
struct dsn_parts {
    struct bytes scheme;
    struct bytes middle; /* between scheme and query, without the slashes in front */
    struct bytes query;
};

/* -ERR_FORMAT if text does not begin with "scheme:", as a bare host. */
MUST_CHECK int dsn_parts_split(struct dsn_parts *parts, const char *text, struct error *err);

/* One member of `middle`. userinfo's data is NULL if there is none; path begins with a slash or is empty. */
struct dsn_member {
    struct bytes userinfo;
    struct bytes address;
    struct bytes path;
};

/* -ERR_USAGE if it has a `://`: it may be the beginning of another address, so the user's end is not clear. */
MUST_CHECK int dsn_userinfo_check(struct bytes userinfo, struct error *err);

void dsn_member_split(struct dsn_member *member, struct bytes text);

/* "host", "host:port", "[::1]:port" into host; port 0 stands for none. -ERR_USAGE without showing what
 * was written: a password may have got there. */
MUST_CHECK int dsn_host_parse(struct dsn_host *host, struct bytes address, struct error *err);

/* %XX decoded, and `+` as a space in a query: a new string, or NULL if it holds a NUL byte. */
char *dsn_decode(struct bytes text, bool query);

/* The next name=value of a query; false at its end. Both decoded and the caller's to free; either may
 * be NULL as above. */
bool dsn_query_next(struct bytes *query, char **name, char **value);

/* ssl[verify_peer]: *key is what is in the brackets (in place) and the name is cut before them; NULL if
 * there are none. */
void dsn_option_split(char *name, char **key);

/* Reads "true", "1", "off", ... as PHP's filter_var does. False for any other text. */
bool dsn_read_flag(const char *value, bool *flag);

/* True if this may be meant as an option's name. Other texts may be part of a password, and must not be shown. */
bool dsn_is_option_name(const char *name);

#endif
