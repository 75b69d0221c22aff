#include "supervisor/commands.h"

#include "common/base/clock.h"
#include "common/runtime/memory.h"
#include "common/runtime/readiness.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A monitor that was stopped or given up asks no server; one that is merely restarting will. */
static bool nobody_asks(const struct service *service)
{
    for (size_t i = 0; i < service->processes_len; i++) {
        const struct process *process = service->processes[i];
        enum state state = process->lifecycle.state;

        if (process->kind == PROCESS_MONITOR)
            return state == STATE_STOPPED || state == STATE_EXITED || state == STATE_FATAL;
    }
    return true;
}

static void report_health(const struct service *service, cJSON *reply)
{
    struct readiness_limits limits = {.now_ms = clock_monotonic_ms(),
                                      .beat_ms = service->settings->supervisor.hang_timeout_ms,
                                      .nobody_asks = nobody_asks(service)};
    struct readiness readiness;
    cJSON *reasons = cJSON_CreateArray();
    char text[READINESS_TEXT_SIZE];

    service_write_reasons(service);
    readiness_judge(&readiness, service->settings, service->statistics.stats, &limits);
    for (size_t i = 0; i < READINESS_PARTS; i++)
        if (readiness_tell(&readiness, (enum readiness_part)i, text))
            cJSON_AddItemToArray(reasons, cJSON_CreateString(text));
    cJSON_AddBoolToObject(reply, "ready", readiness.ready);
    cJSON_AddItemToObject(reply, "reasons", reasons);
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
    const struct lifecycle *lifecycle = &process->lifecycle;
    bool alive = states_alive(lifecycle);
    bool counts = process->kind != PROCESS_MONITOR;
    char reason[STATS_REASON_SIZE];
    cJSON *object = cJSON_CreateObject();

    statistics_read_reason(process, reason);
    cJSON_AddStringToObject(object, "name", process->name);
    cJSON_AddNumberToObject(object, "slot", process->number);
    cJSON_AddStringToObject(object, "state", states_name(lifecycle->state));
    add_number(object, "pid", alive && process->pid > 0 ? process->pid : -1);
    add_number(object, "uptime_ms", alive ? now_ms - lifecycle->started_ms : -1);
    cJSON_AddNumberToObject(object, "restarts", (double)process->restarts);
    cJSON_AddNumberToObject(object, "crashes", (double)process->crashes);
    if (counts)
        cJSON_AddNumberToObject(object, "rate", process->rate);
    else
        cJSON_AddNullToObject(object, "rate");
    add_number(object, "done", counts ? (int64_t)statistics_done(process) : -1);
    add_number(object, "failed", counts ? (int64_t)statistics_failed(process) : -1);
    add_number(object, "memory_bytes", alive ? memory_of_process(process->pid) : -1);
    cJSON_AddStringToObject(object, "reason", reason);
    cJSON_AddStringToObject(object, "last_exit", process->cause);
    add_number(object, "next_try_ms",
               lifecycle->state == STATE_BACKOFF ? lifecycle->deadline_ms - now_ms : -1);
    cJSON_AddBoolToObject(object, "waits", process->restart_pending);
    return object;
}

static cJSON *queue_object(const struct service *service, int64_t now_ms)
{
    const struct stats_probe *probe = service->statistics.stats->probe;
    int64_t probed_ms = atomic_load(&probe->probed_ms);
    cJSON *object = cJSON_CreateObject();

    cJSON_AddStringToObject(
        object, "transport",
        service->settings->transports_len > 0 ? service->settings->transports[0].name : "async");
    add_number(object, "ready", atomic_load(&probe->ready));
    add_number(object, "in_flight", atomic_load(&probe->pending));
    add_number(object, "delayed", atomic_load(&probe->delayed));
    add_number(object, "oldest_ms", atomic_load(&probe->oldest_ms));
    add_number(object, "failed", atomic_load(&probe->failed));
    add_number(object, "age_ms", probed_ms > 0 ? now_ms - probed_ms : -1);
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
    int64_t hub = atomic_load(&service->statistics.stats->probe->hub_ok);

    if (hub < 0)
        cJSON_AddNullToObject(reply, "hub");
    else
        cJSON_AddStringToObject(reply, "hub", hub > 0 ? "ok" : "unreachable");
}

static void report_status(const struct service *service, cJSON *reply)
{
    int64_t now = clock_monotonic_ms();
    int64_t uptime_s = (now - service->started_ms) / 1000;
    cJSON *processes = cJSON_CreateArray();

    char *config = service->config != NULL ? realpath(service->config, NULL) : NULL;

    cJSON_AddStringToObject(reply, "version", MQTT_BRIDGE_VERSION);
    cJSON_AddStringToObject(reply, "config", config != NULL ? config : "");
    cJSON_AddStringToObject(reply, "state_dir", service->settings->supervisor.state_dir);
    cJSON_AddStringToObject(reply, "listen", service->settings->http.listen);
    free(config);
    cJSON_AddNumberToObject(reply, "pid", getpid());
    cJSON_AddNumberToObject(reply, "uptime_s", (double)uptime_s);
    cJSON_AddBoolToObject(reply, "stopping", service->phase != PHASE_RUNNING);
    cJSON_AddStringToObject(reply, "roll_failure", service->restart_failure);
    report_health(service, reply);
    for (size_t i = 0; i < service->processes_len; i++)
        cJSON_AddItemToArray(processes, process_object(service->processes[i], now));
    cJSON_AddItemToObject(reply, "processes", processes);
    cJSON_AddItemToObject(reply, "queue", queue_object(service, now));
    cJSON_AddItemToObject(reply, "spool", spool_object(service));
    add_broker(service, reply);
    add_hub(service, reply);
}

static void refuse(cJSON *reply, const char *text)
{
    cJSON_AddBoolToObject(reply, "ok", false);
    cJSON_AddStringToObject(reply, "error", text);
}

static bool has_title(const struct process *process, const char *target)
{
    return !process->unwanted && strcmp(process->title, target) == 0;
}

/* "consumer:1" is the consumer's number only where no [consumer:1] has it for a name. */
static bool has_name(const struct service *service, const struct process *process, const char *name)
{
    if (process->unwanted)
        return false;
    for (size_t i = 0; i < service->processes_len; i++)
        if (has_title(service->processes[i], name))
            return has_title(process, name);
    return process_matches(process, name);
}

/* The next of the names; false at their end. */
static bool next_name(struct bytes *rest, char name[PROCESS_NAME_SIZE])
{
    struct bytes item;

    if (!bytes_next_item(rest, &item))
        return false;
    snprintf(name, PROCESS_NAME_SIZE, "%.*s", BYTES_ARG(item));
    return true;
}

static bool is_meant(const struct service *service, const struct process *process,
                     const char *target)
{
    struct bytes rest = bytes_of(target);
    char name[PROCESS_NAME_SIZE];
    bool meant = target[0] == '\0' && !process->unwanted;

    while (!meant && next_name(&rest, name))
        meant = has_name(service, process, name);
    return meant;
}

static bool is_known(const struct service *service, const char *name)
{
    bool known = false;

    for (size_t i = 0; i < service->processes_len && !known; i++)
        known = has_name(service, service->processes[i], name);
    return known;
}

/* True, and said, where one of the names is nobody's. */
static bool refuse_unknown_name(const struct service *service, const char *target, cJSON *reply)
{
    struct bytes rest = bytes_of(target);
    char name[PROCESS_NAME_SIZE];
    struct buf text = {0};

    while (text.len == 0 && next_name(&rest, name))
        if (!is_known(service, name))
            buf_printf(&text, "there is no process \"%s\"; there are:", name);
    if (text.len == 0)
        return false;
    for (size_t i = 0; i < service->processes_len; i++)
        if (!service->processes[i]->unwanted)
            buf_printf(&text, " %s", service->processes[i]->title);
    refuse(reply, buf_text(&text));
    cJSON_AddBoolToObject(reply, "unknown", true);
    buf_free(&text);
    return true;
}

static void add_meant(const struct service *service, const struct control_request *request,
                      cJSON *list)
{
    for (size_t i = 0; i < service->processes_len; i++) {
        const struct process *process = service->processes[i];

        if (!is_meant(service, process, request->target))
            continue;
        cJSON *object = cJSON_CreateObject();
        cJSON_AddStringToObject(object, "name", process->name);
        cJSON_AddNumberToObject(object, "slot", process->number);
        cJSON_AddNumberToObject(object, "pid", process->pid);
        cJSON_AddItemToArray(list, object);
    }
}

static void request_change(struct service *service, struct process *process,
                           const struct control_request *request)
{
    if (request->verb == CONTROL_SIGNAL)
        process_signal(process, request->signal);
    else if (request->verb == CONTROL_START)
        process_handle_event(process, &service->launch, EVENT_START);
    else if (request->verb == CONTROL_STOP)
        process_handle_event(process, &service->launch, EVENT_STOP);
    else
        service_restart(service, process);
}

static void request_for_processes(struct service *service, const struct control_request *request,
                                  cJSON *reply)
{
    if (refuse_unknown_name(service, request->target, reply))
        return;
    cJSON *list = cJSON_CreateArray();
    add_meant(service, request, list);
    for (size_t i = 0; i < service->processes_len; i++)
        if (is_meant(service, service->processes[i], request->target))
            request_change(service, service->processes[i], request);
    cJSON_AddBoolToObject(reply, "ok", true);
    cJSON_AddItemToObject(reply, "processes", list);
    cJSON_AddNumberToObject(reply, "stop_timeout_ms",
                            (double)service->launch.rules.stop_timeout_ms);
}

static void scale(struct service *service, const struct control_request *request, cJSON *reply)
{
    struct error err = {0};

    if (service_scale(service, request->count, &err) < 0) {
        refuse(reply, err.text);
        return;
    }
    cJSON_AddBoolToObject(reply, "ok", true);
    cJSON_AddNumberToObject(reply, "workers", (double)service->workers);
    cJSON_AddNumberToObject(reply, "stop_timeout_ms",
                            (double)service->launch.rules.stop_timeout_ms);
}

static void answer_reload(struct service *service, cJSON *reply)
{
    struct buf faults = {0};
    int restarted = service_reload(service, &faults);

    if (restarted < 0)
        refuse(reply, buf_text(&faults));
    else
        cJSON_AddBoolToObject(reply, "ok", true);
    if (restarted >= 0)
        cJSON_AddNumberToObject(reply, "restarted", restarted);
    buf_free(&faults);
}

static bool is_other_bridge(const struct service *service, const char *bridge)
{
    struct stat meant;
    struct stat own;

    if (bridge[0] == '\0' || stat(service->settings->supervisor.state_dir, &own) < 0)
        return false;
    return stat(bridge, &meant) < 0 || meant.st_dev != own.st_dev || meant.st_ino != own.st_ino;
}

static void refuse_other_bridge(const struct service *service, const char *bridge, cJSON *reply)
{
    struct buf text = {0};

    buf_printf(&text, "the bridge that listens here is that of %s, not of %s",
               service->settings->supervisor.state_dir, bridge);
    refuse(reply, buf_text(&text));
    buf_free(&text);
}

static void report_events(const struct service *service, cJSON *reply)
{
    cJSON *events = cJSON_CreateArray();
    const struct history_entry *entry;
    char when[CLOCK_TEXT_SIZE];

    for (size_t i = 0; (entry = history_get(service->launch.history, i)) != NULL; i++) {
        cJSON *event = cJSON_CreateObject();

        clock_format_us(entry->wall_us, when);
        cJSON_AddStringToObject(event, "time", when);
        cJSON_AddStringToObject(event, "text", entry->text);
        cJSON_AddItemToArray(events, event);
    }
    cJSON_AddItemToObject(reply, "events", events);
}

/* Returns whether the connection stays open until the service has ended. */
static bool carry_out(struct service *service, const struct control_request *request, cJSON *reply)
{
    if (is_other_bridge(service, request->bridge)) {
        refuse_other_bridge(service, request->bridge, reply);
        return false;
    }
    switch (request->verb) {
    case CONTROL_STATUS:
        cJSON_AddBoolToObject(reply, "ok", true);
        report_status(service, reply);
        return false;
    case CONTROL_HEALTH:
        cJSON_AddBoolToObject(reply, "ok", true);
        report_health(service, reply);
        return false;
    case CONTROL_EVENTS:
        cJSON_AddBoolToObject(reply, "ok", true);
        report_events(service, reply);
        return false;
    case CONTROL_STOP:
        if (request->target[0] != '\0')
            break;
        service_stop(service, 0);
        cJSON_AddBoolToObject(reply, "ok", true);
        cJSON_AddNumberToObject(reply, "pid", getpid());
        return true;
    case CONTROL_START:
    case CONTROL_RESTART:
    case CONTROL_SCALE:
    case CONTROL_RELOAD:
    case CONTROL_SIGNAL:
    case CONTROL_VERBS_LEN:
        break;
    }
    if (service->phase != PHASE_RUNNING)
        refuse(reply, "the service is stopping");
    else if (request->verb == CONTROL_SCALE)
        scale(service, request, reply);
    else if (request->verb == CONTROL_RELOAD)
        answer_reload(service, reply);
    else
        request_for_processes(service, request, reply);
    return false;
}

bool commands_answer(void *context, const struct control_request *request, struct buf *reply)
{
    struct service *service = context;
    cJSON *object = cJSON_CreateObject();
    bool stays = carry_out(service, request, object);
    char *text = cJSON_PrintUnformatted(object);

    buf_append_text(reply, text != NULL ? text : "{\"ok\":false,\"error\":\"out of memory\"}");
    cJSON_free(text);
    cJSON_Delete(object);
    return stays;
}
