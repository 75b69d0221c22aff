#include "cli/check_connect.h"

#include "cli/check_broker.h"
#include "common/base/alloc.h"
#include "common/client/failure_admin.h"
#include "common/client/hub_probe.h"
#include "common/client/redis_connect.h"
#include "common/wire/dsn.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define TIMEOUT_MS 5000

static struct check_server *add_server(struct check_servers *servers, const char *name,
                                       const char *place)
{
    size_t size = (servers->len + 1) * sizeof(*servers->servers);
    servers->servers = xrealloc(servers->servers, size);
    struct check_server *server = &servers->servers[servers->len++];
    *server = (struct check_server){.name = xstrdup(name), .place = xstrdup(place), .ok = true};
    return server;
}

/* The place stands before it anyway. */
static void fail(struct check_server *server, const struct error *err, const char *mend)
{
    struct bytes text = bytes_of(err->text);
    struct bytes place = bytes_of(server->place);
    if (bytes_starts_with(text, place) &&
        bytes_starts_with(bytes_slice(text, place.len, text.len), BYTES(": "))) {
        text = bytes_slice(text, place.len + 2, text.len);
    }
    server->ok = false;
    buf_append(&server->text, text);
    buf_printf(&server->text, "%s%s", mend[0] ? "; " : "", mend);
}

static void note(struct check_server *server, const char *text)
{
    buf_printf(&server->text, "%s%s", server->text.len > 0 ? "; " : "", text);
}

static void check_mqtt(const struct settings_mqtt *mqtt, struct check_servers *servers)
{
    struct bytes rest = bytes_of(mqtt->server_uris);
    struct error err = {0};
    char *own = xasprintf("%s://%s:%" PRId64, mqtt->tls ? "ssl" : "tcp", mqtt->host, mqtt->port);
    if (rest.len == 0) {
        rest = bytes_of(own);
    }
    while (rest.len > 0) {
        size_t len = 0;
        while (len < rest.len && rest.data[len] != ',' && rest.data[len] != ' ') {
            len++;
        }
        struct bytes uri = bytes_slice(rest, 0, len);
        rest = bytes_slice(rest, len + 1, rest.len);
        if (uri.len == 0) {
            continue;
        }
        char *place = xstrndup(uri.data, uri.len);
        struct check_server *server = add_server(servers, "broker", place);
        if (check_broker(mqtt, uri, TIMEOUT_MS, &err) < 0) {
            fail(server, &err,
                 err.code == ERR_REFUSED
                     ? "see [mqtt] username and password (MQTT_USERNAME, MQTT_PASSWORD)"
                     : "see [mqtt] host, port and tls (MQTT_HOST, MQTT_PORT, MQTT_TLS)");
        }
        free(place);
    }
    free(own);
}

/* One command; its text or "" (an empty reply, a list's second element); false if the server said no. */
static bool ask(struct redis *redis, const char *const *words, size_t count, struct buf *text,
                struct error *err)
{
    struct bytes arguments[6];
    for (size_t i = 0; i < count; i++) {
        arguments[i] = bytes_of(words[i]);
    }
    redisReply *reply = redis_call(redis, arguments, count, err);
    if (!reply) {
        return false;
    }
    const redisReply *value = reply->elements >= 2 ? reply->element[1] : reply;
    buf_clear(text);
    if (value->str) {
        buf_append(text, redis_text(value));
    }
    redis_reply_free(reply);
    return true;
}

/* The least that stream, delayed set and scripts need; a refusal is said with the command. */
static bool try_commands(struct redis *redis, const struct dsn_redis *dsn,
                         struct check_server *server)
{
    char *delayed = xasprintf("%s__queue", dsn->stream);
    const char *const PING[] = {"PING"};
    const char *const TYPE[] = {"TYPE", dsn->stream};
    const char *const XLEN[] = {"XLEN", dsn->stream};
    const char *const ZCARD[] = {"ZCARD", delayed};
    const char *const EVAL[] = {"EVAL", "return redis.call('EXISTS', KEYS[1])", "1", dsn->stream};
    const struct {
        const char *const *words;
        size_t count;
    } commands[] = {{PING, 1}, {TYPE, 2}, {XLEN, 2}, {ZCARD, 2}, {EVAL, 4}};
    struct error err = {0};
    struct buf text = {0};
    for (size_t i = 0; i < 5 && server->ok; i++) {
        if (!ask(redis, commands[i].words, commands[i].count, &text, &err)) {
            if (i > 0) {
                error_wrap(&err, "%s", commands[i].words[0]);
            }
            fail(server, &err,
                 "see [transport] dsn (MESSENGER_TRANSPORT_DSN): user, password, stream");
        } else if (i == 1 && strcmp(buf_text(&text), "none") != 0 &&
                   strcmp(buf_text(&text), "stream") != 0) {
            error_set(&err, ERR_REFUSED, "the key %s is a %s, not a stream", dsn->stream,
                      buf_text(&text));
            fail(server, &err, "name another stream in [transport] dsn (MESSENGER_TRANSPORT_DSN)");
        }
    }
    buf_free(&text);
    free(delayed);
    return server->ok;
}

/* What the promise depends on. A server that won't tell is not pressed. */
static void read_config(struct redis *redis, struct check_server *server)
{
    const char *const POLICY[] = {"CONFIG", "GET", "maxmemory-policy"};
    const char *const APPEND[] = {"CONFIG", "GET", "appendonly"};
    struct error err = {0};
    struct buf text = {0};
    if (ask(redis, POLICY, 3, &text, &err) && text.len > 0 &&
        strcmp(buf_text(&text), "noeviction") != 0) {
        note(server, "maxmemory-policy is not noeviction: Redis may drop the queue");
    }
    if (ask(redis, APPEND, 3, &text, &err) && strcmp(buf_text(&text), "no") == 0) {
        note(server, "appendonly is off: what Redis holds is lost when it ends");
    }
    buf_free(&text);
}

static void nothing_broken(void *context, const struct error *err)
{
    (void)context;
    (void)err;
}

static void check_transport(const struct settings_transport *transport,
                            struct check_servers *servers)
{
    struct buf place = {0};
    struct dsn_redis dsn;
    struct error err = {0};
    if (dsn_redis_parse(&dsn, transport->dsn, &err) < 0) {
        return; /* said by check_settings */
    }
    dsn_redacted(&place, transport->dsn);
    struct check_server *server = add_server(servers, "redis", buf_text(&place));
    struct redis *redis = redis_new(buf_text(&place), TIMEOUT_MS, nothing_broken, NULL);
    if (redis_open_dsn(redis, &dsn, &err) < 0) {
        fail(server, &err, "");
    } else if (try_commands(redis, &dsn, server)) {
        read_config(redis, server);
    }
    redis_free(redis);
    dsn_redis_free(&dsn);
    buf_free(&place);
}

static void check_failure(const struct settings_failure *failure, struct check_servers *servers)
{
    struct buf place = {0};
    struct error err = {0};
    struct failure_admin *admin = NULL;
    int64_t count;
    dsn_redacted(&place, failure->dsn);
    struct check_server *server = add_server(servers, "failure transport", buf_text(&place));
    if (failure_admin_new(&admin, failure, &err) < 0 ||
        failure_admin_count(admin, TIMEOUT_MS, &count, &err) < 0) {
        fail(server, &err, "see [failure] dsn (DATABASE_URL)");
    }
    failure_admin_free(admin);
    buf_free(&place);
}

void check_connect(const struct settings *settings, struct check_servers *servers)
{
    struct error err = {0};
    check_mqtt(&settings->mqtt, servers);
    for (size_t i = 0; i < settings->consumers_len; i++) {
        check_mqtt(&settings->consumers[i], servers);
    }
    for (size_t i = 0; i < settings->transports_len; i++) {
        check_transport(&settings->transports[i], servers);
    }
    if (settings->failure.dsn[0]) {
        check_failure(&settings->failure, servers);
    }
    if (settings->mercure.url[0]) {
        struct buf place = {0};
        dsn_redacted(&place, settings->mercure.url);
        struct check_server *server = add_server(servers, "hub", buf_text(&place));
        if (hub_reachable(&settings->mercure, TIMEOUT_MS, &err) < 0) {
            fail(server, &err,
                 "see [mercure] url and jwt_secret (MERCURE_URL, MERCURE_JWT_SECRET)");
        }
        buf_free(&place);
    }
}

void check_servers_free(struct check_servers *servers)
{
    for (size_t i = 0; i < servers->len; i++) {
        free(servers->servers[i].name);
        free(servers->servers[i].place);
        buf_free(&servers->servers[i].text);
    }
    free(servers->servers);
    *servers = (struct check_servers){0};
}
