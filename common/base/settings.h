/* The settings, checked: what the ini file, the environment and the defaults come to.
 *
 * One table (settings_table.h) says for each key its section, environment name, type, default and
 * description; reading, `config`, `check`, etc/mqtt-bridge.ini and docs/SETTINGS.md come from it.
 * Strings are owned by the struct and never NULL unless said (an unset optional string is "").
 * Durations are milliseconds (_ms), sizes are bytes. Read once, then only read: any thread may. */
#ifndef COMMON_BASE_SETTINGS_H
#define COMMON_BASE_SETTINGS_H

#include "common/base/buf.h"
#include "common/base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* [mqtt], and each [consumer:NAME], which starts as a copy of [mqtt] (its client_id then defaults to
 * "<client_id>-NAME", and its topics must be given). */
struct settings_mqtt {
    char *name; /* "" for [mqtt] itself, else NAME: the process is `consumer` or `consumer:NAME` */
    char *host;
    int64_t port;
    char *username;
    char *password;
    char
        *topics; /* as written: filters separated by commas or spaces, each with an optional @qos */
    int64_t qos;
    bool tls;
    char *client_id;
    char *version; /* "5" (falls back to 3.1.1) or "3.1.1" */
    char *server_uris;
    int64_t keepalive_ms;
    int64_t session_expiry_ms;
    int64_t receive_maximum;
    int64_t maximum_packet_size;
    char *share_name;
    char *ca_file;
    char *cert_file;
    char *key_file;
    char *key_password;
    bool tls_verify;
    int64_t reconnect_min_ms;
    int64_t reconnect_max_ms;
    char *status_topic;
};

struct settings_spool {
    int64_t size;
    int64_t retain;
    char *sync;   /* "none", "interval" or "always" */
    char *former; /* "drain" or "redirect" */
};

struct settings_transport {
    char *name; /* "async", ... */
    char *dsn;
    char *serializer; /* "php" or "json" */
    char *message_class;
    char *properties; /* "public", "protected" or "private" */
    char *bus;
    bool metadata_headers;
    int64_t max_entry;
};

/* The options of messenger:consume, read from [worker] options. 0 means no limit. */
struct settings_consume {
    int64_t limit;
    int64_t failure_limit;
    int64_t memory_limit; /* bytes */
    int64_t time_limit_ms;
};

struct settings_worker {
    int64_t count; /* "auto" has become the number of cores */
    char *transports;
    char *options;
    struct settings_consume consume; /* what `options` says */
    int64_t prefetch;
    int64_t prefetch_window;
    int64_t prefetch_bytes;
    int64_t delivery_limit;
};

struct settings_retry {
    int64_t max_retries;
    int64_t delay_ms;
    double multiplier;
    int64_t max_delay_ms;
    double jitter;
};

struct settings_failure {
    char *dsn; /* "" : no failure transport */
    char *queue_name;
    char *table;
    bool auto_setup;
};

struct settings_mercure {
    char *url;
    char *public_url;
    char *jwt;
    char *jwt_secret;
    char *jwt_algorithm;
    char *jwt_key_file;
    int64_t connect_timeout_ms;
    int64_t timeout_ms;
    char *ca_file;
    char *topic_template;
    char *topic_encoding; /* "none" or "uri" */
    bool private_updates;
    char *data; /* "message" or "payload" */
    int64_t connections;
};

struct settings_route {
    char *name;
    char *match;
    char *topic;
    char *data;
    char *private_updates; /* "" : as [mercure] */
    char *type;
    char *retry;
    char *publish;
    int64_t window_ms;
    char *batch_topic;
    int64_t batch_max;
    bool drop;
};

struct settings_http {
    char *listen; /* "" : no HTTP */
    char *token_file;
};

struct settings_log {
    char *level;
    char *format; /* "line" or "json" (the default has been worked out) */
    char *file;   /* "" : standard error */
};

struct settings_supervisor {
    char *state_dir;
    char *socket;
    char *pid_file;
    int64_t stop_timeout_ms;
    int64_t start_retries;
    int64_t hang_timeout_ms;
    char *user;
    char *on_fatal; /* "continue", "unready" or "exit" */
    char *instance; /* "" : a random id kept in state_dir */
};

struct settings {
    struct settings_mqtt mqtt;
    struct settings_mqtt *consumers; /* the [consumer:NAME] sections, in the file's order */
    size_t consumers_len;
    struct settings_spool spool;
    struct settings_transport *transports; /* [transport:NAME]; `async` is always the first */
    size_t transports_len;
    struct settings_worker worker;
    struct settings_retry retry;
    struct settings_failure failure;
    struct settings_mercure mercure;
    struct settings_route *routes; /* in the file's order */
    size_t routes_len;
    struct settings_http http;
    struct settings_log log;
    struct settings_supervisor supervisor;
    char *app_env; /* APP_ENV, "" if unset: `prod` and `dev` choose the log's defaults */
    struct settings_origins *origins; /* settings_origin in settings_table.h reads them */
};

/* Reads the ini at path (NULL or "": none), then the environment over it, then checks everything.
 * Returns 0, or -ERR_USAGE with every fault found as a line each in faults ("etc/x.ini:12: [mqtt]
 * prot: unknown key; did you mean `port`?"). On failure nothing is to be freed. */
MUST_CHECK int settings_load(struct settings **settings, const char *path, struct buf *faults);

/* Finds what the settings mean to other rooms and can't be right: a line each. Called with settings that may
 * have faults already, in their place the defaults. */
typedef void settings_verifier(const struct settings *settings, struct buf *faults);

/* settings_load, and what the verifier finds (NULL: nothing), in one run. */
MUST_CHECK int settings_load_verified(struct settings **settings, const char *path,
                                      settings_verifier *verify, struct buf *faults);

/* [supervisor] socket as settings_load would have it, whatever faults there are elsewhere: a service that
 * runs can be spoken to then too. To be freed; NULL if it can't be told: the file can't be read, or the
 * value itself is wrong. */
char *settings_socket(const char *path);

/* settings_load from an ini that is in memory; name stands for the file's in faults. */
MUST_CHECK int settings_load_text(struct settings **settings, const char *name, struct bytes ini,
                                  struct buf *faults);

/* The same settings as text, secrets included, for a child: what settings_unpack reads back. */
void settings_pack(const struct settings *settings, struct buf *out);
MUST_CHECK int settings_unpack(struct settings **settings, struct bytes packed, struct error *err);

void settings_free(struct settings *settings); /* NULL is allowed */

/* NULL if there is none of that name. */
const struct settings_transport *settings_transport(const struct settings *settings,
                                                    struct bytes name);
/* Of the process "consumer" ([mqtt]) or "consumer:NAME" ([consumer:NAME]); NULL, with err, if there is none. */
const struct settings_mqtt *settings_consumer(const struct settings *settings, const char *process,
                                              struct error *err);

#endif
