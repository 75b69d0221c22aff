/* Shared by the files of the settings module: making the struct, the origin of values, the ini file and the
 * environment. Not for other files. */
#ifndef COMMON_SETTINGS_SETTINGS_INTERNAL_H
#define COMMON_SETTINGS_SETTINGS_INTERNAL_H

#include "common/settings/settings_table.h"

#include <uthash.h>

/* Makes settings with all defaults and without named sections. */
struct settings *settings_new(void);
/* Adds a named section with its defaults at the end of its list; false, and nothing done, for other sections. Moves the
 * list: no origin may have been set for its fields yet. */
bool settings_add_view(struct settings *settings, enum setting_section section, struct bytes name,
                       struct setting_view *view);

void settings_set_origin(struct settings *settings, const void *field, const char *origin);
/* The field's origin; NULL: default. */
const char *settings_get_origin(const struct settings *settings, const void *field);
/* True if the field's value was written for this section, and not inherited or derived. */
bool settings_is_given(const struct settings *settings, const void *field);

/* Set defaults that depend on the user that runs the program, and on other settings. settings_derive_broker is also
 * called by itself, before the consumers copy [mqtt]. */
void settings_derive_broker(struct settings *settings, const struct setting_view *view,
                            struct buf *faults);
void settings_derive(struct settings *settings, struct buf *faults);
/* Reads `options` of [worker], those of messenger:consume with PHP's meaning. Appends one line a fault to faults, and
 * goes on; true if there was none. */
bool settings_consume_parse(struct settings_consume *consume, struct bytes options,
                            struct buf *faults);
/* Adds notices about variables that are not read, but look like ours. */
void settings_note_misnamed(struct settings *settings);
/* Checks combinations of keys, and values by the codecs that use them. to_publish: as in settings_load. */
void settings_check(const struct settings *settings, bool to_publish, struct buf *notices,
                    struct buf *faults);

/* The ini file as a list of its sections and entries, in the file's order, with their line numbers.
 *
 * A line is `[section]`, `key = value` (or `key: value`), a comment (`;` or `#` first) or blank; white
 * space around each part does not count. A `;` behind white space begins a comment within a line as
 * well, so a value that holds " ;" belongs into a variable. A value ends with its line: there are no
 * continued lines, no quotes and no escapes. A section may be opened again; a key may not. */
struct settings_ini_entry {
    const struct setting *row;
    char *value;
    size_t line;
};

struct settings_ini_section {
    enum setting_section section;
    const char *name; /* behind the colon, or "" */
    size_t line;
    struct settings_ini_entry *entries; /* in the file's order */
    size_t entries_len;
    UT_hash_handle hh;
    char key[]; /* the kind as one byte, then the name */
};

struct settings_ini {
    struct settings_ini_section *sections; /* uthash.h, in the file's order by hh.next */
};

/* Zero-initialised is empty. file names the text in faults, which get a line for each malformed line, and each
 * unknown or repeated section or key. The other entries are in the list. */
void settings_ini_read(struct settings_ini *ini, const char *file, struct bytes text,
                       struct buf *faults);
void settings_ini_free(struct settings_ini *ini);

/* NULL if the file has no such section. */
struct settings_ini_section *settings_ini_find(const struct settings_ini *ini,
                                               enum setting_section section, struct bytes name);

/* The environment, as settings see it.
 *
 * A variable that is empty counts as one that is not set, because container tools pass variables through empty.
 * So does a NAME_PORT that Kubernetes has set for a Service: tcp://10.0.0.1:1883
 * (https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables).
 *
 * `docker run --env-file` passes on the text behind `=` of a .env file unchanged, unlike compose, Symfony and a
 * shell. So white space and quotes around a value are removed. In a secret they may be meant: there they are an
 * error. So are a comment behind a secret and a ${NAME} in it that was not replaced. */

/* The variable's value; NULL if it is not set or empty. */
const char *settings_env_get(const char *name);

enum settings_env_kind {
    SETTINGS_ENV_PLAIN,
    SETTINGS_ENV_DSN,    /* with NAME_FILE, as a secret */
    SETTINGS_ENV_SECRET, /* or a part of a DSN */
};

/* A value, its origin, and a notice about it. */
struct settings_env_value {
    struct buf text;
    struct buf origin; /* for people */
    struct buf notice; /* why the variable was ignored; empty: it was not */
};

/* Reads the variable `name`, or for a secret the content of the file that NAME_FILE names, without line ends at its
 * end. Returns 1, or 0 if neither is set. Negative with err: the file can't be read, both are set, or the secret has
 * one of the faults above. value is to be freed in any case. */
MUST_CHECK int settings_env_read(const char *name, enum settings_env_kind kind,
                                 struct settings_env_value *value, struct error *err);
void settings_env_free(struct settings_env_value *value);

/* Appends text with ${NAME} and ${NAME:-default} replaced; `$${` stands for `${`. secret: the variables are secrets,
 * and NAME_FILE is read too. notices: gets a line for each variable that was ignored. names: gets the variables of a
 * secret, each followed by a space. */
MUST_CHECK int settings_env_expand(struct bytes text, bool secret, struct buf *out,
                                   struct buf *notices, struct buf *names, struct error *err);

bool settings_env_is_name(struct bytes name); /* true if it can be a variable's name */
/* NAME for a NAME_FILE; else the name unchanged. */
struct bytes settings_env_without_file(struct bytes name);

#endif
