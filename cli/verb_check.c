/* check: the settings, and with --connect whether every server answers as the bridge needs it. Connects to each in turn,
 * blocking; a server that is silent, or whose name is not looked up, costs some seconds and not more. */
#include "cli/check.h"
#include "cli/check_broker.h"
#include "cli/check_redis.h"
#include "cli/verbs.h"
#include "common/base/alloc.h"
#include "common/client/failure.h"
#include "common/client/hub.h"
#include "common/settings/broker_address.h"
#include "common/wire/dsn.h"

#include <cjson/cJSON.h>
#include <signal.h>
#include <stdlib.h>

/* Each server of the list, or host and port where it names none. */
static void check_mqtt(const struct settings_mqtt *mqtt, struct check_servers *servers)
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

static void check_transport(const struct settings *settings,
                            const struct settings_transport *transport,
                            struct check_servers *servers)
{
    struct buf address = {0};
    struct dsn_redis dsn;
    struct error err = {0};

    if (dsn_redis_parse(&dsn, transport->dsn, &err) < 0)
        return; /* said by check_settings */
    dsn_redacted(&address, transport->dsn);
    check_redis(settings, transport, &dsn, check_server_add(servers, "redis", buf_text(&address)));
    dsn_redis_free(&dsn);
    buf_free(&address);
}

static void check_rows(const struct settings_failure *failure, struct check_server *server)
{
    struct error err = {0};
    struct failure *rows = NULL;
    int64_t count;

    if (failure_new(&rows, failure, &err) < 0 ||
        failure_count(rows, CHECK_TIMEOUT_MS, &count, &err) < 0) {
        check_server_fail(server, check_server_words(server, &err),
                          "see [failure] dsn (DATABASE_URL)");
    }
    failure_free(rows);
}

static void check_failure(const struct settings_failure *failure, struct check_servers *servers)
{
    struct buf address = {0};
    struct dsn_redis dsn;
    struct error err = {0};

    dsn_redacted(&address, failure->dsn);
    struct check_server *server =
        check_server_add(servers, "failure transport", buf_text(&address));
    if (!dsn_is_redis(failure->dsn)) {
        check_rows(failure, server);
    } else if (dsn_redis_parse(&dsn, failure->dsn, &err) == 0) { /* else said by check_settings */
        check_redis_failed(&dsn, server);
        dsn_redis_free(&dsn);
    }
    buf_free(&address);
}

static void check_hub(const struct settings_mercure *mercure, struct check_servers *servers)
{
    struct error err = {0};
    struct buf address = {0};

    dsn_redacted(&address, mercure->url);
    struct check_server *server = check_server_add(servers, "hub", buf_text(&address));
    if (hub_reachable(mercure, CHECK_TIMEOUT_MS, &err) < 0) {
        check_server_fail(server, check_server_words(server, &err),
                          "see [mercure] url and jwt_secret (MERCURE_URL, MERCURE_JWT_SECRET)");
    }
    buf_free(&address);
}

/* The hub before the brokers: libcurl heeds http_proxy, which check_broker takes away. */
static void check_connect(const struct settings *settings, struct check_servers *servers)
{
    signal(SIGPIPE, SIG_IGN); /* a server that hangs up */
    if (settings->mercure.url[0])
        check_hub(&settings->mercure, servers);
    check_mqtt(&settings->mqtt, servers);
    for (size_t i = 0; i < settings->consumers_len; i++)
        check_mqtt(&settings->consumers[i], servers);
    for (size_t i = 0; i < settings->transports_len; i++)
        check_transport(settings, &settings->transports[i], servers);
    if (settings->failure.dsn[0])
        check_failure(&settings->failure, servers);
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

/* Faults and warnings to standard error, the verdict to standard output. */
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

/* Servers are only tried with settings that could run. */
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
        check_connect(cli->settings, servers);
    for (size_t i = 0; i < servers->len; i++)
        if (!servers->servers[i].ok)
            return CLI_FAILED;
    return CLI_DONE;
}

int verb_check(struct cli *cli, int argc, char **argv)
{
    struct check_report report = {0};
    struct check_servers servers = {0};
    struct buf out = {0};

    (void)argc;
    (void)argv;
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
