#include "common/runtime/status.h"

#include "common/base/clock.h"
#include "common/base/file.h"
#include "common/base/process_kind.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SMAPS_MAX 65536
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

/* Adds a number; null if it is not known. */
static void add_number(cJSON *to, const char *name, int64_t value)
{
    if (value < 0)
        cJSON_AddNullToObject(to, name);
    else
        cJSON_AddNumberToObject(to, name, (double)value);
}

static void add_readiness(cJSON *to, const struct readiness *readiness, bool with_texts)
{
    char text[READINESS_TEXT_SIZE];

    cJSON_AddBoolToObject(to, "ready", readiness->ready);
    cJSON *reasons = cJSON_AddArrayToObject(to, "reasons");
    for (size_t i = 0; i < READINESS_PARTS; i++)
        if (readiness_tell(readiness, (enum readiness_part)i, text))
            cJSON_AddItemToArray(reasons,
                                 cJSON_CreateString(with_texts ? text : READINESS_NAMES[i]));
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

cJSON *status_readiness(const struct readiness *readiness, bool with_texts)
{
    cJSON *json = cJSON_CreateObject();

    add_readiness(json, readiness, with_texts);
    return json;
}

uint64_t status_done(const struct stats_slot *slot)
{
    switch (process_kind_of(slot->name)) {
    case PROCESS_CONSUMER:
        return stats_counter(slot, STATS_DISPATCHED);
    case PROCESS_WORKER:
        return stats_counter(slot, STATS_HANDLED_DONE) +
               stats_counter(slot, STATS_HANDLED_DROPPED) +
               stats_counter(slot, STATS_HANDLED_CONFLATED);
    case PROCESS_MONITOR:
    case PROCESS_SUPERVISOR:
    case PROCESS_UNKNOWN:
        break;
    }
    return 0;
}

static void add_work(cJSON *to, const struct stats_slot *slot)
{
    enum process_kind kind = process_kind_of(slot->name);
    bool counts = kind == PROCESS_CONSUMER || kind == PROCESS_WORKER;

    if (!counts)
        cJSON_AddNullToObject(to, "rate");
    else
        cJSON_AddNumberToObject(to, "rate", (double)stats_gauge(slot, STATS_RATE) / 1000);
    add_number(to, "done", counts ? (int64_t)status_done(slot) : -1);
    add_number(to, "failed",
               kind == PROCESS_CONSUMER ? (int64_t)stats_counter(slot, STATS_DISPATCH_OVERSIZED)
               : kind == PROCESS_WORKER ? (int64_t)stats_counter(slot, STATS_HANDLED_REJECT)
                                        : -1);
}

/* The process's proportional set size: shared pages count by their share. The kernel walks through the whole process
 * for that, so it is read only for the status. If it may not be read, the anonymous memory. */
static int64_t memory_of(const struct stats_slot *slot)
{
    unsigned long long pid = stats_gauge(slot, STATS_PID);
    char path[48];
    struct buf text = {0};
    struct error ignored;
    long long pss_kb = -1;

    snprintf(path, sizeof(path), "/proc/%llu/smaps_rollup", pid);
    if (pid > 0 && file_read(path, SMAPS_MAX, &text, &ignored) == 0) {
        const char *line = strstr(buf_text(&text), "\nPss:");

        if (line == NULL || sscanf(line, "\nPss: %lld", &pss_kb) != 1)
            pss_kb = -1;
    }
    buf_free(&text);
    return pss_kb >= 0 ? (int64_t)pss_kb * 1024 : stats_memory(slot);
}

/* Adds what the supervisor has published about the process; null and "" without a supervisor. */
static void add_life(cJSON *to, const struct stats_slot *slot, int64_t now_ms)
{
    int64_t pid = (int64_t)stats_gauge(slot, STATS_PID);
    int64_t started_ms = (int64_t)stats_gauge(slot, STATS_STARTED_MS);
    int64_t next_ms = (int64_t)stats_gauge(slot, STATS_NEXT_TRY_MS);
    char last_exit[STATS_EXIT_SIZE];
    char reason[STATS_REASON_SIZE];

    stats_reason_read(slot, reason);
    stats_exit_read(slot, last_exit);
    cJSON_AddStringToObject(to, "state", STATS_STATE_NAMES[stats_state_read(slot)]);
    add_number(to, "pid", pid > 0 ? pid : -1);
    add_number(to, "uptime_ms", pid > 0 ? now_ms - started_ms : -1);
    add_number(to, "restarts", (int64_t)stats_counter(slot, STATS_RESTARTS));
    add_number(to, "crashes", (int64_t)stats_counter(slot, STATS_CRASHES));
    add_number(to, "memory_bytes", memory_of(slot));
    cJSON_AddStringToObject(to, "reason", reason);
    cJSON_AddStringToObject(to, "last_exit", last_exit);
    add_number(to, "next_try_ms", next_ms > 0 ? (next_ms > now_ms ? next_ms - now_ms : 0) : -1);
}

static cJSON *process_object(const struct stats_slot *slot, const struct readiness_limits *limits)
{
    int64_t beat = (int64_t)atomic_load_explicit(&slot->beat_ms, memory_order_relaxed);
    cJSON *json = cJSON_CreateObject();
    char name[STATS_NAME_SIZE];

    stats_name_read(slot, name);
    cJSON_AddStringToObject(json, "name", name);
    cJSON_AddNumberToObject(json, "slot", slot->number);
    add_life(json, slot, limits->now_ms);
    add_work(json, slot);
    cJSON_AddBoolToObject(json, "running", readiness_is_running(slot, limits));
    add_number(json, "beat_age_ms", beat != 0 ? limits->now_ms - beat : -1);
    cJSON_AddBoolToObject(json, "connected", stats_gauge(slot, STATS_CONNECTED) != 0);
    cJSON *counters = cJSON_AddObjectToObject(json, "counters");
    for (size_t i = 0; i < LENGTH_OF(COUNTERS); i++)
        cJSON_AddNumberToObject(counters, COUNTERS[i].name,
                                (double)stats_counter(slot, COUNTERS[i].counter));
    cJSON *gauges = cJSON_AddObjectToObject(json, "gauges");
    for (size_t i = 0; i < LENGTH_OF(GAUGES); i++)
        cJSON_AddNumberToObject(gauges, GAUGES[i].name, (double)stats_gauge(slot, GAUGES[i].gauge));
    return json;
}

/* The keys that processes are sorted by, copied: other processes may change the originals meanwhile. */
struct listed {
    const struct stats_slot *slot;
    uint32_t number;
    char name[STATS_NAME_SIZE];
};

/* Order: consumers, workers, the monitor; each kind by name and number. */
static int compare_listed(const void *left, const void *right)
{
    const struct listed *a = left;
    const struct listed *b = right;
    int names = strcmp(a->name, b->name);

    int kinds = (int)process_kind_of(a->name) - (int)process_kind_of(b->name);

    if (kinds != 0)
        return kinds;
    return names != 0 ? names : (a->number > b->number) - (a->number < b->number);
}

static void add_processes(cJSON *to, const struct stats *stats,
                          const struct readiness_limits *limits)
{
    struct listed listed[STATS_SLOTS_MAX] = {0};
    size_t len = 0;
    cJSON *processes = cJSON_AddArrayToObject(to, "processes");

    for (size_t i = 0; i < stats->slots_len && len < STATS_SLOTS_MAX; i++) {
        struct listed *one = &listed[len];

        *one = (struct listed){.slot = &stats->slot[i], .number = stats->slot[i].number};
        stats_name_read(one->slot, one->name);
        len += one->name[0] != '\0' && process_kind_of(one->name) != PROCESS_SUPERVISOR;
    }
    qsort(listed, len, sizeof(listed[0]), compare_listed);
    for (size_t i = 0; i < len; i++)
        cJSON_AddItemToArray(processes, process_object(listed[i].slot, limits));
}

static void add_queues(cJSON *to, const struct settings *settings, const struct stats *stats,
                       int64_t now_ms)
{
    const struct stats_probe *probe = stats->probe;
    int64_t probed_ms = atomic_load(&probe->probed_ms);

    cJSON *transport = cJSON_AddObjectToObject(to, "transport");
    cJSON_AddStringToObject(transport, "name", settings_default_transport(settings)->name);
    add_number(transport, "ready", atomic_load(&probe->ready));
    add_number(transport, "pending", atomic_load(&probe->pending));
    add_number(transport, "delayed", atomic_load(&probe->delayed));
    add_number(transport, "oldest_ms", atomic_load(&probe->oldest_ms));
    add_number(transport, "other_groups", atomic_load(&probe->other_groups));
    cJSON *failure = cJSON_AddObjectToObject(to, "failure");
    cJSON_AddStringToObject(failure, "queue", settings->failure.queue_name);
    add_number(failure, "messages", atomic_load(&probe->failed));
    add_number(to, "asked_ms_ago", probed_ms > 0 ? now_ms - probed_ms : -1);
}

static double sum_gauge(const struct stats *stats, enum stats_gauge gauge)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < stats->slots_len; i++)
        if (process_kind_of(stats->slot[i].name) == PROCESS_CONSUMER)
            sum += stats_gauge(&stats->slot[i], gauge);
    return (double)sum;
}

static void add_spool(cJSON *to, const struct stats *stats)
{
    cJSON *spool = cJSON_AddObjectToObject(to, "spool");

    cJSON_AddNumberToObject(spool, "messages", sum_gauge(stats, STATS_SPOOL_MESSAGES));
    cJSON_AddNumberToObject(spool, "bytes", sum_gauge(stats, STATS_SPOOL_BYTES));
    cJSON_AddNumberToObject(spool, "limit_bytes", sum_gauge(stats, STATS_SPOOL_LIMIT));
    cJSON_AddNumberToObject(spool, "oversized_messages",
                            sum_gauge(stats, STATS_OVERSIZED_MESSAGES));
    cJSON_AddNumberToObject(spool, "oversized_bytes", sum_gauge(stats, STATS_OVERSIZED_BYTES));
    cJSON_AddBoolToObject(spool, "paused", sum_gauge(stats, STATS_SPOOL_PAUSED) > 0);
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

cJSON *status_document(const struct settings *settings, const struct stats *stats,
                       const struct readiness_limits *limits)
{
    cJSON *json = cJSON_CreateObject();
    struct readiness readiness;
    char now[CLOCK_UTC_SIZE];

    clock_format_utc(clock_wall_us(), now);
    readiness_judge(&readiness, settings, stats, limits);
    cJSON_AddStringToObject(json, "version", MQTT_BRIDGE_VERSION);
    cJSON_AddStringToObject(json, "time", now);
    cJSON_AddStringToObject(json, "listen", settings->http.listen);
    add_readiness(json, &readiness, true);
    add_processes(json, stats, limits);
    add_queues(json, settings, stats, limits->now_ms);
    add_spool(json, stats);
    add_totals(json, stats);
    return json;
}
