#include "common/wire/settings_verify.h"

#include "common/base/settings_table.h"
#include "common/wire/dsn.h"
#include "common/wire/topic_filter.h"

#include <stdarg.h>
#include <string.h>

struct verifying {
    const struct settings *settings;
    struct buf *faults;
    struct setting_view view;
};

/* "etc/x.ini:12: ", nothing for a default. */
static void begin(struct verifying *verifying, const char *key)
{
    const struct setting *row = setting_find(verifying->view.section, bytes_of(key));
    const char *origin = settings_origin(verifying->settings, row, &verifying->view);

    if (!bytes_starts_with(bytes_of(origin), BYTES("default")))
        buf_printf(verifying->faults, "%s: ", origin);
}

static void fault(struct verifying *verifying, const char *key, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void fault(struct verifying *verifying, const char *key, const char *format, ...)
{
    va_list arguments;

    begin(verifying, key);
    buf_append_char(verifying->faults, '[');
    setting_view_title(&verifying->view, verifying->faults);
    buf_printf(verifying->faults, "] %s: ", key);
    va_start(arguments, format);
    buf_vprintf(verifying->faults, format, arguments);
    va_end(arguments);
    buf_append_char(verifying->faults, '\n');
}

static void verify_mqtt(struct verifying *verifying)
{
    const struct settings_mqtt *mqtt = verifying->view.base;
    struct bytes rest = bytes_of(mqtt->topics);
    struct bytes filter;
    struct error err;
    size_t count = 0;
    int qos;
    int found;

    while ((found = topic_filter_next(&rest, &filter, &qos, (int)mqtt->qos, &err)) > 0)
        count++;
    if (found < 0)
        fault(verifying, "topics", "%s", err.text);
    else if (count == 0)
        fault(verifying, "topics", "names no topic filter");
    if (mqtt->status_topic[0] != '\0' && topic_name_check(bytes_of(mqtt->status_topic), &err) < 0)
        fault(verifying, "status_topic", "%s", err.text);
}

static void verify_transport(struct verifying *verifying)
{
    const struct settings_transport *transport = verifying->view.base;
    struct dsn_redis dsn;
    struct error err;

    if (dsn_redis_parse(&dsn, transport->dsn, &err) < 0) {
        fault(verifying, "dsn", "%s", err.text);
        return;
    }
    if (dsn.tls || dsn.cluster || dsn.hosts_len > 1)
        fault(verifying, "dsn",
              "TLS, Cluster and Sentinel are not supported by this version: name one "
              "host, with redis://");
    dsn_redis_free(&dsn);
}

int settings_verify_failure(const struct settings_failure *failure, struct error *err)
{
    struct buf conninfo = {0};
    int result = 0;

    if (failure->dsn[0] == '\0')
        return 0;
    if (strncmp(failure->dsn, "redis", 5) == 0 || strncmp(failure->dsn, "valkey", 6) == 0)
        return error_set(err, ERR_USAGE,
                         "[failure] dsn (DATABASE_URL): a Redis queue as the failure "
                         "transport is not supported: use postgresql://");
    result = dsn_postgres_to_conninfo(&conninfo, failure->dsn, err);
    if (result < 0)
        error_wrap(err, "[failure] dsn (DATABASE_URL)");
    buf_free(&conninfo);
    return result;
}

/* RFC 7518, section 3.2: no shorter than the hash. */
static size_t secret_minimum(const char *algorithm)
{
    if (strcmp(algorithm, "HS256") == 0)
        return 32;
    if (strcmp(algorithm, "HS384") == 0)
        return 48;
    return strcmp(algorithm, "HS512") == 0 ? 64 : 0;
}

int settings_verify_secret(const struct settings_mercure *mercure, struct error *err)
{
    size_t minimum = secret_minimum(mercure->jwt_algorithm);
    size_t len = strlen(mercure->jwt_secret);

    if (mercure->jwt[0] != '\0' || minimum == 0)
        return 0;
    if (len == 0)
        return error_set(err, ERR_USAGE,
                         "[mercure] has neither a jwt (MERCURE_JWT) nor a jwt_secret "
                         "(MERCURE_JWT_SECRET): the hub takes no update without one");
    if (len < minimum)
        return error_set(err, ERR_USAGE,
                         "[mercure] jwt_secret (MERCURE_JWT_SECRET) is %zu bytes long; %s needs at "
                         "least %zu",
                         len, mercure->jwt_algorithm, minimum);
    return 0;
}

/* A fault in words that name section and key already. */
static void fault_named(struct verifying *verifying, const char *key, const struct error *err)
{
    begin(verifying, key);
    buf_printf(verifying->faults, "%s\n", err->text);
}

/* Without workers nobody publishes. */
static void verify_mercure(struct verifying *verifying)
{
    const struct settings_mercure *mercure = verifying->view.base;
    struct error err;

    if (verifying->settings->worker.count == 0)
        return;
    if (mercure->url[0] == '\0')
        fault(verifying, "url", "is needed (MERCURE_URL): where the workers publish");
    if (settings_verify_secret(mercure, &err) < 0)
        fault_named(verifying, "jwt_secret", &err);
}

void settings_verify(const struct settings *settings, struct buf *faults)
{
    struct verifying verifying = {settings, faults, {0}};
    struct error err;

    for (size_t i = 0; i < settings_views_len(settings); i++) {
        verifying.view = settings_view(settings, i);
        switch (verifying.view.section) {
        case SETTING_MQTT:
            verify_mqtt(&verifying);
            break;
        case SETTING_TRANSPORT:
            verify_transport(&verifying);
            break;
        case SETTING_FAILURE:
            if (settings_verify_failure(&settings->failure, &err) < 0)
                fault_named(&verifying, "dsn", &err);
            break;
        case SETTING_MERCURE:
            verify_mercure(&verifying);
            break;
        case SETTING_SPOOL:
        case SETTING_WORKER:
        case SETTING_RETRY:
        case SETTING_ROUTE:
        case SETTING_HTTP:
        case SETTING_LOG:
        case SETTING_SUPERVISOR:
        case SETTING_ENVIRONMENT:
        case SETTING_SECTIONS:
            break;
        }
    }
}
