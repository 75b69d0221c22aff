/* Derives defaults that depend on the user who runs the program, and on other settings. A given
 * value, good or bad, has an origin and stays unchanged. */
#include "common/settings/settings_internal.h"

#include "common/base/alloc.h"
#include "common/settings/broker_address.h"
#include "common/wire/dsn.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/auxv.h>
#include <unistd.h>

#define PORT_TLS 8883

static void derive_text(struct settings *settings, char **field, const char *value, const char *why)
{
    free(*field);
    *field = xstrdup(value);
    settings_set_origin(settings, field, why);
}

/* Takes host, port and tls from a host that is written as an address. */
static void take_address(struct settings *settings, const struct setting_view *view,
                         struct broker_address *address, struct buf *faults)
{
    struct settings_mqtt *mqtt = view->base;
    const char *origin = settings_get_origin(settings, &mqtt->host);
    uint64_t port;

    if (address->has_port && bytes_to_u64(bytes_of(address->port), &port)) {
        if (settings_is_given(settings, &mqtt->port) && mqtt->port != (int64_t)port)
            settings_fault(faults, settings, view, "host",
                           "its port is %s, but port (MQTT_PORT) is %d: give one of them",
                           address->port, (int)mqtt->port);
        mqtt->port = (int64_t)port;
        settings_set_origin(settings, &mqtt->port, origin);
    }
    if (address->has_scheme) {
        if (settings_is_given(settings, &mqtt->tls) && mqtt->tls != address->tls)
            settings_fault(faults, settings, view, "host",
                           "its scheme says %s, but tls (MQTT_TLS) is %s: write %s://%s",
                           address->tls ? "TLS" : "no TLS", mqtt->tls ? "yes" : "no",
                           mqtt->tls ? "mqtts" : "mqtt", address->name);
        mqtt->tls = address->tls;
        settings_set_origin(settings, &mqtt->tls, origin);
    }
    free(mqtt->host);
    mqtt->host = xstrdup(address->host);
}

static void derive_address(struct settings *settings, const struct setting_view *view,
                           struct buf *faults)
{
    struct settings_mqtt *mqtt = view->base;
    struct broker_address address;
    struct error err;
    const char *colon = strchr(mqtt->host, ':');
    bool bare_ipv6 =
        colon && strchr(colon + 1, ':') && mqtt->host[0] != '[' && !strstr(mqtt->host, "://");

    if (!settings_is_given(settings, &mqtt->host) || mqtt->host[0] == '\0' || bare_ipv6)
        return;
    if (broker_address_read(&address, bytes_of(mqtt->host), mqtt->tls, &err) < 0) {
        settings_fault(faults, settings, view, "host", "%s", err.text);
        return;
    }
    take_address(settings, view, &address, faults);
    broker_address_free(&address);
}

static void derive_port(struct settings *settings, struct settings_mqtt *mqtt)
{
    const char *origin = settings_get_origin(settings, &mqtt->port);
    bool derived = origin && strcmp(origin, "default with TLS") == 0;
    bool inherited = origin && strcmp(origin, "[mqtt]") == 0;
    const char *above = settings_get_origin(settings, &settings->mqtt.port);

    if (inherited)
        derived = above && strcmp(above, "default with TLS") == 0;
    if (mqtt->tls && !origin) {
        mqtt->port = PORT_TLS;
        settings_set_origin(settings, &mqtt->port, "default with TLS");
    } else if (!mqtt->tls && derived) {
        mqtt->port = 1883;
        settings_set_origin(settings, &mqtt->port, "default without TLS");
    }
}

/* Puts each filter of the list into the share, unless the filter names a share already. */
static void derive_share(struct settings_mqtt *mqtt)
{
    struct bytes rest = bytes_of(mqtt->topics), item;
    struct buf list = {0};

    if (!mqtt->share_name[0])
        return;
    while (bytes_next_item(&rest, &item)) {
        bool shared = bytes_starts_with(item, BYTES("$share/"));

        buf_printf(&list, "%s%s%s%s%.*s", list.len > 0 ? ", " : "", shared ? "" : "$share/",
                   shared ? "" : mqtt->share_name, shared ? "" : "/", BYTES_ARG(item));
    }
    free(mqtt->topics);
    mqtt->topics = buf_take_text(&list);
}

void settings_derive_broker(struct settings *settings, const struct setting_view *view,
                            struct buf *faults)
{
    derive_address(settings, view, faults);
    derive_port(settings, view->base);
    derive_share(view->base);
}

static const char *absolute(const char *name)
{
    const char *path = settings_env_get(name);

    return path && path[0] == '/' ? path : NULL;
}

/* True if the value is given, or if root started the program: the table holds root's defaults.
 * The starting user counts, since a supervisor that dropped root must reload with the defaults
 * of its start. */
static bool is_given_or_roots_default(struct settings *settings, const void *field)
{
    if (settings_get_origin(settings, field))
        return true;
    if (getauxval(AT_EUID) != 0)
        return false;
    settings_set_origin(settings, field, "default for root");
    return true;
}

static void derive_state_dir(struct settings *settings, struct buf *faults)
{
    const char *state = absolute("XDG_STATE_HOME");
    const char *home = absolute("HOME");
    char **field = &settings->supervisor.state_dir;
    char *path = NULL;

    if (is_given_or_roots_default(settings, field))
        return;
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

/* Derives the socket from the state directory, so that every user finds the socket of the same
 * bridge. */
static void derive_socket(struct settings *settings)
{
    char **field = &settings->supervisor.socket;

    if (settings_get_origin(settings, field) || settings->supervisor.state_dir[0] != '/')
        return; /* the socket is given, or the state directory's fault is enough */
    char *path = xasprintf("%s/control.sock", settings->supervisor.state_dir);
    derive_text(settings, field, path, "default in state_dir");
    free(path);
}

/* Podman, systemd-nspawn and mqtt-bridge's own image set `container`. Kubernetes sets the other
 * variable. */
static bool is_in_container(void)
{
    return settings_env_get("container") || settings_env_get("KUBERNETES_SERVICE_HOST");
}

static void derive_log(struct settings *settings)
{
    struct settings_log *log = &settings->log;
    bool production = strcmp(settings->app_env, "prod") == 0;

    if (!settings_get_origin(settings, &log->format) && (production || !isatty(STDERR_FILENO))) {
        log->format = LOG_FORMAT_JSON;
        settings_set_origin(settings, &log->format,
                            production ? "default for APP_ENV=prod"
                                       : "default where standard error is not a terminal");
    }
    /* Nobody rotates a file in a container, and `docker logs` shows standard error. */
    if (!settings_get_origin(settings, &log->file) && strcmp(settings->app_env, "dev") == 0 &&
        !is_in_container())
        derive_text(settings, &log->file, "var/log/mqtt.log", "default for APP_ENV=dev");
}

/* Returns the variable that names a proxy for http or https, in libcurl's order of search; NULL
 * if none is set. */
static const char *find_proxy_variable(bool https)
{
    static const char *const HTTP[] = {"http_proxy", "all_proxy", "ALL_PROXY"};
    static const char *const HTTPS[] = {"https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"};
    size_t len = https ? LENGTH_OF(HTTPS) : LENGTH_OF(HTTP);

    for (size_t i = 0; i < len; i++)
        if (settings_env_get(https ? HTTPS[i] : HTTP[i]))
            return https ? HTTPS[i] : HTTP[i];
    return NULL;
}

/* True if the host is an address inside the network, such as 10.0.0.0/8. */
static bool is_in_network(struct bytes host, struct bytes network)
{
    unsigned char own[BYTES_IP_SIZE], base[BYTES_IP_SIZE];
    struct bytes address, length;
    uint64_t bits;

    if (!bytes_split(network, '/', &address, &length) || !bytes_to_u64(length, &bits))
        return false;
    size_t size = bytes_to_ip(host, own);
    if (size == 0 || bytes_to_ip(address, base) != size || bits > size * 8)
        return false;
    for (size_t i = 0; i < size && i * 8 < bits; i++) {
        unsigned unused = bits >= i * 8 + 8 ? 0 : (unsigned)(i * 8 + 8 - bits);

        if ((own[i] ^ base[i]) >> unused != 0)
            return false;
    }
    return true;
}

/* True if no_proxy names the host, or a domain or network that contains the host. */
static bool goes_without_proxy(struct bytes host)
{
    const char *lower = settings_env_get("no_proxy");
    const char *list = lower ? lower : settings_env_get("NO_PROXY");
    struct bytes rest = bytes_of(list ? list : ""), name;

    while (bytes_next_item(&rest, &name)) {
        if (bytes_equal_text(name, "*") || is_in_network(host, name))
            return true;
        if (name.len > 0 && name.data[0] == '.')
            name = bytes_slice(name, 1, name.len);
        if (name.len == 0 || name.len > host.len ||
            strncasecmp(host.data + host.len - name.len, name.data, name.len) != 0)
            continue;
        if (name.len == host.len || host.data[host.len - name.len - 1] == '.')
            return true;
    }
    return false;
}

/* Adds a notice if libcurl would use a proxy: such variables are often set for a whole machine
 * or container. */
static void note_proxy(struct settings *settings)
{
    struct bytes url = bytes_of(settings->mercure.url), scheme, host, behind;
    bool https = bytes_starts_with(url, BYTES("https://"));
    const char *variable = find_proxy_variable(https);

    if (!variable || (!https && !bytes_starts_with(url, BYTES("http://"))))
        return;
    bytes_split(url, '/', &scheme, &host);
    bytes_split(bytes_slice(host, 1, host.len), '/', &host, &behind);
    if (host.len > 0 && host.data[0] == '[')
        bytes_split(bytes_slice(host, 1, host.len), ']', &host, &behind);
    else
        bytes_split(host, ':', &host, &behind);
    if (host.len > 0 && !goes_without_proxy(host))
        buf_printf(&settings->notices,
                   "environment %s: the hub is asked through the proxy that it names; `%.*s` in "
                   "no_proxy ends that. The broker is connected to without a proxy\n",
                   variable, BYTES_ARG(host));
}

/* A route takes each value that it does not set itself from [mercure]. */
static void derive_route(struct settings *settings, struct settings_route *route)
{
    const struct settings_mercure *mercure = &settings->mercure;

    if (!settings_get_origin(settings, &route->topic))
        derive_text(settings, &route->topic, mercure->topic_template, "[mercure] topic_template");
    if (!settings_get_origin(settings, &route->batch_topic))
        derive_text(settings, &route->batch_topic, route->topic, "topic");
    if (!settings_get_origin(settings, &route->data))
        derive_text(settings, &route->data, setting_word(UPDATE_DATA_WORDS, mercure->data),
                    "[mercure] data");
    if (!settings_get_origin(settings, &route->private_updates)) {
        route->private_updates = mercure->private_updates;
        settings_set_origin(settings, &route->private_updates, "[mercure] private");
    }
}

static void take_text(struct settings *settings, char **field, const char *value,
                      const char *origin)
{
    if (value != NULL)
        derive_text(settings, field, value, origin);
}

/* Takes the options of the DSN, which override the keys of [failure]. */
static void take_doctrine(struct settings *settings, const struct dsn_doctrine *dsn,
                          const char *origin)
{
    struct settings_failure *failure = &settings->failure;
    bool has_queue = settings_get_origin(settings, &failure->queue_name) != NULL;

    if (dsn->queue_name == NULL && !has_queue)
        derive_text(settings, &failure->queue_name, "default", "default of doctrine://");
    take_text(settings, &failure->queue_name, dsn->queue_name, origin);
    take_text(settings, &failure->table, dsn->table_name, origin);
    if (dsn->has_auto_setup) {
        failure->auto_setup = dsn->auto_setup;
        settings_set_origin(settings, &failure->auto_setup, origin);
    }
}

static void take_database(struct settings *settings)
{
    struct settings_failure *failure = &settings->failure;
    const char *origin = settings_get_origin(settings, &failure->database);

    take_text(settings, &failure->dsn, failure->database, origin != NULL ? origin : "default");
}

static void derive_doctrine(struct settings *settings, const struct setting_view *view,
                            const char *origin, struct buf *faults)
{
    struct settings_failure *failure = &settings->failure;
    struct dsn_doctrine dsn;
    struct error err;

    if (dsn_doctrine_parse(&dsn, failure->dsn, &err) < 0) {
        settings_fault(faults, settings, view, "dsn", "%s", err.text);
    } else {
        if (strcmp(dsn.connection, "default") != 0)
            settings_fault(faults, settings, view, "dsn",
                           "only the connection `default` is known, which DATABASE_URL names: "
                           "write postgresql:// for another");
        else if (failure->database[0] == '\0')
            settings_fault(faults, settings, view, "dsn",
                           "doctrine://default is what database (DATABASE_URL) names, which is not "
                           "set");
        take_doctrine(settings, &dsn, origin);
        dsn_doctrine_free(&dsn);
    }
    take_database(settings);
}

static bool is_from_environment(const char *origin, const char *variable)
{
    struct bytes text = bytes_of(origin != NULL ? origin : "");

    return bytes_starts_with(text, BYTES("environment ")) ||
           bytes_starts_with(text, bytes_of(variable));
}

/* Derives the failure transport's DSN. A database in the file gives way to DATABASE_URL, as
 * every value gives way to its variable. */
static void derive_failure(struct settings *settings, struct buf *faults)
{
    struct settings_failure *failure = &settings->failure;
    const struct setting_view view = {SETTING_FAILURE, "", failure};
    const char *given = settings_get_origin(settings, &failure->dsn);
    const char *database = settings_get_origin(settings, &failure->database);
    char *origin = xstrdup(given != NULL ? given : "default");
    struct dsn_redis redis;

    if (dsn_is_doctrine(failure->dsn)) {
        derive_doctrine(settings, &view, origin, faults);
    } else if (dsn_is_redis(failure->dsn)) {
        if (dsn_redis_parse(&redis, failure->dsn, NULL) == 0) {
            derive_text(settings, &failure->queue_name, redis.stream, origin);
            dsn_redis_free(&redis);
        }
    } else if (failure->dsn[0] == '\0') {
        if (failure->database[0] != '\0')
            take_database(settings);
    } else if (is_from_environment(database, "DATABASE_URL") &&
               !is_from_environment(given, "MESSENGER_FAILURE_TRANSPORT_DSN") &&
               strcmp(failure->database, failure->dsn) != 0) {
        buf_printf(&settings->notices, "%s: goes before `dsn` in %s\n", database, origin);
        take_database(settings);
    }
    free(origin);
}

void settings_derive(struct settings *settings, struct buf *faults)
{
    struct settings_mercure *mercure = &settings->mercure;

    if (!settings_get_origin(settings, &mercure->public_url) && mercure->url[0])
        derive_text(settings, &mercure->public_url, mercure->url, "default: url");
    if (strcasecmp(settings->http.listen, "off") == 0)
        settings->http.listen[0] = '\0';
    for (size_t i = 0; i < settings->routes_len; i++)
        derive_route(settings, &settings->routes[i]);
    derive_failure(settings, faults);
    derive_state_dir(settings, faults);
    derive_socket(settings);
    derive_log(settings);
    note_proxy(settings);
}
