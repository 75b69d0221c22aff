/* What no single key can tell: values that contradict each other, names that must exist, forms that have
 * no type of their own. The syntax of DSNs, filters and tokens is checked by those who use them, and by
 * `mqtt-bridge check` before. */
#include "common/base/settings_internal.h"

#include "common/base/nearest.h"

#include <string.h>
#include <sys/un.h>

struct checking {
    const struct settings *settings;
    struct buf *faults;
};

/* A fault of one field, where it is from. */
static void fault(const struct checking *checking, const struct setting_view *view,
                  const void *field, const char *key, const char *text)
{
    const char *origin = settings_get_origin(checking->settings, field);
    settings_fault(checking->faults, origin, view, key, "%s", text);
}

static bool only_holds(const char *text, const char *more)
{
    for (; *text; text++) {
        bool letter = (*text >= 'A' && *text <= 'Z') || (*text >= 'a' && *text <= 'z');
        if (!letter && !(*text >= '0' && *text <= '9') && !strchr(more, *text)) {
            return false;
        }
    }
    return true;
}

/* "host:port", "[::1]:port" */
static bool is_address(const char *text)
{
    const char *colon = strrchr(text, ':');
    uint64_t port;
    if (!colon || colon == text || !bytes_to_u64(bytes_of(colon + 1), &port) || port == 0 ||
        port > 65535) {
        return false;
    }
    size_t host = (size_t)(colon - text);
    bool bracketed = text[0] == '[' && text[host - 1] == ']' && host > 2;
    return bracketed || (memchr(text, ':', host) == NULL && text[0] != '[');
}

static bool uris_are_good(const char *text)
{
    static const char *const SCHEMES[] = {"tcp://", "ssl://", "mqtt://", "mqtts://"};
    struct bytes rest = bytes_of(text);
    while (rest.len > 0) {
        struct bytes uri;
        size_t len = 0;
        bool good = false;
        while (len < rest.len && rest.data[len] != ',' && rest.data[len] != ' ') {
            len++;
        }
        uri = bytes_slice(rest, 0, len);
        rest = bytes_slice(rest, len + 1, rest.len);
        for (size_t i = 0; i < sizeof(SCHEMES) / sizeof(SCHEMES[0]); i++) {
            struct bytes scheme = bytes_of(SCHEMES[i]);
            good = good || (bytes_starts_with(uri, scheme) && uri.len > scheme.len);
        }
        if (uri.len > 0 && !good) {
            return false;
        }
    }
    return true;
}

static void check_client_id(const struct checking *checking, const struct setting_view *view,
                            const struct settings_mqtt *mqtt)
{
    if (strchr(mqtt->client_id, '/') || mqtt->client_id[0] == '.') {
        fault(checking, view, &mqtt->client_id, "client_id",
              "must not hold a slash or begin with a dot: it names the spool's folder");
    }
    if (strlen(mqtt->client_id) > 128) {
        fault(checking, view, &mqtt->client_id, "client_id", "must not be longer than 128 bytes");
    }
    for (size_t i = 0; i <= checking->settings->consumers_len; i++) {
        const struct settings_mqtt *other =
            i == 0 ? &checking->settings->mqtt : &checking->settings->consumers[i - 1];
        if (other == mqtt) {
            return;
        }
        if (strcmp(other->client_id, mqtt->client_id) == 0) {
            fault(checking, view, &mqtt->client_id, "client_id",
                  "is another consumer's as well: each would end the other's session");
            return;
        }
    }
}

static void check_mqtt(const struct checking *checking, const struct setting_view *view)
{
    const struct settings_mqtt *mqtt = view->base;
    if (view->name[0] && !mqtt->topics[0] &&
        !settings_get_origin(checking->settings, &mqtt->topics)) {
        fault(checking, view, mqtt, "topics",
              "must be given: a further consumer has filters of its own");
    }
    if (mqtt->reconnect_min_ms > mqtt->reconnect_max_ms) {
        fault(checking, view, &mqtt->reconnect_min_ms, "reconnect_min",
              "must not be more than reconnect_max");
    }
    if (mqtt->password[0] && !mqtt->username[0]) {
        fault(checking, view, &mqtt->password, "password", "needs a username with it");
    }
    if (mqtt->cert_file[0] && !mqtt->key_file[0]) {
        fault(checking, view, &mqtt->cert_file, "cert_file", "needs key_file with it");
    }
    if (mqtt->key_file[0] && !mqtt->cert_file[0]) {
        fault(checking, view, &mqtt->key_file, "key_file", "needs cert_file with it");
    }
    if (!uris_are_good(mqtt->server_uris)) {
        fault(checking, view, &mqtt->server_uris, "server_uris",
              "must be a list of tcp://host:port or ssl://host:port");
    }
    check_client_id(checking, view, mqtt);
}

static void check_worker_transports(const struct checking *checking,
                                    const struct setting_view *view)
{
    const struct settings_worker *worker = view->base;
    const char *origin = settings_get_origin(checking->settings, &worker->transports);
    struct bytes rest = bytes_of(worker->transports);
    size_t names = 0;
    while (rest.len > 0) {
        size_t len = 0;
        while (len < rest.len && rest.data[len] != ',' && rest.data[len] != ' ') {
            len++;
        }
        struct bytes name = bytes_slice(rest, 0, len);
        rest = bytes_slice(rest, len + 1, rest.len);
        if (name.len == 0) {
            continue;
        }
        names++;
        if (settings_transport(checking->settings, name)) {
            continue;
        }
        struct nearest nearest = {.name = name};
        for (size_t i = 0; i < checking->settings->transports_len; i++) {
            nearest_consider(&nearest, checking->settings->transports[i].name);
        }
        settings_fault(checking->faults, origin, view, "transports",
                       "there is no [transport:%.*s]%s%s%s", (int)(len < 60 ? len : 60), name.data,
                       nearest.best ? "; did you mean `" : "", nearest.best ? nearest.best : "",
                       nearest.best ? "`?" : "");
    }
    if (names == 0 && worker->transports[0]) {
        fault(checking, view, &worker->transports, "transports", "names no transport");
    }
}

/* "user:password@" before the host. libcurl takes any number of slashes before it, up to three. */
static bool has_user(struct bytes url)
{
    size_t at = strlen("http://");
    while (at < url.len && (url.data[at] == ':' || url.data[at] == '/')) {
        at++;
    }
    for (; at < url.len && !strchr("/?#", url.data[at]); at++) {
        if (url.data[at] == '@') {
            return true;
        }
    }
    return false;
}

/* The hub's address is shown to browsers, in the log and on the page: it must hold no secret. */
static void check_url(const struct checking *checking, const struct setting_view *view,
                      char *const *url, const char *key)
{
    struct bytes text = bytes_of(*url);
    bool http = bytes_starts_with(text, BYTES("http://")) && text.len > strlen("http://");
    bool https = bytes_starts_with(text, BYTES("https://")) && text.len > strlen("https://");
    if (text.len > 0 && !http && !https) {
        fault(checking, view, url, key, "must begin with http:// or https:// and name a host");
    } else if (text.len > 0 && has_user(text)) {
        fault(checking, view, url, key,
              "must hold no user or password: the hub takes a token, from jwt (MERCURE_JWT) or "
              "jwt_secret (MERCURE_JWT_SECRET)");
    }
}

static void check_supervisor(const struct checking *checking, const struct setting_view *view)
{
    const struct settings_supervisor *supervisor = view->base;
    struct sockaddr_un address;
    if (supervisor->state_dir[0] && supervisor->state_dir[0] != '/') {
        fault(checking, view, &supervisor->state_dir, "state_dir", "must be an absolute path");
    }
    if (supervisor->socket[0] && supervisor->socket[0] != '/') {
        fault(checking, view, &supervisor->socket, "socket", "must be an absolute path");
    }
    if (strlen(supervisor->socket) >= sizeof(address.sun_path)) {
        fault(checking, view, &supervisor->socket, "socket",
              "is too long for a socket's path (107 bytes)");
    }
    if (!only_holds(supervisor->instance, "_.-") || strlen(supervisor->instance) > 64) {
        fault(checking, view, &supervisor->instance, "instance",
              "must be at most 64 letters, digits, `_`, `-` and `.`");
    }
}

static void check_failure(const struct checking *checking, const struct setting_view *view)
{
    const struct settings_failure *failure = view->base;
    if (!only_holds(failure->table, "_.")) {
        fault(
            checking, view, &failure->table, "table",
            "must be a table's name: letters, digits and `_`, with a schema and a dot before it if "
            "need be");
    }
    if (strlen(failure->queue_name) > 190) {
        fault(checking, view, &failure->queue_name, "queue_name",
              "must not be longer than 190 characters: the column is a varchar(190)");
    }
}

/* Settings of features that this version does not have yet are refused, not ignored. */
static void check_later(const struct checking *checking, const struct setting_view *view)
{
    if (view->section == SETTING_ROUTE) {
        fault(checking, view, view->base, NULL, "this version has no routes");
        return;
    }
    for (size_t i = 0; i < SETTINGS_TABLE_LEN; i++) {
        const struct setting *row = &SETTINGS_TABLE[i];
        const void *field = (const char *)view->base + row->offset;
        const char *origin = settings_get_origin(checking->settings, field);
        if (row->section == view->section && row->flags & SETTING_LATER && origin &&
            strcmp(origin, "[mqtt]") != 0) {
            fault(checking, view, field, row->key, "is not supported by this version");
        }
    }
}

static void check_view(const struct checking *checking, const struct setting_view *view)
{
    const struct settings_spool *spool = view->base;
    struct settings_mercure *mercure = view->base;
    const struct settings_http *http = view->base;
    const struct settings_transport *transport = view->base;
    switch (view->section) {
    case SETTING_MQTT:
        check_mqtt(checking, view);
        break;
    case SETTING_SPOOL:
        if (spool->retain >= spool->size) {
            fault(checking, view, &spool->retain, "retain", "must be less than size");
        }
        break;
    case SETTING_TRANSPORT:
        if (!transport->dsn[0] && !settings_get_origin(checking->settings, &transport->dsn)) {
            fault(checking, view, transport, "dsn", "must be given");
        }
        break;
    case SETTING_WORKER:
        check_worker_transports(checking, view);
        break;
    case SETTING_FAILURE:
        check_failure(checking, view);
        break;
    case SETTING_MERCURE:
        check_url(checking, view, &mercure->url, "url");
        if (strcmp(mercure->url, mercure->public_url) != 0) {
            check_url(checking, view, &mercure->public_url, "public_url");
        }
        break;
    case SETTING_HTTP:
        if (http->listen[0] && !is_address(http->listen)) {
            fault(checking, view, &http->listen, "listen",
                  "must be an address and a port, such as 127.0.0.1:9080 or [::1]:9080, or `off`");
        }
        break;
    case SETTING_SUPERVISOR:
        check_supervisor(checking, view);
        break;
    case SETTING_RETRY:
    case SETTING_ROUTE:
    case SETTING_LOG:
    case SETTING_ENVIRONMENT:
    case SETTING_SECTIONS:
        break;
    }
    check_later(checking, view);
}

void settings_check(const struct settings *settings, struct buf *faults)
{
    const struct checking checking = {settings, faults};
    for (size_t i = 0; i < settings_views_len(settings); i++) {
        const struct setting_view view = settings_view(settings, i);
        check_view(&checking, &view);
    }
}
