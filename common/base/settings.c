#include "common/base/settings_internal.h"

#include "common/base/alloc.h"
#include "common/base/settings_consume.h"
#include "common/base/settings_env.h"
#include "common/base/settings_ini.h"

#include <stdlib.h>
#include <string.h>

#define INI_SIZE_MAX (1 << 20)

struct settings_origin {
    const void *field;
    char *text;
};

struct settings_origins {
    struct settings_origin *entries;
    size_t len;
};

void settings_set_origin(struct settings *settings, const void *field, const char *origin)
{
    struct settings_origins *origins = settings->origins;
    for (size_t i = 0; i < origins->len; i++) {
        if (origins->entries[i].field == field) {
            free(origins->entries[i].text);
            origins->entries[i].text = xstrdup(origin);
            return;
        }
    }
    origins->entries = xrealloc(origins->entries, (origins->len + 1) * sizeof(*origins->entries));
    origins->entries[origins->len].field = field;
    origins->entries[origins->len++].text = xstrdup(origin);
}

const char *settings_get_origin(const struct settings *settings, const void *field)
{
    for (size_t i = 0; i < settings->origins->len; i++) {
        if (settings->origins->entries[i].field == field) {
            return settings->origins->entries[i].text;
        }
    }
    return NULL;
}

const char *settings_origin(const struct settings *settings, const struct setting *row,
                            const struct setting_view *view)
{
    const char *origin = settings_get_origin(settings, (char *)view->base + row->offset);
    if (settings->origins->len == 0) {
        return "";
    }
    return origin ? origin : "default";
}

/* The default as the table has it. "" is allowed even where a value is required: it is derived later, or
 * found missing. */
static void set_defaults(const struct setting_view *view)
{
    for (size_t i = 0; i < SETTINGS_TABLE_LEN; i++) {
        const struct setting *row = &SETTINGS_TABLE[i];
        struct error err;
        if (row->section != view->section) {
            continue;
        }
        if (setting_is_text(row)) {
            *setting_text(row, view->base) = xstrdup(row->standard);
        } else if (setting_parse(row, view->base, bytes_of(row->standard), &err) < 0) {
            abort();
        }
    }
}

static void free_texts(const struct setting_view *view)
{
    for (size_t i = 0; i < SETTINGS_TABLE_LEN; i++) {
        if (SETTINGS_TABLE[i].section == view->section && setting_is_text(&SETTINGS_TABLE[i])) {
            free(*setting_text(&SETTINGS_TABLE[i], view->base));
        }
    }
}

struct settings *settings_new(void)
{
    struct settings *settings = xcalloc(1, sizeof(*settings));
    settings->origins = xcalloc(1, sizeof(*settings->origins));
    settings->mqtt.name = xstrdup("");
    for (size_t i = 0; i < settings_views_len(settings); i++) {
        const struct setting_view view = settings_view(settings, i);
        set_defaults(&view);
    }
    return settings;
}

void settings_add_view(struct settings *settings, enum setting_section section, struct bytes name)
{
    struct setting_view view = {section, xstrndup(name.data, name.len), NULL};
    if (section == SETTING_MQTT) {
        size_t size = sizeof(*settings->consumers);
        settings->consumers = xrealloc(settings->consumers, (settings->consumers_len + 1) * size);
        view.base = &settings->consumers[settings->consumers_len++];
        *(struct settings_mqtt *)view.base = (struct settings_mqtt){.name = (char *)view.name};
    } else if (section == SETTING_TRANSPORT) {
        size_t size = sizeof(*settings->transports);
        settings->transports =
            xrealloc(settings->transports, (settings->transports_len + 1) * size);
        view.base = &settings->transports[settings->transports_len++];
        *(struct settings_transport *)view.base =
            (struct settings_transport){.name = (char *)view.name};
    } else if (section == SETTING_ROUTE) {
        size_t size = sizeof(*settings->routes);
        settings->routes = xrealloc(settings->routes, (settings->routes_len + 1) * size);
        view.base = &settings->routes[settings->routes_len++];
        *(struct settings_route *)view.base = (struct settings_route){.name = (char *)view.name};
    } else {
        free((char *)view.name);
        return;
    }
    set_defaults(&view);
}

void settings_free(struct settings *settings)
{
    if (!settings) {
        return;
    }
    for (size_t i = 0; i < settings_views_len(settings); i++) {
        const struct setting_view view = settings_view(settings, i);
        free_texts(&view);
    }
    free(settings->mqtt.name);
    for (size_t i = 0; i < settings->consumers_len; i++) {
        free(settings->consumers[i].name);
    }
    for (size_t i = 0; i < settings->transports_len; i++) {
        free(settings->transports[i].name);
    }
    for (size_t i = 0; i < settings->routes_len; i++) {
        free(settings->routes[i].name);
    }
    for (size_t i = 0; i < settings->origins->len; i++) {
        free(settings->origins->entries[i].text);
    }
    free(settings->origins->entries);
    free(settings->origins);
    free(settings->consumers);
    free(settings->transports);
    free(settings->routes);
    free(settings);
}

struct loading {
    struct settings *settings;
    const char *file;
    struct settings_ini ini;
    struct buf *faults;
};

/* A named section's own origin is its heading: kept for the field `name`, the first of its struct. */
static void keep_headings(struct loading *loading)
{
    for (size_t i = 0; i < settings_views_len(loading->settings); i++) {
        const struct setting_view view = settings_view(loading->settings, i);
        for (size_t j = 0; j < loading->ini.sections_len && view.name[0]; j++) {
            const struct settings_ini_section *section = &loading->ini.sections[j];
            if (section->section == view.section && strcmp(section->name, view.name) == 0) {
                char *origin = xasprintf("%s:%zu", loading->file, section->line);
                settings_set_origin(loading->settings, view.base, origin);
                free(origin);
            }
        }
    }
}

/* Lists are complete before any value is set: origins are kept by the field's address. */
static void make_lists(struct loading *loading)
{
    settings_add_view(loading->settings, SETTING_TRANSPORT, BYTES("async"));
    for (size_t i = 0; i < loading->ini.sections_len; i++) {
        const struct settings_ini_section *section = &loading->ini.sections[i];
        bool async = section->section == SETTING_TRANSPORT && strcmp(section->name, "async") == 0;
        if (section->name[0] && !async) {
            settings_add_view(loading->settings, section->section, bytes_of(section->name));
        }
    }
    keep_headings(loading);
    /* A further transport has no DSN of its own accord: two names for one stream are a mistake. */
    for (size_t i = 1; i < loading->settings->transports_len; i++) {
        loading->settings->transports[i].dsn[0] = '\0';
    }
}

static void set_value(struct loading *loading, const struct setting *row,
                      const struct setting_view *view, const char *origin, struct bytes text)
{
    struct error err;
    if (setting_parse(row, view->base, text, &err) < 0) {
        settings_fault(loading->faults, origin, view, row->key, "%s", err.text);
    }
    /* Even a bad value's: nothing is derived in its place. */
    settings_set_origin(loading->settings, (char *)view->base + row->offset, origin);
}

static void apply_entry(struct loading *loading, const struct settings_ini_entry *entry,
                        const struct setting_view *view)
{
    struct error err;
    struct buf value = {0};
    struct buf origin = {0};
    bool secret = (entry->row->flags & (SETTING_SECRET | SETTING_DSN)) != 0;
    buf_printf(&origin, "%s:%zu", loading->file, entry->line);
    if (settings_env_expand(bytes_of(entry->value), secret, &value, &err) < 0) {
        settings_fault(loading->faults, buf_text(&origin), view, entry->row->key, "%s", err.text);
        settings_set_origin(loading->settings, (char *)view->base + entry->row->offset,
                            buf_text(&origin));
    } else {
        set_value(loading, entry->row, view, buf_text(&origin), buf_bytes(&value));
    }
    buf_free(&value);
    buf_free(&origin);
}

static void apply_ini(struct loading *loading, const struct setting_view *view)
{
    for (size_t i = 0; i < loading->ini.entries_len; i++) {
        const struct settings_ini_entry *entry = &loading->ini.entries[i];
        const struct settings_ini_section *section = &loading->ini.sections[entry->section];
        if (section->section == view->section && strcmp(section->name, view->name) == 0) {
            apply_entry(loading, entry, view);
        }
    }
}

static void apply_environment(struct loading *loading, const struct setting_view *view)
{
    for (size_t i = 0; i < SETTINGS_TABLE_LEN; i++) {
        const struct setting *row = &SETTINGS_TABLE[i];
        struct error err;
        struct buf value = {0};
        struct buf origin = {0};
        bool secret = (row->flags & (SETTING_SECRET | SETTING_DSN)) != 0;
        if (row->section != view->section || !row->env) {
            continue;
        }
        int found = settings_env_read(row->env, secret, &value, &origin, &err);
        if (found < 0) {
            settings_fault(loading->faults, NULL, view, row->key, "%s", err.text);
        } else if (found > 0) {
            set_value(loading, row, view, buf_text(&origin), buf_bytes(&value));
        }
        buf_free(&value);
        buf_free(&origin);
    }
}

/* A consumer begins as [mqtt] with its environment, but for the client id, which must be its own, and the
 * topics, which it must give. */
static void inherit(struct loading *loading, const struct setting_view *view)
{
    struct settings *settings = loading->settings;
    for (size_t i = 0; i < SETTINGS_TABLE_LEN; i++) {
        const struct setting *row = &SETTINGS_TABLE[i];
        struct error err;
        struct buf value = {0};
        if (row->section != SETTING_MQTT) {
            continue;
        }
        setting_format(row, &settings->mqtt, &value);
        if (strcmp(row->key, "topics") == 0) {
            buf_clear(&value);
        } else if (strcmp(row->key, "client_id") == 0) {
            buf_printf(&value, "-%s", view->name);
        }
        if (setting_is_text(row)) {
            char **field = setting_text(row, view->base);
            free(*field);
            *field = xstrdup(buf_text(&value));
        } else if (setting_parse(row, view->base, buf_bytes(&value), &err) < 0) {
            abort();
        }
        if (settings_get_origin(settings, (char *)&settings->mqtt + row->offset)) {
            settings_set_origin(settings, (char *)view->base + row->offset, "[mqtt]");
        }
        buf_free(&value);
    }
    settings_set_origin(settings, &((struct settings_mqtt *)view->base)->client_id, "[mqtt]");
}

static void read_options(struct loading *loading)
{
    struct settings_worker *worker = &loading->settings->worker;
    const char *origin = settings_get_origin(loading->settings, &worker->options);
    struct buf prefix = {0};
    buf_printf(&prefix, "%s: [worker] options: ", origin ? origin : "default");
    settings_consume_parse(&worker->consume, bytes_of(worker->options), buf_text(&prefix),
                           loading->faults);
    buf_free(&prefix);
}

static void load_all(struct loading *loading)
{
    struct settings *settings = loading->settings;
    make_lists(loading);
    for (size_t i = 0; i < settings_views_len(settings); i++) {
        const struct setting_view view = settings_view(settings, i);
        bool consumer = view.section == SETTING_MQTT && view.name[0];
        if (consumer) {
            inherit(loading, &view);
        }
        apply_ini(loading, &view);
        if (!view.name[0] || strcmp(view.name, "async") == 0) {
            apply_environment(loading, &view);
        }
        if (view.section == SETTING_MQTT) {
            settings_derive_port(settings, view.base);
        }
    }
    read_options(loading);
    settings_derive(settings, loading->faults);
    settings_check(settings, loading->faults);
}

static int load_text(struct settings **settings, const char *name, struct bytes ini,
                     settings_verifier *verify, struct buf *faults)
{
    struct loading loading = {.settings = settings_new(), .file = name, .faults = faults};
    size_t before = faults->len;
    settings_ini_read(&loading.ini, name, ini, faults);
    load_all(&loading);
    settings_ini_free(&loading.ini);
    if (verify) {
        verify(loading.settings, faults);
    }
    if (faults->len > before) {
        settings_sort_faults(faults, before, name);
        settings_free(loading.settings);
        return -ERR_USAGE;
    }
    *settings = loading.settings;
    return 0;
}

int settings_load_text(struct settings **settings, const char *name, struct bytes ini,
                       struct buf *faults)
{
    return load_text(settings, name, ini, NULL, faults);
}

int settings_load_verified(struct settings **settings, const char *path, settings_verifier *verify,
                           struct buf *faults)
{
    struct buf text = {0};
    struct error err;
    int result = 0;
    if (path && path[0]) {
        result = settings_read_file(path, INI_SIZE_MAX, &text, &err);
    }
    if (result < 0) {
        buf_printf(faults, "%s\n", err.text);
        result = -ERR_USAGE;
    } else {
        result = load_text(settings, path ? path : "", buf_bytes(&text), verify, faults);
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

    if (!path || !path[0] || settings_read_file(path, INI_SIZE_MAX, &text, &err) == 0) {
        struct loading loading = {
            .settings = settings_new(), .file = path ? path : "", .faults = &faults};
        settings_ini_read(&loading.ini, loading.file, buf_bytes(&text), &faults);
        load_all(&loading);
        settings_ini_free(&loading.ini);
        if (loading.settings->supervisor.socket[0]) {
            found = xstrdup(loading.settings->supervisor.socket);
        }
        settings_free(loading.settings);
    }
    buf_free(&faults);
    buf_free(&text);
    return found;
}

int settings_load(struct settings **settings, const char *path, struct buf *faults)
{
    return settings_load_verified(settings, path, NULL, faults);
}

const struct settings_transport *settings_transport(const struct settings *settings,
                                                    struct bytes name)
{
    for (size_t i = 0; i < settings->transports_len; i++) {
        if (bytes_equal_text(name, settings->transports[i].name)) {
            return &settings->transports[i];
        }
    }
    return NULL;
}

const struct settings_mqtt *settings_consumer(const struct settings *settings, const char *process,
                                              struct error *err)
{
    const char *name = strchr(process, ':');

    if (name == NULL)
        return &settings->mqtt;
    for (size_t i = 0; i < settings->consumers_len; i++)
        if (strcmp(settings->consumers[i].name, name + 1) == 0)
            return &settings->consumers[i];
    error_set(err, ERR_USAGE, "there is no [consumer:%s] in the settings", name + 1);
    return NULL;
}
