#include "supervisor/commands.h"

#include "common/base/clock.h"
#include "common/runtime/status.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static cJSON *accepted(void)
{
    cJSON *answer = cJSON_CreateObject();

    cJSON_AddBoolToObject(answer, "ok", true);
    return answer;
}

static cJSON *answer_health(const struct service *service)
{
    struct readiness_limits limits = readiness_limits_now(service->settings);
    struct readiness readiness;

    service_publish(service);
    readiness_judge(&readiness, service->settings, service->stats, &limits);
    cJSON *answer = status_readiness(&readiness, true);
    cJSON_AddBoolToObject(answer, "ok", true);
    return answer;
}

static cJSON *answer_status(const struct service *service)
{
    struct readiness_limits limits = readiness_limits_now(service->settings);
    char *config = service->config != NULL ? realpath(service->config, NULL) : NULL;
    int64_t uptime_s = (limits.now_ms - service->started_ms) / 1000;

    service_publish(service);
    cJSON *answer = status_document(service->settings, service->stats, &limits);

    cJSON_AddBoolToObject(answer, "ok", true);
    cJSON_AddStringToObject(answer, "config", config != NULL ? config : "");
    cJSON_AddStringToObject(answer, "state_dir", service->settings->supervisor.state_dir);
    cJSON_AddNumberToObject(answer, "pid", getpid());
    cJSON_AddNumberToObject(answer, "uptime_s", (double)uptime_s);
    cJSON_AddBoolToObject(answer, "stopping", service->phase != PHASE_RUNNING);
    free(config);
    return answer;
}

/* Reads a slot's log lines, which log_give_to formats: "2026-11-24T10:06:15.180279 WARNING
 * <text>". */
static cJSON *read_lines(const struct stats_slot *slot)
{
    cJSON *lines = cJSON_CreateArray();
    char line[STATS_LOG_SIZE];

    for (uint32_t i = 0; stats_log_read(slot, i, line); i++) {
        struct bytes time;
        struct bytes level;
        struct bytes text;
        cJSON *object = cJSON_CreateObject();

        bytes_split(bytes_of(line), ' ', &time, &text);
        bytes_split(text, ' ', &level, &text);
        cJSON_AddStringToObject(object, "text", text.len > 0 ? text.data : "");
        line[time.len] = '\0';
        cJSON_AddStringToObject(object, "time", line);
        line[time.len + (level.len > 0) + level.len] = '\0';
        cJSON_AddStringToObject(object, "level", level.len > 0 ? level.data : "");
        cJSON_AddItemToArray(lines, object);
    }
    return lines;
}

static cJSON *answer_events(const struct service *service)
{
    cJSON *answer = accepted();

    cJSON_AddItemToObject(answer, "events", read_lines(service->launch.own));
    return answer;
}

static bool has_title(const struct process *process, const char *name)
{
    return !process->unwanted && strcmp(process->title, name) == 0;
}

/* True if the name means the process. "consumer:1" means the consumer's number only if there is
 * no section [consumer:1]. */
static bool is_named(const struct service *service, const struct process *process, const char *name)
{
    for (size_t i = 0; i < service->processes_len; i++)
        if (has_title(service->processes[i], name))
            return has_title(process, name);
    return !process->unwanted && process_matches(process, name);
}

/* Adds the named processes to `affected`: " worker:1 worker:2 " for "worker", all processes for
 * "". Returns false if no process has the name. */
static bool add_named(const struct service *service, struct control_request *request,
                      const char *name)
{
    size_t before = request->affected.len;

    for (size_t i = 0; i < service->processes_len; i++) {
        const struct process *process = service->processes[i];

        if (name[0] == '\0' ? !process->unwanted : is_named(service, process, name))
            buf_printf(&request->affected, " %s ", process->title);
    }
    return request->affected.len > before;
}

/* Finds the processes that the request names. Returns NULL, or the refusal if no process has a
 * name. */
static cJSON *find_affected(const struct service *service, struct control_request *request)
{
    struct bytes rest = bytes_of(request->target);
    struct bytes item;
    char name[PROCESS_NAME_SIZE] = "";
    struct buf text = {0};

    bool known = request->target[0] != '\0' || add_named(service, request, "");
    while (known && bytes_next_item(&rest, &item)) {
        snprintf(name, sizeof(name), "%.*s", BYTES_ARG(item));
        known = add_named(service, request, name);
    }
    if (known && request->affected.len > 0) /* empty for a target of blanks */
        return NULL;
    for (size_t i = 0; i < service->processes_len; i++)
        if (!service->processes[i]->unwanted)
            buf_printf(&text, " %s", service->processes[i]->title);
    cJSON *answer =
        control_refuse("there is no process \"%s\"; there are:%s", name, buf_text(&text));
    cJSON_AddBoolToObject(answer, "unknown", true);
    buf_free(&text);
    return answer;
}

static bool is_affected(const struct process *process, struct control_request *request)
{
    char key[PROCESS_NAME_SIZE + 2];

    snprintf(key, sizeof(key), " %s ", process->title);
    return !process->unwanted && strstr(buf_text(&request->affected), key) != NULL;
}

/* Returns {"ok":true,"processes":[{"name":"worker","slot":2,"pid":4711},…]}. */
static cJSON *list_affected(const struct service *service, struct control_request *request)
{
    cJSON *answer = accepted();
    cJSON *list = cJSON_AddArrayToObject(answer, "processes");

    for (size_t i = 0; i < service->processes_len; i++) {
        const struct process *process = service->processes[i];

        if (!is_affected(process, request))
            continue;
        cJSON *object = cJSON_CreateObject();
        cJSON_AddStringToObject(object, "name", process->name);
        cJSON_AddNumberToObject(object, "slot", process->number);
        cJSON_AddNumberToObject(object, "pid", process->pid);
        if (request->verb == CONTROL_LOG)
            cJSON_AddItemToObject(object, "lines", read_lines(process->slot));
        cJSON_AddItemToArray(list, object);
    }
    return answer;
}

/* How far a request has come. */
struct progress {
    enum { DONE, NOT_YET, FAILED } verdict;
    int severity;        /* the obstacle's severity */
    struct buf obstacle; /* the most severe reason why it is not done */
    struct buf left; /* processes that a rolling restart, which was given up, has not restarted */
};

/* A process that merely waits for another is less severe than the one that has failed. */
static const int SEVERITY[STATES_LEN] = {
    [STATE_STOPPED] = 1,  [STATE_STARTING] = 2, [STATE_RUNNING] = 1, [STATE_BACKOFF] = 3,
    [STATE_STOPPING] = 2, [STATE_EXITED] = 2,   [STATE_FATAL] = 4};

static void delay(struct progress *progress, const struct process *process)
{
    enum stats_state state = process->lifecycle.state;
    char reason[STATS_REASON_SIZE];

    if (progress->verdict == DONE)
        progress->verdict = NOT_YET;
    if (SEVERITY[state] <= progress->severity)
        return;
    progress->severity = SEVERITY[state];
    process_reason(process, reason);
    buf_clear(&progress->obstacle);
    buf_printf(&progress->obstacle, "%s is %s%s%s", process->title, STATS_STATE_NAMES[state],
               reason[0] != '\0' ? ": " : "", reason);
}

static void judge_start(struct progress *progress, const struct control_request *request,
                        const struct process *process)
{
    bool running = process->lifecycle.state == STATE_RUNNING;
    bool fresh = request->verb == CONTROL_START || process->start > request->since;

    if (fresh && running)
        return;
    if (running && !process->restart_pending) /* no rolling restart will come to it */
        buf_printf(&progress->left, " %s", process->title);
    delay(progress, process);
    if (process->lifecycle.state == STATE_FATAL)
        progress->verdict = FAILED;
}

static void judge_processes(struct progress *progress, const struct service *service,
                            struct control_request *request)
{
    for (size_t i = 0; i < service->processes_len && progress->verdict != FAILED; i++) {
        const struct process *process = service->processes[i];

        if (!is_affected(process, request))
            continue;
        if (request->verb != CONTROL_STOP)
            judge_start(progress, request, process);
        else if (states_alive(&process->lifecycle) || process->lifecycle.state == STATE_BACKOFF)
            delay(progress, process);
    }
    if (progress->verdict == FAILED || progress->left.len == 0)
        return;
    const char *failure = service->restart_failure;
    progress->verdict = FAILED;
    buf_clear(&progress->obstacle);
    buf_printf(&progress->obstacle, "%s%snot restarted:%s", failure,
               failure[0] != '\0' ? "; the rolling restart was given up, " : "",
               buf_text(&progress->left));
}

static void judge_scale(struct progress *progress, const struct service *service,
                        const struct control_request *request)
{
    int64_t present = 0;

    for (size_t i = 0; i < service->processes_len; i++) {
        const struct process *process = service->processes[i];
        enum stats_state state = process->lifecycle.state;

        if (process->kind != PROCESS_WORKER)
            continue;
        present++;
        /* A process that was given up or stopped before is not started by this request. */
        if (process->unwanted || (state != STATE_RUNNING && state != STATE_STOPPED))
            delay(progress, process);
        if (state == STATE_FATAL)
            progress->verdict = FAILED;
    }
    if (service->workers == request->count &&
        (present == request->count || progress->verdict != DONE))
        return;
    progress->verdict = FAILED;
    buf_clear(&progress->obstacle);
    buf_printf(&progress->obstacle, "there are %lld workers, not %lld", (long long)present,
               (long long)request->count);
}

static cJSON *done(const struct service *service, struct control_request *request)
{
    if (request->verb != CONTROL_SCALE && request->verb != CONTROL_RELOAD)
        return list_affected(service, request);
    cJSON *answer = accepted();
    if (request->verb == CONTROL_SCALE)
        cJSON_AddNumberToObject(answer, "workers", (double)service->workers);
    else
        cJSON_AddNumberToObject(answer, "restarted", (double)request->restarted);
    return answer;
}

/* Returns the answer, or NULL if the request is not done yet. */
static cJSON *judge(const struct service *service, struct control_request *request)
{
    struct progress progress = {.verdict = DONE};
    cJSON *answer = NULL;

    if (request->wait && request->verb == CONTROL_SCALE)
        judge_scale(&progress, service, request);
    else if (request->wait)
        judge_processes(&progress, service, request);
    if (progress.verdict == DONE)
        answer = done(service, request);
    else if (progress.verdict == FAILED || request->deadline_ms <= clock_monotonic_ms())
        answer = control_refuse(
            "%s%s", request->verb == CONTROL_RELOAD ? "the settings are in force, but " : "",
            buf_text(&progress.obstacle));
    buf_free(&progress.obstacle);
    buf_free(&progress.left);
    return answer;
}

/* True if the process is being restarted, or was started since. */
static bool is_under_way(const struct process *process, uint64_t since)
{
    return process->restart_pending || process->start > since ||
           (process->lifecycle.state == STATE_STOPPING && process->lifecycle.restart);
}

/* Begins a reload. Returns NULL, or the refusal. */
static cJSON *reload(struct service *service, struct control_request *request)
{
    struct buf faults = {0};

    request->restarted = service_reload(service, &faults);
    cJSON *refusal = request->restarted < 0 ? control_refuse("%s", buf_text(&faults)) : NULL;
    buf_free(&faults);
    for (size_t i = 0; refusal == NULL && i < service->processes_len; i++)
        if (is_under_way(service->processes[i], request->since))
            buf_printf(&request->affected, " %s ", service->processes[i]->title);
    return refusal;
}

static cJSON *change_processes(struct service *service, struct control_request *request)
{
    cJSON *refusal = find_affected(service, request);

    for (size_t i = 0; refusal == NULL && i < service->processes_len; i++) {
        struct process *process = service->processes[i];

        if (!is_affected(process, request))
            continue;
        if (request->verb == CONTROL_SIGNAL)
            process_signal(process, request->signal);
        else if (request->verb == CONTROL_RESTART)
            service_restart(service, process);
        else if (request->verb != CONTROL_LOG)
            process_handle_event(process,
                                 request->verb == CONTROL_START ? EVENT_START : EVENT_STOP);
    }
    return refusal;
}

static cJSON *begin(struct service *service, struct control_request *request)
{
    struct error err = {0};
    cJSON *refusal = NULL;
    int64_t turns = 0;

    request->begun = true;
    request->since = service->launch.starts;
    if (request->verb == CONTROL_RELOAD)
        refusal = reload(service, request);
    else if (request->verb != CONTROL_SCALE)
        refusal = change_processes(service, request);
    else if (service_scale(service, request->count, &err) < 0)
        refusal = control_refuse("%s", err.text);
    for (size_t i = 0; i < service->processes_len; i++)
        turns += is_affected(service->processes[i], request);
    request->deadline_ms = clock_monotonic_ms() + COMMANDS_START_MS +
                           (turns > 0 ? turns : 1) * service->launch.rules.stop_timeout_ms;
    return refusal;
}

/* Stops the whole service. The answer comes at its end. */
static cJSON *stop_service(struct service *service, struct control_request *request)
{
    if (!request->begun)
        service_stop(service, 0);
    request->begun = true;
    if (!service->closed && request->wait)
        return NULL;
    cJSON *answer = accepted();
    cJSON_AddNumberToObject(answer, "pid", getpid());
    return answer;
}

static cJSON *answer_upgrade(const char *former, const char *version)
{
    cJSON *answer = accepted();

    cJSON_AddStringToObject(answer, "former", former);
    cJSON_AddStringToObject(answer, "version", version);
    return answer;
}

static cJSON *refuse_upgrade(const char *why)
{
    return control_refuse("not upgraded, the bridge is " MQTT_BRIDGE_VERSION " as before: %s", why);
}

/* Returns the new program's answer once all processes run:
 * {"ok":true,"former":"1.0","version":"1.1"}. */
static cJSON *finish_upgrade(const struct service *service, struct control_request *request)
{
    struct progress progress = {.verdict = DONE};
    cJSON *answer = NULL;

    if (request->affected.len == 0)
        (void)add_named(service, request, "");
    judge_processes(&progress, service, request);
    if (progress.verdict == DONE)
        answer = answer_upgrade(request->former, MQTT_BRIDGE_VERSION);
    else if (progress.verdict == FAILED || request->deadline_ms <= clock_monotonic_ms())
        answer = control_refuse("upgraded to " MQTT_BRIDGE_VERSION " from %s, but %s",
                                request->former, buf_text(&progress.obstacle));
    buf_free(&progress.obstacle);
    buf_free(&progress.left);
    return answer;
}

/* Handles the request until the new program is executed. A waiting client is then handed over. */
static cJSON *upgrade(struct service *service, struct control_request *request)
{
    const struct upgrade *upgrade = &service->upgrade;
    struct error err = {0};

    if (request->former[0] != '\0')
        return service->phase == PHASE_RUNNING ? finish_upgrade(service, request)
                                               : control_refuse("%s", service_ending(service));
    if (!request->begun && service_upgrade(service, &err) < 0)
        return refuse_upgrade(err.text);
    request->begun = true;
    if (upgrade->state == UPGRADE_REFUSED)
        return refuse_upgrade(buf_text(&service->upgrade.refusal));
    if (service->phase == PHASE_RUNNING)
        return NULL;
    if (!service->upgrading)
        return refuse_upgrade(service_ending(service));
    return request->wait ? NULL : answer_upgrade(MQTT_BRIDGE_VERSION, upgrade->version);
}

/* Returns the refusal of a request for another bridge, else NULL. */
static cJSON *refuse_other_bridge(const struct service *service, const char *bridge)
{
    const char *state_dir = service->settings->supervisor.state_dir;
    struct stat meant;
    struct stat own;

    if (bridge[0] == '\0' || stat(state_dir, &own) < 0 ||
        (stat(bridge, &meant) == 0 && meant.st_dev == own.st_dev && meant.st_ino == own.st_ino))
        return NULL;
    return control_refuse("the bridge that listens here is that of %s, not of %s", state_dir,
                          bridge);
}

cJSON *commands_answer(void *context, struct control_request *request)
{
    struct service *service = context;
    cJSON *refusal = request->begun ? NULL : refuse_other_bridge(service, request->bridge);

    if (refusal != NULL)
        return refusal;
    if (request->verb == CONTROL_STATUS)
        return answer_status(service);
    if (request->verb == CONTROL_HEALTH)
        return answer_health(service);
    if (request->verb == CONTROL_EVENTS)
        return answer_events(service);
    if (request->verb == CONTROL_STOP && request->target[0] == '\0')
        return stop_service(service, request);
    if (request->verb == CONTROL_UPGRADE)
        return upgrade(service, request);
    if (service->phase != PHASE_RUNNING && request->verb != CONTROL_LOG)
        return control_refuse("%s", service_ending(service));
    if (!request->begun)
        refusal = begin(service, request);
    if (refusal != NULL || request->verb == CONTROL_LOG || request->verb == CONTROL_SIGNAL)
        return refusal != NULL ? refusal : list_affected(service, request);
    return judge(service, request);
}
