/* inih calls back for each key, but neither tells its line number nor speaks of empty sections, and it
 * cuts section names at 49 bytes. So the reader that feeds it counts the lines and reads the section
 * headings, and inih has the rest: comments and the split into key and value. */
#include "common/base/settings_ini.h"

#include "common/base/alloc.h"
#include "common/base/nearest.h"

#include <ini.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define LINE_MAX_BYTES 65536
#define NO_SECTION     SIZE_MAX
/* A consumer's name with "consumer:" before it must fit the statistics' name field. */
#define CONSUMER_NAME_MAX 22
#define NAME_MAX_BYTES    40

/* Debian's inih has its limits as variables; others are built with lines of 200 bytes. */
extern bool ini_use_stack __attribute__((weak));
extern int ini_max_line __attribute__((weak));
extern int ini_initial_alloc __attribute__((weak));

struct reading {
    struct settings_ini *ini;
    const char *file;
    struct bytes rest;
    size_t line;
    struct bytes text; /* the line */
    bool key_expected; /* the line is neither heading nor comment, and inih has not called back */
    bool headed;       /* there was a heading, good or bad */
    size_t section;    /* index, or NO_SECTION: no heading yet, or a bad one */
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

/* What is shown of bytes from the file: short, and without control characters. */
static const char *shown(struct bytes text, char out[64])
{
    size_t len = text.len < 63 ? text.len : 63;
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text.data[i];
        out[i] = c < 0x20 || c == 0x7f ? '?' : (char)c;
    }
    out[len] = '\0';
    return out;
}

static void fault_unknown_section(struct reading *reading, struct bytes heading)
{
    char text[64];
    struct nearest nearest = {.name = heading};
    bytes_split(heading, ':', &nearest.name, &(struct bytes){0});
    for (size_t i = 0; i < SETTING_ENVIRONMENT; i++) {
        nearest_consider(&nearest, SETTINGS_SECTIONS[i].name);
    }
    nearest_consider(&nearest, "consumer");
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
    for (size_t i = 0; i < name.len; i++) {
        char c = name.data[i];
        bool letter = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
        if (!letter && !(c >= '0' && c <= '9') && !(i > 0 && strchr("_.-", c))) {
            fault(reading, "[%s]: a name consists of letters, digits, `_`, `-` and `.`",
                  shown(heading, text));
            return false;
        }
    }
    if (name.len > limit) {
        fault(reading, "[%s]: the name is longer than %zu characters", shown(heading, text), limit);
        return false;
    }
    return true;
}

/* Which kind of section the heading names; false with a fault if it is none. */
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
    while (found < SETTING_ENVIRONMENT && !bytes_equal_text(kind, SETTINGS_SECTIONS[found].name)) {
        found++;
    }
    if (found == SETTING_ENVIRONMENT && !consumer) {
        fault_unknown_section(reading, heading);
        return false;
    }
    *section = consumer ? SETTING_MQTT : (enum setting_section)found;
    bool wants_name = consumer || SETTINGS_SECTIONS[*section].named;
    if (wants_name && name->len == 0) {
        fault(reading, "[%s]: needs a name, as in [%.*s:%s]", shown(heading, text), BYTES_ARG(kind),
              *section == SETTING_TRANSPORT ? "async" : "garden");
        return false;
    }
    if (!wants_name && named) {
        fault(reading, "[%s]: takes no name; write [%.*s]", shown(heading, text), BYTES_ARG(kind));
        return false;
    }
    return name_is_good(reading, heading, *name, consumer ? CONSUMER_NAME_MAX : NAME_MAX_BYTES);
}

static void open_section(struct reading *reading, struct bytes heading)
{
    struct settings_ini *ini = reading->ini;
    enum setting_section section;
    struct bytes name;
    reading->headed = true;
    reading->section = NO_SECTION;
    if (!read_heading(reading, heading, &section, &name)) {
        return;
    }
    for (size_t i = 0; i < ini->sections_len; i++) {
        if (ini->sections[i].section == section && bytes_equal_text(name, ini->sections[i].name)) {
            reading->section = i;
            return;
        }
    }
    ini->sections = xrealloc(ini->sections, (ini->sections_len + 1) * sizeof(*ini->sections));
    ini->sections[ini->sections_len] = (struct settings_ini_section){
        section, xstrndup(name.len > 0 ? name.data : "", name.len), reading->line};
    reading->section = ini->sections_len++;
}

/* inih has not made a key of the last line. */
static void settle_line(struct reading *reading)
{
    char text[64];
    if (reading->key_expected) {
        fault(reading, "`%s` is neither a [section] nor a key with its value (key = value)",
              shown(reading->text, text));
    }
    reading->key_expected = false;
}

/* Takes one line off the text and says what inih shall see of it: BYTES_NONE for nothing. */
static struct bytes next_line(struct reading *reading)
{
    bytes_split(reading->rest, '\n', &reading->text, &reading->rest);
    reading->line++;
    reading->text = bytes_trim(reading->text);
    struct bytes text = reading->text;
    if (text.len == 0 || text.data[0] == ';' || text.data[0] == '#') {
        return BYTES_NONE;
    }
    if (memchr(text.data, '\0', text.len)) {
        fault(reading, "a NUL byte: this is no text file");
        return BYTES_NONE;
    }
    if (text.data[0] == '[') {
        struct bytes heading;
        struct bytes behind;
        if (bytes_split(bytes_slice(text, 1, text.len - 1), ']', &heading, &behind)) {
            open_section(reading, bytes_trim(heading));
        } else {
            char shortened[64];
            fault(reading, "`%s`: a section's name ends with `]`", shown(text, shortened));
            reading->headed = true;
            reading->section = NO_SECTION;
        }
        return BYTES_NONE;
    }
    return text;
}

/* An ini_reader: one line of the text into `line`, like fgets. Indentation is gone, for inih takes an
 * indented line for the continuation of the one before; headings are gone as well, see above. */
static char *read_line(char *line, int size, void *context)
{
    struct reading *reading = context;
    settle_line(reading);
    if (reading->rest.len == 0 || size < 2) {
        return NULL;
    }
    struct bytes text = next_line(reading);
    if (text.len + 2 > (size_t)size) {
        fault(reading, "the line is longer than %d bytes", size - 2);
        text = BYTES_NONE;
    }
    reading->key_expected = text.len > 0;
    if (text.len > 0) {
        memcpy(line, text.data, text.len);
    }
    line[text.len] = '\n';
    line[text.len + 1 < (size_t)size ? text.len + 1 : text.len] = '\0';
    return line;
}

static void fault_unknown_key(struct reading *reading, const char *title, const char *key)
{
    const struct settings_ini_section *section = &reading->ini->sections[reading->section];
    struct nearest nearest = {.name = bytes_of(key)};
    const char *elsewhere = NULL;
    char text[64];
    for (size_t i = 0; i < SETTINGS_TABLE_LEN; i++) {
        const struct setting *row = &SETTINGS_TABLE[i];
        if (row->section == section->section) {
            nearest_consider(&nearest, row->key);
        } else if (strcmp(row->key, key) == 0 && row->section != SETTING_ENVIRONMENT) {
            elsewhere = SETTINGS_SECTIONS[row->section].name;
        }
    }
    shown(bytes_of(key), text);
    if (nearest.best) {
        fault(reading, "[%s] %s: unknown key; did you mean `%s`?", title, text, nearest.best);
    } else if (elsewhere) {
        fault(reading, "[%s] %s: unknown key; it belongs into [%s]", title, text, elsewhere);
    } else {
        fault(reading, "[%s] %s: unknown key", title, text);
    }
}

static void add_entry(struct reading *reading, const char *title, const struct setting *row,
                      const char *value)
{
    struct settings_ini *ini = reading->ini;
    for (size_t i = 0; i < ini->entries_len; i++) {
        if (ini->entries[i].row == row && ini->entries[i].section == reading->section) {
            fault(reading, "[%s] %s: given twice, first in line %zu", title, row->key,
                  ini->entries[i].line);
            return;
        }
    }
    ini->entries = xrealloc(ini->entries, (ini->entries_len + 1) * sizeof(*ini->entries));
    ini->entries[ini->entries_len++] =
        (struct settings_ini_entry){reading->section, row, xstrdup(value), reading->line};
}

/* An ini_handler. inih's idea of the section is not used. */
static int take_key(void *context, const char *ignored, const char *key, const char *value)
{
    struct reading *reading = context;
    char text[64];
    (void)ignored;
    reading->key_expected = false;
    if (reading->section == NO_SECTION) {
        if (!reading->headed) {
            fault(reading, "%s: stands before the first [section]", shown(bytes_of(key), text));
        }
        return 1;
    }
    const struct settings_ini_section *section = &reading->ini->sections[reading->section];
    const struct setting_view view = {section->section, section->name, NULL};
    struct buf title = {0};
    setting_view_title(&view, &title);
    const struct setting *row = setting_find(section->section, bytes_of(key));
    if (row) {
        add_entry(reading, buf_text(&title), row, value ? value : "");
    } else {
        fault_unknown_key(reading, buf_text(&title), key);
    }
    buf_free(&title);
    return 1;
}

void settings_ini_read(struct settings_ini *ini, const char *file, struct bytes text,
                       struct buf *faults)
{
    struct reading reading = {
        .ini = ini, .file = file, .rest = text, .section = NO_SECTION, .faults = faults};
    if (bytes_starts_with(text, BYTES("\xef\xbb\xbf"))) {
        reading.rest = bytes_slice(text, 3, text.len - 3);
    }
    if (&ini_use_stack && &ini_max_line && &ini_initial_alloc) {
        ini_use_stack = false;
        ini_max_line = LINE_MAX_BYTES;
        ini_initial_alloc = LINE_MAX_BYTES;
    }
    if (ini_parse_stream(read_line, &reading, take_key, &reading) < 0) {
        fault(&reading, "out of memory");
    }
    settle_line(&reading);
}

void settings_ini_free(struct settings_ini *ini)
{
    for (size_t i = 0; i < ini->sections_len; i++) {
        free(ini->sections[i].name);
    }
    for (size_t i = 0; i < ini->entries_len; i++) {
        free(ini->entries[i].value);
    }
    free(ini->sections);
    free(ini->entries);
    *ini = (struct settings_ini){0};
}
