#include "common/settings/settings_internal.h"

#include "common/base/alloc.h"
#include "common/base/words.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define LINE_MAX_BYTES 65534
/* The statistics' name field must hold "consumer:" and a consumer's name. */
#define CONSUMER_NAME_MAX 22
#define NAME_MAX_BYTES    40

struct reading {
    struct settings_ini *ini;
    const char *file;
    size_t line;
    bool headed;                          /* a heading, good or bad, was read */
    struct settings_ini_section *section; /* NULL: no good heading yet */
    struct buf *faults;
};

static void fault(struct reading *reading, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void fault(struct reading *reading, const char *format, ...)
{
    va_list arguments;

    buf_printf(reading->faults, "%s:%zu: ", reading->file, reading->line);
    va_start(arguments, format);
    buf_vprintf(reading->faults, format, arguments);
    va_end(arguments);
    buf_append_char(reading->faults, '\n');
}

static const char *shown(struct bytes text, char out[64])
{
    bytes_to_printable(text, out, 64);
    return out;
}

static void fault_unknown_section(struct reading *reading, struct bytes heading)
{
    char text[64];
    struct words_nearest nearest = {.name = heading};

    bytes_split(heading, ':', &nearest.name, &(struct bytes){0});
    for (size_t i = 0; i < SETTING_ENVIRONMENT; i++)
        words_consider(&nearest, SETTINGS_SECTIONS[i].name);
    words_consider(&nearest, "consumer");
    if (nearest.best) {
        fault(reading, "[%s]: unknown section; did you mean `%s`?", shown(heading, text),
              nearest.best);
    } else {
        fault(reading, "[%s]: unknown section", shown(heading, text));
    }
}

static bool name_is_good(struct reading *reading, struct bytes heading, struct bytes name,
                         size_t limit)
{
    char text[64];

    if (!bytes_only_holds(name, "_.-") || (name.len > 0 && strchr("_.-", name.data[0]))) {
        fault(reading, "[%s]: a name consists of letters, digits, `_`, `-` and `.`",
              shown(heading, text));
        return false;
    }
    if (name.len > limit) {
        fault(reading, "[%s]: the name is longer than %zu characters", shown(heading, text), limit);
        return false;
    }
    return true;
}

/* Reads which kind of section the heading names. Returns false, with a fault, for an invalid
 * heading. */
static bool read_heading(struct reading *reading, struct bytes heading,
                         enum setting_section *section, struct bytes *name)
{
    char text[64];
    struct bytes kind;
    bool named = bytes_split(heading, ':', &kind, name);
    bool consumer = bytes_equal_text(kind, "consumer");

    kind = bytes_trim(kind);
    *name = bytes_trim(*name);
    size_t found = 0;
    while (found < SETTING_ENVIRONMENT && !bytes_equal_text(kind, SETTINGS_SECTIONS[found].name))
        found++;
    if (found == SETTING_ENVIRONMENT && !consumer) {
        fault_unknown_section(reading, heading);
        return false;
    }
    *section = consumer ? SETTING_MQTT : (enum setting_section)found;
    bool wants_name = consumer || SETTINGS_SECTIONS[*section].named;
    if (wants_name && name->len == 0) {
        fault(reading, "[%s]: needs a name, as in [%.*s:%s]", shown(heading, text), BYTES_ARG(kind),
              *section == SETTING_TRANSPORT ? SETTINGS_TRANSPORT : "garden");
        return false;
    }
    if (!wants_name && named) {
        fault(reading, "[%s]: takes no name; write [%.*s]", shown(heading, text), BYTES_ARG(kind));
        return false;
    }
    return name_is_good(reading, heading, *name, consumer ? CONSUMER_NAME_MAX : NAME_MAX_BYTES);
}

struct settings_ini_section *settings_ini_find(const struct settings_ini *ini,
                                               enum setting_section section, struct bytes name)
{
    struct settings_ini_section *found = NULL;
    char key[1 + NAME_MAX_BYTES];

    if (name.len > NAME_MAX_BYTES)
        return NULL;
    key[0] = (char)section;
    if (name.len > 0)
        memcpy(key + 1, name.data, name.len);
    HASH_FIND(hh, ini->sections, key, 1 + name.len, found);
    return found;
}

/* The name is not too long: read_heading has checked it. */
static struct settings_ini_section *add_section(struct reading *reading,
                                                enum setting_section section, struct bytes name)
{
    struct settings_ini_section *made = xcalloc(1, sizeof(*made) + 1 + name.len + 1);

    made->section = section;
    made->line = reading->line;
    made->key[0] = (char)section;
    if (name.len > 0)
        memcpy(made->key + 1, name.data, name.len);
    made->name = made->key + 1;
    HASH_ADD_KEYPTR(hh, reading->ini->sections, made->key, 1 + name.len, made);
    return made;
}

static void open_section(struct reading *reading, struct bytes heading)
{
    enum setting_section section;
    struct bytes name;

    if (!read_heading(reading, heading, &section, &name))
        return;
    reading->section = settings_ini_find(reading->ini, section, name);
    if (reading->section == NULL)
        reading->section = add_section(reading, section, name);
}

static void fault_unknown_key(struct reading *reading, const char *title, struct bytes key)
{
    const struct settings_ini_section *section = reading->section;
    struct words_nearest nearest = {.name = key};
    const struct setting *variable = NULL;
    const char *elsewhere = NULL;
    char text[64];

    for (size_t i = 0; i < SETTINGS_TABLE_LEN; i++) {
        const struct setting *row = &SETTINGS_TABLE[i];

        if (row->section == section->section)
            words_consider(&nearest, row->key);
        else if (bytes_equal_text(key, row->key) && row->section != SETTING_ENVIRONMENT)
            elsewhere = SETTINGS_SECTIONS[row->section].name;
        if (row->env && bytes_equal_text(key, row->env))
            variable = row;
    }
    shown(key, text);
    if (variable)
        fault(reading, "[%s] %s: unknown key; in a file this variable is `%s` of [%s]", title, text,
              variable->key, SETTINGS_SECTIONS[variable->section].name);
    else if (nearest.best)
        fault(reading, "[%s] %s: unknown key; did you mean `%s`?", title, text, nearest.best);
    else if (elsewhere)
        fault(reading, "[%s] %s: unknown key; it belongs into [%s]", title, text, elsewhere);
    else
        fault(reading, "[%s] %s: unknown key", title, text);
}

static void add_entry(struct reading *reading, const char *title, const struct setting *row,
                      struct bytes value)
{
    struct settings_ini_section *section = reading->section;

    for (size_t i = 0; i < section->entries_len; i++) {
        if (section->entries[i].row == row) {
            fault(reading, "[%s] %s: given twice, first in line %zu", title, row->key,
                  section->entries[i].line);
            return;
        }
    }
    section->entries = xgrow(section->entries, section->entries_len, sizeof(*section->entries));
    section->entries[section->entries_len++] = (struct settings_ini_entry){
        row, xstrndup(value.len > 0 ? value.data : "", value.len), reading->line};
}

static void take_heading(struct reading *reading, struct bytes text)
{
    struct bytes heading, behind;
    char shortened[64];

    reading->headed = true;
    reading->section = NULL;
    if (bytes_split(bytes_slice(text, 1, text.len), ']', &heading, &behind))
        open_section(reading, bytes_trim(heading));
    else
        fault(reading, "`%s`: a section's name ends with `]`", shown(text, shortened));
}

static struct bytes without_comment(struct bytes text)
{
    for (size_t i = 1; i < text.len; i++)
        if (text.data[i] == ';' && isspace((unsigned char)text.data[i - 1]))
            return bytes_slice(text, 0, i);
    return text;
}

/* True if the comment may be a part of a secret, or of a DSN in front of its `@`. */
static bool may_be_cut(const struct setting *row, struct bytes comment)
{
    return comment.len > 0 &&
           (row->flags & SETTING_SECRET ||
            (row->flags & SETTING_DSN && memchr(comment.data, '@', comment.len)));
}

static void take_key(struct reading *reading, struct bytes text)
{
    struct bytes whole = without_comment(text);
    size_t len = 0;
    char shortened[64];

    while (len < whole.len && whole.data[len] != '=' && whole.data[len] != ':')
        len++;
    if (len == whole.len) {
        fault(reading, "`%s` is neither a [section] nor a key with its value (key = value)",
              shown(text, shortened));
        return;
    }
    struct bytes key = bytes_trim(bytes_slice(whole, 0, len));
    if (reading->section == NULL) {
        if (!reading->headed)
            fault(reading, "%s: stands before the first [section]", shown(key, shortened));
        return;
    }
    const struct settings_ini_section *section = reading->section;
    const struct setting_view view = {section->section, section->name, NULL};
    struct buf title = {0};
    setting_view_title(&view, &title);
    const struct setting *row = setting_find(section->section, key);
    if (row && may_be_cut(row, bytes_slice(text, whole.len, text.len)))
        fault(reading,
              "[%s] %s: ` ;` begins a comment here, which may be a part of the secret: put the "
              "comment into a line of its own, or the secret into a variable (`${NAME}`)",
              buf_text(&title), row->key);
    else if (row)
        add_entry(reading, buf_text(&title), row,
                  bytes_trim(bytes_slice(whole, len + 1, whole.len)));
    else
        fault_unknown_key(reading, buf_text(&title), key);
    buf_free(&title);
}

static void take_line(struct reading *reading, struct bytes text)
{
    if (text.len == 0 || text.data[0] == ';' || text.data[0] == '#')
        return;
    if (memchr(text.data, '\0', text.len))
        fault(reading, "a NUL byte: this is no text file");
    else if (text.len > LINE_MAX_BYTES)
        fault(reading, "the line is longer than %d bytes", LINE_MAX_BYTES);
    else if (text.data[0] == '[')
        take_heading(reading, text);
    else
        take_key(reading, text);
}

void settings_ini_read(struct settings_ini *ini, const char *file, struct bytes text,
                       struct buf *faults)
{
    struct reading reading = {.ini = ini, .file = file, .faults = faults};

    if (bytes_starts_with(text, BYTES("\xef\xbb\xbf")))
        text = bytes_slice(text, 3, text.len);
    while (text.len > 0) {
        struct bytes line;

        bytes_split(text, '\n', &line, &text);
        reading.line++;
        take_line(&reading, bytes_trim(line));
    }
}

void settings_ini_free(struct settings_ini *ini)
{
    struct settings_ini_section *section = ini->sections;

    HASH_CLEAR(hh, ini->sections);
    while (section != NULL) {
        struct settings_ini_section *following = section->hh.next;

        for (size_t i = 0; i < section->entries_len; i++)
            free(section->entries[i].value);
        free(section->entries);
        free(section);
        section = following;
    }
}
