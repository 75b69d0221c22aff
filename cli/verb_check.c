#include "cli/check.h"
#include "cli/check_connect.h"
#include "cli/verbs.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>

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
