#include "cli/cli.h"

#include "cli/verbs.h"
#include "common/base/alloc.h"
#include "common/base/nearest.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
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

/* What the command line says before the verb's row is asked. */
struct line {
    struct cli *cli;
    int argc;
    char **argv;
    int next;
    bool help;
    bool version;
    bool ended; /* "--" was there */
};

static int fail_arguments(const struct verb *verb, const char *text)
{
    return cli_fail(CLI_USAGE, "%s: %s; usage: mqtt-bridge %s%s%s", verb->name, text, verb->name,
                    verb->arguments[0] ? " " : "", verb->arguments);
}

int cli_unknown_verb(const char *name)
{
    struct nearest nearest = {.name = bytes_of(name)};

    for (size_t i = 0; i < VERBS_LEN; i++)
        nearest_consider(&nearest, VERBS[i].name);
    if (nearest.best)
        return cli_fail(CLI_USAGE, "unknown verb `%s`; did you mean `%s`?", name, nearest.best);
    return cli_fail(CLI_USAGE, "unknown verb `%s`; `mqtt-bridge --help` lists them", name);
}

static int fail_option(const struct verb *verb, const char *option)
{
    return cli_fail(CLI_USAGE, "%s has no option `%s`; `mqtt-bridge %s%s--help` lists them",
                    verb ? verb->name : "the command", option, verb ? verb->name : "",
                    verb ? " " : "");
}

static int fail_unknown_option(const struct verb *verb, struct bytes name)
{
    static const char *const GENERAL[] = {"config", "help", "json", "version"};
    struct nearest nearest = {.name = name};

    for (size_t i = 0; i < sizeof(GENERAL) / sizeof(GENERAL[0]); i++)
        nearest_consider(&nearest, GENERAL[i]);
    for (const struct verb_option *option = verb ? verb->options : NULL; option && option->name;
         option++)
        if (!option->hidden)
            nearest_consider(&nearest, option->name);
    if (nearest.best && !bytes_equal_text(name, nearest.best)) {
        return cli_fail(CLI_USAGE, "%s has no option `--%.*s`; did you mean `--%s`?",
                        verb ? verb->name : "the command", BYTES_ARG(name), nearest.best);
    }
    char *option = xasprintf("--%.*s", BYTES_ARG(name));
    fail_option(verb, option);
    free(option);
    return CLI_USAGE;
}

/* The value of an option that needs one: behind its `=`, or the next word. NULL, said, without one. */
static const char *take_value(struct line *line, struct bytes name, const char *given)
{
    if (given)
        return given;
    if (line->next < line->argc)
        return line->argv[line->next++];
    cli_fail(CLI_USAGE, "--%.*s needs a value", BYTES_ARG(name));
    return NULL;
}

/* The options that every verb has. 1: it was one; 0: it is none; negative: wrong, said. */
static int read_general(struct line *line, struct bytes name, const char *given)
{
    bool flag = true;

    if (bytes_equal_text(name, "config")) {
        line->cli->config = take_value(line, name, given);
        line->cli->config_given = true;
        return line->cli->config ? 1 : -1;
    }
    if (bytes_equal_text(name, "json"))
        line->cli->json = true;
    else if (bytes_equal_text(name, "help"))
        line->help = true;
    else if (bytes_equal_text(name, "version") && !line->cli->verb)
        line->version = true;
    else
        flag = false;
    if (flag && given) {
        cli_fail(CLI_USAGE, "--%.*s takes no value", BYTES_ARG(name));
        return -1;
    }
    return flag;
}

static bool keep_option(struct line *line, const struct verb_option *option, struct bytes name,
                        const char *given)
{
    struct cli *cli = line->cli;
    const char *value = "";

    if (option->argument) {
        value = take_value(line, name, given);
    } else if (given) {
        cli_fail(CLI_USAGE, "--%s takes no value", option->name);
        return false;
    }
    if (cli->options_len == CLI_OPTIONS_MAX) {
        cli_fail(CLI_USAGE, "too many options");
        return false;
    }
    cli->options[cli->options_len].name = option->name;
    cli->options[cli->options_len++].value = value;
    return value != NULL;
}

static bool read_option(struct line *line, const char *word)
{
    struct bytes name;
    struct bytes behind;
    bool assigned = bytes_split(bytes_of(word + 2), '=', &name, &behind);
    const char *given = assigned ? behind.data : NULL;
    char copy[64];
    int general = read_general(line, name, given);

    if (general != 0)
        return general > 0;
    snprintf(copy, sizeof(copy), "%.*s", BYTES_ARG(name));
    const struct verb *verb = line->cli->verb;
    const struct verb_option *option = verb ? verb_option_find(verb, copy) : NULL;
    if (!option) {
        fail_unknown_option(verb, name);
        return false;
    }
    return keep_option(line, option, name, given);
}

/* "-q": an option of the verb by its letter. */
static bool read_letter(struct line *line, const char *word)
{
    const struct verb *verb = line->cli->verb;
    const struct verb_option *option = verb ? verb->options : NULL;

    while (option && option->name && option->letter != word[1])
        option++;
    if (!option || !option->name || word[2]) {
        fail_option(verb, word);
        return false;
    }
    return keep_option(line, option, bytes_of(option->name), NULL);
}

/* Every word in turn; false: wrong, said. A number below zero is no option: the verb says what it takes. */
static bool read_words(struct line *line, int *count, char **words)
{
    while (line->next < line->argc) {
        char *word = line->argv[line->next++];

        if (!line->ended && strcmp(word, "--") == 0) {
            line->ended = true;
        } else if (!line->ended && strcmp(word, "-h") == 0) {
            line->help = true;
        } else if (!line->ended && strcmp(word, "-v") == 0 && !line->cli->verb) {
            line->version = true;
        } else if (!line->ended && strncmp(word, "--", 2) == 0) {
            if (!read_option(line, word))
                return false;
        } else if (!line->ended && word[0] == '-' && word[1] && !isdigit((unsigned char)word[1])) {
            if (!read_letter(line, word))
                return false;
        } else if (line->cli->verb) {
            words[(*count)++] = word;
        } else {
            line->cli->verb = verb_find(word);
            if (!line->cli->verb) {
                cli_unknown_verb(word);
                return false;
            }
        }
    }
    return true;
}

static int print_help(const struct line *line)
{
    struct buf out = {0};

    if (line->cli->verb)
        verb_describe(&out, line->cli->verb);
    else
        verbs_help(&out);
    bool printed = cli_print(&out);
    buf_free(&out);
    return printed ? CLI_DONE : CLI_FAILED;
}

/* What the verb's row says about what was given. */
static bool fits_verb(const struct cli *cli, int count)
{
    const struct verb *verb = cli->verb;

    if (cli->json && !verb->json) {
        fail_unknown_option(verb, BYTES("json"));
        return false;
    }
    if (count > verb->arguments_max) {
        fail_arguments(verb, "too many arguments");
        return false;
    }
    if (count < verb->arguments_min) {
        fail_arguments(verb, "an argument is missing");
        return false;
    }
    return true;
}

static void find_config(struct cli *cli)
{
    const char *named = getenv("MQTT_BRIDGE_CONFIG");

    if (!cli->config && named && named[0]) {
        cli->config = named;
        cli->config_given = true;
    }
    if (!cli->config && access(CLI_DEFAULT_CONFIG, F_OK) == 0)
        cli->config = CLI_DEFAULT_CONFIG;
}

bool cli_read(struct cli *cli, int argc, char **argv, int *count, char **words, int *exit_code)
{
    struct line line = {.cli = cli, .argc = argc, .argv = argv, .next = 1};
    const char *no_color = getenv("NO_COLOR");

    *count = 0;
    *exit_code = CLI_USAGE;
    cli->program = argv[0];
    if (!read_words(&line, count, words))
        return false;
    if (line.help) {
        *exit_code = print_help(&line);
        return false;
    }
    /* A service manager or a container gives no verb; a person who gives none wants to know them. */
    if (!cli->verb)
        cli->verb = verb_find(line.version ? "version" : isatty(STDIN_FILENO) ? "help" : "run");
    cli->color = isatty(STDOUT_FILENO) && !(no_color && no_color[0]);
    find_config(cli);
    return fits_verb(cli, *count);
}
