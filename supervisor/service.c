#include "supervisor/service.h"

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "supervisor/events.h"
#include "supervisor/roster.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

static void open_own_log(const struct service *service)
{
    const struct settings_log *log = &service->settings->log;
    struct log_options options = {.level = LOG_LEVEL_INFO, .process = "supervisor"};

    log_level_parse(bytes_of(log->level), &options.level);
    options.format = strcmp(log->format, "json") == 0 ? LOG_FORMAT_JSON : LOG_FORMAT_LINE;
    options.fd = service->own_log_fd >= 0 ? service->own_log_fd : service->launch.log_fd;
    log_open(&options);
}

void service_use_settings(struct service *service)
{
    buf_clear(&service->packed);
    settings_pack(service->settings, &service->packed);
    service->launch.settings = buf_bytes(&service->packed);
    service->rules = (struct states_rules){
        .start_retries = service->settings->supervisor.start_retries,
        .stop_timeout_ms = service->settings->supervisor.stop_timeout_ms,
    };
    open_own_log(service);
}

void service_use_log(struct service *service, int fd)
{
    int own = place_own_log(fd);

    log_reopen(own >= 0 ? own : fd);
    if (service->own_log_fd >= 0)
        close(service->own_log_fd);
    if (service->launch.log_fd >= 0)
        close(service->launch.log_fd);
    service->own_log_fd = own;
    service->launch.log_fd = fd;
}

static int open_stats(struct service *service, struct error *err)
{
    int64_t count = service->settings->worker.count;
    int64_t consumers = (int64_t)service->settings->consumers_len + 1 + SERVICE_SPARE_SLOTS;
    int64_t most = STATS_SLOTS_MAX - consumers - 2;

    service->workers_max = count > SERVICE_WORKERS_MAX ? count : SERVICE_WORKERS_MAX;
    if (service->workers_max > most)
        service->workers_max = most > 0 ? most : 0;
    if (count > service->workers_max)
        return error_set(err, ERR_USAGE,
                         "[worker] count: %lld with %zu consumers are more processes than %d",
                         (long long)count, service->settings->consumers_len + 1, STATS_SLOTS_MAX);
    size_t slots = (size_t)(consumers + service->workers_max + 2);
    int result = stats_create(&service->stats, slots, &service->launch.stats_fd, err);
    if (result < 0)
        return result;
    service->slot_owners = xcalloc(slots, sizeof(*service->slot_owners));
    service->own = &service->stats->slot[slots - 1];
    snprintf(service->own->name, STATS_NAME_SIZE, "supervisor");
    service->own->number = 1;
    stats_beat(service->own);
    return 0;
}

int service_open(struct service *service, const char *config, struct settings *settings,
                 struct error *err)
{
    int result;

    *service = (struct service){.config = config,
                                .settings = settings,
                                .launch = {.stats_fd = -1, .log_fd = -1},
                                .place = {.lock_fd = -1},
                                .own_log_fd = -1,
                                .started_ms = clock_monotonic_ms(),
                                .epoll_fd = epoll_create1(EPOLL_CLOEXEC),
                                .signal_fd = -1};
    service->workers = settings->worker.count;
    service->resumed_ms = service->started_ms;
    service->ticked_ms = service->started_ms;
    if (service->epoll_fd < 0)
        return error_system(err, "epoll");
    if ((result = place_programs(&service->launch.bin_dir, err)) < 0 ||
        (result = place_user(&service->launch, settings->supervisor.user, err)) < 0 ||
        (result = place_take(&service->place, settings, &service->launch, err)) < 0 ||
        (result = open_stats(service, err)) < 0 ||
        (result = place_open_log(settings, &service->launch, err)) < 0)
        return result;
    service_use_log(service, result);
    service_use_settings(service);
    return 0;
}

void service_forget(struct service *service, size_t index)
{
    struct process *process = service->processes[index];

    /* Whoever reads the statistics must not miss it. */
    process->slot->name[0] = '\0';
    if (service->rolling == process)
        service->rolling = NULL;
    process_free(process);
    service->processes_len--;
    memmove(&service->processes[index], &service->processes[index + 1],
            (service->processes_len - index) * sizeof(struct process *));
}

void service_close(struct service *service)
{
    while (service->processes_len > 0)
        service_forget(service, service->processes_len - 1);
    free(service->processes);
    /* First the socket's file, which a successor may make anew once it has the lock; then the lock; then
     * whoever waits for our end may know. */
    control_retire(service->control);
    place_leave(&service->place);
    control_close(service->control);
    settings_free(service->settings);
    buf_free(&service->packed);
    free(service->slot_owners);
    free(service->launch.bin_dir);
    if (service->epoll_fd >= 0)
        close(service->epoll_fd);
    if (service->signal_fd >= 0)
        close(service->signal_fd);
    if (service->launch.stats_fd >= 0)
        close(service->launch.stats_fd);
}

static bool slot_in_use(const struct service *service, const struct stats_slot *slot)
{
    for (size_t i = 0; i < service->processes_len; i++)
        if (service->processes[i]->slot == slot)
            return true;
    return slot == service->own;
}

/* A process gets the slot that its predecessor had, so that totals go on; else one that nobody had; else
 * that of a process that no longer exists. */
static bool assign_slot(struct service *service, struct process *process)
{
    enum { PREDECESSORS, UNUSED, STRANGERS, NONE } found = NONE;
    char name[STATS_NAME_SIZE];

    snprintf(name, sizeof(name), "%.*s", STATS_NAME_SIZE - 1, process->name);
    for (size_t i = 0; i < service->stats->slots_len; i++) {
        struct stats_slot *slot = &service->stats->slot[i];
        const char *owner = service->slot_owners[i];
        bool same = strcmp(owner, name) == 0 && (int)slot->number == process->number;
        int rank = same ? PREDECESSORS : owner[0] == '\0' ? UNUSED : STRANGERS;

        if (rank < (int)found && !slot_in_use(service, slot)) {
            found = rank;
            process->slot_index = i;
        }
    }
    if (found == NONE)
        return false;
    process->slot = &service->stats->slot[process->slot_index];
    if (found == STRANGERS)
        memset(process->slot, 0, sizeof(*process->slot));
    process->slot->number = (uint32_t)process->number;
    memcpy(process->slot->name, name, sizeof(name));
    memcpy(service->slot_owners[process->slot_index], name, sizeof(name));
    process->sampled = process_done(process);
    return true;
}

static struct process *find(const struct service *service, const struct roster_place *place)
{
    int number = place->number > 0 ? place->number : 1;

    for (size_t i = 0; i < service->processes_len; i++) {
        struct process *process = service->processes[i];
        if (process->kind == place->kind && process->number == number &&
            strcmp(process->name, place->name) == 0)
            return process;
    }
    return NULL;
}

static int by_rank(const void *left, const void *right)
{
    const struct process *a = *(struct process *const *)left;
    const struct process *b = *(struct process *const *)right;

    if (a->kind != b->kind)
        return (int)a->kind - (int)b->kind;
    if (a->number != b->number)
        return a->number - b->number;
    return strcmp(a->name, b->name);
}

static void add(struct service *service, const struct roster_place *place)
{
    struct process *process = process_new(place->kind, place->name, place->number);

    if (!assign_slot(service, process)) {
        log_error(LOG_PLAIN, "%s: no room for one more process; restart the service",
                  process->title);
        process_free(process);
        return;
    }
    service->processes =
        xrealloc(service->processes, (service->processes_len + 1) * sizeof(struct process *));
    service->processes[service->processes_len++] = process;
    events_raise(service, process, EVENT_START);
}

void service_follow_roster(struct service *service)
{
    struct roster roster;

    stats_set(service->own, STATS_WORKERS_WANTED, (uint64_t)service->workers);
    roster_plan(&roster, service->settings, service->workers);
    for (size_t i = 0; i < service->processes_len; i++) {
        struct process *process = service->processes[i];
        bool wanted = roster_has(&roster, process);

        if (!wanted && !process->unwanted)
            events_raise(service, process, EVENT_STOP);
        else if (wanted && process->unwanted)
            events_raise(service, process, EVENT_START);
        process->unwanted = !wanted;
    }
    for (size_t i = 0; i < roster.len; i++)
        if (find(service, &roster.places[i]) == NULL)
            add(service, &roster.places[i]);
    roster_free(&roster);
    qsort(service->processes, service->processes_len, sizeof(struct process *), by_rank);
}
