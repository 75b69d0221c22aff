#include "supervisor/commands.h"

#include "common/base/log.h"
#include "supervisor/events.h"
#include "supervisor/orders.h"
#include "supervisor/reload.h"
#include "supervisor/status.h"

#include <string.h>

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
static bool is_meant(const struct service *service, const struct process *process,
                     const char *target)
{
    if (process->unwanted)
        return false;
    for (size_t i = 0; i < service->processes_len && target[0] != '\0'; i++)
        if (has_title(service->processes[i], target))
            return has_title(process, target);
    return target[0] == '\0' || process_matches(process, target);
}

static void refuse_unknown_target(const struct service *service, cJSON *reply, const char *target)
{
    struct buf text = {0};

    buf_printf(&text, "there is no process \"%s\"; there are:", target);
    for (size_t i = 0; i < service->processes_len; i++)
        if (!service->processes[i]->unwanted)
            buf_printf(&text, " %s", service->processes[i]->title);
    refuse(reply, buf_text(&text));
    buf_free(&text);
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

static void wish(struct service *service, struct process *process, enum control_verb verb)
{
    if (verb == CONTROL_START)
        events_raise(service, process, EVENT_START);
    else if (verb == CONTROL_STOP)
        events_raise(service, process, EVENT_STOP);
    else
        orders_restart(service, process);
}

static void wish_for_processes(struct service *service, const struct control_request *request,
                               cJSON *reply)
{
    cJSON *list = cJSON_CreateArray();

    add_meant(service, request, list);
    if (cJSON_GetArraySize(list) == 0) {
        cJSON_Delete(list);
        refuse_unknown_target(service, reply, request->target);
        return;
    }
    for (size_t i = 0; i < service->processes_len; i++)
        if (is_meant(service, service->processes[i], request->target))
            wish(service, service->processes[i], request->verb);
    cJSON_AddBoolToObject(reply, "ok", true);
    cJSON_AddItemToObject(reply, "processes", list);
    cJSON_AddNumberToObject(reply, "stop_timeout_ms", (double)service->rules.stop_timeout_ms);
}

static void scale(struct service *service, const struct control_request *request, cJSON *reply)
{
    struct error err = {0};

    if (orders_scale(service, request->count, &err) < 0) {
        refuse(reply, err.text);
        return;
    }
    cJSON_AddBoolToObject(reply, "ok", true);
    cJSON_AddNumberToObject(reply, "workers", (double)service->workers);
    cJSON_AddNumberToObject(reply, "stop_timeout_ms", (double)service->rules.stop_timeout_ms);
}

static void reload(struct service *service, cJSON *reply)
{
    struct buf faults = {0};
    int restarted = reload_settings(service, &faults);

    if (restarted < 0)
        refuse(reply, buf_text(&faults));
    else
        cJSON_AddBoolToObject(reply, "ok", true);
    if (restarted >= 0)
        cJSON_AddNumberToObject(reply, "restarted", restarted);
    buf_free(&faults);
}

/* Returns whether the connection stays open until the service has ended. */
static bool carry_out(struct service *service, const struct control_request *request, cJSON *reply)
{
    switch (request->verb) {
    case CONTROL_STATUS:
        cJSON_AddBoolToObject(reply, "ok", true);
        status_report(service, reply);
        return false;
    case CONTROL_HEALTH:
        cJSON_AddBoolToObject(reply, "ok", true);
        status_health(service, reply);
        return false;
    case CONTROL_STOP:
        if (request->target[0] != '\0')
            break;
        orders_stop(service, 0);
        cJSON_AddBoolToObject(reply, "ok", true);
        cJSON_AddNumberToObject(reply, "pid", getpid());
        return true;
    case CONTROL_START:
    case CONTROL_RESTART:
    case CONTROL_SCALE:
    case CONTROL_RELOAD:
    case CONTROL_VERBS_LEN:
        break;
    }
    if (service->phase != PHASE_RUNNING)
        refuse(reply, "the service is stopping");
    else if (request->verb == CONTROL_SCALE)
        scale(service, request, reply);
    else if (request->verb == CONTROL_RELOAD)
        reload(service, reply);
    else
        wish_for_processes(service, request, reply);
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
