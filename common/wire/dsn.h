/* Connection strings: Messenger's Redis DSN with every option of the Symfony transport, and Doctrine's
 * DATABASE_URL. Errors name the part and the mend; texts never show a password. Pure. */
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
    bool lazy;
    bool redis_serialized; /* option serializer: 1 (default) or 0 */
    double timeout_s;      /* 0: the client's default */
    double read_timeout_s;
    char *sentinel_master; /* NULL: the hosts are no Sentinels */
    char *sentinel_user;   /* what the Sentinels ask for themselves; NULL if nothing */
    char *sentinel_password;
    bool cluster;
    bool tls_verify_peer; /* ssl[verify_peer], default true, likewise the next */
    bool tls_verify_name;
    bool tls_sni;
    bool tls_allow_self_signed; /* default false */
    char *tls_ca_file;          /* NULL if none, likewise the others */
    char *tls_ca_path;
    char *tls_cert_file;
    char *tls_key_file; /* NULL: the key is in tls_cert_file */
    char *tls_passphrase;
    char *tls_peer_name;
};

/* Is it one of its schemes? */
bool dsn_is_redis(const char *text);
MUST_CHECK int dsn_redis_parse(struct dsn_redis *dsn, const char *text, struct error *err);
void dsn_redis_free(struct dsn_redis *dsn);

/* postgresql:// or postgres:// (also pgsql://, postgresql+…:// is refused with a hint) with Doctrine's
 * query options (serverVersion, charset ignored; sslmode, sslrootcert, connect_timeout, application_name
 * … passed on) as a libpq connection string in key='value' form, appended to out. What is neither is
 * overlooked, as PHP does: overlooked, unless it is NULL, gets the names. */
MUST_CHECK int dsn_postgres_to_conninfo(struct buf *out, const char *text, struct buf *overlooked,
                                        struct error *err);

/* doctrine://CONNECTION[?queue_name=…&table_name=…&auto_setup=…]: Messenger's transport in the application's own
 * database. Where that is, Doctrine's connection knows: DATABASE_URL for `default`. Strings are owned. */
struct dsn_doctrine {
    char *connection;
    char *queue_name; /* NULL if the DSN has none, likewise the next */
    char *table_name;
    bool has_auto_setup;
    bool auto_setup;
};

bool dsn_is_doctrine(const char *text);
MUST_CHECK int dsn_doctrine_parse(struct dsn_doctrine *dsn, const char *text, struct error *err);
void dsn_doctrine_free(struct dsn_doctrine *dsn);

/* "redis://redis:6379/messages?dbindex=1": which place it is, for messages to people and to tell places
 * apart: no user, no password, no options but those that say where. */
void dsn_redacted(struct buf *out, const char *text);
/* As it was written, with *** in place of passwords, also among the options: for `config`. */
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

/* -ERR_FORMAT if text does not begin with "scheme:" (as no DSN that is a bare host does). */
MUST_CHECK int dsn_parts_split(struct dsn_parts *parts, const char *text, struct error *err);

/* One member of `middle`: userinfo's data is NULL if there is none, path has its slash or is empty. */
struct dsn_member {
    struct bytes userinfo;
    struct bytes address;
    struct bytes path;
};

/* -ERR_USAGE for a `://` in it: where the user ends, and whether it is another address, can't be told. */
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

/* "true", "1", "off", ...: as PHP's filter_var has it. False if it is neither. */
bool dsn_read_flag(const char *value, bool *flag);

/* Could somebody have meant this as an option's name? If not it may be a part of a password, and is
 * not shown to anybody. */
bool dsn_is_option_name(const char *name);

#endif
