#include "monitor/readiness.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* A whole round of probes with each part at its limit, twice. */
#define PROBE_STALE_MS (2 * (PROBE_INTERVAL_MS + PROBE_PARTS * PROBE_LIMIT_MS))

const char *const READINESS_NAMES[READINESS_PARTS] = {[READINESS_SUPERVISOR] = "supervisor",
                                                      [READINESS_BROKER] = "broker",
                                                      [READINESS_WORKER] = "worker",
                                                      [READINESS_REDIS] = "redis",
                                                      [READINESS_HUB] = "hub",
                                                      [READINESS_DATABASE] = "database"};

static void refuse(struct readiness_answer *answer, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void refuse(struct readiness_answer *answer, const char *format, ...)
{
    va_list arguments;

    answer->ok = false;
    va_start(arguments, format);
    vsnprintf(answer->reason, sizeof answer->reason, format, arguments);
    va_end(arguments);
}

static bool is_named(const struct stats_slot *slot, const char *kind)
{
    size_t len = strlen(kind);

    return strncmp(slot->name, kind, len) == 0 &&
           (slot->name[len] == '\0' || slot->name[len] == ':');
}

bool readiness_is_running(const struct stats_slot *slot, const struct readiness_limits *limits)
{
    int64_t beat = (int64_t)atomic_load_explicit(&slot->beat_ms, memory_order_relaxed);

    return beat != 0 && limits->now_ms - beat <= limits->beat_ms;
}

static const struct stats_slot *find_supervisor(const struct stats *stats)
{
    for (size_t i = 0; i < stats->slots_len; i++) {
        if (is_named(&stats->slot[i], "supervisor"))
            return &stats->slot[i];
    }
    return NULL;
}

bool readiness_supervisor_is_alive(const struct stats *stats, const struct readiness_limits *limits)
{
    const struct stats_slot *slot = find_supervisor(stats);

    return slot == NULL || readiness_is_running(slot, limits);
}

static void judge_supervisor(struct readiness_answer *answer, const struct stats *stats,
                             const struct readiness_limits *limits)
{
    const struct stats_slot *slot = find_supervisor(stats);
    char reason[STATS_REASON_SIZE];

    if (slot == NULL)
        return;
    stats_reason_read(slot, reason);
    if (!readiness_is_running(slot, limits))
        refuse(answer, "the supervisor does not answer");
    else if (reason[0] != '\0')
        refuse(answer, "%s", reason);
}

static void judge_broker(struct readiness_answer *answer, const struct stats *stats,
                         const struct readiness_limits *limits)
{
    char reason[STATS_REASON_SIZE];
    bool any = false;

    for (size_t i = 0; i < stats->slots_len && answer->ok; i++) {
        const struct stats_slot *slot = &stats->slot[i];
        if (!is_named(slot, "consumer"))
            continue;
        any = true;
        stats_reason_read(slot, reason);
        if (!readiness_is_running(slot, limits))
            refuse(answer, "%s is not running", slot->name);
        else if (stats_gauge(slot, STATS_CONNECTED) == 0)
            refuse(answer, "%s: %s", slot->name,
                   reason[0] != '\0' ? reason : "not connected to the broker");
    }
    if (!any)
        refuse(answer, "no consumer is running");
}

static void judge_workers(struct readiness_answer *answer, const struct stats *stats,
                          const struct readiness_limits *limits)
{
    for (size_t i = 0; i < stats->slots_len; i++) {
        if (is_named(&stats->slot[i], "worker") && readiness_is_running(&stats->slot[i], limits))
            return;
    }
    refuse(answer, "no worker is running");
}

static void judge_server(struct readiness_answer *answer, int64_t ok, const char *text,
                         int64_t probed_ms, const struct readiness_limits *limits)
{
    if (probed_ms == 0)
        refuse(answer, "not asked yet");
    else if (limits->now_ms - probed_ms > PROBE_STALE_MS)
        refuse(answer, "last asked %lld s ago: the monitor hangs",
               (long long)((limits->now_ms - probed_ms) / 1000));
    else if (ok != 1)
        refuse(answer, "%s", text[0] != '\0' ? text : "does not answer");
}

/* The supervisor's word, which `scale` changes; a monitor by itself has the settings'. */
static bool are_workers_wanted(const struct settings *settings, const struct stats *stats)
{
    const struct stats_slot *supervisor = find_supervisor(stats);

    if (supervisor != NULL)
        return stats_gauge(supervisor, STATS_WORKERS_WANTED) > 0;
    return settings->worker.count > 0;
}

static void judge_servers(struct readiness_answer part[READINESS_PARTS],
                          const struct stats_probe *probe, const struct probe_texts *texts,
                          const struct readiness_limits *limits)
{
    int64_t probed_ms = atomic_load(&probe->probed_ms);

    judge_server(&part[READINESS_REDIS], atomic_load(&probe->redis_ok), texts->part[PROBE_REDIS],
                 probed_ms, limits);
    if (part[READINESS_HUB].configured)
        judge_server(&part[READINESS_HUB], atomic_load(&probe->hub_ok), texts->part[PROBE_HUB],
                     probed_ms, limits);
    if (part[READINESS_DATABASE].configured)
        judge_server(&part[READINESS_DATABASE], atomic_load(&probe->failure_ok),
                     texts->part[PROBE_DATABASE], probed_ms, limits);
}

void readiness_judge(struct readiness *readiness, const struct settings *settings,
                     const struct stats *stats, const struct probe_texts *texts,
                     const struct readiness_limits *limits)
{
    struct readiness_answer *part = readiness->part;
    bool workers = are_workers_wanted(settings, stats);

    *readiness = (struct readiness){.ready = true};
    for (size_t i = 0; i < READINESS_PARTS; i++)
        part[i] = (struct readiness_answer){.ok = true, .configured = true, .required = true};
    part[READINESS_WORKER].configured = workers;
    part[READINESS_HUB].configured = settings->mercure.url[0] != '\0';
    part[READINESS_HUB].required = workers;
    part[READINESS_DATABASE].configured = settings->failure.dsn[0] != '\0';
    part[READINESS_DATABASE].required = false;

    judge_supervisor(&part[READINESS_SUPERVISOR], stats, limits);
    judge_broker(&part[READINESS_BROKER], stats, limits);
    if (workers)
        judge_workers(&part[READINESS_WORKER], stats, limits);
    judge_servers(part, &stats->probe, texts, limits);
    for (size_t i = 0; i < READINESS_PARTS; i++)
        readiness->ready = readiness->ready && (part[i].ok || !part[i].required);
}
