/* The checked settings, made from the ini file, the environment and the defaults.
 *
 * One table (settings_table.h) says for each key its section, environment name, type, default and
 * description; reading, `config`, `check`, etc/mqtt-bridge.ini and docs/SETTINGS.md come from it.
 * Strings are owned by the struct and never NULL unless said (an unset optional string is "").
 * Durations are milliseconds (_ms), sizes are bytes. Read once, then only read: any thread may. */
#ifndef COMMON_SETTINGS_SETTINGS_H
#define COMMON_SETTINGS_SETTINGS_H

#include "common/base/buf.h"
#include "common/base/error.h"
#include "common/base/log.h"
#include "common/wire/envelope.h"
#include "common/wire/retry.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SETTINGS_CLIENT_ID_MAX 1024 /* bytes; the spool's segments have room for some more */

/* Settings that are one of a few words in the ini; settings_table.c has the words. */
enum mqtt_version { MQTT_VERSION_5, /* falls back to 3.1.1 */ MQTT_VERSION_3_1_1 };
enum spool_sync { SPOOL_SYNC_NONE, SPOOL_SYNC_INTERVAL, SPOOL_SYNC_ALWAYS };
enum spool_former { SPOOL_FORMER_DRAIN, SPOOL_FORMER_REDIRECT };
enum jwt_algorithm { JWT_HS256, JWT_HS384, JWT_HS512, JWT_RS256, JWT_ES256 };
enum topic_encoding { TOPIC_ENCODING_NONE, TOPIC_ENCODING_URI };
enum update_data { UPDATE_DATA_MESSAGE, UPDATE_DATA_PAYLOAD, UPDATE_DATA_FIELD /* routes only */ };
enum publish_mode { PUBLISH_EACH, PUBLISH_LATEST, PUBLISH_BATCH };
enum on_fatal { ON_FATAL_CONTINUE, ON_FATAL_UNREADY, ON_FATAL_EXIT };

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
    char *former_topics; /* filters in the form of topics */
    char *share_name;    /* "" : none; topics have it already, as $share/NAME/filter */
    int64_t qos;
    bool tls;
    char *client_id;
    enum mqtt_version version;
    char *server_uris;
    int64_t keepalive_ms;
    int64_t session_expiry_ms;
    int64_t receive_maximum;
    int64_t maximum_packet_size;
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
    enum spool_sync sync;
    enum spool_former former;
};

#define SETTINGS_TRANSPORT "async" /* the name of the default transport */

struct settings_transport {
    char *name; /* SETTINGS_TRANSPORT, ... */
    char *dsn;
    enum envelope_serializer serializer;
    char *message_class;
    enum envelope_visibility properties;
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
    struct settings_consume consume; /* read from `options` */
    int64_t prefetch;
    int64_t prefetch_bytes;
    int64_t prefetch_window;
    int64_t delivery_limit;
    char *handler; /* for messages that no route matches; "" : none */
};

/* The serializer of failed messages. TRANSPORT: as they came. */
enum failure_serializer {
    FAILURE_SERIALIZER_TRANSPORT,
    FAILURE_SERIALIZER_PHP,
    FAILURE_SERIALIZER_JSON,
};

struct settings_failure {
    char *
        dsn; /* Redis or PostgreSQL; "" : no failure transport. For doctrine:// that of `database` */
    char *database;
    char *queue_name; /* for Redis: the stream */
    char *table;
    bool auto_setup;
    enum failure_serializer serializer;
    char *timezone;
};

struct settings_mercure {
    char *url;
    char *public_url;
    char *jwt;
    char *jwt_secret;
    enum jwt_algorithm jwt_algorithm;
    char *jwt_key_file;
    int64_t connect_timeout_ms;
    int64_t timeout_ms;
    char *ca_file;
    char *topic_template;
    enum topic_encoding topic_encoding;
    bool private_updates;
    enum update_data data;
    int64_t connections;
};

/* [route:NAME]: what is published for the topics that it matches. */
struct settings_route {
    char *name;
    char *match;      /* filters separated by commas or white space */
    char *topic;      /* a template: common/wire/topic.h */
    char *alternates; /* templates separated by commas or white space */
    char *data;       /* "message", "payload" or "field:NAME" */
    bool private_updates;
    char *type;
    int64_t retry_ms; /* 0: none */
    bool drop;
    enum publish_mode publish;
    int64_t window_ms;
    char *batch_topic; /* a template; each of its expansions has batches of its own */
    int64_t batch_max; /* messages */
    int64_t batch_bytes;
    char *handler; /* "" : none */
};

/* [handler:NAME]: a program of the user's that decides what is published. */
struct settings_handler {
    char *name;
    char *command;    /* common/base/words.h */
    int64_t inflight; /* messages */
    int64_t timeout_ms;
    char *pass_env; /* names of variables, separated by commas or white space */
};

struct settings_page {
    int64_t last_values; /* topics; 0: none are kept */
};

struct settings_http {
    char *listen; /* "" : no HTTP */
    char *hosts;
    char *token_file;
};

struct settings_log {
    enum log_level level;
    enum log_format format;
    char *file; /* "" : standard error */
};

struct settings_supervisor {
    char *state_dir;
    char *socket;
    char *pid_file;
    int64_t lock_wait_ms;
    int64_t stop_timeout_ms;
    int64_t start_retries;
    int64_t hang_timeout_ms;
    char *user;
    enum on_fatal on_fatal;
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
    struct retry_strategy retry;
    struct settings_failure failure;
    struct settings_mercure mercure;
    struct settings_route *routes; /* the [route:NAME] sections, in the file's order */
    size_t routes_len;
    struct settings_handler *handlers; /* the [handler:NAME] sections, in the file's order */
    size_t handlers_len;
    struct settings_page page;
    struct settings_http http;
    struct settings_log log;
    struct settings_supervisor supervisor;
    char *app_env; /* APP_ENV, "" if unset: `prod` and `dev` choose the log's defaults */
    struct settings_origin *origins; /* settings_origin in settings_table.h reads them */
    /* Only of loaded settings, not of a child's: */
    /* One on each line: what was ignored, overrides another setting, or is weaker than it looks. */
    struct buf notices;
    struct buf variables; /* those that the ini refers to for a secret, each followed by a space */
};

/* Reads the ini at path (NULL or "": none), then the environment, which overrides it, then checks everything, with the
 * codecs that will use it. to_publish: the settings must also be enough for publishing, if there are workers: a hub and
 * its key. Returns 0, or -ERR_USAGE with each fault as a line in faults
 * ("etc/x.ini:12: [mqtt] prot: unknown key; did you mean `port`?"). On failure nothing is to be freed. */
MUST_CHECK int settings_load(struct settings **settings, const char *path, bool to_publish,
                             struct buf *faults);

/* [supervisor] socket as settings_load gives it, even if other settings are wrong, so that a running service can
 * still be reached. To be freed; NULL if it is unknown: the file can't be read, or the value itself is wrong. */
char *settings_socket(const char *path);

/* settings_load from an ini that was read; name: the file's, or what stands for it in faults. */
MUST_CHECK int settings_load_text(struct settings **settings, const char *name, struct bytes ini,
                                  bool to_publish, struct buf *faults);

/* Writes the settings that the process ("consumer", "consumer:garden", "worker", "monitor") reads as text, secrets
 * included. settings_unpack reads it back, with defaults for the other settings. Equal settings give equal texts. */
void settings_pack(const struct settings *settings, const char *process, struct buf *out);
MUST_CHECK int settings_unpack(struct settings **settings, struct bytes packed, struct error *err);

void settings_free(struct settings *settings); /* NULL is allowed */

/* The environment of a process that reads no variables, for execve. Removed are settings, secrets that the ini refers
 * to, and variables named by `pass_env`, unless the list `keep` has them. The array is to be freed. */
char **settings_environment(const struct settings *settings, struct bytes keep);
/* Appends all variables named by the handlers' `pass_env`, as one list: a worker passes them on. */
void settings_passed_variables(const struct settings *settings, struct buf *list);

/* Prints each line on standard error, after "mqtt-bridge: " and `kind`, which may be empty. */
void settings_print_lines(const char *program, const char *kind, const struct buf *lines);
/* Logs each notice as a line. */
void settings_log_notices(const struct settings *settings);

/* Warns about each file of a NAME_FILE that we may not read any more: a reload will need it. */
void settings_log_unreadable(const struct settings *settings);

/* The transport that always exists, the first, to which consumers dispatch. */
const struct settings_transport *settings_default_transport(const struct settings *settings);
/* NULL if there is none of that name. */
const struct settings_transport *settings_transport(const struct settings *settings,
                                                    struct bytes name);
const struct settings_handler *settings_handler(const struct settings *settings, const char *name);
/* True if [worker] or a route uses the handler. */
bool settings_handler_is_used(const struct settings *settings,
                              const struct settings_handler *handler);
/* 0: [mqtt]; up to consumers_len: [consumer:NAME], in the file's order. */
const struct settings_mqtt *settings_mqtt_at(const struct settings *settings, size_t index);
/* The settings of the process "consumer" ([mqtt]) or "consumer:NAME" ([consumer:NAME]); NULL, with err: there is
 * none. */
const struct settings_mqtt *settings_consumer(const struct settings *settings, const char *process,
                                              struct error *err);

/* Checks that the clients call too, since their settings may be unchecked (tests, a hub without workers). Errors name
 * section and key.
 * Checks that there is a jwt_secret, long enough for jwt_algorithm. Passes if a jwt is given, or the algorithm needs no
 * secret. -ERR_USAGE. */
MUST_CHECK int settings_check_secret(const struct settings_mercure *mercure, struct error *err);
/* Checks the failure transport's dsn. Passes if it is empty. overlooked: as for dsn_postgres_to_conninfo. */
MUST_CHECK int settings_check_failure(const struct settings_failure *failure,
                                      struct buf *overlooked, struct error *err);

#endif
