/* Checks beyond a single value's type: contradictions between values, names that must exist, and
 * values that codecs must understand. Those are topic filters, addresses, DSNs and the hub's
 * key. A bad value is thus refused before a start or a reload changes anything. The checks use
 * no file and no server. */
#include "common/settings/settings_internal.h"

#include "common/base/words.h"
#include "common/settings/broker_address.h"
#include "common/settings/routes.h"
#include "common/wire/dsn.h"
#include "common/wire/topic.h"

#include <limits.h>
#include <string.h>
#include <sys/un.h>

struct checking {
    const struct settings *settings;
    bool to_publish;
    struct buf *notices;
    struct buf *faults;
    struct setting_view view; /* the section that is checked */
};

#define FAULT(checking, ...)                                                                       \
    settings_fault((checking)->faults, (checking)->settings, &(checking)->view, __VA_ARGS__)
/* Adds a fault whose text names section and key already. */
#define FAULT_ERROR(checking, key, err)                                                            \
    settings_fault_error((checking)->faults, (checking)->settings, &(checking)->view, key, err)
#define NOTICE(checking, ...)                                                                      \
    settings_fault((checking)->notices, (checking)->settings, &(checking)->view, __VA_ARGS__)

static bool is_address(const char *text)
{
    struct bytes host, port;
    uint16_t number;

    return bytes_split_port(bytes_of(text), &host, &port) && host.len > 0 &&
           bytes_to_port(port, &number);
}

/* Returns the number of filters in the list, or -1 after a fault was added. */
static int check_filters(const struct checking *checking, const char *key, const char *list)
{
    struct bytes rest = bytes_of(list), filter;
    struct error err;
    int count = 0, qos, found;

    while ((found = topic_filter_next(&rest, &filter, &qos, 0, &err)) > 0)
        count++;
    if (found < 0)
        FAULT(checking, key, "%s", err.text);
    return found < 0 ? -1 : count;
}

static void check_topics(const struct checking *checking, const struct settings_mqtt *mqtt)
{
    struct error err;

    if (mqtt->name[0] && !mqtt->topics[0] &&
        !settings_get_origin(checking->settings, &mqtt->topics))
        FAULT(checking, "topics", "must be given: a further consumer has filters of its own");
    else if (check_filters(checking, "topics", mqtt->topics) == 0)
        FAULT(checking, "topics", "names no topic filter");
    check_filters(checking, "former_topics", mqtt->former_topics);
    if (mqtt->status_topic[0] && topic_name_check(bytes_of(mqtt->status_topic), &err) < 0)
        FAULT(checking, "status_topic", "%s", err.text);
}

static void check_share(const struct checking *checking, const struct settings_mqtt *mqtt)
{
    if (mqtt->share_name[strcspn(mqtt->share_name, "/+#, \t")] != '\0')
        FAULT(checking, "share_name", "must not hold `/`, `+`, `#`, a comma or a space");
    if (mqtt->share_name[0] && mqtt->version != MQTT_VERSION_5)
        FAULT(checking, "share_name", "needs version = 5");
}

static void check_servers(const struct checking *checking, const struct settings_mqtt *mqtt)
{
    struct bytes list = bytes_of(mqtt->server_uris), text;
    struct broker_address address;
    struct error err;

    while (bytes_next_item(&list, &text))
        if (broker_address_read(&address, text, mqtt->tls, &err) == 0)
            broker_address_free(&address);
        else
            FAULT(checking, "server_uris", "%s", err.text);
}

static void check_client_id(const struct checking *checking, const struct settings_mqtt *mqtt)
{
    const struct settings *settings = checking->settings;

    if (!bytes_is_utf8(bytes_of(mqtt->client_id)))
        FAULT(checking, "client_id", "must be UTF-8, as MQTT has it");
    if (strlen(mqtt->client_id) > SETTINGS_CLIENT_ID_MAX)
        FAULT(checking, "client_id", "must not be longer than %d bytes", SETTINGS_CLIENT_ID_MAX);
    for (size_t i = 0; i <= settings->consumers_len; i++) {
        const struct settings_mqtt *other = settings_mqtt_at(settings, i);

        if (other == mqtt)
            return;
        if (strcmp(other->client_id, mqtt->client_id) == 0) {
            FAULT(checking, "client_id",
                  "is another consumer's as well: each would end the other's session");
            return;
        }
    }
}

static void check_mqtt(const struct checking *checking)
{
    const struct settings_mqtt *mqtt = checking->view.base;

    check_topics(checking, mqtt);
    check_share(checking, mqtt);
    check_servers(checking, mqtt);
    check_client_id(checking, mqtt);
    if (mqtt->reconnect_min_ms > mqtt->reconnect_max_ms)
        FAULT(checking, "reconnect_min", "must not be more than reconnect_max");
    if (mqtt->password[0] && !mqtt->username[0])
        FAULT(checking, "password", "needs a username with it");
    if (mqtt->cert_file[0] && !mqtt->key_file[0])
        FAULT(checking, "cert_file", "needs key_file with it");
    if (mqtt->key_file[0] && !mqtt->cert_file[0])
        FAULT(checking, "key_file", "needs cert_file with it");
}

static void check_spool(const struct checking *checking)
{
    const struct settings_spool *spool = checking->view.base;

    if (spool->retain >= spool->size)
        FAULT(checking, "retain", "must be less than size");
}

static void check_transport(const struct checking *checking)
{
    const struct settings_transport *transport = checking->view.base;
    struct dsn_redis dsn;
    struct error err;

    if (!transport->dsn[0]) {
        if (!settings_get_origin(checking->settings, &transport->dsn))
            FAULT(checking, "dsn", "must be given");
        return;
    }
    if (dsn_redis_parse(&dsn, transport->dsn, &err) < 0) {
        FAULT(checking, "dsn", "%s", err.text);
        return;
    }
    dsn_redis_free(&dsn);
}

/* True if both DSNs mean the same server and stream, whatever their other options are. */
static bool is_one_address(const char *dsn, const char *other)
{
    struct buf address = {0}, other_address = {0};

    dsn_redacted(&address, dsn);
    dsn_redacted(&other_address, other);
    bool same = bytes_equal(buf_bytes(&address), buf_bytes(&other_address));
    buf_free(&address);
    buf_free(&other_address);
    return same;
}

static bool is_one_queue(const struct settings_transport *a, const struct settings_transport *b)
{
    struct dsn_redis one, other;
    bool same = false;

    if (dsn_redis_parse(&one, a->dsn, NULL) < 0)
        return a == b;
    if (dsn_redis_parse(&other, b->dsn, NULL) == 0) {
        same = is_one_address(a->dsn, b->dsn) && strcmp(one.group, other.group) == 0 &&
               strcmp(one.consumer != NULL ? one.consumer : "",
                      other.consumer != NULL ? other.consumer : "") == 0;
        dsn_redis_free(&other);
    }
    dsn_redis_free(&one);
    return same;
}

/* Refuses a queue that is listed twice, under one name or two. Both readers would have one
 * consumer name, and take the lease from each other. */
static void check_queue_is_new(const struct checking *checking,
                               const struct settings_transport *transport, struct bytes before)
{
    const struct settings_transport *other;
    struct bytes name;

    while (bytes_next_item(&before, &name)) {
        other = settings_transport(checking->settings, name);
        if (other && is_one_queue(other, transport))
            FAULT(checking, "transports", "`%.60s` and `%.60s` are one queue: name it once",
                  other->name, transport->name);
    }
}

static void fault_unknown(const struct checking *checking, const char *key, const char *kind,
                          const struct words_nearest *nearest)
{
    struct bytes name = bytes_slice(nearest->name, 0, 60);

    FAULT(checking, key, "there is no [%s:%.*s]%s%s%s", kind, BYTES_ARG(name),
          nearest->best ? "; did you mean `" : "", nearest->best ? nearest->best : "",
          nearest->best ? "`?" : "");
}

static void check_handler_name(const struct checking *checking, const char *name)
{
    const struct settings *settings = checking->settings;
    struct words_nearest nearest = {.name = bytes_of(name)};

    if (!name[0] || settings_handler(settings, name))
        return;
    for (size_t i = 0; i < settings->handlers_len; i++)
        words_consider(&nearest, settings->handlers[i].name);
    fault_unknown(checking, "handler", "handler", &nearest);
}

static void check_worker(const struct checking *checking)
{
    const struct settings *settings = checking->settings;
    struct bytes all = bytes_of(settings->worker.transports), rest = all, name;
    const struct settings_transport *transport;
    bool named = false;

    while (bytes_next_item(&rest, &name)) {
        struct words_nearest nearest = {.name = name};

        named = true;
        transport = settings_transport(settings, name);
        if (transport) {
            check_queue_is_new(checking, transport,
                               bytes_slice(all, 0, (size_t)(name.data - all.data)));
            continue;
        }
        for (size_t i = 0; i < settings->transports_len; i++)
            words_consider(&nearest, settings->transports[i].name);
        fault_unknown(checking, "transports", "transport", &nearest);
    }
    if (!named && all.len > 0)
        FAULT(checking, "transports", "names no transport");
    check_handler_name(checking, settings->worker.handler);
}

/* Checks that the failure transport is no transport of workers: failed messages would be read as new ones. */
static void check_failure_is_apart(const struct checking *checking, const char *dsn)
{
    for (size_t i = 0; i < checking->settings->transports_len; i++) {
        const struct settings_transport *transport = &checking->settings->transports[i];

        if (is_one_address(dsn, transport->dsn))
            FAULT(checking, "dsn",
                  "is the stream of [transport:%.60s]: failed messages would be read from it "
                  "again; name another, such as /failed",
                  transport->name);
    }
}

static int verify_redis(const char *text, struct error *err)
{
    struct dsn_redis dsn;

    if (dsn_redis_parse(&dsn, text, err) < 0)
        return error_wrap(err, "[failure] dsn (MESSENGER_FAILURE_TRANSPORT_DSN)");
    dsn_redis_free(&dsn);
    return 0;
}

int settings_check_failure(const struct settings_failure *failure, struct buf *overlooked,
                           struct error *err)
{
    struct buf conninfo = {0};

    if (failure->dsn[0] == '\0')
        return 0;
    if (dsn_is_redis(failure->dsn))
        return verify_redis(failure->dsn, err);
    int result = dsn_postgres_to_conninfo(&conninfo, failure->dsn, overlooked, err);
    if (result < 0)
        error_wrap(err, "[failure] dsn (DATABASE_URL)");
    buf_free(&conninfo);
    return result;
}

static void check_failure(const struct checking *checking)
{
    const struct settings_failure *failure = checking->view.base;
    struct buf overlooked = {0};
    struct error err;

    if (settings_check_failure(failure, &overlooked, &err) < 0)
        FAULT_ERROR(checking, "dsn", &err);
    else if (overlooked.len > 0)
        NOTICE(checking, "dsn", "overlooked, as PHP does: the options %s", buf_text(&overlooked));
    buf_free(&overlooked);
    if (dsn_is_redis(failure->dsn))
        check_failure_is_apart(checking, failure->dsn);
    if (!bytes_only_holds(bytes_of(failure->table), "_."))
        FAULT(
            checking, "table",
            "must be a table's name: letters, digits and `_`, with a schema and a dot before it if "
            "need be");
    if (strlen(failure->queue_name) > 190)
        FAULT(checking, "queue_name",
              "must not be longer than 190 characters: the column is a varchar(190)");
}

/* True for "user:password@" before the host. libcurl accepts up to three slashes before the
 * user. */
static bool has_user(struct bytes url)
{
    size_t at = strlen("http://");

    while (at < url.len && (url.data[at] == ':' || url.data[at] == '/'))
        at++;
    for (; at < url.len && !strchr("/?#", url.data[at]); at++)
        if (url.data[at] == '@')
            return true;
    return false;
}

/* Checks an address of the hub. The log, the page and browsers show the address, so that no
 * secret may be in it. */
static void check_url(const struct checking *checking, const char *url, const char *key)
{
    struct bytes text = bytes_of(url);
    bool http = bytes_starts_with(text, BYTES("http://")) && text.len > strlen("http://");
    bool https = bytes_starts_with(text, BYTES("https://")) && text.len > strlen("https://");

    if (strcspn(url, " \t") < text.len)
        FAULT(checking, key, "must not hold white space");
    else if (text.len > 0 && !http && !https)
        FAULT(checking, key, "must begin with http:// or https:// and name a host");
    else if (text.len > 0 && has_user(text))
        FAULT(checking, key,
              "must hold no user or password: the hub takes a token, from jwt (MERCURE_JWT) or "
              "jwt_secret (MERCURE_JWT_SECRET)");
}

static void check_template(const struct checking *checking, const char *key, struct bytes text,
                           unsigned wildcards)
{
    struct topic_template *template;
    struct error err;

    if (topic_template_new(&template, text, false, &err) < 0) {
        FAULT(checking, key, "`%.*s`: %s", BYTES_ARG(text), err.text);
        return;
    }
    if (topic_template_wildcards(template) > wildcards)
        FAULT(checking, key,
              "`%.*s`: {%u} stands for a wildcard that not every filter of `match` has",
              BYTES_ARG(text), topic_template_wildcards(template));
    topic_template_free(template);
}

/* RFC 7518, section 3.2: the key must not be shorter than the hash. */
static size_t secret_minimum(enum jwt_algorithm algorithm)
{
    switch (algorithm) {
    case JWT_HS256:
        return 32;
    case JWT_HS384:
        return 48;
    case JWT_HS512:
        return 64;
    case JWT_RS256:
    case JWT_ES256:
        return 0;
    }
    return 0;
}

int settings_check_secret(const struct settings_mercure *mercure, struct error *err)
{
    size_t minimum = secret_minimum(mercure->jwt_algorithm);
    size_t len = strlen(mercure->jwt_secret);

    if (mercure->jwt[0] != '\0' || minimum == 0)
        return 0;
    if (len == 0)
        return error_set(err, ERR_USAGE,
                         "[mercure] has neither a jwt (MERCURE_JWT) nor a jwt_secret "
                         "(MERCURE_JWT_SECRET): the hub takes no update without one");
    if (len < minimum)
        return error_set(err, ERR_USAGE,
                         "[mercure] jwt_secret (MERCURE_JWT_SECRET) is %zu bytes long; %s needs at "
                         "least %zu: give a longer one to the hub and to the bridge",
                         len, setting_word(JWT_ALGORITHM_WORDS, mercure->jwt_algorithm), minimum);
    return 0;
}

static void check_mercure(const struct checking *checking)
{
    const struct settings_mercure *mercure = checking->view.base;
    struct error err;

    check_url(checking, mercure->url, "url");
    check_template(checking, "topic_template", bytes_of(mercure->topic_template), 1);
    bool path = mercure->public_url[0] == '/' && mercure->public_url[1] != '/';
    if (strcmp(mercure->url, mercure->public_url) != 0 && !path)
        check_url(checking, mercure->public_url, "public_url");
    if (!checking->to_publish || checking->settings->worker.count == 0)
        return;
    if (mercure->url[0] == '\0')
        FAULT(checking, "url", "is needed (MERCURE_URL): where the workers publish");
    if (settings_check_secret(mercure, &err) < 0)
        FAULT_ERROR(checking, "jwt_secret", &err);
    if (strcmp(mercure->jwt_secret, "!ChangeThisMercureHubJWTSecretKey!") == 0)
        NOTICE(checking, "jwt_secret",
               "is the example of Mercure's documentation: everybody knows it, and can publish to "
               "the hub");
}

/* Returns the lowest number of wildcards that a valid filter of the route has; UINT_MAX if no
 * filter is valid. */
static unsigned check_match(const struct checking *checking, const struct settings_route *route)
{
    struct bytes list = bytes_of(route->match), filter;
    unsigned least = UINT_MAX;
    struct error err;

    if (!bytes_next_item(&list, &filter))
        FAULT(checking, "match", "must be given: topic filters, such as `plant/+/temp`");
    for (list = bytes_of(route->match); bytes_next_item(&list, &filter);)
        if (bytes_starts_with(filter, BYTES("$share/")))
            FAULT(checking, "match", "`%.*s`: a route's filter has no $share/NAME/ before it",
                  BYTES_ARG(filter));
        else if (topic_filter_check(filter, &err) < 0)
            FAULT(checking, "match", "%s", err.text);
        else if (topic_filter_wildcards(filter) < least)
            least = topic_filter_wildcards(filter);
    return least;
}

static void check_batch(const struct checking *checking, const struct settings_route *route,
                        unsigned wildcards, bool is_document)
{
    check_template(checking, "batch_topic", bytes_of(route->batch_topic), wildcards);
    if (!is_document)
        FAULT(checking, "data", "must be message: a batch is an array of message documents");
    if (route->alternates[0])
        FAULT(checking, "alternates", "a batch has one topic, batch_topic");
}

/* Checks a route with a handler: the handler's updates bring their own data, and are neither
 * combined nor dropped. */
static void check_route_handler(const struct checking *checking, const struct settings_route *route)
{
    check_handler_name(checking, route->handler);
    if (!route->handler[0])
        return;
    if (route->drop)
        FAULT(checking, "drop", "makes no sense with a handler: it may answer with no update");
    if (route->publish != PUBLISH_EACH)
        FAULT(checking, "publish",
              "must be each with a handler: several of its updates are not published as one");
    if (settings_is_given(checking->settings, &route->data))
        FAULT(checking, "data", "makes no sense with a handler: its updates hold their data");
}

static void check_handler(const struct checking *checking)
{
    const struct settings_handler *handler = checking->view.base;
    struct bytes list = bytes_of(handler->pass_env), name;
    char **words;
    struct error err;

    if (!handler->command[0])
        FAULT(checking, "command", "must be given: a program and its arguments");
    else if (words_split(&words, bytes_of(handler->command), &err) < 0)
        FAULT(checking, "command", "%s", err.text);
    else
        words_free(words);
    while (bytes_next_item(&list, &name))
        if (!settings_env_is_name(name))
            FAULT(checking, "pass_env", "`%.*s` is no name of a variable",
                  (int)(name.len < 60 ? name.len : 60), name.data);
}

static void check_route(const struct checking *checking)
{
    const struct settings_route *route = checking->view.base;
    struct bytes list = bytes_of(route->alternates), alternate, field;
    unsigned wildcards = check_match(checking, route);
    enum update_data data;
    bool known = routes_read_data(bytes_of(route->data), &data, &field);

    check_template(checking, "topic", bytes_of(route->topic), wildcards);
    while (bytes_next_item(&list, &alternate))
        check_template(checking, "alternates", alternate, wildcards);
    if (route->publish == PUBLISH_BATCH)
        check_batch(checking, route, wildcards, known && data == UPDATE_DATA_MESSAGE);
    if (!known)
        FAULT(checking, "data", "must be message, payload or field:NAME, not `%.60s`", route->data);
    check_route_handler(checking, route);
    for (const char *c = route->type; *c; c++)
        if ((unsigned char)*c < ' ') {
            FAULT(checking, "type", "must hold no control characters");
            break;
        }
}

static void check_supervisor(const struct checking *checking)
{
    const struct settings_supervisor *supervisor = checking->view.base;
    struct sockaddr_un address;

    if (supervisor->state_dir[0] && supervisor->state_dir[0] != '/')
        FAULT(checking, "state_dir", "must be an absolute path");
    if (supervisor->socket[0] && supervisor->socket[0] != '/')
        FAULT(checking, "socket", "must be an absolute path");
    if (supervisor->hang_timeout_ms > 0 && supervisor->hang_timeout_ms < 1000)
        FAULT(checking, "hang_timeout", "must be 0, for never, or a duration from 1s to 1d");
    if (strlen(supervisor->socket) >= sizeof(address.sun_path))
        FAULT(checking, "socket", "is too long for a socket's path (107 bytes)");
    if (supervisor->socket[0] && strcmp(supervisor->socket, supervisor->pid_file) == 0)
        FAULT(checking, "socket", "must be another file than pid_file");
    if (!bytes_only_holds(bytes_of(supervisor->instance), "_.-") ||
        strlen(supervisor->instance) > 64)
        FAULT(checking, "instance", "must be at most 64 letters, digits, `_`, `-` and `.`");
}

/* True if other machines can reach the address. */
static bool is_reached_from_elsewhere(const char *listen)
{
    struct bytes host, port;

    return bytes_split_port(bytes_of(listen), &host, &port) &&
           !bytes_equal_text(host, "localhost") && !bytes_equal_text(host, "::1") &&
           !bytes_starts_with(host, BYTES("127."));
}

static void check_http(const struct checking *checking)
{
    const struct settings_http *http = checking->view.base;
    struct bytes rest = bytes_of(http->hosts), name;

    if (http->listen[0] && !is_address(http->listen))
        FAULT(checking, "listen",
              "must be an address and a port, such as 127.0.0.1:9080 or [::1]:9080, or `off`");
    else if (http->listen[0] && !http->token_file[0] && is_reached_from_elsewhere(http->listen))
        NOTICE(checking, "listen",
               "whoever reaches %s reads status, metrics and last values: set token_file, "
               "or listen on 127.0.0.1",
               http->listen);
    while (bytes_next_item(&rest, &name))
        if (!bytes_equal_text(name, "*") && !bytes_only_holds(name, ".-_"))
            FAULT(checking, "hosts",
                  "`%.*s` is no name, such as bridge.example.org: without a port or `http://`",
                  (int)(name.len < 80 ? name.len : 80), name.data);
}

static void (*const CHECKS[SETTING_SECTIONS])(const struct checking *checking) = {
    [SETTING_MQTT] = check_mqtt,           [SETTING_SPOOL] = check_spool,
    [SETTING_TRANSPORT] = check_transport, [SETTING_WORKER] = check_worker,
    [SETTING_FAILURE] = check_failure,     [SETTING_MERCURE] = check_mercure,
    [SETTING_ROUTE] = check_route,         [SETTING_HANDLER] = check_handler,
    [SETTING_HTTP] = check_http,           [SETTING_SUPERVISOR] = check_supervisor,
};

void settings_check(const struct settings *settings, bool to_publish, struct buf *notices,
                    struct buf *faults)
{
    struct checking checking = {
        .settings = settings, .to_publish = to_publish, .notices = notices, .faults = faults};

    for (size_t i = 0; i < settings_views_len(settings); i++) {
        checking.view = settings_view(settings, i);
        if (CHECKS[checking.view.section])
            CHECKS[checking.view.section](&checking);
    }
}
