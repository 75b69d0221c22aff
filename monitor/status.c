#include "monitor/status.h"

#include "common/base/clock.h"
#include "common/settings/settings_table.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name;
    enum stats_counter counter;
} COUNTERS[] = {
    {"received_qos0", STATS_RECEIVED_QOS0},
    {"received_qos1", STATS_RECEIVED_QOS1},
    {"received_qos2", STATS_RECEIVED_QOS2},
    {"received_bytes", STATS_RECEIVED_BYTES},
    {"reconnects", STATS_RECONNECTS},
    {"dispatched", STATS_DISPATCHED},
    {"dispatch_errors", STATS_DISPATCH_ERRORS},
    {"replayed", STATS_DISPATCH_REPLAYED},
    {"oversized", STATS_DISPATCH_OVERSIZED},
    {"spool_paused_us", STATS_SPOOL_PAUSED_US},
    {"spool_damaged", STATS_SPOOL_DAMAGED},
    {"spool_gap", STATS_SPOOL_GAP},
    {"done", STATS_HANDLED_DONE},
    {"dropped", STATS_HANDLED_DROPPED},
    {"conflated", STATS_HANDLED_CONFLATED},
    {"retried", STATS_HANDLED_RETRY},
    {"rejected", STATS_HANDLED_REJECT},
    {"trimmed", STATS_TRIMMED},
    {"claimed", STATS_CLAIMED},
    {"moved", STATS_MOVED},
    {"hub_ok", STATS_HUB_OK},
    {"hub_refused", STATS_HUB_REFUSED},
    {"hub_auth", STATS_HUB_AUTH},
    {"hub_busy", STATS_HUB_BUSY},
    {"hub_error", STATS_HUB_ERROR},
    {"handler_restarts", STATS_HANDLER_RESTARTS},
};

static const struct {
    const char *name;
    enum stats_gauge gauge;
} GAUGES[] = {
    {"redis_connected", STATS_REDIS_CONNECTED},
    {"last_message_us", STATS_LAST_MESSAGE_US},
    {"spool_bytes", STATS_SPOOL_BYTES},
    {"spool_messages", STATS_SPOOL_MESSAGES},
    {"spool_limit", STATS_SPOOL_LIMIT},
    {"spool_paused", STATS_SPOOL_PAUSED},
    {"oversized_messages", STATS_OVERSIZED_MESSAGES},
    {"oversized_bytes", STATS_OVERSIZED_BYTES},
    {"redis_degraded", STATS_REDIS_DEGRADED},
    {"prefetched", STATS_PREFETCHED},
    {"breaker_open", STATS_BREAKER_OPEN},
};

#define LENGTH_OF(array) (sizeof(array) / sizeof((array)[0]))

/* Prints and frees. */
static void print(struct buf *out, cJSON *json)
{
    char *text = cJSON_PrintUnformatted(json);

    if (text == NULL)
        abort();
    buf_append_text(out, text);
    buf_append_char(out, '\n');
    cJSON_free(text);
    cJSON_Delete(json);
}

static cJSON *readiness_reasons(const struct readiness *readiness, bool with_texts)
{
    cJSON *reasons = cJSON_CreateArray();
    char text[READINESS_TEXT_SIZE];

    for (size_t i = 0; i < READINESS_PARTS; i++)
        if (readiness_tell(readiness, (enum readiness_part)i, text))
            cJSON_AddItemToArray(reasons,
                                 cJSON_CreateString(with_texts ? text : READINESS_NAMES[i]));
    return reasons;
}

static void add_readiness(cJSON *to, const struct readiness *readiness, bool with_texts)
{
    cJSON_AddBoolToObject(to, "ready", readiness->ready);
    cJSON_AddItemToObject(to, "reasons", readiness_reasons(readiness, with_texts));
    cJSON *parts = cJSON_AddObjectToObject(to, "parts");
    for (size_t i = 0; i < READINESS_PARTS; i++) {
        cJSON *part = cJSON_AddObjectToObject(parts, READINESS_NAMES[i]);

        cJSON_AddBoolToObject(part, "ok", readiness->part[i].ok);
        if (!readiness->part[i].ok && with_texts)
            cJSON_AddStringToObject(part, "reason", readiness->part[i].reason);
        if (!readiness->part[i].configured)
            cJSON_AddBoolToObject(part, "configured", false);
        if (!readiness->part[i].required)
            cJSON_AddBoolToObject(part, "required", false);
    }
}

void status_write_readiness(struct buf *out, const struct readiness *readiness, bool with_texts)
{
    cJSON *json = cJSON_CreateObject();

    add_readiness(json, readiness, with_texts);
    print(out, json);
}

static cJSON *process(const struct stats_slot *slot, const struct readiness_limits *limits)
{
    int64_t beat = (int64_t)atomic_load_explicit(&slot->beat_ms, memory_order_relaxed);
    cJSON *json = cJSON_CreateObject();
    char reason[STATS_REASON_SIZE];
    char name[STATS_NAME_SIZE];

    stats_reason_read(slot, reason);
    stats_name_read(slot, name);
    cJSON_AddStringToObject(json, "name", name);
    cJSON_AddNumberToObject(json, "number", slot->number);
    cJSON_AddBoolToObject(json, "running", readiness_is_running(slot, limits));
    if (beat != 0)
        cJSON_AddNumberToObject(json, "beat_age_ms", (double)(limits->now_ms - beat));
    cJSON_AddBoolToObject(json, "connected", stats_gauge(slot, STATS_CONNECTED) != 0);
    cJSON_AddStringToObject(json, "reason", reason);
    cJSON *counters = cJSON_AddObjectToObject(json, "counters");
    for (size_t i = 0; i < LENGTH_OF(COUNTERS); i++)
        cJSON_AddNumberToObject(counters, COUNTERS[i].name,
                                (double)stats_counter(slot, COUNTERS[i].counter));
    cJSON *gauges = cJSON_AddObjectToObject(json, "gauges");
    for (size_t i = 0; i < LENGTH_OF(GAUGES); i++)
        cJSON_AddNumberToObject(gauges, GAUGES[i].name, (double)stats_gauge(slot, GAUGES[i].gauge));
    return json;
}

static void add_totals(cJSON *to, const struct stats *stats)
{
    cJSON *totals = cJSON_AddObjectToObject(to, "totals");

    for (size_t i = 0; i < LENGTH_OF(COUNTERS); i++) {
        uint64_t sum = 0;

        for (size_t slot = 0; slot < stats->slots_len; slot++)
            sum += stats_counter(&stats->slot[slot], COUNTERS[i].counter);
        cJSON_AddNumberToObject(totals, COUNTERS[i].name, (double)sum);
    }
}

/* null where it could not be told. */
static void add_probed(cJSON *to, const char *name, const _Atomic int64_t *value)
{
    int64_t number = atomic_load(value);

    if (number < 0)
        cJSON_AddNullToObject(to, name);
    else
        cJSON_AddNumberToObject(to, name, (double)number);
}

static void add_queues(cJSON *to, const struct settings *settings, const struct stats *stats)
{
    const struct stats_probe *probe = stats->probe;

    cJSON *transport = cJSON_AddObjectToObject(to, "transport");
    cJSON_AddStringToObject(transport, "name", settings->transports[0].name);
    add_probed(transport, "ready", &probe->ready);
    add_probed(transport, "pending", &probe->pending);
    add_probed(transport, "delayed", &probe->delayed);
    add_probed(transport, "oldest_ms", &probe->oldest_ms);
    cJSON *failure = cJSON_AddObjectToObject(to, "failure");
    cJSON_AddStringToObject(failure, "queue", settings->failure.queue_name);
    add_probed(failure, "messages", &probe->failed);
}

void status_write(struct buf *out, const struct settings *settings, const struct stats *stats,
                  const struct readiness *readiness, const struct readiness_limits *limits)
{
    cJSON *json = cJSON_CreateObject();
    char now[CLOCK_TEXT_SIZE];
    char zoned[CLOCK_TEXT_SIZE + 1];

    clock_format_us(clock_wall_us(), now);
    snprintf(zoned, sizeof zoned, "%sZ", now);
    cJSON_AddStringToObject(json, "version", MQTT_BRIDGE_VERSION);
    cJSON_AddStringToObject(json, "time", zoned);
    add_readiness(json, readiness, true);
    cJSON *processes = cJSON_AddArrayToObject(json, "processes");
    for (size_t i = 0; i < stats->slots_len; i++)
        if (stats->slot[i].name[0] != '\0')
            cJSON_AddItemToArray(processes, process(&stats->slot[i], limits));
    add_queues(json, settings, stats);
    add_totals(json, stats);
    print(out, json);
}

void status_write_page_config(struct buf *out, const struct settings *settings)
{
    const struct settings_mercure *mercure = &settings->mercure;
    cJSON *json = cJSON_CreateObject();
    const char *url = mercure->public_url[0] != '\0' ? mercure->public_url : mercure->url;

    cJSON_AddStringToObject(json, "version", MQTT_BRIDGE_VERSION);
    if (url[0] != '\0')
        cJSON_AddStringToObject(json, "hub", url);
    else
        cJSON_AddNullToObject(json, "hub");
    /* Every topic: a template would miss names with spaces or accents, which are common in MQTT. The
     * page takes only updates whose id is ours. */
    cJSON *topics = cJSON_AddArrayToObject(json, "topics");
    cJSON_AddItemToArray(topics, cJSON_CreateString("*"));
    cJSON_AddStringToObject(json, "data", setting_word(UPDATE_DATA_WORDS, mercure->data));
    cJSON_AddBoolToObject(json, "private", mercure->private_updates);
    print(out, json);
}
