#include "supervisor/status.h"

#include "common/base/clock.h"
#include "common/base/readiness.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Why a process is not doing its work: its own word while it is there, else how it ended. */
static void reason_of(const struct process *process, char out[STATS_REASON_SIZE])
{
    out[0] = '\0';
    if (states_alive(&process->life))
        stats_reason_read(process->slot, out);
    else if (process->cause[0] != '\0' && process->words.last[0] != '\0')
        snprintf(out, STATS_REASON_SIZE, "%s: %s", process->cause, process->words.last);
    else
        snprintf(out, STATS_REASON_SIZE, "%s", process->cause);
}

/* For a process that is not there we speak in its slot, until its successor does. */
static void say_for_the_absent(const struct process *process)
{
    char text[STATS_REASON_SIZE];
    char line[STATS_REASON_SIZE];

    if (states_alive(&process->life))
        return;
    reason_of(process, text);
    snprintf(line, sizeof(line), "%s%s%s", states_name(process->life.state),
             text[0] != '\0' ? ": " : "", text);
    stats_reason(process->slot, line);
}

void status_say_reasons(const struct service *service)
{
    bool unready = strcmp(service->settings->supervisor.on_fatal, "unready") == 0;
    char text[STATS_REASON_SIZE] = "";
    char reason[STATS_REASON_SIZE];

    for (size_t i = 0; i < service->processes_len; i++) {
        const struct process *process = service->processes[i];
        stats_set(process->slot, STATS_UNWANTED, process->unwanted);
        say_for_the_absent(process);
        if (process->life.state != STATE_FATAL || !unready)
            continue;
        reason_of(process, reason);
        snprintf(text, sizeof(text), "%s was given up: %s", process->title, reason);
    }
    if (service->phase != PHASE_RUNNING)
        snprintf(text, sizeof(text), "the service is stopping");
    stats_reason(service->own, text);
}

/* Whoever asks for the servers may be away for a while, but not for good. */
static bool nobody_asks(const struct service *service)
{
    for (size_t i = 0; i < service->processes_len; i++) {
        const struct process *process = service->processes[i];
        enum state state = process->life.state;

        if (process->kind == PROCESS_MONITOR)
            return state == STATE_STOPPED || state == STATE_EXITED || state == STATE_FATAL;
    }
    return true;
}

void status_health(const struct service *service, cJSON *reply)
{
    struct readiness_limits limits = {.now_ms = clock_monotonic_ms(),
                                      .beat_ms = service->settings->supervisor.hang_timeout_ms,
                                      .nobody_asks = nobody_asks(service)};
    struct readiness readiness;
    cJSON *reasons = cJSON_CreateArray();
    char text[READINESS_TEXT_SIZE];

    status_say_reasons(service);
    readiness_judge(&readiness, service->settings, service->stats, &limits);
    for (size_t i = 0; i < READINESS_PARTS; i++)
        if (readiness_tell(&readiness, (enum readiness_part)i, text))
            cJSON_AddItemToArray(reasons, cJSON_CreateString(text));
    cJSON_AddBoolToObject(reply, "ready", readiness.ready);
    cJSON_AddItemToObject(reply, "reasons", reasons);
}

/* The memory that would be free without this process; -1 if the kernel does not say. */
static int64_t memory_of(pid_t pid)
{
    char path[48];
    char text[1024];
    long long kilobytes = -1;

    snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    ssize_t len = read(fd, text, sizeof(text) - 1);
    close(fd);
    if (len <= 0)
        return -1;
    text[len] = '\0';
    const char *line = strstr(text, "\nPss:");
    if (line == NULL || sscanf(line, " Pss: %lld", &kilobytes) != 1)
        return -1;
    return kilobytes * 1024;
}

static void add_number(cJSON *object, const char *name, int64_t value)
{
    if (value < 0)
        cJSON_AddNullToObject(object, name);
    else
        cJSON_AddNumberToObject(object, name, (double)value);
}

static cJSON *process_object(const struct process *process, int64_t now_ms)
{
    const struct life *life = &process->life;
    bool alive = states_alive(life);
    bool counts = process->kind != PROCESS_MONITOR;
    char reason[STATS_REASON_SIZE];
    cJSON *object = cJSON_CreateObject();

    reason_of(process, reason);
    cJSON_AddStringToObject(object, "name", process->name);
    cJSON_AddNumberToObject(object, "slot", process->number);
    cJSON_AddStringToObject(object, "state", states_name(life->state));
    add_number(object, "pid", alive && process->pid > 0 ? process->pid : -1);
    add_number(object, "uptime_ms", alive ? now_ms - life->started_ms : -1);
    cJSON_AddNumberToObject(object, "restarts", life->starts > 0 ? (double)(life->starts - 1) : 0);
    if (counts)
        cJSON_AddNumberToObject(object, "rate", process->rate);
    else
        cJSON_AddNullToObject(object, "rate");
    add_number(object, "done", counts ? (int64_t)process_done(process) : -1);
    add_number(object, "failed", counts ? (int64_t)process_failed(process) : -1);
    add_number(object, "memory_bytes", alive ? memory_of(process->pid) : -1);
    cJSON_AddStringToObject(object, "reason", reason);
    cJSON_AddBoolToObject(object, "waits", process->roll);
    return object;
}

static cJSON *queue_object(const struct service *service)
{
    const struct stats_probe *probe = &service->stats->probe;
    cJSON *object = cJSON_CreateObject();

    cJSON_AddStringToObject(
        object, "transport",
        service->settings->transports_len > 0 ? service->settings->transports[0].name : "async");
    add_number(object, "ready", atomic_load(&probe->ready));
    add_number(object, "in_flight", atomic_load(&probe->pending));
    add_number(object, "delayed", atomic_load(&probe->delayed));
    add_number(object, "oldest_ms", atomic_load(&probe->oldest_ms));
    add_number(object, "failed", atomic_load(&probe->failed));
    return object;
}

static uint64_t sum_gauges(const struct service *service, enum stats_gauge gauge)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < service->processes_len; i++)
        if (service->processes[i]->kind == PROCESS_CONSUMER)
            sum += stats_gauge(service->processes[i]->slot, gauge);
    return sum;
}

static cJSON *spool_object(const struct service *service)
{
    cJSON *object = cJSON_CreateObject();

    cJSON_AddNumberToObject(object, "messages", (double)sum_gauges(service, STATS_SPOOL_MESSAGES));
    cJSON_AddNumberToObject(object, "bytes", (double)sum_gauges(service, STATS_SPOOL_BYTES));
    cJSON_AddNumberToObject(object, "limit_bytes", (double)sum_gauges(service, STATS_SPOOL_LIMIT));
    cJSON_AddNumberToObject(object, "oversized_messages",
                            (double)sum_gauges(service, STATS_OVERSIZED_MESSAGES));
    cJSON_AddNumberToObject(object, "oversized_bytes",
                            (double)sum_gauges(service, STATS_OVERSIZED_BYTES));
    cJSON_AddBoolToObject(object, "paused", sum_gauges(service, STATS_SPOOL_PAUSED) > 0);
    return object;
}

static void add_broker(const struct service *service, cJSON *reply)
{
    uint64_t connected = sum_gauges(service, STATS_CONNECTED);
    uint64_t consumers = 0;
    char text[64];

    for (size_t i = 0; i < service->processes_len; i++)
        consumers += service->processes[i]->kind == PROCESS_CONSUMER;
    if (connected == consumers)
        snprintf(text, sizeof(text), "connected");
    else if (connected == 0)
        snprintf(text, sizeof(text), "not connected");
    else
        snprintf(text, sizeof(text), "%llu of %llu connected", (unsigned long long)connected,
                 (unsigned long long)consumers);
    cJSON_AddStringToObject(reply, "broker", text);
}

static void add_hub(const struct service *service, cJSON *reply)
{
    int64_t hub = atomic_load(&service->stats->probe.hub_ok);

    if (hub < 0)
        cJSON_AddNullToObject(reply, "hub");
    else
        cJSON_AddStringToObject(reply, "hub", hub > 0 ? "ok" : "unreachable");
}

void status_report(const struct service *service, cJSON *reply)
{
    int64_t now = clock_monotonic_ms();
    int64_t uptime_s = (now - service->started_ms) / 1000;
    cJSON *processes = cJSON_CreateArray();

    cJSON_AddStringToObject(reply, "version", MQTT_BRIDGE_VERSION);
    cJSON_AddNumberToObject(reply, "pid", getpid());
    cJSON_AddNumberToObject(reply, "uptime_s", (double)uptime_s);
    cJSON_AddBoolToObject(reply, "stopping", service->phase != PHASE_RUNNING);
    cJSON_AddStringToObject(reply, "roll_failure", service->roll_failure);
    status_health(service, reply);
    for (size_t i = 0; i < service->processes_len; i++)
        cJSON_AddItemToArray(processes, process_object(service->processes[i], now));
    cJSON_AddItemToObject(reply, "processes", processes);
    cJSON_AddItemToObject(reply, "queue", queue_object(service));
    cJSON_AddItemToObject(reply, "spool", spool_object(service));
    add_broker(service, reply);
    add_hub(service, reply);
}
