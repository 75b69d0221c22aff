#include "common/runtime/command_line.h"

#include "common/base/buf.h"
#include "common/base/words.h"

#include <ctype.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXIT_USAGE  2
#define OPTIONS_MAX 40
#define LONG_ONLY   256 /* getopt's value of the first option; below are letters */

/* The option of that number, counted through the tables; NULL: there are fewer. */
static const struct command_line_option *option_at(const struct command_line_reader *reader,
                                                   int number)
{
    for (int i = 0; i < COMMAND_LINE_TABLES; i++)
        for (const struct command_line_option *o = reader->tables[i]; o && o->name; o++)
            if (number-- == 0)
                return o;
    return NULL;
}

static const struct command_line_option *option_of(const struct command_line_reader *reader,
                                                   int value)
{
    const struct command_line_option *option;

    if (value >= LONG_ONLY)
        return option_at(reader, value - LONG_ONLY);
    for (int i = 0; (option = option_at(reader, i)) != NULL; i++)
        if (option->letter && option->letter == value)
            return option;
    return NULL;
}

/* The tables as getopt_long's options and letters. "-": arguments come in order, among options; ":": a missing value is
 * told from an unknown option. */
static void describe(const struct command_line_reader *reader,
                     struct option options[OPTIONS_MAX + 1], char letters[2 * OPTIONS_MAX + 3])
{
    const struct command_line_option *option;
    size_t len = 2;
    int i;

    memcpy(letters, "-:", 2);
    for (i = 0; (option = option_at(reader, i)) != NULL; i++) {
        if (i == OPTIONS_MAX)
            abort();
        options[i] = (struct option){
            option->name, option->argument ? required_argument : no_argument, NULL, LONG_ONLY + i};
        if (option->letter)
            letters[len++] = option->letter;
        if (option->letter && option->argument)
            letters[len++] = ':';
    }
    options[i] = (struct option){NULL, 0, NULL, 0};
    letters[len] = '\0';
}

static void append_names(struct buf *out, const struct command_line_reader *reader)
{
    const struct command_line_option *option;
    struct bytes former = BYTES_NONE;

    for (int i = 0; (option = option_at(reader, i)) != NULL; i++) {
        if (option->hidden)
            continue;
        if (former.len > 0)
            buf_printf(out, "--%.*s, ", BYTES_ARG(former));
        former = bytes_of(option->name);
    }
    if (out->len > 2)
        out->len -= 2; /* the last comma */
    buf_printf(out, "%s--%.*s", out->len > 0 ? " and " : "", BYTES_ARG(former));
}

void command_line_refuse(const struct command_line_reader *reader, const char *word)
{
    const struct command_line_option *option;
    struct words_nearest nearest = {0};
    struct bytes shown, rest;
    struct buf names = {0};

    bytes_split(bytes_of(word), '=', &shown, &rest);
    nearest.name = bytes_slice(shown, 2, shown.len);
    for (int i = 0; (option = option_at(reader, i)) != NULL; i++)
        if (!option->hidden && nearest.name.len > 0)
            words_consider(&nearest, option->name);
    append_names(&names, reader);
    if (nearest.best)
        fprintf(stderr, "%s: %s has no option `%.*s`; did you mean `--%s`?\n", reader->program,
                reader->subject, BYTES_ARG(shown), nearest.best);
    else
        fprintf(stderr, "%s: %s has no option `%.*s`; it has %s\n", reader->program,
                reader->subject, BYTES_ARG(shown), buf_text(&names));
    buf_free(&names);
}

/* True for "--co" if there are --config and --connect. */
static bool is_ambiguous(const struct command_line_reader *reader, struct bytes name,
                         struct buf *candidates)
{
    const struct command_line_option *option;
    int count = 0;

    for (int i = 0; (option = option_at(reader, i)) != NULL; i++) {
        if (!bytes_starts_with(bytes_of(option->name), name) || option->hidden)
            continue;
        buf_printf(candidates, "%s`--%s`", count > 0 ? " or " : "", option->name);
        count++;
    }
    return name.len > 0 && count > 1;
}

static void refuse_word(const struct command_line_reader *reader, const char *word)
{
    struct buf candidates = {0};
    struct bytes name, rest;

    bytes_split(bytes_of(word + 2), '=', &name, &rest);
    if (is_ambiguous(reader, name, &candidates))
        fprintf(stderr, "%s: --%.*s may be %s\n", reader->program, BYTES_ARG(name),
                buf_text(&candidates));
    else
        command_line_refuse(reader, word);
    buf_free(&candidates);
}

/* What getopt has refused: optopt is the option that takes no value, the letter that is none, or 0. */
static enum command_line_step refuse(const struct command_line_reader *reader)
{
    const struct command_line_option *option = option_of(reader, optopt);
    const char letter[] = {'-', (char)optopt, '\0'};

    if (option)
        fprintf(stderr, "%s: --%s takes no value\n", reader->program, option->name);
    else if (optopt)
        command_line_refuse(reader, letter);
    else
        refuse_word(reader, reader->argv[reader->base + optind - 1]);
    return COMMAND_LINE_WRONG;
}

static enum command_line_step refuse_without_value(const struct command_line_reader *reader)
{
    const struct command_line_option *option = option_of(reader, optopt);

    fprintf(stderr, "%s: --%s needs a value: --%s %s\n", reader->program, option->name,
            option->name, option->argument);
    return COMMAND_LINE_WRONG;
}

static enum command_line_step take_argument(struct command_line_reader *reader, const char *text)
{
    reader->option = NULL;
    reader->text = text;
    return COMMAND_LINE_ARGUMENT;
}

static bool is_number_below_zero(const char *word)
{
    return word && word[0] == '-' && isdigit((unsigned char)word[1]);
}

static enum command_line_step step(struct command_line_reader *reader)
{
    struct option options[OPTIONS_MAX + 1];
    char letters[2 * OPTIONS_MAX + 3];

    describe(reader, options, letters);
    opterr = 0;
    optopt = 0; /* getopt does not set it for an unknown long option */
    int value = getopt_long(reader->argc - reader->base, reader->argv + reader->base, letters,
                            options, NULL);
    if (value == -1)
        return COMMAND_LINE_END;
    if (value == '?')
        return refuse(reader);
    if (value == ':')
        return refuse_without_value(reader);
    if (value == 1)
        return take_argument(reader, optarg);
    reader->option = option_of(reader, value);
    reader->text = reader->option->argument ? optarg : "";
    return COMMAND_LINE_OPTION;
}

enum command_line_step command_line_next(struct command_line_reader *reader)
{
    enum command_line_step took = COMMAND_LINE_END;
    int at = reader->next > 0 ? reader->next : 1;

    if (!reader->ended && at < reader->argc && is_number_below_zero(reader->argv[at])) {
        reader->next = at + 1;
        optind = reader->next - reader->base;
        return take_argument(reader, reader->argv[at]);
    }
    if (!reader->ended) {
        if (!reader->begun) {
            reader->base = at - 1;
            optind = 0; /* resets getopt */
        }
        reader->begun = true;
        took = step(reader);
        at = reader->base + optind;
    }
    if (took == COMMAND_LINE_END && at < reader->argc) { /* behind "--" */
        reader->ended = true;
        took = take_argument(reader, reader->argv[at++]);
    }
    reader->next = at;
    return took;
}

static const struct command_line_option GENERAL[] = {
    {"config", 'c', "FILE", "", false},
    {"help", 'h', NULL, "", false},
    {"version", 0, NULL, "", false},
    {NULL, 0, NULL, NULL, false},
};

/* Takes an option; exits for --help and --version. */
static void take_option(struct command_line *line, const struct command_line_reader *reader)
{
    if (strcmp(reader->option->name, "config") == 0) {
        line->config = reader->text;
    } else if (reader->option->argument) {
        line->value = reader->text;
    } else if (reader->option->letter == 'h') {
        fputs(line->help, stdout);
        exit(0);
    } else {
        printf("%s %s\n", line->program, MQTT_BRIDGE_VERSION);
        exit(0);
    }
}

void command_line_read(struct command_line *line, int argc, char **argv)
{
    const struct command_line_option own[] = {{line->option, 0, "VALUE", "", false},
                                              {NULL, 0, NULL, NULL, false}};
    struct command_line_reader reader = {.program = line->program,
                                         .subject = line->program,
                                         .tables = {own, GENERAL},
                                         .argc = argc,
                                         .argv = argv};
    enum command_line_step took;

    line->config = getenv("MQTT_BRIDGE_CONFIG");
    if (line->config != NULL && line->config[0] == '\0')
        line->config = NULL; /* an empty variable counts as not set */
    while ((took = command_line_next(&reader)) == COMMAND_LINE_OPTION)
        take_option(line, &reader);
    if (took == COMMAND_LINE_ARGUMENT)
        fprintf(stderr, "%s: unexpected argument \"%s\"; see %s --help\n", line->program,
                reader.text, line->program);
    if (took != COMMAND_LINE_END)
        exit(EXIT_USAGE);
}
