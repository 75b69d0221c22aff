/* The table of settings: each row has a setting's name, sources, type, limits, and its field in struct settings. All
 * code that reads or shows settings uses this table: the ini reader, the environment, `config`, `check`, the memfd to
 * children, etc/mqtt-bridge.ini and docs/SETTINGS.md. To add a setting: a field in settings.h and a row here, with the
 * programs that read it. */
#ifndef COMMON_SETTINGS_SETTINGS_TABLE_H
#define COMMON_SETTINGS_SETTINGS_TABLE_H

#include "common/base/process_kind.h"
#include "common/settings/settings.h"

enum setting_section {
    SETTING_MQTT, /* also [consumer:NAME] */
    SETTING_SPOOL,
    SETTING_TRANSPORT, /* [transport:NAME] */
    SETTING_WORKER,
    SETTING_RETRY,
    SETTING_FAILURE,
    SETTING_MERCURE,
    SETTING_ROUTE,   /* [route:NAME] */
    SETTING_HANDLER, /* [handler:NAME] */
    SETTING_PAGE,
    SETTING_HTTP,
    SETTING_LOG,
    SETTING_SUPERVISOR,
    SETTING_ENVIRONMENT, /* no section of the ini: variables only */
    SETTING_SECTIONS
};

enum setting_type {
    SETTING_TEXT,     /* char * */
    SETTING_NUMBER,   /* int64_t, minimum..maximum */
    SETTING_REAL,     /* double, minimum..maximum */
    SETTING_BOOL,     /* bool: yes no true false on off 1 0 */
    SETTING_DURATION, /* int64_t in ms: 500ms 30s 1m 2h 1d; 0 needs no unit */
    SETTING_SIZE,     /* int64_t in bytes: 4096 64K 256M 1G */
    SETTING_CHOICE,   /* an enum: one of `words` */
    SETTING_COUNT,    /* int64_t, minimum..maximum, or `auto`: the number of cores */
};

enum setting_flag {
    SETTING_SECRET = 1,   /* never shown; its variable NAME may be given as NAME_FILE */
    SETTING_DSN = 2,      /* holds a password: shown without it; NAME_FILE as well */
    SETTING_REQUIRED = 4, /* not empty */
    SETTING_FILE = 8,     /* a file that is read: a reload sees whether it has changed */
    SETTING_CERTIFICATE = SETTING_FILE | 16,
    SETTING_AUTHORITIES = SETTING_FILE | 32,
};

enum setting_reader {
    READ_BY_CONSUMER = 1 << PROCESS_CONSUMER,
    READ_BY_WORKER = 1 << PROCESS_WORKER,
    READ_BY_MONITOR = 1 << PROCESS_MONITOR,
    READ_BY_SUPERVISOR = 1 << PROCESS_SUPERVISOR,
};

/* A value of an enum and its word in the ini. */
struct setting_word {
    const char *text;
    unsigned value;
};

struct setting {
    enum setting_section section;
    const char *key;
    const char *env;      /* NULL: no variable */
    const char *standard; /* the default, as written in the ini */
    enum setting_type type;
    unsigned readers; /* enum setting_reader: only they get the setting, or are restarted for it */
    unsigned flags;
    double minimum; /* in the field's unit: number, ms or bytes */
    double maximum;
    const struct setting_word *words; /* SETTING_CHOICE: ends with a row without text */
    size_t offset;                    /* of the field in the section's struct */
    const char *derived; /* for people: what the default depends on; NULL: it is `standard` */
    const char *description;
};

struct setting_section_info {
    const char *name; /* "mqtt", or the part before the colon: "transport" */
    /* Sections of this kind have names: the one that always exists ("async"), or "" if none does. NULL: no names. */
    const char *named;
    const char *about;
};

extern const struct setting_word SPOOL_SYNC_WORDS[];
extern const struct setting_word UPDATE_DATA_WORDS[];
extern const struct setting_word JWT_ALGORITHM_WORDS[];
/* The word of a value that is in the list. */
const char *setting_word(const struct setting_word *words, unsigned value);

extern const struct setting SETTINGS_TABLE[];
extern const size_t SETTINGS_TABLE_LEN;
extern const struct setting_section_info SETTINGS_SECTIONS[SETTING_SECTIONS];

/* NULL if the section has no such key. */
const struct setting *setting_find(enum setting_section section, struct bytes key);

/* Reads text as the row's type into its field of the section's struct `base` (the old value is freed).
 * -ERR_USAGE says what it must be instead: "must be a number from 1 to 65535, not `abc`". */
MUST_CHECK int setting_parse(const struct setting *row, void *base, struct bytes text,
                             struct error *err);
/* Appends the field's value in the form that setting_parse reads. */
void setting_format(const struct setting *row, const void *base, struct buf *out);
/* As setting_format, for people: secrets and passwords within DSNs are "***". */
void setting_format_masked(const struct setting *row, const void *base, struct buf *out);
/* Appends the row's type and limits, for people: "number from 1 to 65535". */
void setting_describe_type(const struct setting *row, struct buf *out);
/* The field of a SETTING_TEXT. */
char **setting_text(const struct setting *row, void *base);

/* One section that a settings struct has: [mqtt], [consumer:garden], [spool], ... */
struct setting_view {
    enum setting_section section;
    const char *name; /* the part behind the colon, or "" */
    void *base;       /* the section's struct */
};

/* Adds a section to its list, zero but for its name. False: this kind of section exists only once. */
bool settings_extend(struct settings *settings, enum setting_section section, char *name,
                     struct setting_view *view);
size_t settings_views_len(const struct settings *settings);
struct setting_view settings_view(const struct settings *settings, size_t index);
/* True for a section without a name, and for that of the default transport. */
bool setting_view_is_default(const struct setting_view *view);
/* Appends "mqtt", "consumer:garden", "transport:async". */
void setting_view_title(const struct setting_view *view, struct buf *out);

/* True if the process ("consumer:garden", "worker") reads this row of that section. A consumer reads its own section of
 * [mqtt] and [consumer:NAME]. The consumer of [mqtt] also reads the client ids of the others, whose orphan spools it
 * drains. Only a worker reads other transports than `async`. */
bool setting_is_read(const struct setting *row, const struct setting_view *view,
                     const char *process);

/* The origin of the field's value: "default", "etc/x.ini:12", "environment MQTT_HOST",
 * "MQTT_PASSWORD_FILE /run/secrets/mqtt", "[mqtt]". For unpacked settings it is unknown: "". */
const char *settings_origin(const struct settings *settings, const struct setting *row,
                            const struct setting_view *view);

/* Appends a fault of a key as one line, "etc/x.ini:12: [mqtt] port: …", with the value's origin unless that is a
 * default. */
void settings_fault(struct buf *faults, const struct settings *settings,
                    const struct setting_view *view, const char *key, const char *format, ...)
    __attribute__((format(printf, 5, 6)));
/* As settings_fault, for an error whose text names section and key itself. */
void settings_fault_error(struct buf *faults, const struct settings *settings,
                          const struct setting_view *view, const char *key,
                          const struct error *err);

#endif
