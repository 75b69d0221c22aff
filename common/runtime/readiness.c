#include "common/runtime/readiness.h"

#include "common/base/bytes.h"
#include "common/base/clock.h"
#include "common/base/process_kind.h"

#include <stdarg.h>
#include <stdio.h>

const char *const READINESS_NAMES[READINESS_PARTS] = {
    [READINESS_SUPERVISOR] = "supervisor", [READINESS_BROKER] = "broker",
    [READINESS_SPOOL] = "spool",           [READINESS_WORKER] = "worker",
    [READINESS_REDIS] = "redis",           [READINESS_HUB] = "hub",
    [READINESS_DATABASE] = "database",     [READINESS_PAGE] = "page"};

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

struct readiness_limits readiness_limits_now(const struct settings *settings)
{
    return (struct readiness_limits){.now_ms = clock_monotonic_ms(),
                                     .beat_ms = settings->supervisor.hang_timeout_ms};
}

bool readiness_is_running(const struct stats_slot *slot, const struct readiness_limits *limits)
{
    int64_t beat = (int64_t)atomic_load_explicit(&slot->beat_ms, memory_order_relaxed);

    int64_t most = limits->beat_ms > 0 ? limits->beat_ms : READINESS_BEAT_MS;

    return beat != 0 && limits->now_ms - beat <= most;
}

/* Why the process does not do its work. If it does not exist its state comes first: "backoff: exit code 1". */
static void read_reason(const struct stats_slot *slot, const struct readiness_limits *limits,
                        char out[STATS_REASON_SIZE])
{
    char text[STATS_REASON_SIZE + 16];
    char reason[STATS_REASON_SIZE];
    bool absent = !readiness_is_running(slot, limits) && stats_gauge(slot, STATS_PID) == 0;
    const char *state = absent ? STATS_STATE_NAMES[stats_state_read(slot)] : "";

    stats_reason_read(slot, reason);
    snprintf(text, sizeof(text), "%s%s%s", state, state[0] != '\0' && reason[0] != '\0' ? ": " : "",
             reason);
    bytes_to_printable(bytes_of(text), out, STATS_REASON_SIZE);
}

static const struct stats_slot *find_supervisor(const struct stats *stats)
{
    for (size_t i = 0; i < stats->slots_len; i++)
        if (process_kind_of(stats->slot[i].name) == PROCESS_SUPERVISOR)
            return &stats->slot[i];
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

static bool is_missed(const struct stats_slot *slot, enum process_kind kind)
{
    return process_kind_of(slot->name) == kind && stats_gauge(slot, STATS_UNWANTED) == 0;
}

static void judge_broker(struct readiness_answer *answer, const struct stats *stats,
                         const struct readiness_limits *limits)
{
    char reason[STATS_REASON_SIZE];
    char name[STATS_NAME_SIZE];
    bool any = false;

    for (size_t i = 0; i < stats->slots_len && answer->ok; i++) {
        const struct stats_slot *slot = &stats->slot[i];

        if (!is_missed(slot, PROCESS_CONSUMER))
            continue;
        any = true;
        read_reason(slot, limits, reason);
        stats_name_read(slot, name);
        if (!readiness_is_running(slot, limits))
            refuse(answer, "%s%s%s", name, reason[0] != '\0' ? ": " : " is not running", reason);
        else if (stats_gauge(slot, STATS_CONNECTED) == 0)
            refuse(answer, "%s: %s", name,
                   reason[0] != '\0' ? reason : "not connected to the broker");
    }
    if (!any)
        refuse(answer, "no consumer is running");
}

static void judge_spool(struct readiness_answer *answer, const struct stats *stats,
                        const struct readiness_limits *limits)
{
    const struct stats_slot *degraded = NULL;
    char reason[STATS_REASON_SIZE];
    char name[STATS_NAME_SIZE];

    for (size_t i = 0; i < stats->slots_len && answer->ok; i++) {
        const struct stats_slot *slot = &stats->slot[i];

        if (!is_missed(slot, PROCESS_CONSUMER) || !readiness_is_running(slot, limits) ||
            stats_gauge(slot, STATS_CONNECTED) == 0)
            continue;
        stats_reason_read(slot, reason);
        stats_name_read(slot, name);
        if (reason[0] != '\0' && stats_gauge(slot, STATS_REDIS_DEGRADED) != 0)
            degraded = slot;
        else if (reason[0] != '\0')
            refuse(answer, "%s: %s", name, reason);
    }
    if (!answer->ok || degraded == NULL)
        return;
    stats_reason_read(degraded, reason);
    stats_name_read(degraded, name);
    refuse(answer, "%s: %s", name, reason);
    answer->required = false;
}

/* One working worker is enough; the status has the reasons of the others. If a server is away no worker works: then the
 * server's part reports it. */
static void judge_workers(struct readiness_answer *answer, const struct stats *stats,
                          const struct readiness_limits *limits, bool servers_are_well)
{
    const struct stats_slot *resting = NULL;
    const struct stats_slot *absent = NULL;
    char reason[STATS_REASON_SIZE] = "";
    char name[STATS_NAME_SIZE];

    for (size_t i = 0; i < stats->slots_len; i++) {
        const struct stats_slot *slot = &stats->slot[i];

        if (!is_missed(slot, PROCESS_WORKER))
            continue;
        if (!readiness_is_running(slot, limits)) {
            absent = slot;
            continue;
        }
        if (!servers_are_well || stats_gauge(slot, STATS_CONNECTED) != 0)
            return;
        resting = slot;
    }
    if (resting == NULL) {
        if (absent != NULL)
            read_reason(absent, limits, reason);
        if (reason[0] != '\0')
            refuse(answer, "no worker is running; worker:%u: %s", absent->number, reason);
        else
            refuse(answer, "no worker is running");
        return;
    }
    stats_reason_read(resting, reason);
    stats_name_read(resting, name);
    refuse(answer, "%s:%u: %s", name, resting->number,
           reason[0] != '\0' ? reason : "not at work yet");
}

/* True if no monitor will ask the servers, so that unknown answers don't count. A monitor that is being restarted will
 * ask. */
static bool does_nobody_ask(const struct stats *stats)
{
    enum stats_state state = STATE_NONE;

    for (size_t i = 0; i < stats->slots_len; i++)
        if (process_kind_of(stats->slot[i].name) == PROCESS_MONITOR)
            state = stats_state_read(&stats->slot[i]);
    switch (state) {
    case STATE_STOPPED:
    case STATE_EXITED:
    case STATE_FATAL:
        return true;
    case STATE_NONE:
    case STATE_STARTING:
    case STATE_RUNNING:
    case STATE_BACKOFF:
    case STATE_STOPPING:
    case STATES_LEN:
        break;
    }
    return false;
}

/* Why the monitor does not run, as the supervisor has published it; "" if it runs. */
static void read_absence(const struct stats *stats, const struct readiness_limits *limits,
                         char out[STATS_REASON_SIZE])
{
    out[0] = '\0';
    for (size_t i = 0; i < stats->slots_len; i++) {
        const struct stats_slot *slot = &stats->slot[i];

        if (process_kind_of(slot->name) == PROCESS_MONITOR && !readiness_is_running(slot, limits))
            read_reason(slot, limits, out);
    }
}

static void judge_server(struct readiness_answer *answer, const struct stats *stats,
                         enum stats_server server, int64_t ok,
                         const struct readiness_limits *limits)
{
    const struct stats_probe *probe = stats->probe;
    int64_t probed_ms = atomic_load(&probe->probed_ms);
    char text[STATS_ANSWER_SIZE];
    char absence[STATS_REASON_SIZE];

    if (!answer->configured || does_nobody_ask(stats))
        return;
    stats_answer_read(probe, server, text);
    read_absence(stats, limits, absence);
    if (probed_ms == 0)
        refuse(answer, "not asked yet%s%s", absence[0] != '\0' ? ": monitor: " : "", absence);
    else if (limits->now_ms - probed_ms > READINESS_STALE_MS)
        refuse(answer, "last asked %lld s ago: %s%s",
               (long long)((limits->now_ms - probed_ms) / 1000),
               absence[0] != '\0' ? "monitor: " : "the monitor hangs or is away", absence);
    else if (ok != 1)
        refuse(answer, "%s", text[0] != '\0' ? text : "does not answer");
}

/* A monitor that does not run is reported by the parts of the servers that it asks, not here. */
static void judge_page(struct readiness_answer *answer, const struct stats *stats,
                       const struct readiness_limits *limits)
{
    char reason[STATS_REASON_SIZE];

    for (size_t i = 0; i < stats->slots_len; i++) {
        const struct stats_slot *slot = &stats->slot[i];

        if (process_kind_of(slot->name) != PROCESS_MONITOR || !readiness_is_running(slot, limits))
            continue;
        stats_reason_read(slot, reason);
        if (reason[0] != '\0')
            refuse(answer, "%s", reason);
    }
}

/* The number comes from the supervisor, since `scale` changes it; without a supervisor, from the settings. */
static bool are_workers_wanted(const struct settings *settings, const struct stats *stats)
{
    const struct stats_slot *supervisor = find_supervisor(stats);

    if (supervisor != NULL)
        return stats_gauge(supervisor, STATS_WORKERS_WANTED) > 0;
    return settings->worker.count > 0;
}

void readiness_judge(struct readiness *readiness, const struct settings *settings,
                     const struct stats *stats, const struct readiness_limits *limits)
{
    struct readiness_answer *part = readiness->part;
    const struct stats_probe *probe = stats->probe;
    bool workers = are_workers_wanted(settings, stats);

    *readiness = (struct readiness){.ready = true};
    for (size_t i = 0; i < READINESS_PARTS; i++)
        part[i] = (struct readiness_answer){.ok = true, .configured = true, .required = true};
    part[READINESS_WORKER].configured = workers;
    part[READINESS_HUB].configured = settings->mercure.url[0] != '\0';
    part[READINESS_HUB].required = workers;
    part[READINESS_DATABASE].configured = settings->failure.dsn[0] != '\0';
    part[READINESS_DATABASE].required = false;
    part[READINESS_PAGE].required = false;

    judge_supervisor(&part[READINESS_SUPERVISOR], stats, limits);
    judge_broker(&part[READINESS_BROKER], stats, limits);
    judge_server(&part[READINESS_REDIS], stats, STATS_REDIS, atomic_load(&probe->redis_ok), limits);
    judge_server(&part[READINESS_HUB], stats, STATS_HUB, atomic_load(&probe->hub_ok), limits);
    judge_server(&part[READINESS_DATABASE], stats, STATS_DATABASE, atomic_load(&probe->failure_ok),
                 limits);
    judge_page(&part[READINESS_PAGE], stats, limits);
    if (part[READINESS_REDIS].ok) /* else the part of Redis reports it */
        judge_spool(&part[READINESS_SPOOL], stats, limits);
    if (workers)
        judge_workers(&part[READINESS_WORKER], stats, limits,
                      part[READINESS_REDIS].ok && part[READINESS_HUB].ok);
    for (size_t i = 0; i < READINESS_PARTS; i++)
        readiness->ready = readiness->ready && (part[i].ok || !part[i].required);
}

bool readiness_tell(const struct readiness *readiness, enum readiness_part part,
                    char out[READINESS_TEXT_SIZE])
{
    const struct readiness_answer *answer = &readiness->part[part];

    if (answer->ok)
        return false;
    snprintf(out, READINESS_TEXT_SIZE, "%s: %s", READINESS_NAMES[part], answer->reason);
    return true;
}
