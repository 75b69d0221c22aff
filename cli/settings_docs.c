#include "cli/settings_docs.h"

#include "common/settings/settings_table.h"

#include <string.h>

#define WIDTH 100

static const char TEMPLATE_HEAD[] =
    "; Settings of mqtt-bridge. Every key is here with its default; take away the `;` to change "
    "one.\n"
    "; A variable named in brackets goes before this file, unless it is empty. ${NAME} and\n"
    "; ${NAME:-default} stand for environment variables. `mqtt-bridge check` says what is wrong,\n"
    "; `mqtt-bridge config` what is in force, docs/SETTINGS.md has it all in tables.\n"
    "; A comment begins a line with `;` or `#`, or stands within one behind white space and `;`.\n";

static const char REFERENCE_HEAD[] =
    "# Settings\n"
    "\n"
    "Settings come from an ini file and from environment variables; without either, the defaults "
    "below\n"
    "hold. The file is `--config FILE`, else `MQTT_BRIDGE_CONFIG`, else "
    "`/etc/mqtt-bridge/mqtt-bridge.ini`\n"
    "if it is there. A variable goes before the file. **A variable that is empty counts as not "
    "set**, since\n"
    "container tools pass variables through empty.\n"
    "\n"
    "`mqtt-bridge check` names every fault at once, with file, line and key, and the nearest name "
    "for a\n"
    "mistyped one; nothing starts with a faulty setting (exit code 2). `mqtt-bridge config` prints "
    "what is in\n"
    "force and where each value comes from, secrets masked.\n"
    "\n"
    "## Variables\n"
    "\n"
    "- `docker run --env-file` hands on what stands behind the `=` of a `.env` file as it is. "
    "White "
    "space and\n"
    "  quotes around a value are taken away; around a secret they are a fault, as they may belong "
    "to it. So are\n"
    "  ` # ` in a value that is no secret, and a `${NAME}` that nobody has replaced.\n"
    "- Kubernetes sets `MQTT_PORT=tcp://10.0.0.1:1883` in every pod for a Service called `mqtt`. "
    "That is passed\n"
    "  over with a notice (in a `${NAME_PORT}` of the file too); `enableServiceLinks: false` in "
    "the "
    "pod's spec\n"
    "  ends it.\n"
    "- `http_proxy`, `https_proxy`, `all_proxy` and `no_proxy` are heeded for the hub, which is "
    "said, and not for\n"
    "  the broker.\n"
    "\n"
    "## The file\n"
    "\n"
    "    [mqtt]\n"
    "    host = broker.example.org     ; behind white space, `;` begins a comment\n"
    "    topics = sensors/#, alarms/+@2\n"
    "    password = ${BROKER_PASSWORD}\n"
    "\n"
    "- A line is a `[section]`, a `key = value`, a comment (`;` or `#` first) or blank. White "
    "space around the\n"
    "  parts does not count; a value ends with its line, and there are no quotes and no escapes. A "
    "value that\n"
    "  holds white space and `;` belongs into a variable; behind a secret no comment may stand.\n"
    "- A file with secrets in it that everybody may read is warned of, and so is a key that a "
    "variable goes before.\n"
    "- `${NAME}` stands for an environment variable, which must be set; `${NAME:-default}` gives "
    "it a default\n"
    "  for when it is not set or empty; `$${` stands for `${` itself.\n"
    "- An unknown or doubled key, an unknown section and a malformed line are faults. A section "
    "may be opened\n"
    "  twice.\n"
    "- Durations are a number and `ms`, `s`, `m`, `h` or `d`; sizes a number of bytes, or one with "
    "`K`, `M` or\n"
    "  `G` (1024). yes, true, on and 1 mean yes; no, false, off and 0 mean no.\n"
    "\n"
    "## Secrets\n"
    "\n"
    "For the variables marked *secret*, `NAME_FILE` may name a file that holds the value (its line "
    "ends at the\n"
    "end do not count): `MQTT_PASSWORD_FILE=/run/secrets/mqtt_password`. Both at once is a fault. "
    "`${NAME}` in\n"
    "a secret's key looks for `NAME_FILE` as well.\n"
    "\n"
    "## Several consumers and transports\n"
    "\n"
    "`[consumer:NAME]` is one more consumer process with its own session and filters. It takes any "
    "key of\n"
    "`[mqtt]` and begins as a copy of it, variables included, except that `client_id` is that of "
    "`[mqtt]` with\n"
    "`-NAME` behind it and `topics` must be given. NAME has at most 22 letters, digits, `_`, `-` "
    "and `.`.\n"
    "\n"
    "`[transport:NAME]` is one more Redis stream that workers may consume, if `[worker] "
    "transports` names it;\n"
    "its `dsn` must be given. What the consumers receive goes to `[transport:async]`.\n";

/* Appends text in lines of at most WIDTH, each behind prefix. */
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

static bool has_file_variable(const struct setting *row)
{
    return row->env && (row->flags & (SETTING_SECRET | SETTING_DSN)) != 0;
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

void settings_docs_template(struct buf *out)
{
    buf_append_text(out, TEMPLATE_HEAD);
    for (int section = 0; section < SETTING_ENVIRONMENT; section++)
        append_template_section(out, (enum setting_section)section);
}

/* A table's cell: a bar would end it. */
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
        buf_append_text(out, "\n## [mqtt] and [consumer:NAME]\n\n");
    else if (info->named && !info->named[0])
        buf_printf(out, "\n## [%s:NAME]\n\n", info->name);
    else if (info->named)
        buf_printf(out, "\n## [%s:%s] and [%s:NAME]\n\n", info->name, info->named, info->name);
    else
        buf_printf(out, "\n## [%s]\n\n", info->name);
    append_wrapped(out, "", bytes_of(info->about));
    buf_append_text(out,
                    "\n| key | variable | value | default | meaning |\n|---|---|---|---|---|\n");
    for (size_t i = 0; i < SETTINGS_TABLE_LEN; i++)
        if (SETTINGS_TABLE[i].section == section)
            append_row(out, &SETTINGS_TABLE[i], true);
}

static void append_reference_environment(struct buf *out)
{
    buf_append_text(out, "\n## Variables without a key\n\n"
                         "| variable | value | default | meaning |\n|---|---|---|---|\n");
    for (size_t i = 0; i < SETTINGS_TABLE_LEN; i++)
        if (SETTINGS_TABLE[i].section == SETTING_ENVIRONMENT)
            append_row(out, &SETTINGS_TABLE[i], false);
    buf_append_text(out,
                    "| `MQTT_BRIDGE_CONFIG` | text |  | the ini file, unless --config names one |\n"
                    "| `NO_COLOR` | text |  | if not empty, no colour is printed |\n");
}

void settings_docs_reference(struct buf *out)
{
    buf_append_text(out, REFERENCE_HEAD);
    for (int section = 0; section < SETTING_ENVIRONMENT; section++)
        append_reference_section(out, (enum setting_section)section);
    append_reference_environment(out);
}
