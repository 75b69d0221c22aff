#include "cli/man_page.h"

#include "cli/verbs.h"
#include "common/settings/settings_table.h"

#include <ctype.h>

/* A text as roff takes it: no backslash or dash is a command, and no line begins with one. */
static void append_text(struct buf *out, struct bytes text)
{
    bool at_start = true;

    for (size_t i = 0; i < text.len; i++) {
        char c = text.data[i];

        if (at_start && (c == '.' || c == '\''))
            buf_append_text(out, "\\&");
        if (c == '\\')
            buf_append_text(out, "\\e");
        else if (c == '-')
            buf_append_text(out, "\\-");
        else
            buf_append_char(out, c);
        at_start = c == '\n';
    }
}

/* Paragraphs, with an empty line between two. */
static void append_paragraphs(struct buf *out, const char *text)
{
    struct bytes rest = bytes_of(text), line;

    if (rest.len > 0)
        buf_append_text(out, ".PP\n");
    while (rest.len > 0) {
        bytes_split(rest, '\n', &line, &rest);
        if (line.len > 0)
            append_text(out, line);
        else
            buf_append_text(out, ".PP");
        buf_append_char(out, '\n');
    }
}

static void append_item(struct buf *out, const char *name, const char *argument, const char *text)
{
    buf_append_text(out, ".TP\n\\fB");
    append_text(out, bytes_of(name));
    buf_append_text(out, "\\fR");
    if (argument && argument[0])
        buf_append_text(out, " \\fI");
    append_text(out, bytes_of(argument));
    if (argument && argument[0])
        buf_append_text(out, "\\fR");
    buf_append_char(out, '\n');
    append_text(out, bytes_of(text));
    buf_append_text(out, "\n");
}

static void append_options(struct buf *out, const struct command_line_option *options)
{
    for (const struct command_line_option *option = options; option && option->name; option++) {
        struct buf name = {0};

        if (option->hidden)
            continue;
        if (option->letter)
            buf_printf(&name, "-%c, ", option->letter);
        buf_printf(&name, "--%s", option->name);
        append_item(out, buf_text(&name), option->argument, option->summary);
        buf_free(&name);
    }
}

static void append_examples(struct buf *out, const char *examples)
{
    if (!examples)
        return;
    buf_append_text(out, ".PP\nExamples:\n.PP\n.RS 4\n.nf\n");
    append_text(out, bytes_of(examples));
    buf_append_text(out, "\n.fi\n.RE\n");
}

static void append_verb(struct buf *out, const struct verb *verb)
{
    buf_append_text(out, ".SS \"");
    append_text(out, bytes_of(verb->name));
    buf_printf(out, "%s", verb->arguments[0] ? " " : "");
    append_text(out, bytes_of(verb->arguments));
    buf_printf(out, "\"\n%c", toupper((unsigned char)verb->summary[0]));
    append_text(out, bytes_of(verb->summary + 1));
    buf_append_text(out, ".\n");
    for (const struct verb_action *action = verb->actions; action && action->name; action++)
        append_item(out, action->name, action->arguments, action->summary);
    append_options(out, verb->options);
    if (verb->json)
        append_item(out, "--json", NULL, "print JSON");
    append_paragraphs(out, verb->help);
    append_examples(out, verb->examples);
}

void man_page_command(struct buf *out)
{
    buf_append_text(
        out,
        ".TH MQTT\\-BRIDGE 1 \"\" \"mqtt-bridge " MQTT_BRIDGE_VERSION "\"\n"
        ".SH NAME\nmqtt\\-bridge \\- bring MQTT messages to a Mercure hub\n"
        ".SH SYNOPSIS\n\\fBmqtt\\-bridge\\fR [\\fB\\-\\-config\\fR \\fIFILE\\fR] "
        "\\fIVERB\\fR [\\fIoptions\\fR] [\\fIarguments\\fR]\n"
        ".SH DESCRIPTION\n"
        "A bridge from an MQTT broker through a Symfony Messenger queue in Redis to a Mercure\n"
        "hub. \\fBmqtt\\-bridge run\\fR runs it; the other verbs set it up, watch it and steer "
        "it.\n"
        "Without a verb it runs where standard input is no terminal, and prints its help "
        "where it is.\n"
        ".SH OPTIONS\n");
    append_options(out, cli_general_options(NULL));
    for (int group = 0; group < VERB_GROUPS; group++) {
        buf_append_text(out, ".SH \"");
        for (const char *c = VERB_GROUP_TITLES[group]; *c; c++)
            buf_append_char(out, (char)toupper((unsigned char)*c));
        buf_append_text(out, "\"\n");
        for (size_t i = 0; i < VERBS_LEN; i++)
            if ((int)VERBS[i].group == group)
                append_verb(out, &VERBS[i]);
    }
    buf_append_text(out, ".SH \"EXIT STATUS\"\n");
    append_item(out, "0", NULL, "done");
    append_item(out, "1", NULL, "failed: a server, a process or the system said no");
    append_item(out, "2", NULL, "the command line or the settings are wrong");
    append_item(out, "3", NULL, "the bridge is not running");
    buf_append_text(out, ".SH ENVIRONMENT\n");
    append_item(out, "MQTT_BRIDGE_CONFIG", NULL, "the ini file, unless --config names one");
    append_item(out, "NO_COLOR", NULL, "if not empty, no colour is printed");
    buf_append_text(out, ".PP\nVariables of the settings: \\fBmqtt\\-bridge.ini\\fR(5).\n"
                         ".SH FILES\n");
    append_item(out, CLI_DEFAULT_CONFIG, NULL, "the settings, where neither names another");
    buf_append_text(out, ".SH \"SEE ALSO\"\n\\fBmqtt\\-bridge.ini\\fR(5)\n");
}

static void append_setting(struct buf *out, const struct setting *row)
{
    struct buf text = {0};

    append_text(&text, bytes_of(row->description));
    buf_append_text(&text, ".\n.br\n");
    struct buf form = {0};
    setting_describe_type(row, &form);
    if (row->derived)
        buf_printf(&form, "; default: %s", row->derived);
    else if (row->standard[0])
        buf_printf(&form, "; default: %s", row->standard);
    if (row->env && (row->flags & (SETTING_SECRET | SETTING_DSN)))
        buf_printf(&form, "; %s, %s_FILE", row->env, row->env);
    else if (row->env && row->key)
        buf_printf(&form, "; %s", row->env);
    append_text(&text, buf_bytes(&form));
    append_item(out, row->key ? row->key : row->env, NULL, "");
    out->len--; /* the item's empty text */
    buf_append(out, buf_bytes(&text));
    buf_append_char(out, '\n');
    buf_free(&text);
    buf_free(&form);
}

static void append_section(struct buf *out, enum setting_section section)
{
    const struct setting_section_info *info = &SETTINGS_SECTIONS[section];

    buf_append_text(out, ".SH \"");
    if (section == SETTING_ENVIRONMENT)
        buf_append_text(out, "VARIABLES WITHOUT A KEY");
    else if (section == SETTING_MQTT)
        buf_append_text(out, "[mqtt] AND [consumer:NAME]");
    else if (info->named)
        buf_printf(out, "[%s:NAME]", info->name);
    else
        buf_printf(out, "[%s]", info->name);
    buf_append_text(out, "\"\n");
    append_text(out, bytes_of(info->about));
    buf_append_char(out, '\n');
    for (size_t i = 0; i < SETTINGS_TABLE_LEN; i++)
        if (SETTINGS_TABLE[i].section == section)
            append_setting(out, &SETTINGS_TABLE[i]);
}

void man_page_settings(struct buf *out)
{
    buf_append_text(
        out,
        ".TH MQTT\\-BRIDGE.INI 5 \"\" \"mqtt-bridge " MQTT_BRIDGE_VERSION "\"\n"
        ".SH NAME\nmqtt\\-bridge.ini \\- settings of mqtt\\-bridge\n"
        ".SH DESCRIPTION\n"
        "Sections of \\fIkey\\fR = \\fIvalue\\fR; `;` begins a comment. Every key is optional, and "
        "a variable goes before\nthe file. ${NAME} and ${NAME:\\-default} stand for variables. "
        "Durations take ms, s, m, h or d,\nsizes K, M or G. For a secret's variable, NAME_FILE may "
        "name a file that holds it.\n"
        "\\fBmqtt\\-bridge check\\fR names every fault, \\fBmqtt\\-bridge config\\fR prints what "
        "is in force, and\n\\fBmqtt\\-bridge config \\-\\-template\\fR a file with all of them.\n");
    for (int section = 0; section < SETTING_SECTIONS; section++)
        append_section(out, (enum setting_section)section);
    buf_append_text(out, ".SH \"SEE ALSO\"\n\\fBmqtt\\-bridge\\fR(1)\n");
}
