#include "cli/cli.h"

#include "cli/verbs.h"
#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/words.h"
#include "common/runtime/command_line.h"
#include "common/wire/json.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int cli_fail(int exit_code, const char *format, ...)
{
    va_list arguments;

    fputs("mqtt-bridge: ", stderr);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    return exit_code;
}

bool cli_print(struct buf *out)
{
    bool written = fwrite(out->data ? out->data : "", 1, out->len, stdout) == out->len;

    buf_clear(out);
    if (fflush(stdout) != 0 || !written) {
        cli_fail(CLI_FAILED, "standard output: %s", strerror(errno));
        return false;
    }
    return true;
}

int cli_print_free(struct buf *out)
{
    bool printed = cli_print(out);

    buf_free(out);
    return printed ? CLI_DONE : CLI_FAILED;
}

void cli_append_json(struct buf *out, struct cJSON *root)
{
    char *text = cJSON_Print(root);

    buf_printf(out, "%s\n", text);
    cJSON_free(text);
    cJSON_Delete(root);
}

int cli_print_json(struct cJSON *root)
{
    struct buf out = {0};

    cli_append_json(&out, root);
    return cli_print_free(&out);
}

void cli_add_text(struct cJSON *object, const char *name, struct bytes text)
{
    struct buf mended = {0};

    json_make_utf8(&mended, text);
    cJSON_AddStringToObject(object, name, buf_text(&mended));
    buf_free(&mended);
}

void cli_add_time(struct cJSON *object, const char *name, int64_t us)
{
    char text[CLOCK_UTC_SIZE];

    clock_format_utc(us, text);
    cJSON_AddStringToObject(object, name, text);
}

char *cli_printable(struct bytes text, size_t most)
{
    char *out = xmalloc(most + 1);

    bytes_to_printable(text, out, most + 1);
    return out;
}

int cli_confirm(const struct cli *cli, const char *action, const char *what, size_t count)
{
    const char *verb = cli->verb->name;
    char answer[8] = "";

    if (cli_option(cli, "yes") != NULL)
        return CLI_DONE;
    if (!isatty(STDIN_FILENO))
        return cli_fail(CLI_USAGE,
                        "%s %s: %zu messages, and nobody can be asked: standard input is no "
                        "terminal; give --yes",
                        verb, action, count);
    fprintf(stderr, "%s %zu %s%s? [y/N] ", action, count, what, count == 1 ? "" : "s");
    if (fgets(answer, sizeof(answer), stdin) != NULL && (answer[0] == 'y' || answer[0] == 'Y'))
        return CLI_DONE;
    return cli_fail(CLI_FAILED, "%s %s: not confirmed, nothing was done", verb, action);
}

const char *cli_option(const struct cli *cli, const char *name)
{
    for (size_t i = cli->options_len; i > 0; i--)
        if (strcmp(cli->options[i - 1].name, name) == 0)
            return cli->options[i - 1].value;
    return NULL;
}

const struct settings *cli_settings(struct cli *cli)
{
    struct buf faults = {0};

    if (!cli->settings && settings_load(&cli->settings, cli->config, false, &faults) < 0) {
        settings_print_lines("mqtt-bridge", "", &faults);
        cli->settings = NULL;
    }
    buf_free(&faults);
    return cli->settings;
}

const char *cli_socket(struct cli *cli)
{
    if (!cli->settings && cli->faults.len == 0 &&
        settings_load(&cli->settings, cli->config, false, &cli->faults) < 0) {
        cli->settings = NULL;
        cli->socket = settings_socket(cli->config);
    }
    return cli->settings ? cli->settings->supervisor.socket : cli->socket;
}

void cli_free(struct cli *cli)
{
    settings_free(cli->settings);
    free(cli->socket);
    buf_free(&cli->faults);
    cli->settings = NULL;
    cli->socket = NULL;
}

static const struct command_line_option BEFORE_VERB[] = {
    {"config", 0, "FILE", "the ini file (else MQTT_BRIDGE_CONFIG, else " CLI_DEFAULT_CONFIG ")",
     false},
    {"json", 0, NULL, "JSON, of verbs that print", false},
    {"help", 'h', NULL, "this text, or with a verb its own help", false},
    {"version", 'v', NULL, "the version", false},
    {NULL, 0, NULL, NULL, false},
};

static const struct command_line_option BEHIND_VERB[] = {
    {"json", 0, NULL, "print JSON", false}, /* first: verbs without JSON skip this row */
    {"config", 0, "FILE", "the ini file", false},
    {"help", 'h', NULL, "this text", false},
    {NULL, 0, NULL, NULL, false},
};

const struct command_line_option *cli_general_options(const struct verb *verb)
{
    return !verb ? BEFORE_VERB : verb->json ? BEHIND_VERB : BEHIND_VERB + 1;
}

static int fail_arguments(const struct verb *verb, const char *text)
{
    return cli_fail(CLI_USAGE, "%s: %s; usage: mqtt-bridge %s%s%s", verb->name, text, verb->name,
                    verb->arguments[0] ? " " : "", verb->arguments);
}

int cli_unknown_verb(const char *name)
{
    struct words_nearest nearest = {.name = bytes_of(name)};

    for (size_t i = 0; i < VERBS_LEN; i++)
        words_consider(&nearest, VERBS[i].name);
    if (nearest.best)
        return cli_fail(CLI_USAGE, "unknown verb `%s`; did you mean `%s`?", name, nearest.best);
    return cli_fail(CLI_USAGE, "unknown verb `%s`; `mqtt-bridge --help` lists them", name);
}

static int unknown_action(const struct verb *verb, const char *name)
{
    struct words_nearest nearest = {.name = bytes_of(name)};
    struct buf names = {0};

    for (const struct verb_action *action = verb->actions; action->name; action++) {
        const char *between = action == verb->actions ? "" : action[1].name ? ", " : " or ";

        words_consider(&nearest, action->name);
        buf_printf(&names, "%s%s", between, action->name);
    }
    if (nearest.best)
        cli_fail(CLI_USAGE, "%s: unknown action `%s`; did you mean `%s`?", verb->name, name,
                 nearest.best);
    else
        cli_fail(CLI_USAGE, "%s: unknown action `%s`; it takes %s", verb->name, name,
                 buf_text(&names));
    buf_free(&names);
    return CLI_USAGE;
}

static struct command_line_reader options_of(const struct verb *verb)
{
    return (struct command_line_reader){.program = "mqtt-bridge",
                                        .subject = verb->name,
                                        .tables = {verb->options, cli_general_options(verb)}};
}

static bool keep_option(struct cli *cli, const struct command_line_reader *reader)
{
    if (cli->options_len == CLI_OPTIONS_MAX) {
        cli_fail(CLI_USAGE, "too many options");
        return false;
    }
    cli->options[cli->options_len].name = reader->option->name;
    cli->options[cli->options_len++].value = reader->text;
    return true;
}

static bool take_option(struct cli *cli, const struct command_line_reader *reader)
{
    const char *name = reader->option->name;

    if (cli->verb && verbs_find_option(cli->verb, name))
        return keep_option(cli, reader);
    if (strcmp(name, "json") == 0)
        cli->json = true;
    else if (strcmp(name, "help") == 0)
        cli->help = true;
    else if (strcmp(name, "version") == 0)
        cli->version = true;
    else if (strcmp(name, "config") == 0)
        cli->config = reader->text;
    return true;
}

static bool read_verb(struct cli *cli, struct command_line_reader *reader)
{
    enum command_line_step took;

    while ((took = command_line_next(reader)) == COMMAND_LINE_OPTION)
        if (!take_option(cli, reader))
            return false;
    if (took != COMMAND_LINE_ARGUMENT)
        return took == COMMAND_LINE_END;
    cli->verb = verbs_find(reader->text);
    if (!cli->verb)
        cli_unknown_verb(reader->text);
    return cli->verb != NULL;
}

static bool read_arguments(struct cli *cli, struct command_line_reader *reader)
{
    enum command_line_step took;

    while ((took = command_line_next(reader)) != COMMAND_LINE_END) {
        if (took == COMMAND_LINE_WRONG)
            return false;
        if (took == COMMAND_LINE_OPTION && !take_option(cli, reader))
            return false;
        if (took == COMMAND_LINE_ARGUMENT)
            cli->arguments[cli->arguments_len++] = reader->argv[reader->next - 1];
    }
    return true;
}

static bool read_line(struct cli *cli, int argc, char **argv)
{
    struct command_line_reader before = {.program = "mqtt-bridge",
                                         .subject = "the command",
                                         .tables = {BEFORE_VERB, NULL},
                                         .argc = argc,
                                         .argv = argv};

    if (!read_verb(cli, &before))
        return false;
    if (!cli->verb)
        return true;
    struct command_line_reader behind = options_of(cli->verb);
    behind.argc = argc - before.next + 1;
    behind.argv = argv + before.next - 1;
    behind.ended = before.ended;
    return read_arguments(cli, &behind);
}

static int print_help(const struct cli *cli)
{
    struct buf out = {0};

    if (cli->verb)
        verbs_describe(&out, cli->verb);
    else
        verbs_help(&out);
    return cli_print_free(&out);
}

static bool fits_action(const struct cli *cli)
{
    const struct verb *verb = cli->verb;
    const struct verb_action *action =
        verbs_find_action(verb, cli->arguments_len > 0 ? cli->arguments[0] : NULL);

    if (!action) {
        unknown_action(verb, cli->arguments[0]);
        return false;
    }
    for (size_t i = 0; i < cli->options_len; i++) {
        if (!verbs_action_takes(action, cli->options[i].name)) {
            cli_fail(CLI_USAGE,
                     "%s %s has no option `--%s`; `mqtt-bridge help %s` says what it has",
                     verb->name, action->name, cli->options[i].name, verb->name);
            return false;
        }
    }
    if (cli->arguments_len > 1 && action->arguments[0] == '\0') {
        cli_fail(CLI_USAGE, "%s %s takes no ID", verb->name, action->name);
        return false;
    }
    return true;
}

static bool fits_verb(const struct cli *cli)
{
    const struct verb *verb = cli->verb;

    if (cli->json && !verb->json) {
        const struct command_line_reader options = options_of(verb);

        command_line_refuse(&options, "--json");
        return false;
    }
    if (cli->arguments_len > verb->arguments_max) {
        fail_arguments(verb, "too many arguments");
        return false;
    }
    if (cli->arguments_len < verb->arguments_min) {
        fail_arguments(verb, "an argument is missing");
        return false;
    }
    return !verb->actions || fits_action(cli);
}

static void find_config(struct cli *cli)
{
    const char *named = getenv("MQTT_BRIDGE_CONFIG");

    if (!cli->config && named && named[0])
        cli->config = named;
    if (!cli->config && access(CLI_DEFAULT_CONFIG, F_OK) == 0)
        cli->config = CLI_DEFAULT_CONFIG;
}

bool cli_read(struct cli *cli, int argc, char **argv, int *exit_code)
{
    const char *no_color = getenv("NO_COLOR");

    *exit_code = CLI_USAGE;
    if (!read_line(cli, argc, argv))
        return false;
    if (cli->help) {
        *exit_code = print_help(cli);
        return false;
    }
    /* Service managers and containers start the bridge without a verb. A person at a terminal
     * gets the help. */
    if (!cli->verb)
        cli->verb = verbs_find(cli->version ? "version" : isatty(STDIN_FILENO) ? "help" : "run");
    cli->color = isatty(STDOUT_FILENO) && !(no_color && no_color[0]);
    find_config(cli);
    return fits_verb(cli);
}
