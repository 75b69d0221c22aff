#include "common/settings/settings_internal.h"

#include "common/base/alloc.h"
#include "common/base/file.h"
#include "common/base/process_kind.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define INI_SIZE_MAX (1 << 20)

struct settings_origin {
    const void *field;
    char *text;
    UT_hash_handle hh;
};

static struct settings_origin *find_origin(const struct settings *settings, const void *field)
{
    struct settings_origin *found;

    HASH_FIND_PTR(settings->origins, &field, found);
    return found;
}

void settings_set_origin(struct settings *settings, const void *field, const char *origin)
{
    struct settings_origin *entry = find_origin(settings, field);
    char *text = xstrdup(origin); /* may be the former text */

    if (entry == NULL) {
        entry = xcalloc(1, sizeof(*entry));
        entry->field = field;
        HASH_ADD_PTR(settings->origins, field, entry);
    }
    free(entry->text);
    entry->text = text;
}

const char *settings_get_origin(const struct settings *settings, const void *field)
{
    const struct settings_origin *entry = find_origin(settings, field);

    return entry != NULL ? entry->text : NULL;
}

static void free_origins(struct settings *settings)
{
    struct settings_origin *entry = settings->origins;

    HASH_CLEAR(hh, settings->origins);
    while (entry != NULL) {
        struct settings_origin *following = entry->hh.next;

        free(entry->text);
        free(entry);
        entry = following;
    }
}

bool settings_is_given(const struct settings *settings, const void *field)
{
    const char *origin = settings_get_origin(settings, field);

    return origin && origin[0] != '[' && !bytes_starts_with(bytes_of(origin), BYTES("default"));
}

const char *settings_origin(const struct settings *settings, const struct setting *row,
                            const struct setting_view *view)
{
    const char *origin = settings_get_origin(settings, (char *)view->base + row->offset);

    if (settings->origins == NULL)
        return "";
    return origin ? origin : "default";
}

/* Appends "etc/x.ini:12: ", or nothing for a default. */
static void append_origin(struct buf *out, const struct settings *settings,
                          const struct setting_view *view, const char *key)
{
    const struct setting *row = setting_find(view->section, bytes_of(key));
    const char *origin = settings_get_origin(settings, (char *)view->base + row->offset);

    if (!origin && view->name[0]) /* the origin of the section's heading */
        origin = settings_get_origin(settings, view->base);
    if (origin && origin[0] && !bytes_starts_with(bytes_of(origin), BYTES("default")))
        buf_printf(out, "%s: ", origin);
}

static void append_name(struct buf *out, const struct setting_view *view, const char *key)
{
    if (view->section != SETTING_ENVIRONMENT) {
        buf_append_char(out, '[');
        setting_view_title(view, out);
        buf_append_text(out, "] ");
    }
    buf_printf(out, "%s: ", key);
}

void settings_fault(struct buf *faults, const struct settings *settings,
                    const struct setting_view *view, const char *key, const char *format, ...)
{
    va_list arguments;

    append_origin(faults, settings, view, key);
    append_name(faults, view, key);
    va_start(arguments, format);
    buf_vprintf(faults, format, arguments);
    va_end(arguments);
    buf_append_char(faults, '\n');
}

void settings_fault_error(struct buf *faults, const struct settings *settings,
                          const struct setting_view *view, const char *key, const struct error *err)
{
    append_origin(faults, settings, view, key);
    buf_printf(faults, "%s\n", err->text);
}

struct fault_line {
    struct bytes text;
    uint64_t line; /* line in the ini; UINT64_MAX: the fault has no line */
    size_t order;
};

static int compare_lines(const void *left, const void *right)
{
    const struct fault_line *a = left;
    const struct fault_line *b = right;

    if (a->line != b->line)
        return a->line < b->line ? -1 : 1;
    return a->order < b->order ? -1 : 1;
}

static uint64_t line_of(struct bytes text, const char *file)
{
    struct bytes prefix = bytes_of(file);
    struct bytes digits;
    struct bytes behind;
    uint64_t line;

    if (!bytes_starts_with(text, prefix) || text.len <= prefix.len || text.data[prefix.len] != ':')
        return UINT64_MAX;
    bytes_split(bytes_slice(text, prefix.len + 1, text.len), ':', &digits, &behind);
    return bytes_to_u64(digits, &line) ? line : UINT64_MAX;
}

/* Sorts the fault lines behind `from` by the file's line numbers. Faults without a line number
 * come last. */
static void sort_faults(struct buf *faults, size_t from, const char *file)
{
    struct buf copy = {0};
    struct fault_line *lines = NULL;
    size_t len = 0;

    buf_append(&copy, bytes_slice(buf_bytes(faults), from, faults->len - from));
    struct bytes rest = buf_bytes(&copy);
    while (rest.len > 0) {
        lines = xrealloc(lines, (len + 1) * sizeof(*lines));
        bytes_split(rest, '\n', &lines[len].text, &rest);
        lines[len].line = line_of(lines[len].text, file);
        lines[len].order = len;
        len++;
    }
    if (len > 0)
        qsort(lines, len, sizeof(*lines), compare_lines);
    faults->len = from;
    for (size_t i = 0; i < len; i++) {
        buf_append(faults, lines[i].text);
        buf_append_char(faults, '\n');
    }
    free(lines);
    buf_free(&copy);
}

/* Sets a value that is known to be valid. "" is allowed even for a required value: a default is
 * derived later, or the check finds the value missing. */
static void set_good(const struct setting *row, const struct setting_view *view, const char *value)
{
    if (row->type == SETTING_TEXT) {
        char **field = setting_text(row, view->base);

        free(*field);
        *field = xstrdup(value);
    } else if (setting_parse(row, view->base, bytes_of(value), NULL) < 0) {
        abort();
    }
}

static void set_defaults(const struct setting_view *view)
{
    for (size_t i = 0; i < SETTINGS_TABLE_LEN; i++)
        if (SETTINGS_TABLE[i].section == view->section)
            set_good(&SETTINGS_TABLE[i], view, SETTINGS_TABLE[i].standard);
}

static void free_texts(const struct setting_view *view)
{
    for (size_t i = 0; i < SETTINGS_TABLE_LEN; i++)
        if (SETTINGS_TABLE[i].section == view->section && SETTINGS_TABLE[i].type == SETTING_TEXT)
            free(*setting_text(&SETTINGS_TABLE[i], view->base));
}

struct settings *settings_new(void)
{
    struct settings *settings = xcalloc(1, sizeof(*settings));

    settings->mqtt.name = xstrdup("");
    for (size_t i = 0; i < settings_views_len(settings); i++) {
        const struct setting_view view = settings_view(settings, i);

        set_defaults(&view);
    }
    return settings;
}

bool settings_add_view(struct settings *settings, enum setting_section section, struct bytes name,
                       struct setting_view *view)
{
    char *copy = xstrndup(name.data, name.len);

    if (!settings_extend(settings, section, copy, view)) {
        free(copy);
        return false;
    }
    set_defaults(view);
    return true;
}

void settings_free(struct settings *settings)
{
    if (!settings)
        return;
    for (size_t i = 0; i < settings_views_len(settings); i++) {
        const struct setting_view view = settings_view(settings, i);

        free_texts(&view);
        if (view.name[0] != '\0')
            free((char *)view.name);
    }
    free(settings->mqtt.name);
    free_origins(settings);
    buf_free(&settings->notices);
    buf_free(&settings->variables);
    free(settings->consumers);
    free(settings->transports);
    free(settings->routes);
    free(settings->handlers);
    free(settings);
}

struct loading {
    struct settings *settings;
    const char *file;
    struct settings_ini ini;
    struct buf *faults;
};

/* Keeps each named section's heading as an origin. The origin belongs to the field `name`, which
 * is the first of the section's struct. */
static void keep_headings(struct loading *loading)
{
    for (size_t i = 0; i < settings_views_len(loading->settings); i++) {
        const struct setting_view view = settings_view(loading->settings, i);

        const struct settings_ini_section *section =
            view.name[0] ? settings_ini_find(&loading->ini, view.section, bytes_of(view.name))
                         : NULL;

        if (section != NULL) {
            char *origin = xasprintf("%s:%zu", loading->file, section->line);

            settings_set_origin(loading->settings, view.base, origin);
            free(origin);
        }
    }
}

/* Adds all list items before any value is set: an origin is kept by its field's address, and
 * growing lists move. */
static void make_lists(struct loading *loading)
{
    struct setting_view added;

    settings_add_view(loading->settings, SETTING_TRANSPORT, BYTES(SETTINGS_TRANSPORT), &added);
    for (const struct settings_ini_section *section = loading->ini.sections; section != NULL;
         section = section->hh.next) {
        const struct setting_view view = {section->section, section->name, NULL};

        if (!setting_view_is_default(&view))
            settings_add_view(loading->settings, section->section, bytes_of(section->name), &added);
    }
    keep_headings(loading);
    /* Only the first transport has a default DSN: with a default for all, two names would mean
     * one stream. */
    for (size_t i = 1; i < loading->settings->transports_len; i++)
        loading->settings->transports[i].dsn[0] = '\0';
}

static void set_origin(struct loading *loading, const struct setting *row,
                       const struct setting_view *view, const char *origin)
{
    settings_set_origin(loading->settings, (char *)view->base + row->offset, origin);
}

/* Sets a value and its origin. A bad value has an origin too, so that no default is derived in
 * its place. */
static void set_value(struct loading *loading, const struct setting *row,
                      const struct setting_view *view, const char *origin, struct bytes text)
{
    struct error err;

    set_origin(loading, row, view, origin);
    if (setting_parse(row, view->base, text, &err) < 0)
        settings_fault(loading->faults, loading->settings, view, row->key, "%s", err.text);
}

static void apply_entry(struct loading *loading, const struct settings_ini_entry *entry,
                        const struct setting_view *view)
{
    struct error err;
    struct buf value = {0};
    struct buf origin = {0};
    bool secret = (entry->row->flags & (SETTING_SECRET | SETTING_DSN)) != 0;

    buf_printf(&origin, "%s:%zu", loading->file, entry->line);
    if (settings_env_expand(bytes_of(entry->value), secret, &value, &loading->settings->notices,
                            &loading->settings->variables, &err) < 0) {
        set_origin(loading, entry->row, view, buf_text(&origin));
        settings_fault(loading->faults, loading->settings, view, entry->row->key, "%s", err.text);
    } else {
        set_value(loading, entry->row, view, buf_text(&origin), buf_bytes(&value));
    }
    buf_free(&value);
    buf_free(&origin);
}

static void apply_ini(struct loading *loading, const struct setting_view *view)
{
    const struct settings_ini_section *section =
        settings_ini_find(&loading->ini, view->section, bytes_of(view->name));

    for (size_t i = 0; section != NULL && i < section->entries_len; i++)
        apply_entry(loading, &section->entries[i], view);
}

/* Sets a value from a variable, which overrides the file; adds a notice if the file has another value. */
static void set_over_file(struct loading *loading, const struct setting *row,
                          const struct setting_view *view, struct settings_env_value *value)
{
    const char *origin = settings_get_origin(loading->settings, (char *)view->base + row->offset);
    char *overridden = origin ? xstrdup(origin) : NULL;
    struct buf before = {0}, now = {0};

    setting_format(row, view->base, &before);
    set_value(loading, row, view, buf_text(&value->origin), buf_bytes(&value->text));
    setting_format(row, view->base, &now);
    if (overridden && strcmp(buf_text(&before), buf_text(&now)) != 0)
        buf_printf(&loading->settings->notices, "%s: goes before `%s` in %s\n",
                   buf_text(&value->origin), row->key, overridden);
    buf_free(&before);
    buf_free(&now);
    free(overridden);
}

static void apply_environment(struct loading *loading, const struct setting_view *view)
{
    for (size_t i = 0; i < SETTINGS_TABLE_LEN; i++) {
        const struct setting *row = &SETTINGS_TABLE[i];
        struct settings_env_value value;
        struct error err;
        enum settings_env_kind kind = row->flags & SETTING_SECRET ? SETTINGS_ENV_SECRET
                                      : row->flags & SETTING_DSN  ? SETTINGS_ENV_DSN
                                                                  : SETTINGS_ENV_PLAIN;

        if (row->section != view->section || !row->env)
            continue;
        int found = settings_env_read(row->env, kind, &value, &err);
        if (value.notice.len > 0)
            buf_printf(&loading->settings->notices, "%s\n", buf_text(&value.notice));
        if (found < 0) { /* the origin is empty, since err names the variable */
            set_origin(loading, row, view, "");
            settings_fault(loading->faults, loading->settings, view, row->key, "%s", err.text);
        } else if (found > 0) {
            set_over_file(loading, row, view, &value);
        }
        settings_env_free(&value);
    }
}

/* A consumer starts with the values of [mqtt] and its environment. Exceptions: its client id
 * gets its name appended, and its topics start empty. */
static void inherit(struct loading *loading, const struct setting_view *view)
{
    struct settings *settings = loading->settings;

    for (size_t i = 0; i < SETTINGS_TABLE_LEN; i++) {
        const struct setting *row = &SETTINGS_TABLE[i];
        struct buf value = {0};

        if (row->section != SETTING_MQTT)
            continue;
        setting_format(row, &settings->mqtt, &value);
        if (strcmp(row->key, "topics") == 0)
            buf_clear(&value);
        else if (strcmp(row->key, "client_id") == 0)
            buf_printf(&value, "-%s", view->name);
        set_good(row, view, buf_text(&value));
        if (settings_get_origin(settings, (char *)&settings->mqtt + row->offset))
            settings_set_origin(settings, (char *)view->base + row->offset, "[mqtt]");
        buf_free(&value);
    }
    settings_set_origin(settings, &((struct settings_mqtt *)view->base)->client_id, "[mqtt]");
}

static void read_options(struct loading *loading)
{
    struct settings_worker *worker = &loading->settings->worker;
    const struct setting_view view = {SETTING_WORKER, "", worker};
    struct buf lines = {0};
    struct bytes line;

    settings_consume_parse(&worker->consume, bytes_of(worker->options), &lines);
    for (struct bytes rest = buf_bytes(&lines); bytes_split(rest, '\n', &line, &rest);)
        settings_fault(loading->faults, loading->settings, &view, "options", "%.*s",
                       BYTES_ARG(line));
    buf_free(&lines);
}

static void load_all(struct loading *loading, bool to_publish)
{
    struct settings *settings = loading->settings;

    make_lists(loading);
    for (size_t i = 0; i < settings_views_len(settings); i++) {
        const struct setting_view view = settings_view(settings, i);
        bool consumer = view.section == SETTING_MQTT && view.name[0];

        if (consumer)
            inherit(loading, &view);
        apply_ini(loading, &view);
        if (setting_view_is_default(&view))
            apply_environment(loading, &view);
        if (view.section == SETTING_MQTT)
            settings_derive_broker(settings, &view, loading->faults);
    }
    read_options(loading);
    settings_derive(settings, loading->faults);
    settings_note_misnamed(settings);
    settings_check(settings, to_publish, &settings->notices, loading->faults);
}

static bool holds_secret(const struct settings_ini_entry *entry)
{
    bool secret = (entry->row->flags & SETTING_SECRET) != 0 ||
                  (entry->row->flags & SETTING_DSN && strchr(entry->value, '@') != NULL);

    return secret && entry->value[0] != '\0' && strstr(entry->value, "${") == NULL;
}

static size_t find_secret(const struct settings_ini *ini)
{
    size_t line = 0;

    for (const struct settings_ini_section *section = ini->sections; section != NULL;
         section = section->hh.next)
        for (size_t i = 0; i < section->entries_len; i++)
            if (holds_secret(&section->entries[i]) &&
                (line == 0 || section->entries[i].line < line))
                line = section->entries[i].line;
    return line;
}

static void note_readable_secrets(struct loading *loading)
{
    const char *path = loading->file;
    struct stat info;

    if (stat(path, &info) < 0 || !S_ISREG(info.st_mode) || (info.st_mode & S_IROTH) == 0)
        return;
    size_t line = find_secret(&loading->ini);
    if (line > 0)
        buf_printf(&loading->settings->notices,
                   "%s:%zu: everybody on this machine can read this secret: chmod o-r %s\n", path,
                   line, path);
}

int settings_load_text(struct settings **settings, const char *name, struct bytes ini,
                       bool to_publish, struct buf *faults)
{
    struct loading loading = {.settings = settings_new(), .file = name, .faults = faults};
    size_t before = faults->len;

    settings_ini_read(&loading.ini, name, ini, faults);
    load_all(&loading, to_publish);
    note_readable_secrets(&loading);
    settings_ini_free(&loading.ini);
    if (faults->len > before) {
        sort_faults(faults, before, name);
        settings_free(loading.settings);
        return -ERR_USAGE;
    }
    *settings = loading.settings;
    return 0;
}

int settings_load(struct settings **settings, const char *path, bool to_publish, struct buf *faults)
{
    struct buf text = {0};
    struct error err;
    int result = 0;

    if (path && !path[0])
        path = NULL;
    if (path)
        result = file_read(path, INI_SIZE_MAX, &text, &err);
    if (result < 0) {
        buf_printf(faults, "%s\n", err.text);
        result = -ERR_USAGE;
    } else {
        result =
            settings_load_text(settings, path ? path : "", buf_bytes(&text), to_publish, faults);
    }
    buf_free(&text);
    return result;
}

char *settings_socket(const char *path)
{
    struct buf text = {0};
    struct buf faults = {0};
    struct error err;
    char *found = NULL;

    if (!path || !path[0] || file_read(path, INI_SIZE_MAX, &text, &err) == 0) {
        struct loading loading = {
            .settings = settings_new(), .file = path ? path : "", .faults = &faults};

        settings_ini_read(&loading.ini, loading.file, buf_bytes(&text), &faults);
        load_all(&loading, false);
        settings_ini_free(&loading.ini);
        if (loading.settings->supervisor.socket[0])
            found = xstrdup(loading.settings->supervisor.socket);
        settings_free(loading.settings);
    }
    buf_free(&faults);
    buf_free(&text);
    return found;
}

/* True if the list names the variable, or the variable NAME of a NAME_FILE. */
static bool is_listed(struct bytes list, struct bytes name)
{
    struct bytes item;

    while (bytes_next_item(&list, &item))
        if (bytes_equal(item, name) || bytes_equal(item, settings_env_without_file(name)))
            return true;
    return false;
}

void settings_passed_variables(const struct settings *settings, struct buf *list)
{
    for (size_t i = 0; i < settings->handlers_len; i++)
        buf_printf(list, "%s ", settings->handlers[i].pass_env);
}

char **settings_environment(const struct settings *settings, struct bytes keep)
{
    struct buf ours = {0};
    size_t len = 0, kept = 0;

    for (size_t i = 0; i < SETTINGS_TABLE_LEN; i++)
        if (SETTINGS_TABLE[i].env)
            buf_printf(&ours, "%s ", SETTINGS_TABLE[i].env);
    buf_append(&ours, buf_bytes(&settings->variables));
    settings_passed_variables(settings, &ours);
    while (environ[len] != NULL)
        len++;
    char **environment = xcalloc(len + 1, sizeof(*environment));
    for (size_t i = 0; i < len; i++) {
        struct bytes name, value;

        bytes_split(bytes_of(environ[i]), '=', &name, &value);
        if (is_listed(keep, name) || !is_listed(buf_bytes(&ours), name))
            environment[kept++] = environ[i];
    }
    buf_free(&ours);
    return environment;
}

void settings_print_lines(const char *program, const char *kind, const struct buf *lines)
{
    struct bytes rest = buf_bytes(lines), line;

    while (rest.len > 0) {
        bytes_split(rest, '\n', &line, &rest);
        fprintf(stderr, "%s: %s%.*s\n", program, kind, BYTES_ARG(line));
    }
}

void settings_log_notices(const struct settings *settings)
{
    struct bytes rest = buf_bytes(&settings->notices), line;

    while (rest.len > 0) {
        bytes_split(rest, '\n', &line, &rest);
        log_warning(LOG_PLAIN, "%.*s", BYTES_ARG(line));
    }
}

static void warn_if_unreadable(struct bytes name)
{
    char *variable = xasprintf("%.*s_FILE", BYTES_ARG(name));
    const char *path = settings_env_get(variable);

    if (path && access(path, R_OK) < 0)
        log_warning(LOG_PLAIN,
                    "%s: %s can't be read by the bridge's user (%u): a reload will change nothing. "
                    "Let a group of that user read it",
                    variable, path, (unsigned)geteuid());
    free(variable);
}

void settings_log_unreadable(const struct settings *settings)
{
    struct bytes rest = buf_bytes(&settings->variables), name;

    for (size_t i = 0; i < SETTINGS_TABLE_LEN; i++)
        if (SETTINGS_TABLE[i].env && (SETTINGS_TABLE[i].flags & (SETTING_SECRET | SETTING_DSN)))
            warn_if_unreadable(bytes_of(SETTINGS_TABLE[i].env));
    while (bytes_next_item(&rest, &name))
        warn_if_unreadable(name);
}

const struct settings_transport *settings_default_transport(const struct settings *settings)
{
    return &settings->transports[0];
}

const struct settings_transport *settings_transport(const struct settings *settings,
                                                    struct bytes name)
{
    for (size_t i = 0; i < settings->transports_len; i++)
        if (bytes_equal_text(name, settings->transports[i].name))
            return &settings->transports[i];
    return NULL;
}

const struct settings_handler *settings_handler(const struct settings *settings, const char *name)
{
    for (size_t i = 0; i < settings->handlers_len; i++)
        if (strcmp(settings->handlers[i].name, name) == 0)
            return &settings->handlers[i];
    return NULL;
}

bool settings_handler_is_used(const struct settings *settings,
                              const struct settings_handler *handler)
{
    bool used = strcmp(settings->worker.handler, handler->name) == 0;

    for (size_t i = 0; i < settings->routes_len && !used; i++)
        used = strcmp(settings->routes[i].handler, handler->name) == 0;
    return used;
}

const struct settings_mqtt *settings_mqtt_at(const struct settings *settings, size_t index)
{
    return index == 0 ? &settings->mqtt : &settings->consumers[index - 1];
}

const struct settings_mqtt *settings_consumer(const struct settings *settings, const char *process,
                                              struct error *err)
{
    const char *name = process_kind_section(process);

    if (name[0] == '\0')
        return &settings->mqtt;
    for (size_t i = 0; i < settings->consumers_len; i++)
        if (strcmp(settings->consumers[i].name, name) == 0)
            return &settings->consumers[i];
    error_set(err, ERR_USAGE, "there is no [consumer:%s] in the settings", name);
    return NULL;
}
