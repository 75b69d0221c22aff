#include "common/settings/settings_table.h"

#include "common/base/alloc.h"

#include <string.h>

#define SECOND 1e3
#define HOUR   3600e3
#define DAY    86400e3
#define KIB    1024.0
#define MIB    (1024.0 * 1024.0)
#define GIB    (1024.0 * 1024.0 * 1024.0)

#define AT(section, field) .offset = offsetof(struct settings_##section, field)
/* Of [retry], which is kept in the form of common/wire/retry.h. */
#define AT_RETRY(field)    .offset = offsetof(struct retry_strategy, field)
#define RANGE(least, most) .minimum = (least), .maximum = (most)
#define KEY(name_of_section, name, form, who)                                                      \
    .section = SETTING_##name_of_section, .key = (name), .type = SETTING_##form, .readers = (who)

/* Who reads a key. The command line reads them all. */
#define C READ_BY_CONSUMER
#define W READ_BY_WORKER
#define M READ_BY_MONITOR
#define S READ_BY_SUPERVISOR

const struct setting_section_info SETTINGS_SECTIONS[SETTING_SECTIONS] = {
    [SETTING_MQTT] = {"mqtt", NULL, "The broker, and what to subscribe to."},
    [SETTING_SPOOL] = {"spool", NULL,
                       "Received messages lie here, on disk, from before the broker hears that we "
                       "have them until Redis has them."},
    [SETTING_TRANSPORT] = {"transport", SETTINGS_TRANSPORT,
                           "The Messenger transport: a Redis stream. The consumer dispatches to "
                           "`async`; further ones, [transport:NAME], may be consumed by workers."},
    [SETTING_WORKER] = {"worker", NULL, "The processes that publish what the queue holds."},
    [SETTING_RETRY] = {"retry", NULL,
                       "What happens to a message that failed, as Messenger's retry_strategy."},
    [SETTING_FAILURE] =
        {"failure", NULL,
         "Messenger's failure transport: where messages go whose retries are used up."},
    [SETTING_MERCURE] = {"mercure", NULL, "The hub, and what is published to it."},
    [SETTING_ROUTE] = {"route", "",
                       "What is published of some topics: the first section in the file's order "
                       "with a filter that takes the topic. What none takes is published as "
                       "[mercure] says."},
    [SETTING_HANDLER] =
        {"handler", "",
         "A program of your own, which is given messages and says what is published "
         "of them: see docs/HANDLERS.md."},
    [SETTING_PAGE] = {"page", NULL, "The live page."},
    [SETTING_HTTP] = {"http", NULL, "Health, readiness, status and the live page."},
    [SETTING_LOG] = {"log", NULL, "The log, in Monolog's formats, channel `mqtt`."},
    [SETTING_SUPERVISOR] = {"supervisor", NULL, "The parent of all processes."},
    [SETTING_ENVIRONMENT] = {"", NULL, "Variables without a key in the ini file."},
};

static const struct setting_word MQTT_VERSION_WORDS[] = {
    {"5", MQTT_VERSION_5}, {"3.1.1", MQTT_VERSION_3_1_1}, {NULL, 0}};
const struct setting_word SPOOL_SYNC_WORDS[] = {{"none", SPOOL_SYNC_NONE},
                                                {"interval", SPOOL_SYNC_INTERVAL},
                                                {"always", SPOOL_SYNC_ALWAYS},
                                                {NULL, 0}};
static const struct setting_word SPOOL_FORMER_WORDS[] = {
    {"drain", SPOOL_FORMER_DRAIN}, {"redirect", SPOOL_FORMER_REDIRECT}, {NULL, 0}};
static const struct setting_word SERIALIZER_WORDS[] = {
    {"php", ENVELOPE_PHP}, {"json", ENVELOPE_JSON}, {NULL, 0}};
static const struct setting_word FAILURE_SERIALIZER_WORDS[] = {
    {"transport", FAILURE_SERIALIZER_TRANSPORT},
    {"php", FAILURE_SERIALIZER_PHP},
    {"json", FAILURE_SERIALIZER_JSON},
    {NULL, 0}};
static const struct setting_word VISIBILITY_WORDS[] = {{"public", ENVELOPE_PUBLIC},
                                                       {"protected", ENVELOPE_PROTECTED},
                                                       {"private", ENVELOPE_PRIVATE},
                                                       {NULL, 0}};
const struct setting_word JWT_ALGORITHM_WORDS[] = {{"HS256", JWT_HS256}, {"HS384", JWT_HS384},
                                                   {"HS512", JWT_HS512}, {"RS256", JWT_RS256},
                                                   {"ES256", JWT_ES256}, {NULL, 0}};
static const struct setting_word TOPIC_ENCODING_WORDS[] = {
    {"none", TOPIC_ENCODING_NONE}, {"uri", TOPIC_ENCODING_URI}, {NULL, 0}};
const struct setting_word UPDATE_DATA_WORDS[] = {
    {"message", UPDATE_DATA_MESSAGE}, {"payload", UPDATE_DATA_PAYLOAD}, {NULL, 0}};
static const struct setting_word LOG_LEVEL_WORDS[] = {
    {"debug", LOG_LEVEL_DEBUG},   {"info", LOG_LEVEL_INFO},
    {"notice", LOG_LEVEL_NOTICE}, {"warning", LOG_LEVEL_WARNING},
    {"error", LOG_LEVEL_ERROR},   {"critical", LOG_LEVEL_CRITICAL},
    {"alert", LOG_LEVEL_ALERT},   {"emergency", LOG_LEVEL_EMERGENCY},
    {"warn", LOG_LEVEL_WARNING},  {NULL, 0}};
static const struct setting_word LOG_FORMAT_WORDS[] = {
    {"line", LOG_FORMAT_LINE}, {"json", LOG_FORMAT_JSON}, {NULL, 0}};
static const struct setting_word PUBLISH_WORDS[] = {
    {"each", PUBLISH_EACH}, {"latest", PUBLISH_LATEST}, {"batch", PUBLISH_BATCH}, {NULL, 0}};
static const struct setting_word ON_FATAL_WORDS[] = {{"continue", ON_FATAL_CONTINUE},
                                                     {"unready", ON_FATAL_UNREADY},
                                                     {"exit", ON_FATAL_EXIT},
                                                     {NULL, 0}};

const struct setting SETTINGS_TABLE[] = {
    {KEY(MQTT, "host", TEXT, C), .env = "MQTT_HOST", .standard = "127.0.0.1", AT(mqtt, host),
     .flags = SETTING_REQUIRED,
     .description =
         "the broker's host name or address, also as `mqtt://host:port` or `mqtts://host:port`; of "
         "a name with several addresses all are tried, with TLS only the first IPv4 one"},
    {KEY(MQTT, "port", NUMBER, C), .env = "MQTT_PORT", .standard = "1883", RANGE(1, 65535),
     AT(mqtt, port), .derived = "8883 with TLS, else 1883", .description = "the broker's port"},
    {KEY(MQTT, "username", TEXT, C), .env = "MQTT_USERNAME", .standard = "", AT(mqtt, username),
     .description = "user name; empty: none is sent"},
    {KEY(MQTT, "password", TEXT, C), .env = "MQTT_PASSWORD", .standard = "", AT(mqtt, password),
     .flags = SETTING_SECRET, .description = "password of that user"},
    {KEY(MQTT, "topics", TEXT, C), .env = "MQTT_TOPICS", .standard = "#", AT(mqtt, topics),
     .flags = SETTING_REQUIRED,
     .description = "topic filters, separated by commas or spaces; `filter@0`, `@1` or `@2` gives "
                    "one its own QoS"},
    {KEY(MQTT, "former_topics", TEXT, C), .standard = "#", AT(mqtt, former_topics),
     .description = "filters that another program may have left in the session of this client id: "
                    "unsubscribed, unless `topics` has them"},
    {KEY(MQTT, "share_name", TEXT, C), .standard = "", AT(mqtt, share_name),
     .description =
         "makes each of `topics` a shared subscription, `$share/NAME/filter`: consumers with one "
         "NAME and the same filters share the messages; needs MQTT 5"},
    {KEY(MQTT, "qos", NUMBER, C), .env = "MQTT_QOS", .standard = "1", RANGE(0, 2), AT(mqtt, qos),
     .description =
         "QoS of the subscriptions: 0 may lose; 1 may repeat when a connection breaks, 2 "
         "only when the consumer itself ends in the middle"},
    {KEY(MQTT, "tls", BOOL, C), .env = "MQTT_TLS", .standard = "no", AT(mqtt, tls),
     .description = "connect with TLS"},
    {KEY(MQTT, "client_id", TEXT, C), .env = "MQTT_CLIENT_ID", .standard = "mqtt-bridge",
     AT(mqtt, client_id), .flags = SETTING_REQUIRED,
     .description = "names the session at the broker and the spool: unique at the broker, "
                    "and never changed while messages wait"},
    {KEY(MQTT, "version", CHOICE, C), .standard = "5", .words = MQTT_VERSION_WORDS,
     AT(mqtt, version),
     .description = "MQTT version; 5 falls back to 3.1.1 where the broker does not speak it"},
    {KEY(MQTT, "server_uris", TEXT, C), .standard = "", AT(mqtt, server_uris),
     .description = "nodes of one broker cluster that share sessions, tried in turn, in place of "
                    "host and port: `tcp://a:1883, tcp://b:1883`"},
    {KEY(MQTT, "keepalive", DURATION, C), .standard = "30s", RANGE(SECOND, 65535 * SECOND),
     AT(mqtt, keepalive_ms), .description = "silence after which the broker is pinged"},
    {KEY(MQTT, "session_expiry", DURATION, C), .standard = "1d", RANGE(SECOND, 49710 * DAY),
     AT(mqtt, session_expiry_ms),
     .description = "how long the broker keeps our session, and the messages for it, while we are "
                    "away (MQTT 5)"},
    {KEY(MQTT, "receive_maximum", NUMBER, C), .standard = "100", RANGE(1, 65535),
     AT(mqtt, receive_maximum),
     .description = "unacknowledged messages that the broker may have under way to us (MQTT 5)"},
    {KEY(MQTT, "maximum_packet_size", SIZE, C), .standard = "16M", RANGE(KIB, 256 * MIB),
     AT(mqtt, maximum_packet_size), .description = "larger messages are not sent to us (MQTT 5)"},
    {KEY(MQTT, "ca_file", TEXT, C | M), .standard = "", AT(mqtt, ca_file),
     .flags = SETTING_AUTHORITIES,
     .description = "certificate authorities for TLS (PEM); empty: the system's"},
    {KEY(MQTT, "cert_file", TEXT, C | M), .standard = "", AT(mqtt, cert_file),
     .flags = SETTING_CERTIFICATE, .description = "client certificate for TLS (PEM)"},
    {KEY(MQTT, "key_file", TEXT, C), .standard = "", AT(mqtt, key_file), .flags = SETTING_FILE,
     .description = "its private key (PEM)"},
    {KEY(MQTT, "key_password", TEXT, C), .env = "MQTT_KEY_PASSWORD", .standard = "",
     AT(mqtt, key_password), .flags = SETTING_SECRET, .description = "password of the private key"},
    {KEY(MQTT, "tls_verify", BOOL, C), .standard = "yes", AT(mqtt, tls_verify),
     .description =
         "check the broker's certificate and name (or IPv4 address: with an IPv6 address "
         "the MQTT library compares none, so give the broker's name)"},
    {KEY(MQTT, "reconnect_min", DURATION, C), .standard = "1s", RANGE(10, HOUR),
     AT(mqtt, reconnect_min_ms),
     .description = "first wait before connecting again; it doubles, with jitter"},
    {KEY(MQTT, "reconnect_max", DURATION, C), .standard = "60s", RANGE(10, 24 * HOUR),
     AT(mqtt, reconnect_max_ms), .description = "longest wait"},
    {KEY(MQTT, "status_topic", TEXT, C), .standard = "", AT(mqtt, status_topic),
     .description = "topic that says `online` or `offline`, retained, by last will; empty: none"},

    {KEY(SPOOL, "size", SIZE, C), .standard = "256M", RANGE(MIB, 1024 * GIB), AT(spool, size),
     .description =
         "most that may wait for Redis; when it is nearly full the consumer leaves the broker "
         "until half of it is sent. Files of messages that are set aside come on top"},
    {KEY(SPOOL, "retain", SIZE, C), .standard = "64M", RANGE(0, 1024 * GIB), AT(spool, retain),
     .description = "sent messages are kept so far back, for a Redis that loses its last ones"},
    {KEY(SPOOL, "sync", CHOICE, C), .standard = "none", .words = SPOOL_SYNC_WORDS, AT(spool, sync),
     .description = "none: what was received outlives killed processes; interval: a power cut as "
                    "well, but for the last second; always: all of it, at the disk's rate"},
    {KEY(SPOOL, "former", CHOICE, C), .standard = "drain", .words = SPOOL_FORMER_WORDS,
     AT(spool, former),
     .description =
         "what was stored for a former `dsn` of the transport, if the present Redis is "
         "no copy of that one: drain: goes there; redirect: goes to the present one, for "
         "a former one that is gone for good (what that has already may come twice)"},

    {KEY(TRANSPORT, "dsn", TEXT, C | W | M), .env = "MESSENGER_TRANSPORT_DSN",
     .standard = "redis://127.0.0.1:6379/messages", AT(transport, dsn),
     .flags = SETTING_DSN | SETTING_REQUIRED,
     .description = "Messenger's DSN with its options: "
                    "`redis://user:password@host:port/stream/group/consumer?option=value`"},
    {KEY(TRANSPORT, "serializer", CHOICE, C | W), .standard = "php", .words = SERIALIZER_WORDS,
     AT(transport, serializer),
     .description = "what the application's transport is set to: php "
                    "(messenger.transport.native_php_serializer) or json (Symfony's Serializer)"},
    {KEY(TRANSPORT, "message_class", TEXT, C | W), .standard = "App\\Message\\MqttMessage",
     AT(transport, message_class), .flags = SETTING_REQUIRED,
     .description = "the application's message class, with the properties topic and payload"},
    {KEY(TRANSPORT, "properties", CHOICE, C | W), .standard = "public", .words = VISIBILITY_WORDS,
     AT(transport, properties), .description = "visibility of those properties in the class"},
    {KEY(TRANSPORT, "bus", TEXT, C | W), .standard = "messenger.bus.default", AT(transport, bus),
     .flags = SETTING_REQUIRED, .description = "name of the application's message bus"},
    {KEY(TRANSPORT, "metadata_headers", BOOL, C), .standard = "yes",
     AT(transport, metadata_headers),
     .description = "add the headers X-Mqtt-Id, X-Mqtt-Received-At, X-Mqtt-Qos and X-Mqtt-Retain, "
                    "which PHP ignores; no: PHP's very bytes"},
    {KEY(TRANSPORT, "max_entry", SIZE, C), .standard = "32M", RANGE(KIB, 512 * MIB),
     AT(transport, max_entry),
     .description = "a message whose stream entry would be larger is set aside in a file: see "
                    "`mqtt-bridge spool`"},

    {KEY(WORKER, "count", COUNT, S), .env = "WORKER_COUNT", .standard = "2", RANGE(0, 200),
     AT(worker, count),
     .description = "worker processes; auto: one for each core. With 1 the order of each topic "
                    "holds through to the hub"},
    {KEY(WORKER, "transports", TEXT, W), .env = "CONSUME_TRANSPORTS",
     .standard = SETTINGS_TRANSPORT, AT(worker, transports), .flags = SETTING_REQUIRED,
     .description =
         "names of transports to consume, in order of priority, separated by commas or spaces"},
    {KEY(WORKER, "options", TEXT, W), .env = "CONSUMER_OPTIONS", .standard = "",
     AT(worker, options),
     .description = "options of messenger:consume: --limit, --failure-limit, --memory-limit, "
                    "--time-limit (-l -f -m -t) end a worker, which is replaced; --sleep, "
                    "--keepalive, --bus, --no-reset, -q, -v, -n have no effect"},
    {KEY(WORKER, "prefetch", NUMBER, W), .standard = "256", RANGE(1, 65536), AT(worker, prefetch),
     .description = "entries that one worker may hold open"},
    {KEY(WORKER, "prefetch_bytes", SIZE, W), .standard = "64M", RANGE(MIB, 64 * GIB),
     AT(worker, prefetch_bytes),
     .description =
         "bytes of entries that one worker may hold open; one that is larger is still read"},
    {KEY(WORKER, "prefetch_window", NUMBER, W), .standard = "65536", RANGE(1, 1048576),
     AT(worker, prefetch_window),
     .description = "messages that are gathered in windows of routes at once"},
    {KEY(WORKER, "delivery_limit", NUMBER, W), .standard = "5", RANGE(1, 1000),
     AT(worker, delivery_limit),
     .description =
         "deaths of the worker or handler that holds it, after which an entry goes to the failure "
         "transport"},
    {KEY(WORKER, "handler", TEXT, W | M), .standard = "", AT(worker, handler),
     .description =
         "name of a [handler:NAME] for all messages that no route takes; empty: they are "
         "published as [mercure] says"},

    {KEY(RETRY, "max_retries", NUMBER, W), .standard = "3", RANGE(0, 1000), AT_RETRY(max_retries),
     .description = "retries before the failure transport"},
    {KEY(RETRY, "delay", DURATION, W), .standard = "1s", RANGE(0, 365 * DAY), AT_RETRY(delay_ms),
     .description = "wait before the first retry"},
    {KEY(RETRY, "multiplier", REAL, W), .standard = "2", RANGE(1, 1000), AT_RETRY(multiplier),
     .description = "each wait is so many times the one before"},
    {KEY(RETRY, "max_delay", DURATION, W), .standard = "0", RANGE(0, 365 * DAY),
     AT_RETRY(max_delay_ms), .description = "longest wait; 0: no limit"},
    {KEY(RETRY, "jitter", REAL, W), .standard = "0.1", RANGE(0, 1), AT_RETRY(jitter),
     .description = "share by which each wait is moved at random, either way"},

    {KEY(FAILURE, "dsn", TEXT, W | M), .env = "MESSENGER_FAILURE_TRANSPORT_DSN", .standard = "",
     AT(failure, dsn), .flags = SETTING_DSN, .derived = "the value of database",
     .description =
         "where failed messages go: `redis://host:6379/failed`, a stream; "
         "`doctrine://default?queue_name=failed`, a table of database; or "
         "`postgresql://user:password@host:port/name` itself; neither this nor database: no "
         "failure transport"},
    {KEY(FAILURE, "database", TEXT, S), .env = "DATABASE_URL", .standard = "",
     AT(failure, database), .flags = SETTING_DSN,
     .description = "PostgreSQL, as Doctrine has it: "
                    "`postgresql://user:password@host:port/database?serverVersion=15`"},
    {KEY(FAILURE, "queue_name", TEXT, W | M), .standard = "failed", AT(failure, queue_name),
     .flags = SETTING_REQUIRED, .derived = "what dsn says, if it says it",
     .description = "queue_name of the rows"},
    {KEY(FAILURE, "table", TEXT, W | M), .standard = "messenger_messages", AT(failure, table),
     .flags = SETTING_REQUIRED, .derived = "what dsn says, if it says it",
     .description = "the table"},
    {KEY(FAILURE, "auto_setup", BOOL, W), .standard = "yes", AT(failure, auto_setup),
     .derived = "what dsn says, if it says it", .description = "make the table if it is missing"},
    {KEY(FAILURE, "serializer", CHOICE, W), .standard = "transport",
     .words = FAILURE_SERIALIZER_WORDS, AT(failure, serializer),
     .description =
         "what the application's failure transport is set to: php or json; transport: the same as "
         "the transport that a message comes from. PHP deletes rows of the other serializer"},
    {KEY(FAILURE, "timezone", TEXT, W | M), .standard = "UTC", AT(failure, timezone),
     .flags = SETTING_REQUIRED,
     .description = "zone of the rows' times, such as `America/New_York`, as PostgreSQL knows it: "
                    "Symfony before 6.3 reads them in PHP's date.timezone, later ones in UTC"},

    {KEY(MERCURE, "url", TEXT, W | M), .env = "MERCURE_URL", .standard = "", AT(mercure, url),
     .description = "the hub, as the workers reach it: `http://mercure/.well-known/mercure`; no "
                    "user or password in it"},
    {KEY(MERCURE, "public_url", TEXT, M), .env = "MERCURE_PUBLIC_URL", .standard = "",
     AT(mercure, public_url), .derived = "the value of url",
     .description =
         "the hub, as browsers reach it: what the live page uses; a path alone is on the "
         "page's own host"},
    {KEY(MERCURE, "jwt", TEXT, W | M), .env = "MERCURE_JWT", .standard = "", AT(mercure, jwt),
     .flags = SETTING_SECRET,
     .description = "a ready publisher's token; else one is made from jwt_secret or jwt_key_file"},
    {KEY(MERCURE, "jwt_secret", TEXT, W | M), .env = "MERCURE_JWT_SECRET", .standard = "",
     AT(mercure, jwt_secret), .flags = SETTING_SECRET,
     .description = "the hub's publisher key, for HS256 (32 bytes or more), HS384 and HS512"},
    {KEY(MERCURE, "jwt_algorithm", CHOICE, W | M), .standard = "HS256",
     .words = JWT_ALGORITHM_WORDS, AT(mercure, jwt_algorithm),
     .description = "how the token is signed"},
    {KEY(MERCURE, "jwt_key_file", TEXT, W | M), .standard = "", AT(mercure, jwt_key_file),
     .flags = SETTING_FILE, .description = "private key (PEM) for RS256 and ES256"},
    {KEY(MERCURE, "connect_timeout", DURATION, W | M), .standard = "2s", RANGE(10, HOUR),
     AT(mercure, connect_timeout_ms), .description = "longest wait for a connection"},
    {KEY(MERCURE, "timeout", DURATION, W), .standard = "10s", RANGE(10, HOUR),
     AT(mercure, timeout_ms), .description = "longest wait for the hub's answer"},
    {KEY(MERCURE, "ca_file", TEXT, W | M), .standard = "", AT(mercure, ca_file),
     .flags = SETTING_AUTHORITIES,
     .description = "certificate authorities for https (PEM); empty: the system's"},
    {KEY(MERCURE, "topic_template", TEXT, W), .standard = "{topic}", AT(mercure, topic_template),
     .flags = SETTING_REQUIRED,
     .description =
         "the update's topic; `{topic}` stands for the MQTT topic; see [route:NAME] topic"},
    {KEY(MERCURE, "topic_encoding", CHOICE, W), .standard = "none", .words = TOPIC_ENCODING_WORDS,
     AT(mercure, topic_encoding),
     .description =
         "uri: percent-encode what stands for a placeholder, for templates that are URLs; "
         "for those of routes as well"},
    {KEY(MERCURE, "private", BOOL, W | M), .standard = "no", AT(mercure, private_updates),
     .description = "private updates: only subscribers whose token names the topic see them"},
    {KEY(MERCURE, "data", CHOICE, W | M), .standard = "message", .words = UPDATE_DATA_WORDS,
     AT(mercure, data),
     .description = "message: a JSON document with id, topic, payload and receivedAt; payload: the "
                    "bare payload"},
    {KEY(MERCURE, "connections", NUMBER, W), .standard = "16", RANGE(1, 256),
     AT(mercure, connections), .description = "requests to the hub at once, for each worker"},

    {KEY(ROUTE, "match", TEXT, W | M), .standard = "", AT(route, match),
     .description = "topic filters, separated by commas or spaces; must be given"},
    {KEY(ROUTE, "topic", TEXT, W), .standard = "{topic}", AT(route, topic),
     .flags = SETTING_REQUIRED, .derived = "topic_template of [mercure]",
     .description = "the update's topic; `{topic}` stands for the MQTT topic, `{1}` for what the "
                    "first wildcard of the filter took, `{level:2}` for the second level, "
                    "`{level:-1}` for the last; `{topic:uri}` is percent-encoded; `{{` is a brace"},
    {KEY(ROUTE, "alternates", TEXT, W), .standard = "", AT(route, alternates),
     .description = "further topics of the update, under which it is received as well, separated "
                    "by commas or spaces"},
    {KEY(ROUTE, "data", TEXT, W | M), .standard = "message", AT(route, data),
     .flags = SETTING_REQUIRED, .derived = "data of [mercure]",
     .description = "message, payload, or `field:NAME`: a field of the payload, which is a JSON "
                    "object"},
    {KEY(ROUTE, "private", BOOL, W | M), .standard = "no", AT(route, private_updates),
     .derived = "private of [mercure]",
     .description = "private updates: only subscribers whose token names the topic see them"},
    {KEY(ROUTE, "type", TEXT, W | M), .standard = "", AT(route, type),
     .description = "the event's type, which a page listens for by name; empty: `message`"},
    {KEY(ROUTE, "retry", DURATION, W), .standard = "0", RANGE(0, DAY), AT(route, retry_ms),
     .description = "how long a page waits before it connects again; 0: its own default"},
    {KEY(ROUTE, "drop", BOOL, W | M), .standard = "no", AT(route, drop),
     .description = "publish nothing: the message is acknowledged, and counted as dropped"},
    {KEY(ROUTE, "publish", CHOICE, W), .standard = "each", .words = PUBLISH_WORDS,
     AT(route, publish),
     .description =
         "each: an update for each message; latest: of each topic the newest value of a "
         "window; batch: all messages of a window in one update, a JSON array of message "
         "documents"},
    {KEY(ROUTE, "window", DURATION, W), .standard = "500ms", RANGE(10, HOUR), AT(route, window_ms),
     .description = "with latest and batch: how long messages are gathered before they are "
                    "published"},
    {KEY(ROUTE, "batch_topic", TEXT, W), .standard = "{topic}", AT(route, batch_topic),
     .flags = SETTING_REQUIRED, .derived = "topic",
     .description = "with batch: the update's topic; messages for which it is the same are "
                    "gathered together"},
    {KEY(ROUTE, "batch_max", NUMBER, W), .standard = "100", RANGE(1, 10000), AT(route, batch_max),
     .description = "with batch: so many messages are published before the window ends"},
    {KEY(ROUTE, "batch_bytes", SIZE, W), .standard = "256K", RANGE(KIB, 3 * MIB),
     AT(route, batch_bytes),
     .description = "with batch: so many bytes of documents are published before the window ends"},
    {KEY(ROUTE, "handler", TEXT, W | M), .standard = "", AT(route, handler),
     .description = "name of a [handler:NAME], which says what is published; empty: none"},

    {KEY(HANDLER, "command", TEXT, W), .standard = "", AT(handler, command),
     .description = "the program and its arguments, split as a shell would and run without one; "
                    "must be given"},
    {KEY(HANDLER, "inflight", NUMBER, W), .standard = "32", RANGE(1, 65536), AT(handler, inflight),
     .description = "messages that it may have in hand at once"},
    {KEY(HANDLER, "timeout", DURATION, W), .standard = "30s", RANGE(100, DAY),
     AT(handler, timeout_ms),
     .description =
         "how long it may take to get ready, and for the message that it has had in hand "
         "for longest; then it is replaced"},
    {KEY(HANDLER, "pass_env", TEXT, W), .standard = "", AT(handler, pass_env),
     .description = "names of variables that it is given although they are settings or secrets of "
                    "the bridge, separated by commas or spaces"},

    {KEY(PAGE, "last_values", NUMBER, W | M), .standard = "10000", RANGE(0, 1000000),
     AT(page, last_values),
     .description =
         "of so many topics Redis keeps the newest message, which a page that opens shows "
         "at once; 0: none"},

    {KEY(HTTP, "listen", TEXT, M), .env = "HTTP_LISTEN", .standard = "127.0.0.1:9080",
     AT(http, listen), .description = "address and port; `off`, or empty in the ini file: no HTTP"},
    {KEY(HTTP, "hosts", TEXT, M), .env = "HTTP_HOSTS", .standard = "", AT(http, hosts),
     .description =
         "names under which the page may be called, beside `localhost`, IP addresses and the host "
         "of `listen`, separated by commas or spaces; `*`: any, behind a proxy that checks them"},
    {KEY(HTTP, "token_file", TEXT, M), .standard = "", AT(http, token_file), .flags = SETTING_FILE,
     .description = "file with a token that requests must carry as `Authorization: Bearer`; empty: "
                    "none needed"},

    {KEY(LOG, "level", CHOICE, S), .env = "LOG_LEVEL", .standard = "info", .words = LOG_LEVEL_WORDS,
     AT(log, level), .description = "the least level that is logged"},
    {KEY(LOG, "format", CHOICE, C | W | M | S), .env = "LOG_FORMAT", .standard = "line",
     .words = LOG_FORMAT_WORDS, AT(log, format),
     .derived = "json when APP_ENV is prod or standard error is not a terminal, else line",
     .description = "as Monolog's LineFormatter or JsonFormatter"},
    {KEY(LOG, "file", TEXT, C | W | M | S), .standard = "", AT(log, file),
     .derived = "var/log/mqtt.log when APP_ENV is dev, outside of containers, else empty",
     .description = "log file; empty: standard error"},

    {KEY(SUPERVISOR, "state_dir", TEXT, C | W | S), .standard = "/var/lib/mqtt-bridge",
     AT(supervisor, state_dir), .flags = SETTING_REQUIRED,
     .derived = "/var/lib/mqtt-bridge for root; else $XDG_STATE_HOME/mqtt-bridge, "
                "~/.local/state/mqtt-bridge",
     .description = "spool, instance id and locks; keep it on a volume"},
    {KEY(SUPERVISOR, "socket", TEXT, S), .standard = "/var/lib/mqtt-bridge/control.sock",
     AT(supervisor, socket), .flags = SETTING_REQUIRED, .derived = "control.sock in state_dir",
     .description = "control socket of the commands"},
    {KEY(SUPERVISOR, "pid_file", TEXT, S), .standard = "", AT(supervisor, pid_file),
     .description = "file for the supervisor's process id; empty: none"},
    {KEY(SUPERVISOR, "lock_wait", DURATION, S), .standard = "60s", RANGE(0, DAY),
     AT(supervisor, lock_wait_ms),
     .description = "how long a start waits for another bridge on the same state_dir to end; 0: "
                    "not at all"},
    {KEY(SUPERVISOR, "stop_timeout", DURATION, C | W | S), .standard = "10s", RANGE(0, HOUR),
     AT(supervisor, stop_timeout_ms),
     .description = "what is still running so long after a stop is killed"},
    {KEY(SUPERVISOR, "start_retries", NUMBER, S), .standard = "10", RANGE(0, 1000000),
     AT(supervisor, start_retries),
     .description = "quick deaths in a row after which a process is given up"},
    {KEY(SUPERVISOR, "hang_timeout", DURATION, C | W | M | S), .standard = "60s",
     RANGE(0, 24 * HOUR), AT(supervisor, hang_timeout_ms),
     .description = "a process whose loop stands still for so long, 1s at the least, is killed and "
                    "replaced; 0: never"},
    {KEY(SUPERVISOR, "user", TEXT, S), .standard = "", AT(supervisor, user),
     .description = "user that the whole bridge becomes when root starts it, NAME or NAME:GROUP; "
                    "empty: no change"},
    {KEY(SUPERVISOR, "on_fatal", CHOICE, S), .standard = "continue", .words = ON_FATAL_WORDS,
     AT(supervisor, on_fatal),
     .description =
         "when a process is given up: go on without it, be unready, or end with its exit code"},
    {KEY(SUPERVISOR, "instance", TEXT, W), .standard = "", AT(supervisor, instance),
     .derived = "a random id kept in state_dir",
     .description = "name of this bridge among those that share a stream"},

    {.section = SETTING_ENVIRONMENT,
     .key = "app_env",
     .env = "APP_ENV",
     .standard = "",
     .type = SETTING_TEXT,
     .readers = S,
     .offset = offsetof(struct settings, app_env),
     .description = "Symfony's environment: `prod` and `dev` choose the log's defaults"},
};
const size_t SETTINGS_TABLE_LEN = LENGTH_OF(SETTINGS_TABLE);

const struct setting *setting_find(enum setting_section section, struct bytes key)
{
    for (size_t i = 0; i < SETTINGS_TABLE_LEN; i++)
        if (SETTINGS_TABLE[i].section == section && bytes_equal_text(key, SETTINGS_TABLE[i].key))
            return &SETTINGS_TABLE[i];
    return NULL;
}

bool setting_view_is_default(const struct setting_view *view)
{
    return !view->name[0] ||
           (view->section == SETTING_TRANSPORT && strcmp(view->name, SETTINGS_TRANSPORT) == 0);
}

bool setting_is_read(const struct setting *row, const struct setting_view *view,
                     const char *process)
{
    enum process_kind reader = process_kind_of(process);
    const char *name = process_kind_section(process);

    if ((row->readers & (1U << reader)) == 0)
        return false;
    if (view->section == SETTING_TRANSPORT)
        return reader == PROCESS_WORKER || setting_view_is_default(view);
    if (view->section != SETTING_MQTT || reader != PROCESS_CONSUMER ||
        strcmp(view->name, name) == 0)
        return true;
    return name[0] == '\0' && strcmp(row->key, "client_id") == 0;
}

/* Where the sections are in struct settings, in the order in which they are shown. */
static const struct part {
    enum setting_section section;
    size_t offset;     /* offset of the section's struct, or of the pointer to a list */
    size_t size;       /* size of an item of a list, which begins with its name; 0: no list */
    size_t len_offset; /* offset of a list's length */
} PARTS[] = {
#define ONCE(section, field)                                                                       \
    {                                                                                              \
        SETTING_##section, offsetof(struct settings, field), 0, 0                                  \
    }
#define LIST(section, field)                                                                       \
    {                                                                                              \
        SETTING_##section, offsetof(struct settings, field),                                       \
            sizeof(*((struct settings *)0)->field), offsetof(struct settings, field##_len)         \
    }
    ONCE(MQTT, mqtt),
    LIST(MQTT, consumers),
    ONCE(SPOOL, spool),
    LIST(TRANSPORT, transports),
    LIST(ROUTE, routes),
    LIST(HANDLER, handlers),
    ONCE(WORKER, worker),
    ONCE(RETRY, retry),
    ONCE(FAILURE, failure),
    ONCE(MERCURE, mercure),
    ONCE(PAGE, page),
    ONCE(HTTP, http),
    ONCE(LOG, log),
    ONCE(SUPERVISOR, supervisor),
    {SETTING_ENVIRONMENT, 0, 0, 0},
#undef ONCE
#undef LIST
};
#define PARTS_LEN LENGTH_OF(PARTS)

static size_t *part_len(const struct settings *settings, const struct part *part)
{
    return (size_t *)((char *)settings + part->len_offset);
}

/* Copies the pointer to a list as bytes, since each list has another type. */
static char *part_items(const struct settings *settings, const struct part *part)
{
    char *items;

    memcpy(&items, (const char *)settings + part->offset, sizeof(items));
    return items;
}

static struct setting_view view_item(const struct part *part, char *item)
{
    const char *name;

    memcpy(&name, item, sizeof(name));
    return (struct setting_view){part->section, name, item};
}

bool settings_extend(struct settings *settings, enum setting_section section, char *name,
                     struct setting_view *view)
{
    const struct part *part = PARTS;

    while (part < PARTS + PARTS_LEN && (part->section != section || part->size == 0))
        part++;
    if (part == PARTS + PARTS_LEN)
        return false;
    size_t *len = part_len(settings, part);
    char *items = xgrow(part_items(settings, part), *len, part->size);
    char *item = items + *len * part->size;

    memset(item, 0, part->size);
    memcpy(item, &name, sizeof(name));
    memcpy((char *)settings + part->offset, &items, sizeof(items));
    (*len)++;
    *view = view_item(part, item);
    return true;
}

size_t settings_views_len(const struct settings *settings)
{
    size_t len = 0;

    for (size_t i = 0; i < PARTS_LEN; i++)
        len += PARTS[i].size == 0 ? 1 : *part_len(settings, &PARTS[i]);
    return len;
}

struct setting_view settings_view(const struct settings *settings, size_t index)
{
    const struct part *part = PARTS;

    for (; part->size > 0 ? index >= *part_len(settings, part) : index > 0; part++)
        index -= part->size > 0 ? *part_len(settings, part) : 1;
    if (part->size > 0)
        return view_item(part, part_items(settings, part) + index * part->size);
    return (struct setting_view){part->section, "", (char *)settings + part->offset};
}

void setting_view_title(const struct setting_view *view, struct buf *out)
{
    if (view->section == SETTING_MQTT && view->name[0])
        buf_printf(out, "consumer:%s", view->name);
    else if (view->section == SETTING_ENVIRONMENT)
        buf_append_text(out, "environment");
    else if (view->name[0])
        buf_printf(out, "%s:%s", SETTINGS_SECTIONS[view->section].name, view->name);
    else
        buf_append_text(out, SETTINGS_SECTIONS[view->section].name);
}
