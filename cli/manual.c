#include "cli/manual.h"

#include "cli/verbs.h"
#include "common/settings/settings_table.h"

#include <ctype.h>
#include <string.h>

#define WIDTH 100

static const char TEMPLATE_HEAD[] =
    "; Settings of mqtt-bridge. Every key is here with its default; take away the `;` to change "
    "one.\n"
    "; A variable named in brackets goes before this file, unless it is empty. ${NAME} and\n"
    "; ${NAME:-default} stand for environment variables. `mqtt-bridge check` says what is wrong,\n"
    "; `mqtt-bridge config` what is in force, docs/SETTINGS.md has it all in tables.\n"
    "; A comment begins a line with `;` or `#`, or stands within one behind white space and `;`.\n";

static bool has_file_variable(const struct setting *row)
{
    return row->env && (row->flags & (SETTING_SECRET | SETTING_DSN)) != 0;
}

static void append_wrapped(struct buf *out, const char *prefix, struct bytes text)
{
    size_t column = 0;

    while (text.len > 0) {
        struct bytes word;

        bytes_split(text, ' ', &word, &text);
        if (column > 0 && column + 1 + word.len > WIDTH) {
            buf_append_char(out, '\n');
            column = 0;
        }
        if (column == 0) {
            buf_append_text(out, prefix);
            column = strlen(prefix);
        } else {
            buf_append_char(out, ' ');
            column++;
        }
        buf_append(out, word);
        column += word.len;
    }
    buf_append_char(out, '\n');
}

static void append_key_comment(struct buf *out, const struct setting *row)
{
    struct buf text = {0};

    buf_append_text(&text, row->description);
    if (row->type != SETTING_TEXT) {
        buf_append_text(&text, "; ");
        setting_describe_type(row, &text);
    }
    if (row->derived)
        buf_printf(&text, "; default: %s", row->derived);
    if (has_file_variable(row))
        buf_printf(&text, " (%s, %s_FILE)", row->env, row->env);
    else if (row->env)
        buf_printf(&text, " (%s)", row->env);
    append_wrapped(out, "; ", buf_bytes(&text));
    buf_free(&text);
}

static void append_template_section(struct buf *out, enum setting_section section)
{
    const struct setting_section_info *info = &SETTINGS_SECTIONS[section];

    buf_append_char(out, '\n');
    append_wrapped(out, "; ", bytes_of(info->about));
    if (info->named && info->named[0])
        buf_printf(out, "[%s:%s]\n", info->name, info->named);
    else if (info->named)
        buf_printf(out, ";[%s:garden]\n", info->name);
    else
        buf_printf(out, "[%s]\n", info->name);
    for (size_t i = 0; i < SETTINGS_TABLE_LEN; i++) {
        const struct setting *row = &SETTINGS_TABLE[i];

        if (row->section == section) {
            append_key_comment(out, row);
            buf_printf(out, ";%s =%s%s\n", row->key, row->standard[0] ? " " : "", row->standard);
        }
    }
    if (section == SETTING_MQTT) {
        buf_append_text(
            out, "\n; One more consumer, with its own filters and session; any key of [mqtt].\n"
                 ";[consumer:garden]\n;topics = garden/#\n");
    }
}

void manual_template(struct buf *out)
{
    buf_append_text(out, TEMPLATE_HEAD);
    for (int section = 0; section < SETTING_ENVIRONMENT; section++)
        append_template_section(out, (enum setting_section)section);
}

/* Appends a table's cell. A bar is escaped, since it would end the cell. */
static void append_cell(struct buf *out, struct bytes text)
{
    for (size_t i = 0; i < text.len; i++) {
        if (text.data[i] == '|')
            buf_append_char(out, '\\');
        buf_append_char(out, text.data[i]);
    }
}

static void append_row(struct buf *out, const struct setting *row, bool with_key)
{
    struct buf type = {0};

    setting_describe_type(row, &type);
    if (has_file_variable(row))
        buf_append_text(&type, ", secret");
    buf_append_text(out, "| ");
    if (with_key)
        buf_printf(out, "`%s` | ", row->key);
    buf_printf(out, "%s%s%s | ", row->env ? "`" : "", row->env ? row->env : "",
               row->env ? "`" : "");
    append_cell(out, buf_bytes(&type));
    buf_append_text(out, " | ");
    if (row->derived)
        append_cell(out, bytes_of(row->derived));
    else if (row->standard[0])
        buf_printf(out, "`%s`", row->standard);
    buf_append_text(out, " | ");
    append_cell(out, bytes_of(row->description));
    buf_append_text(out, " |\n");
    buf_free(&type);
}

static void append_reference_section(struct buf *out, enum setting_section section)
{
    const struct setting_section_info *info = &SETTINGS_SECTIONS[section];

    if (section == SETTING_MQTT)
        buf_append_text(out, "## [mqtt] and [consumer:NAME]\n\n");
    else if (info->named && !info->named[0])
        buf_printf(out, "## [%s:NAME]\n\n", info->name);
    else if (info->named)
        buf_printf(out, "## [%s:%s] and [%s:NAME]\n\n", info->name, info->named, info->name);
    else
        buf_printf(out, "## [%s]\n\n", info->name);
    append_wrapped(out, "", bytes_of(info->about));
    buf_append_text(out,
                    "\n| key | variable | value | default | meaning |\n|---|---|---|---|---|\n");
    for (size_t i = 0; i < SETTINGS_TABLE_LEN; i++)
        if (SETTINGS_TABLE[i].section == section)
            append_row(out, &SETTINGS_TABLE[i], true);
    buf_append_char(out, '\n');
}

static void append_reference_environment(struct buf *out)
{
    buf_append_text(out, "## Variables without a key\n\n"
                         "| variable | value | default | meaning |\n|---|---|---|---|\n");
    for (size_t i = 0; i < SETTINGS_TABLE_LEN; i++)
        if (SETTINGS_TABLE[i].section == SETTING_ENVIRONMENT)
            append_row(out, &SETTINGS_TABLE[i], false);
    buf_append_text(out,
                    "| `MQTT_BRIDGE_CONFIG` | text |  | the ini file, unless --config names one |\n"
                    "| `NO_COLOR` | text |  | if not empty, no colour is printed |\n");
}

void manual_reference(struct buf *out)
{
    for (int section = 0; section < SETTING_ENVIRONMENT; section++)
        append_reference_section(out, (enum setting_section)section);
    append_reference_environment(out);
}

/* Appends the text escaped for roff: no backslash, dash or dot at a line's start is a command. */
static void man_text(struct buf *out, struct bytes text)
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

static void man_paragraphs(struct buf *out, const char *text)
{
    struct bytes rest = bytes_of(text), line;

    if (rest.len > 0)
        buf_append_text(out, ".PP\n");
    while (rest.len > 0) {
        bytes_split(rest, '\n', &line, &rest);
        if (line.len > 0)
            man_text(out, line);
        else
            buf_append_text(out, ".PP");
        buf_append_char(out, '\n');
    }
}

static void man_item(struct buf *out, const char *name, const char *argument, const char *text)
{
    buf_append_text(out, ".TP\n\\fB");
    man_text(out, bytes_of(name));
    buf_append_text(out, "\\fR");
    if (argument && argument[0])
        buf_append_text(out, " \\fI");
    man_text(out, bytes_of(argument));
    if (argument && argument[0])
        buf_append_text(out, "\\fR");
    buf_append_char(out, '\n');
    man_text(out, bytes_of(text));
    buf_append_text(out, "\n");
}

static void man_options(struct buf *out, const struct command_line_option *options)
{
    for (const struct command_line_option *option = options; option && option->name; option++) {
        struct buf name = {0};

        if (option->hidden)
            continue;
        if (option->letter)
            buf_printf(&name, "-%c, ", option->letter);
        buf_printf(&name, "--%s", option->name);
        man_item(out, buf_text(&name), option->argument, option->summary);
        buf_free(&name);
    }
}

static void man_examples(struct buf *out, const char *examples)
{
    if (!examples)
        return;
    buf_append_text(out, ".PP\nExamples:\n.PP\n.RS 4\n.nf\n");
    man_text(out, bytes_of(examples));
    buf_append_text(out, "\n.fi\n.RE\n");
}

static void man_verb(struct buf *out, const struct verb *verb)
{
    buf_append_text(out, ".SS \"");
    man_text(out, bytes_of(verb->name));
    buf_printf(out, "%s", verb->arguments[0] ? " " : "");
    man_text(out, bytes_of(verb->arguments));
    buf_printf(out, "\"\n%c", toupper((unsigned char)verb->summary[0]));
    man_text(out, bytes_of(verb->summary + 1));
    buf_append_text(out, ".\n");
    for (const struct verb_action *action = verb->actions; action && action->name; action++)
        man_item(out, action->name, action->arguments, action->summary);
    man_options(out, verb->options);
    if (verb->json)
        man_item(out, "--json", NULL, "print JSON");
    man_paragraphs(out, verb->help);
    man_examples(out, verb->examples);
}

void manual_command_page(struct buf *out)
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
    man_options(out, cli_general_options(NULL));
    for (int group = 0; group < VERB_GROUPS; group++) {
        buf_append_text(out, ".SH \"");
        for (const char *c = VERB_GROUP_TITLES[group]; *c; c++)
            buf_append_char(out, (char)toupper((unsigned char)*c));
        buf_append_text(out, "\"\n");
        for (size_t i = 0; i < VERBS_LEN; i++)
            if ((int)VERBS[i].group == group)
                man_verb(out, &VERBS[i]);
    }
    buf_append_text(out, ".SH \"EXIT STATUS\"\n");
    man_item(out, "0", NULL, "done");
    man_item(out, "1", NULL, "failed: a server, a process or the system said no");
    man_item(out, "2", NULL, "the command line or the settings are wrong");
    man_item(out, "3", NULL, "the bridge is not running");
    buf_append_text(out, ".SH ENVIRONMENT\n");
    man_item(out, "MQTT_BRIDGE_CONFIG", NULL, "the ini file, unless --config names one");
    man_item(out, "NO_COLOR", NULL, "if not empty, no colour is printed");
    buf_append_text(out, ".PP\nVariables of the settings: \\fBmqtt\\-bridge.ini\\fR(5).\n"
                         ".SH FILES\n");
    man_item(out, CLI_DEFAULT_CONFIG, NULL, "the settings, where neither names another");
    buf_append_text(out, ".SH \"SEE ALSO\"\n\\fBmqtt\\-bridge.ini\\fR(5)\n");
}

static void man_setting(struct buf *out, const struct setting *row)
{
    struct buf text = {0};

    man_text(&text, bytes_of(row->description));
    buf_append_text(&text, ".\n.br\n");
    struct buf form = {0};
    setting_describe_type(row, &form);
    if (row->derived)
        buf_printf(&form, "; default: %s", row->derived);
    else if (row->standard[0])
        buf_printf(&form, "; default: %s", row->standard);
    if (has_file_variable(row))
        buf_printf(&form, "; %s, %s_FILE", row->env, row->env);
    else if (row->env && row->key)
        buf_printf(&form, "; %s", row->env);
    man_text(&text, buf_bytes(&form));
    man_item(out, row->key ? row->key : row->env, NULL, "");
    out->len--; /* removes the line of the item's empty text */
    buf_append(out, buf_bytes(&text));
    buf_append_char(out, '\n');
    buf_free(&text);
    buf_free(&form);
}

static void man_section(struct buf *out, enum setting_section section)
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
    man_text(out, bytes_of(info->about));
    buf_append_char(out, '\n');
    for (size_t i = 0; i < SETTINGS_TABLE_LEN; i++)
        if (SETTINGS_TABLE[i].section == section)
            man_setting(out, &SETTINGS_TABLE[i]);
}

void manual_settings_page(struct buf *out)
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
        man_section(out, (enum setting_section)section);
    buf_append_text(out, ".SH \"SEE ALSO\"\n\\fBmqtt\\-bridge\\fR(1)\n");
}

static void complete_options(struct buf *out, const struct command_line_option *options)
{
    for (const struct command_line_option *option = options; option && option->name; option++)
        if (!option->hidden)
            buf_printf(out, " --%s", option->name);
}

static void complete_names(struct buf *out)
{
    for (size_t i = 0; i < VERBS_LEN; i++)
        buf_printf(out, " %s", VERBS[i].name);
}

/* Appends a pattern of the options with a value: behind such an option nothing is completed. */
static void complete_valued(struct buf *out)
{
    buf_append_text(out, "--config");
    for (size_t i = 0; i < VERBS_LEN; i++)
        for (const struct command_line_option *o = VERBS[i].options; o && o->name; o++)
            if (o->argument)
                buf_printf(out, "|--%s", o->name);
}

static void complete_verb(struct buf *out, const struct verb *verb)
{
    buf_printf(out, "    %s) words='", verb->name);
    for (const struct verb_action *action = verb->actions; action && action->name; action++)
        buf_printf(out, " %s", action->name);
    if (strcmp(verb->name, "help") == 0)
        complete_names(out);
    complete_options(out, verb->options);
    complete_options(out, cli_general_options(verb));
    buf_append_text(out, "' ;;\n");
}

void manual_completion(struct buf *out)
{
    buf_append_text(out, "# bash completion for mqtt-bridge\n"
                         "_mqtt_bridge() {\n"
                         "    local current=${COMP_WORDS[COMP_CWORD]} verb='' words i\n"
                         "    COMPREPLY=()\n"
                         "    case ${COMP_WORDS[COMP_CWORD - 1]} in\n"
                         "    --config) mapfile -t COMPREPLY < <(compgen -f -- \"$current\"); "
                         "return ;;\n"
                         "    ");
    complete_valued(out);
    buf_append_text(out, ") return ;;\n"
                         "    esac\n"
                         "    for ((i = 1; i < COMP_CWORD; i++)); do\n"
                         "        case ${COMP_WORDS[i]} in\n"
                         "        --config) ((i++)) ;;\n"
                         "        -*) ;;\n"
                         "        *) verb=${COMP_WORDS[i]}; break ;;\n"
                         "        esac\n"
                         "    done\n"
                         "    case $verb in\n"
                         "    '') words='");
    complete_names(out);
    complete_options(out, cli_general_options(NULL));
    buf_append_text(out, "' ;;\n");
    for (size_t i = 0; i < VERBS_LEN; i++)
        complete_verb(out, &VERBS[i]);
    buf_append_text(out, "    esac\n"
                         "    mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$current\")\n"
                         "}\n"
                         "complete -F _mqtt_bridge mqtt-bridge\n");
}

int verb_help(struct cli *cli)
{
    const char *named = cli->arguments_len > 0 ? cli->arguments[0] : NULL;
    const struct verb *verb = named ? verbs_find(named) : NULL;
    struct buf out = {0};

    if (named && !verb)
        return cli_unknown_verb(named);
    if (cli_option(cli, "man"))
        manual_command_page(&out);
    else if (cli_option(cli, "completion"))
        manual_completion(&out);
    else if (verb)
        verbs_describe(&out, verb);
    else
        verbs_help(&out);
    return cli_print_free(&out);
}

int verb_version(struct cli *cli)
{
    struct buf out = {0};

    buf_printf(&out, cli->json ? "{\"version\":\"%s\"}\n" : "mqtt-bridge %s\n",
               MQTT_BRIDGE_VERSION);
    return cli_print_free(&out);
}
