/* What the files of the settings module share: making the struct, remembering where values are from, the ini file and
 * the environment. Not for others. */
#ifndef COMMON_SETTINGS_SETTINGS_INTERNAL_H
#define COMMON_SETTINGS_SETTINGS_INTERNAL_H

#include "common/settings/settings_table.h"

/* Every field has its default; no section with a name yet. */
struct settings *settings_new(void);
/* One more section with a name, at its defaults, at the end of its list.
 * Moves the list: no origin may have been kept for it yet. Nothing for other sections. */
void settings_add_view(struct settings *settings, enum setting_section section, struct bytes name);

void settings_set_origin(struct settings *settings, const void *field, const char *origin);
/* NULL: default. */
const char *settings_get_origin(const struct settings *settings, const void *field);
/* Its value was written for this section, and not inherited or derived. */
bool settings_is_given(const struct settings *settings, const void *field);

/* Defaults that depend on who runs the program, and on other settings. settings_derive_broker is called
 * by itself as well, before the consumers copy [mqtt]. */
void settings_derive_broker(struct settings *settings, const struct setting_view *view,
                            struct buf *faults);
void settings_derive(struct settings *settings, struct buf *faults);
/* Reads `options` of [worker], those of messenger:consume with PHP's meaning. Appends one line a fault to faults, each
 * behind `prefix`, and goes on; true if there was none. */
bool settings_consume_parse(struct settings_consume *consume, struct bytes options,
                            const char *prefix, struct buf *faults);
/* Notices of variables that are not read, but look like ours. */
void settings_note_misnamed(struct settings *settings);
/* What no single key can tell, and what the values mean to the codecs. to_publish: as in settings_load. */
void settings_check(const struct settings *settings, bool to_publish, struct buf *notices,
                    struct buf *faults);

/* The ini file as a list of what it says, in its own order, with the line of each.
 *
 * A line is `[section]`, `key = value` (or `key: value`), a comment (`;` or `#` first) or blank; white
 * space around each part does not count. A `;` behind white space begins a comment within a line as
 * well, so a value that holds " ;" belongs into a variable. A value ends with its line: there are no
 * continued lines, no quotes and no escapes. A section may be opened again; a key may not. */
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

/* The environment, as settings see it.
 *
 * A variable that is empty counts as one that is not set, because container tools pass variables through empty.
 * So does a NAME_PORT that Kubernetes has set for a Service: tcp://10.0.0.1:1883
 * (https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables).
 *
 * `docker run --env-file` hands on what stands behind the `=` of a .env file as it is, where compose, Symfony and
 * a shell read more into it. So white space and quotes around a value are taken away. A secret may have them: there
 * they are an error, as are a comment behind a value and a ${NAME} in it that nobody has replaced. */

/* NULL if it is not set or empty. */
const char *settings_env_get(const char *name);

enum settings_env_kind {
    SETTINGS_ENV_PLAIN,
    SETTINGS_ENV_DSN,    /* with NAME_FILE, as a secret */
    SETTINGS_ENV_SECRET, /* or a part of a DSN */
};

/* What is read, and what is to be told of it. */
struct settings_env_value {
    struct buf text;
    struct buf origin; /* in words */
    struct buf notice; /* the variable was passed over; empty: it was not */
};

/* The variable `name`, or for a secret the content of the file that NAME_FILE names, without the line
 * ends at its end. Returns 1, 0 if neither is set, negative with err if the file can't be read or both are
 * set, or if the variable can't be meant so (above); value is to be freed in any case. */
MUST_CHECK int settings_env_read(const char *name, enum settings_env_kind kind,
                                 struct settings_env_value *value, struct error *err);
void settings_env_free(struct settings_env_value *value);

/* Appends text with ${NAME} and ${NAME:-default} replaced; `$${` stands for `${`. secret: the
 * variables are, and NAME_FILE counts too. notices: a line for each variable that was passed over; names: the
 * variables of a secret, a space behind each. */
MUST_CHECK int settings_env_expand(struct bytes text, bool secret, struct buf *out,
                                   struct buf *notices, struct buf *names, struct error *err);

bool settings_env_is_name(struct bytes name); /* of a variable */
/* NAME of a NAME_FILE; else the name as it is. */
struct bytes settings_env_without_file(struct bytes name);

#endif
