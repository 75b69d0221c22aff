/* The ini file as a list of what it says, in its own order, with the line of each.
 *
 * A line is `[section]`, `key = value` (or `key: value`), a comment (`;` or `#` first) or blank; white
 * space around each part does not count. A `;` behind white space begins a comment within a line as
 * well, so a value that holds " ;" belongs into a variable. A value ends with its line: there are no
 * continued lines, no quotes and no escapes. A section may be opened again; a key may not. */
#ifndef COMMON_SETTINGS_SETTINGS_INI_H
#define COMMON_SETTINGS_SETTINGS_INI_H

#include "common/settings/settings_table.h"

struct settings_ini_section {
    enum setting_section section;
    char *name; /* behind the colon, or "" */
    size_t line;
};

struct settings_ini_entry {
    size_t section; /* index into sections */
    const struct setting *row;
    char *value;
    size_t line;
};

struct settings_ini {
    struct settings_ini_section *sections;
    size_t sections_len;
    struct settings_ini_entry *entries;
    size_t entries_len;
};

/* Zero-initialised is empty. file names the text in faults, one line each: malformed lines, unknown or
 * doubled sections and keys. What could be read is there all the same. */
void settings_ini_read(struct settings_ini *ini, const char *file, struct bytes text,
                       struct buf *faults);
void settings_ini_free(struct settings_ini *ini);

#endif
