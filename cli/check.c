#include "cli/check.h"

#include "common/base/settings_table.h"
#include "common/client/failure.h"
#include "common/client/jwt.h"
#include "common/wire/broker_address.h"
#include "common/wire/dsn.h"
#include "common/wire/settings_verify.h"
#include "common/wire/topic_filter.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct checking {
    const struct settings *settings;
    struct check_report *report;
    struct setting_view view;
};

/* "etc/x.ini:12: ", nothing for a default. */
static void say_origin(struct buf *out, const struct checking *checking, const char *key)
{
    const struct setting *row = setting_find(checking->view.section, bytes_of(key));
    const char *origin = settings_origin(checking->settings, row, &checking->view);
    if (!bytes_starts_with(bytes_of(origin), BYTES("default"))) {
        buf_printf(out, "%s: ", origin);
    }
}

/* "etc/x.ini:12: [mqtt] topics: ..." */
static void say(struct buf *out, const struct checking *checking, const char *key,
                const char *format, va_list arguments)
{
    say_origin(out, checking, key);
    buf_append_char(out, '[');
    setting_view_title(&checking->view, out);
    buf_printf(out, "] %s: ", key);
    buf_vprintf(out, format, arguments);
    buf_append_char(out, '\n');
}

static void warn(const struct checking *checking, const char *key, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* A fault in the words of the room that found it, which names section and key itself. */
static void fault_named(const struct checking *checking, const char *key, const struct error *err)
{
    say_origin(&checking->report->faults, checking, key);
    buf_printf(&checking->report->faults, "%s\n", err->text);
}

static void warn(const struct checking *checking, const char *key, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    say(&checking->report->warnings, checking, key, format, arguments);
    va_end(arguments);
}

/* Only a warning: the service may run as another user than the one who checks. */
static void check_file(const struct checking *checking, const char *key, const char *path)
{
    if (path[0] && access(path, R_OK) < 0) {
        warn(checking, key, "%s: %s", path, strerror(errno));
    }
}

/* Of two filters that overlap in part the broker sends both a copy: tells each such filter behind this one. */
static void check_partial_overlap(const struct checking *checking, const struct settings_mqtt *mqtt,
                                  struct bytes filter, int qos, struct bytes rest)
{
    struct bytes other;
    struct error err;
    int other_qos;
    while (topic_filter_next(&rest, &other, &other_qos, (int)mqtt->qos, &err) > 0) {
        if (topic_filter_overlaps(filter, other) &&
            !topic_filter_subsumes(filter, qos, other, other_qos) &&
            !topic_filter_subsumes(other, other_qos, filter, qos)) {
            warn(checking, "topics",
                 "`%.*s` and `%.*s` overlap: the broker may send twice what both match, and each "
                 "copy is a message of its own",
                 BYTES_ARG(filter), BYTES_ARG(other));
        }
    }
}

static void check_filters(const struct checking *checking, const struct settings_mqtt *mqtt)
{
    struct bytes rest = bytes_of(mqtt->topics);
    struct bytes filter;
    struct error err;
    int qos;
    bool lossy = false;
    while (topic_filter_next(&rest, &filter, &qos, (int)mqtt->qos, &err) > 0) {
        lossy = lossy || qos == 0;
        check_partial_overlap(checking, mqtt, filter, qos, rest);
    }
    if (lossy) {
        warn(checking, mqtt->qos == 0 ? "qos" : "topics",
             "QoS 0: the broker keeps no message for us while we are away");
    }
}

static bool any_is_ipv6_with_tls(const struct settings_mqtt *mqtt)
{
    char *addresses = broker_address_list(mqtt);
    struct bytes list = bytes_of(addresses), text;
    bool found = false;
    while (broker_address_next(&list, &text)) {
        struct broker_address address;
        struct error err;
        if (broker_address_read(&address, text, mqtt->tls, &err) == 0) {
            found = found || (address.tls && strchr(address.host, ':') != NULL);
            broker_address_free(&address);
        }
    }
    free(addresses);
    return found;
}

static void check_mqtt(const struct checking *checking)
{
    const struct settings_mqtt *mqtt = checking->view.base;
    check_filters(checking, mqtt);
    check_file(checking, "ca_file", mqtt->ca_file);
    check_file(checking, "cert_file", mqtt->cert_file);
    check_file(checking, "key_file", mqtt->key_file);
    if (mqtt->tls && !mqtt->tls_verify) {
        warn(checking, "tls_verify", "anybody on the way may pose as the broker");
    }
    if (mqtt->tls_verify && any_is_ipv6_with_tls(mqtt)) {
        warn(checking, mqtt->server_uris[0] ? "server_uris" : "host",
             "the MQTT library compares no certificate with an IPv6 address: give the broker's "
             "name");
    }
}

/* The first filter of `one` that shares topics with a filter of `other`. */
static bool find_overlap(const struct settings_mqtt *one, const struct settings_mqtt *other,
                         struct bytes *overlap)
{
    struct bytes rest = bytes_of(one->topics);
    struct bytes filter;
    struct error err;
    int qos;
    while (topic_filter_next(&rest, &filter, &qos, 0, &err) > 0) {
        struct bytes others = bytes_of(other->topics);
        struct bytes candidate;
        while (topic_filter_next(&others, &candidate, &qos, 0, &err) > 0) {
            if (topic_filter_overlaps(filter, candidate)) {
                *overlap = filter;
                return true;
            }
        }
    }
    return false;
}

static void check_overlap(const struct checking *checking)
{
    const struct settings *settings = checking->settings;
    const struct settings_mqtt *mqtt = checking->view.base;
    struct bytes overlap;
    for (size_t i = 0; i <= settings->consumers_len; i++) {
        const struct settings_mqtt *other = i == 0 ? &settings->mqtt : &settings->consumers[i - 1];
        if (other == mqtt) {
            return;
        }
        if (find_overlap(mqtt, other, &overlap)) {
            warn(checking, "topics",
                 "`%.*s` overlaps with a filter of [%s%s]: both consumers dispatch "
                 "what both match",
                 BYTES_ARG(overlap), i == 0 ? "mqtt" : "consumer:", other->name);
        }
    }
}

static void check_transport(const struct checking *checking)
{
    const struct settings_transport *transport = checking->view.base;
    struct dsn_redis dsn;
    struct error err;
    if (dsn_redis_parse(&dsn, transport->dsn, &err) < 0) {
        return;
    }
    if (dsn.stream_max_entries > 0) {
        warn(checking, "dsn",
             "stream_max_entries: Redis drops the oldest messages, read or not, when "
             "there are more than that");
    }
    dsn_redis_free(&dsn);
}

static void check_failure(const struct checking *checking)
{
    const struct settings_failure *failure = checking->view.base;
    struct failure *made;
    struct error err = {0};
    if (!failure->dsn[0]) {
        warn(checking, "dsn",
             "is empty (DATABASE_URL): a message whose retries are used up has nowhere to go");
    } else if (settings_verify_failure(failure, &err) == 0) {
        if (failure_new(&made, failure, &err) < 0) {
            fault_named(checking, "table", &err);
        } else {
            failure_free(made);
        }
    }
}

static void check_mercure(const struct checking *checking)
{
    const struct settings_mercure *mercure = checking->view.base;
    struct jwt *jwt;
    struct error err;
    check_file(checking, "ca_file", mercure->ca_file);
    if (!strstr(mercure->topic_template, "{topic}")) {
        warn(checking, "topic_template", "has no {topic}: every update has the same topic");
    }
    if (checking->settings->worker.count == 0 || settings_verify_secret(mercure, &err) < 0) {
        return;
    }
    if (jwt_new(&jwt, mercure, &err) < 0) {
        fault_named(checking, mercure->jwt[0] ? "jwt" : "jwt_key_file", &err);
        return;
    }
    jwt_free(jwt);
    if (jwt_secret_is_public(mercure)) {
        warn(checking, "jwt_secret", "is the example of the documentation: everybody knows it");
    }
}

void check_settings(const struct settings *settings, struct check_report *report)
{
    struct checking checking = {settings, report, {0}};
    settings_verify(settings, &report->faults);
    for (size_t i = 0; i < settings_views_len(settings); i++) {
        checking.view = settings_view(settings, i);
        switch (checking.view.section) {
        case SETTING_MQTT:
            check_mqtt(&checking);
            check_overlap(&checking);
            break;
        case SETTING_TRANSPORT:
            check_transport(&checking);
            break;
        case SETTING_FAILURE:
            check_failure(&checking);
            break;
        case SETTING_MERCURE:
            check_mercure(&checking);
            break;
        case SETTING_HTTP:
            check_file(&checking, "token_file", settings->http.token_file);
            break;
        case SETTING_SPOOL:
        case SETTING_WORKER:
        case SETTING_RETRY:
        case SETTING_ROUTE:
        case SETTING_LOG:
        case SETTING_SUPERVISOR:
        case SETTING_ENVIRONMENT:
        case SETTING_SECTIONS:
            break;
        }
    }
}

void check_report_free(struct check_report *report)
{
    buf_free(&report->faults);
    buf_free(&report->warnings);
}
