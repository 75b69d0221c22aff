#include "cli/check.h"

#include "cli/check_broker.h"
#include "cli/check_redis.h"
#include "cli/verbs.h"
#include "common/base/alloc.h"
#include "common/base/words.h"
#include "common/client/failure.h"
#include "common/client/hub.h"
#include "common/client/jwt.h"
#include "common/settings/broker_address.h"
#include "common/settings/settings_table.h"
#include "common/wire/dsn.h"
#include "common/wire/topic.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The filters of the routes so far, by their order in the file. */
struct earlier {
    struct topic_trie *trie;
    struct earlier_filter {
        const struct settings_route *route;
        struct bytes filter;
    } * filters;
    uint32_t len;
};

struct checking {
    const struct settings *settings;
    struct check_report *report;
    struct setting_view view;
    struct earlier *earlier;
};

#define WARN(checking, ...)                                                                        \
    settings_fault(&(checking)->report->warnings, (checking)->settings, &(checking)->view,         \
                   __VA_ARGS__)

/* Adds a fault whose text names section and key already. */
#define FAULT_ERROR(checking, key, err)                                                            \
    settings_fault_error(&(checking)->report->faults, (checking)->settings, &(checking)->view,     \
                         key, err)

/* An unreadable file is only a warning, since the service may run as another user than the
 * person who checks. */
static void check_file(const struct checking *checking, const char *key, const char *path)
{
    if (path[0] && access(path, R_OK) < 0)
        WARN(checking, key, "%s: %s", path, strerror(errno));
}

/* Warns about each later filter that overlaps this one in part: the broker may send a copy for
 * each filter. */
static void check_partial_overlap(const struct checking *checking, const struct settings_mqtt *mqtt,
                                  struct bytes filter, int qos, struct bytes rest)
{
    struct bytes other;
    struct error err;
    int other_qos;

    while (topic_filter_next(&rest, &other, &other_qos, (int)mqtt->qos, &err) > 0) {
        if (topic_filter_overlaps(filter, other) &&
            !topic_filter_subsumes(filter, qos, other, other_qos) &&
            !topic_filter_subsumes(other, other_qos, filter, qos)) {
            WARN(checking, "topics",
                 "`%.*s` and `%.*s` overlap: the broker may send twice what both match, and each "
                 "copy is a message of its own",
                 BYTES_ARG(filter), BYTES_ARG(other));
        }
    }
}

static void check_filters(const struct checking *checking, const struct settings_mqtt *mqtt)
{
    struct bytes rest = bytes_of(mqtt->topics);
    struct bytes filter;
    struct error err;
    int qos;
    bool lossy = false;

    while (topic_filter_next(&rest, &filter, &qos, (int)mqtt->qos, &err) > 0) {
        lossy = lossy || qos == 0;
        check_partial_overlap(checking, mqtt, filter, qos, rest);
    }
    if (lossy) {
        WARN(checking, mqtt->qos == 0 ? "qos" : "topics",
             "QoS 0: the broker keeps no message for us while we are away");
    }
}

static bool any_is_ipv6_with_tls(const struct settings_mqtt *mqtt)
{
    char *addresses = broker_address_list(mqtt);
    struct bytes list = bytes_of(addresses), text;
    bool found = false;

    while (bytes_next_item(&list, &text)) {
        struct broker_address address;
        struct error err;

        if (broker_address_read(&address, text, mqtt->tls, &err) == 0) {
            found = found || (address.tls && strchr(address.host, ':') != NULL);
            broker_address_free(&address);
        }
    }
    free(addresses);
    return found;
}

/* True if both are filters of one share: each message then goes to one of the two. */
static bool is_same_share(struct bytes filter, struct bytes other)
{
    return bytes_starts_with(filter, BYTES("$share/")) && bytes_equal(filter, other);
}

static bool find_overlap(const struct settings_mqtt *one, const struct settings_mqtt *other,
                         struct bytes *overlap)
{
    struct bytes rest = bytes_of(one->topics);
    struct bytes filter;
    struct error err;
    int qos;

    while (topic_filter_next(&rest, &filter, &qos, 0, &err) > 0) {
        struct bytes others = bytes_of(other->topics);
        struct bytes candidate;

        while (topic_filter_next(&others, &candidate, &qos, 0, &err) > 0) {
            if (topic_filter_overlaps(filter, candidate) && !is_same_share(filter, candidate)) {
                *overlap = filter;
                return true;
            }
        }
    }
    return false;
}

static void check_overlap(const struct checking *checking)
{
    const struct settings *settings = checking->settings;
    const struct settings_mqtt *mqtt = checking->view.base;
    struct bytes overlap;

    for (size_t i = 0; i <= settings->consumers_len; i++) {
        const struct settings_mqtt *other = settings_mqtt_at(settings, i);

        if (other == mqtt)
            return;
        if (find_overlap(mqtt, other, &overlap)) {
            WARN(checking, "topics",
                 "`%.*s` overlaps with a filter of [%s%s]: both consumers dispatch "
                 "what both match",
                 BYTES_ARG(overlap), i == 0 ? "mqtt" : "consumer:", other->name);
        }
    }
}

static void check_mqtt(const struct checking *checking)
{
    const struct settings_mqtt *mqtt = checking->view.base;

    check_filters(checking, mqtt);
    check_file(checking, "ca_file", mqtt->ca_file);
    check_file(checking, "cert_file", mqtt->cert_file);
    check_file(checking, "key_file", mqtt->key_file);
    if (mqtt->tls && !mqtt->tls_verify)
        WARN(checking, "tls_verify", "anybody on the way may pose as the broker");
    if (mqtt->tls_verify && any_is_ipv6_with_tls(mqtt)) {
        WARN(checking, mqtt->server_uris[0] ? "server_uris" : "host",
             "the MQTT library compares no certificate with an IPv6 address: give the broker's "
             "name");
    }
    check_overlap(checking);
}

static void add_filters(struct earlier *earlier, const struct settings_route *route)
{
    struct bytes list = bytes_of(route->match), filter;

    while (bytes_next_item(&list, &filter)) {
        topic_trie_add(earlier->trie, filter, earlier->len);
        earlier->filters = xgrow(earlier->filters, earlier->len, sizeof(*earlier->filters));
        earlier->filters[earlier->len++] = (struct earlier_filter){route, filter};
    }
}

/* Appends the topic with the fewest levels that the filter matches, with `x` for each `+`. */
static void append_shortest_topic(struct buf *topic, struct bytes filter)
{
    bool more = true, first = true;

    while (more) {
        struct bytes level;

        more = bytes_split(filter, '/', &level, &filter);
        if (bytes_equal_text(level, "#") && !first)
            break;
        if (!first)
            buf_append_char(topic, '/');
        if (bytes_equal_text(level, "+") || bytes_equal_text(level, "#"))
            buf_append_char(topic, 'x');
        else
            buf_append(topic, level);
        first = false;
    }
    if (topic->len == 0) /* of the filter `/#` */
        buf_append_char(topic, '/');
}

/* Warns if the update's topic is empty for the shortest topic that one of the filters matches. */
static void check_update_topic(const struct checking *checking, const char *key, const char *text,
                               const char *filters)
{
    struct bytes list = bytes_of(filters), filter;
    struct topic_template *template;
    struct error err;
    bool told = false;

    if (topic_template_new(&template, bytes_of(text), false, &err) < 0)
        return; /* the settings' own check has reported the fault */
    while (!told && bytes_next_item(&list, &filter)) {
        struct buf topic = {0}, expanded = {0};

        append_shortest_topic(&topic, filter);
        topic_template_expand(template, buf_bytes(&topic), filter, &expanded);
        told = expanded.len == 0;
        if (told)
            WARN(checking, key,
                 "is empty for `%s`: such a message goes to the failure transport; a text beside "
                 "the placeholder mends it",
                 buf_text(&topic));
        buf_free(&topic);
        buf_free(&expanded);
    }
    topic_template_free(template);
}

static void check_update_topics(const struct checking *checking)
{
    const struct settings_route *route = checking->view.base;
    bool own_batch_topic =
        route->publish == PUBLISH_BATCH && strcmp(route->batch_topic, route->topic) != 0;

    if (route->drop || route->handler[0] != '\0') /* a handler's answer may name other topics */
        return;
    if (own_batch_topic)
        check_update_topic(checking, "batch_topic", route->batch_topic, route->match);
    else
        check_update_topic(checking, "topic", route->topic, route->match);
}

/* Warns about filters that match nothing, because an earlier route takes all their topics. */
static void check_takes_something(const struct checking *checking)
{
    const struct settings_route *route = checking->view.base;
    struct earlier *earlier = checking->earlier;
    struct bytes list = bytes_of(route->match), filter;

    while (bytes_next_item(&list, &filter)) {
        uint32_t order = topic_trie_find_cover(earlier->trie, filter);

        if (order >= earlier->len) /* TOPIC_TRIE_NONE */
            continue;
        const struct earlier_filter *cover = &earlier->filters[order];
        WARN(checking, "match",
             "`%.*s` takes nothing: `%.*s` of [route:%s], which stands before, takes it all",
             BYTES_ARG(filter), BYTES_ARG(cover->filter), cover->route->name);
    }
    add_filters(earlier, route);
}

static void check_route(const struct checking *checking)
{
    const struct settings_route *route = checking->view.base;

    if (route->publish != PUBLISH_EACH && checking->settings->worker.count > 1)
        WARN(
            checking, "publish",
            "with several workers an older message can be published after a newer one: subscribers "
            "must compare ids, or [worker] count = 1");
    check_update_topics(checking);
    check_takes_something(checking);
}

/* Checks the TLS options. An unreadable file is only a warning: files are read at each
 * connection, and may be there by then. */
static void check_tls(const struct checking *checking, const struct dsn_redis *dsn)
{
    const char *const files[] = {dsn->tls_ca_file, dsn->tls_ca_path, dsn->tls_cert_file,
                                 dsn->tls_key_file};
    bool any = false;

    for (size_t i = 0; i < LENGTH_OF(files); i++) {
        any = any || files[i] != NULL;
        if (dsn->tls && files[i] != NULL)
            check_file(checking, "dsn", files[i]);
    }
    if (!dsn->tls && any)
        WARN(checking, "dsn", "ssl[...] has no effect: TLS is what rediss:// says");
    if (dsn->tls && !dsn->tls_verify_peer)
        WARN(checking, "dsn",
             "ssl[verify_peer] is off: whoever is on the way can pose as Redis and read "
             "the password");
    else if (dsn->tls && !dsn->tls_verify_name)
        WARN(checking, "dsn",
             "ssl[verify_peer_name] is off: whoever has a certificate of the same "
             "authority can pose as Redis");
}

static bool is_program(const char *path)
{
    struct stat info;

    return stat(path, &info) == 0 && S_ISREG(info.st_mode) && access(path, X_OK) == 0;
}

/* Looks for the program as execvp does. */
static bool can_be_run(const char *program)
{
    const char *path = getenv("PATH");
    struct bytes rest = bytes_of(path != NULL ? path : "/bin:/usr/bin"), folder;
    bool found = false;

    if (strchr(program, '/') != NULL)
        return is_program(program);
    while (rest.len > 0 && !found) {
        bytes_split(rest, ':', &folder, &rest);
        char *name = xasprintf("%.*s%s%s", BYTES_ARG(folder), folder.len > 0 ? "/" : "", program);
        found = is_program(name);
        free(name);
    }
    return found;
}

/* Faults of a handler are only warnings, since the service may run in another environment. */
static void check_handler(const struct checking *checking)
{
    const struct settings_handler *handler = checking->view.base;
    char **words;
    struct error err;

    if (!settings_handler_is_used(checking->settings, handler))
        WARN(checking, "command", "is never run: neither a route nor [worker] names this handler");
    if (words_split(&words, bytes_of(handler->command), &err) < 0)
        return;
    if (!can_be_run(words[0]))
        WARN(checking, "command", "`%s` is no program that can be run here%s", words[0],
             strchr(words[0], '/') != NULL ? "" : ": it is not in PATH");
    words_free(words);
}

static void check_transport(const struct checking *checking)
{
    const struct settings_transport *transport = checking->view.base;
    struct dsn_redis dsn;
    struct error err;

    if (dsn_redis_parse(&dsn, transport->dsn, &err) < 0)
        return;
    if (dsn.stream_max_entries > 0) {
        WARN(checking, "dsn",
             "stream_max_entries: Redis drops the oldest messages, read or not, when "
             "there are more than that");
    }
    check_tls(checking, &dsn);
    dsn_redis_free(&dsn);
}

/* Warns if the failure transport's serializer may differ from PHP's: Symfony sets the serializer
 * of each transport separately, by default PhpSerializer. */
static void check_failure_serializer(const struct checking *checking)
{
    const struct settings *settings = checking->settings;
    const struct setting *row = setting_find(SETTING_FAILURE, BYTES("serializer"));

    if (strcmp(settings_origin(settings, row, &checking->view), "default") != 0)
        return;
    for (size_t i = 0; i < settings->transports_len; i++) {
        if (settings->transports[i].serializer != ENVELOPE_JSON)
            continue;
        WARN(checking, "serializer",
             "is not set, and [transport:%s] has serializer = json: PHP's failure transport must "
             "have the same serializer, or it deletes these rows; else set serializer = php here "
             "(`transport`: it has the same)",
             settings->transports[i].name);
        return;
    }
}

static void check_failure(const struct checking *checking)
{
    const struct settings_failure *failure = checking->view.base;
    struct failure *made;
    struct error err = {0};

    if (!failure->dsn[0]) {
        WARN(checking, "dsn",
             "is empty (DATABASE_URL): a message whose retries are used up has nowhere to go");
    } else if (failure_new(&made, failure, &err) < 0) {
        FAULT_ERROR(checking, "table", &err);
    } else {
        failure_free(made);
        check_failure_serializer(checking);
    }
}

static void check_mercure(const struct checking *checking)
{
    const struct settings_mercure *mercure = checking->view.base;
    struct jwt *jwt;
    struct error err;

    check_file(checking, "ca_file", mercure->ca_file);
    if (!strchr(mercure->topic_template, '{'))
        WARN(checking, "topic_template", "has no {topic}: every update has the same topic");
    else if (checking->settings->worker.handler[0] == '\0')
        check_update_topic(checking, "topic_template", mercure->topic_template, "#");
    if (checking->settings->worker.count == 0)
        return;
    if (jwt_new(&jwt, mercure, &err) < 0) {
        FAULT_ERROR(checking, mercure->jwt[0] ? "jwt" : "jwt_key_file", &err);
        return;
    }
    jwt_free(jwt);
}

static void check_http(const struct checking *checking)
{
    check_file(checking, "token_file", checking->settings->http.token_file);
}

static void (*const CHECKS[SETTING_SECTIONS])(const struct checking *checking) = {
    [SETTING_MQTT] = check_mqtt,       [SETTING_TRANSPORT] = check_transport,
    [SETTING_FAILURE] = check_failure, [SETTING_MERCURE] = check_mercure,
    [SETTING_ROUTE] = check_route,     [SETTING_HANDLER] = check_handler,
    [SETTING_HTTP] = check_http,
};

void check_settings(const struct settings *settings, struct check_report *report)
{
    struct earlier earlier = {.trie = topic_trie_new()};
    struct checking checking = {.settings = settings, .report = report, .earlier = &earlier};

    for (size_t i = 0; i < settings_views_len(settings); i++) {
        checking.view = settings_view(settings, i);
        if (CHECKS[checking.view.section])
            CHECKS[checking.view.section](&checking);
    }
    topic_trie_free(earlier.trie);
    free(earlier.filters);
}

void check_report_free(struct check_report *report)
{
    buf_free(&report->faults);
    buf_free(&report->warnings);
}

static void try_brokers(const struct settings_mqtt *mqtt, struct check_servers *servers)
{
    char *name = mqtt->name[0] ? xasprintf("broker of %s", mqtt->name) : xstrdup("broker");
    char *addresses = broker_address_list(mqtt);
    struct bytes list = bytes_of(addresses), text;

    while (bytes_next_item(&list, &text)) {
        char *address = xstrndup(text.data, text.len);

        check_broker(mqtt, check_server_add(servers, name, address));
        free(address);
    }
    free(addresses);
    free(name);
}

static void try_transport(const struct settings *settings,
                          const struct settings_transport *transport, struct check_servers *servers)
{
    struct buf address = {0};
    struct dsn_redis dsn;
    struct error err = {0};

    if (dsn_redis_parse(&dsn, transport->dsn, &err) < 0)
        return; /* check_settings has reported the fault */
    dsn_redacted(&address, transport->dsn);
    check_redis(settings, transport, &dsn, check_server_add(servers, "redis", buf_text(&address)));
    dsn_redis_free(&dsn);
    buf_free(&address);
}

static void try_rows(const struct settings_failure *failure, struct check_server *server)
{
    struct error err = {0};
    struct failure *rows = NULL;
    int64_t count;

    if (failure_new(&rows, failure, &err) < 0 ||
        failure_count(rows, CHECK_TIMEOUT_MS, &count, &err) < 0) {
        check_server_fail(server, check_server_text(server, &err),
                          "see [failure] dsn (DATABASE_URL)");
    }
    failure_free(rows);
}

static void try_failure(const struct settings_failure *failure, struct check_servers *servers)
{
    struct buf address = {0};
    struct dsn_redis dsn;
    struct error err = {0};

    dsn_redacted(&address, failure->dsn);
    struct check_server *server =
        check_server_add(servers, "failure transport", buf_text(&address));
    if (!dsn_is_redis(failure->dsn)) {
        try_rows(failure, server);
    } else if (dsn_redis_parse(&dsn, failure->dsn, &err) == 0) { /* else check_settings reports */
        check_redis_failed(&dsn, server);
        dsn_redis_free(&dsn);
    }
    buf_free(&address);
}

static void try_hub(const struct settings_mercure *mercure, struct check_servers *servers)
{
    struct error err = {0};
    struct buf address = {0};

    dsn_redacted(&address, mercure->url);
    struct check_server *server = check_server_add(servers, "hub", buf_text(&address));
    if (hub_reachable(mercure, CHECK_TIMEOUT_MS, &err) < 0) {
        check_server_fail(server, check_server_text(server, &err),
                          "see [mercure] url and jwt_secret (MERCURE_URL, MERCURE_JWT_SECRET)");
    }
    buf_free(&address);
}

/* The hub is tried before the brokers: libcurl uses http_proxy, which check_broker removes from the environment. */
static void try_servers(const struct settings *settings, struct check_servers *servers)
{
    signal(SIGPIPE, SIG_IGN); /* a server may close the connection */
    if (settings->mercure.url[0])
        try_hub(&settings->mercure, servers);
    for (size_t i = 0; i <= settings->consumers_len; i++)
        try_brokers(settings_mqtt_at(settings, i), servers);
    for (size_t i = 0; i < settings->transports_len; i++)
        try_transport(settings, &settings->transports[i], servers);
    if (settings->failure.dsn[0])
        try_failure(&settings->failure, servers);
}

static cJSON *json_lines(const struct buf *lines)
{
    cJSON *list = cJSON_CreateArray();
    struct bytes rest = buf_bytes(lines);

    while (rest.len > 0) {
        struct bytes line;
        struct buf copy = {0};

        bytes_split(rest, '\n', &line, &rest);
        buf_append(&copy, line);
        cJSON_AddItemToArray(list, cJSON_CreateString(buf_text(&copy)));
        buf_free(&copy);
    }
    return list;
}

static cJSON *json_servers(struct check_servers *servers)
{
    cJSON *list = cJSON_CreateArray();

    for (size_t i = 0; i < servers->len; i++) {
        struct check_server *server = &servers->servers[i];
        cJSON *entry = cJSON_CreateObject();

        cJSON_AddStringToObject(entry, "name", server->name);
        cJSON_AddStringToObject(entry, "place", server->address);
        cJSON_AddBoolToObject(entry, "ok", server->ok);
        cJSON_AddStringToObject(entry, "text", buf_text(&server->text));
        cJSON_AddItemToArray(list, entry);
    }
    return list;
}

static void print_json(struct buf *out, const struct cli *cli, int exit_code,
                       const struct check_report *report, struct check_servers *servers)
{
    cJSON *root = cJSON_CreateObject();

    cJSON_AddBoolToObject(root, "ok", exit_code == CLI_DONE);
    cJSON_AddStringToObject(root, "file", cli->config ? cli->config : "");
    cJSON_AddItemToObject(root, "faults", json_lines(&report->faults));
    cJSON_AddItemToObject(root, "warnings", json_lines(&report->warnings));
    if (cli_option(cli, "connect"))
        cJSON_AddItemToObject(root, "servers", json_servers(servers));
    cli_append_json(out, root);
}

static void print_servers(struct buf *out, struct check_servers *servers)
{
    for (size_t i = 0; i < servers->len; i++) {
        struct check_server *server = &servers->servers[i];

        buf_printf(out, "%s %s: %s%s%s\n", server->name, server->address,
                   server->ok ? "ok" : "failed", server->text.len > 0 ? ": " : "",
                   buf_text(&server->text));
    }
}

/* Prints faults and warnings to standard error, the verdict to standard output. */
static void print_text(struct buf *out, const struct cli *cli, struct check_report *report,
                       struct check_servers *servers)
{
    settings_print_lines("mqtt-bridge", "", &report->faults);
    if (report->faults.len > 0 && !cli->config)
        cli_fail(CLI_USAGE, "no ini file was read, for there is none at " CLI_DEFAULT_CONFIG
                            ": `mqtt-bridge config --template` prints one");
    settings_print_lines("mqtt-bridge", "warning: ", &report->warnings);
    if (report->faults.len == 0)
        buf_printf(out, "%s: the settings are good\n", cli->config ? cli->config : "environment");
    print_servers(out, servers);
}

static int run_checks(struct cli *cli, struct check_report *report, struct check_servers *servers)
{
    if (settings_load(&cli->settings, cli->config, true, &report->faults) < 0) {
        cli->settings = NULL;
        return CLI_USAGE;
    }
    buf_append(&report->warnings, buf_bytes(&cli->settings->notices));
    check_settings(cli->settings, report);
    if (report->faults.len > 0)
        return CLI_USAGE;
    if (cli_option(cli, "connect"))
        try_servers(cli->settings, servers);
    for (size_t i = 0; i < servers->len; i++)
        if (!servers->servers[i].ok)
            return CLI_FAILED;
    return CLI_DONE;
}

int verb_check(struct cli *cli)
{
    struct check_report report = {0};
    struct check_servers servers = {0};
    struct buf out = {0};

    int exit_code = run_checks(cli, &report, &servers);
    if (cli->json)
        print_json(&out, cli, exit_code, &report, &servers);
    else
        print_text(&out, cli, &report, &servers);
    if (!cli_print(&out) && exit_code == CLI_DONE)
        exit_code = CLI_FAILED;
    buf_free(&out);
    check_report_free(&report);
    check_servers_free(&servers);
    return exit_code;
}
