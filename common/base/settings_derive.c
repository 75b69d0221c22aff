/* Defaults that depend on who runs the program, and on other settings. A value that was given, well or
 * badly, has an origin and is left alone. */
#include "common/base/settings_internal.h"

#include "common/base/alloc.h"
#include "common/base/settings_env.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#define PORT_TLS 8883

static void derive_text(struct settings *settings, char **field, const char *value, const char *why)
{
    free(*field);
    *field = xstrdup(value);
    settings_set_origin(settings, field, why);
}

void settings_derive_port(struct settings *settings, struct settings_mqtt *mqtt)
{
    const char *origin = settings_get_origin(settings, &mqtt->port);
    bool derived = origin && strcmp(origin, "default with TLS") == 0;
    bool inherited = origin && strcmp(origin, "[mqtt]") == 0;
    const char *above = settings_get_origin(settings, &settings->mqtt.port);
    if (inherited) {
        derived = above && strcmp(above, "default with TLS") == 0;
    }
    if (mqtt->tls && !origin) {
        mqtt->port = PORT_TLS;
        settings_set_origin(settings, &mqtt->port, "default with TLS");
    } else if (!mqtt->tls && derived) {
        mqtt->port = 1883;
        settings_set_origin(settings, &mqtt->port, "default without TLS");
    }
}

static const char *absolute(const char *name)
{
    const char *path = settings_env_get(name);
    return path && path[0] == '/' ? path : NULL;
}

static void derive_state_dir(struct settings *settings, struct buf *faults)
{
    const char *state = absolute("XDG_STATE_HOME");
    const char *home = absolute("HOME");
    char **field = &settings->supervisor.state_dir;
    char *path = NULL;
    if (settings_get_origin(settings, field)) {
        return;
    }
    if (geteuid() == 0) {
        settings_set_origin(settings, field, "default for root");
        return;
    }
    if (state) {
        path = xasprintf("%s/mqtt-bridge", state);
        derive_text(settings, field, path, "default under XDG_STATE_HOME");
    } else if (home) {
        path = xasprintf("%s/.local/state/mqtt-bridge", home);
        derive_text(settings, field, path, "default under HOME");
    } else {
        buf_append_text(faults,
                        "[supervisor] state_dir: has no default, for neither XDG_STATE_HOME "
                        "nor HOME is an absolute path\n");
    }
    free(path);
}

static void derive_socket(struct settings *settings)
{
    const char *runtime = absolute("XDG_RUNTIME_DIR");
    char **field = &settings->supervisor.socket;
    char *path = NULL;
    if (settings_get_origin(settings, field)) {
        return;
    }
    if (geteuid() == 0) {
        settings_set_origin(settings, field, "default for root");
        return;
    }
    if (runtime) {
        path = xasprintf("%s/mqtt-bridge/control.sock", runtime);
        derive_text(settings, field, path, "default under XDG_RUNTIME_DIR");
    } else {
        path = xasprintf("/tmp/mqtt-bridge-%u/control.sock", (unsigned)geteuid());
        derive_text(settings, field, path, "default");
    }
    free(path);
}

static void derive_log(struct settings *settings)
{
    struct settings_log *log = &settings->log;
    if (!settings_get_origin(settings, &log->format)) {
        if (strcmp(settings->app_env, "prod") == 0) {
            derive_text(settings, &log->format, "json", "default for APP_ENV=prod");
        } else if (!isatty(STDERR_FILENO)) {
            derive_text(settings, &log->format, "json",
                        "default where standard error is not a terminal");
        }
    }
    if (!settings_get_origin(settings, &log->file) && strcmp(settings->app_env, "dev") == 0) {
        derive_text(settings, &log->file, "var/log/mqtt.log", "default for APP_ENV=dev");
    }
}

void settings_derive(struct settings *settings, struct buf *faults)
{
    struct settings_mercure *mercure = &settings->mercure;
    if (!settings_get_origin(settings, &mercure->public_url) && mercure->url[0]) {
        derive_text(settings, &mercure->public_url, mercure->url, "default: url");
    }
    if (strcasecmp(settings->http.listen, "off") == 0) {
        settings->http.listen[0] = '\0';
    }
    derive_state_dir(settings, faults);
    derive_socket(settings);
    derive_log(settings);
}
