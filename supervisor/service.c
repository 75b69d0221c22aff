#include "supervisor/service.h"

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/file.h"
#include "common/base/log.h"
#include "common/runtime/status.h"
#include "supervisor/roster.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

static void open_own_log(const struct service *service)
{
    const struct settings_log *log = &service->settings->log;
    struct log_options options = {
        .level = log->level, .format = log->format, .process = "supervisor"};

    options.fd = service->own_log_fd >= 0 ? service->own_log_fd : service->launch.log_fd;
    log_open(&options);
}

static void use_settings(struct service *service)
{
    service->launch.settings = service->settings;
    atomic_store(service->stats->log_level, (int)service->settings->log.level);
    service->launch.rules = (struct states_rules){
        .start_retries = service->settings->supervisor.start_retries,
        .stop_timeout_ms = service->settings->supervisor.stop_timeout_ms,
    };
    service->launch.hang_timeout_ms = service->settings->supervisor.hang_timeout_ms;
    open_own_log(service);
}

static void use_log(struct service *service, int fd)
{
    int own = files_open_own_log(&service->files, fd);

    log_reopen(own >= 0 ? own : fd);
    file_close(&service->own_log_fd);
    file_close(&service->launch.log_fd);
    service->own_log_fd = own;
    service->launch.log_fd = fd;
}

struct service_slot {
    char name[STATS_NAME_SIZE]; /* kept when the slot is free again; "": no process has had it */
    int number;
    bool taken;
};

/* Opens the slots. Returns -ERR_USAGE if [worker] count and the consumers need more slots than
 * there can be. */
static int open_slots(struct service *service, struct error *err)
{
    int64_t count = service->settings->worker.count;
    int64_t consumers = (int64_t)service->settings->consumers_len + 1 + SERVICE_SPARE_SLOTS;
    int64_t most = STATS_SLOTS_MAX - consumers - 2; /* beside the monitor and the supervisor */

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
    service->slots = xcalloc(slots, sizeof(*service->slots));
    service->slots[slots - 1].taken = true;
    struct stats_slot *own = &service->stats->slot[slots - 1];
    service->launch.own = own;
    snprintf(own->name, STATS_NAME_SIZE, "supervisor");
    own->number = 1;
    stats_set(own, STATS_PID, (uint64_t)getpid());
    stats_set(own, STATS_STARTED_US, (uint64_t)clock_wall_us());
    stats_beat(own);
    return 0;
}

/* Takes the best free slot: the predecessor's, else an unused one, else that of another process.
 * Returns false if all are taken. */
static bool take_slot(struct service *service, struct process *process)
{
    enum { PREDECESSORS, UNUSED, STRANGERS, NONE } found = NONE;
    char name[STATS_NAME_SIZE];

    snprintf(name, sizeof(name), "%.*s", STATS_NAME_SIZE - 1, process->name);
    for (size_t i = 0; i < service->stats->slots_len; i++) {
        const struct service_slot *slot = &service->slots[i];
        bool same = strcmp(slot->name, name) == 0 && slot->number == process->number;
        int rank = same ? PREDECESSORS : slot->name[0] == '\0' ? UNUSED : STRANGERS;

        if (rank < (int)found && !slot->taken) {
            found = rank;
            process->slot_index = i;
        }
    }
    if (found == NONE)
        return false;
    process->slot = &service->stats->slot[process->slot_index];
    if (found == STRANGERS)
        stats_clear(process->slot);
    struct service_slot *slot = &service->slots[process->slot_index];
    memcpy(slot->name, name, sizeof(name));
    slot->number = process->number;
    slot->taken = true;
    process_publish(process);
    process->sampled = status_done(process->slot);
    return true;
}

/* Frees the slot and removes its name, so that readers of the statistics don't report its process as missing. */
static void give_slot_back(struct service *service, const struct process *process)
{
    process->slot->name[0] = '\0';
    service->slots[process->slot_index].taken = false;
}

int service_open(struct service *service, const char *config, struct settings *settings,
                 int lock_fd, struct error *err)
{
    int result;

    *service = (struct service){.config = config,
                                .settings = settings,
                                .launch = {.stats_fd = -1,
                                           .log_fd = -1,
                                           .epoll_fd = epoll_create1(EPOLL_CLOEXEC),
                                           .resumed_ms = clock_monotonic_ms()},
                                .files = {.error_fd = -1, .lock_fd = -1},
                                .own_log_fd = -1,
                                .started_ms = clock_monotonic_ms(),
                                .signal_fd = -1};
    service->workers = settings->worker.count;
    service->ticked_ms = service->started_ms;
    if (service->launch.epoll_fd < 0)
        return error_system(err, "epoll");
    service->files.error_fd = files_open_own_log(&service->files, STDERR_FILENO);
    if ((result = files_locate_programs(&service->launch.bin_dir, err)) < 0 ||
        (result = files_become_user(settings, err)) < 0 ||
        (result = files_open(&service->files, settings, lock_fd, err)) < 0 ||
        (result = open_slots(service, err)) < 0 || (result = files_open_log(settings, err)) < 0)
        return result;
    use_log(service, result);
    use_settings(service);
    log_give_to(process_keep_line, &service->launch);
    return 0;
}

static void forget(struct service *service, size_t index)
{
    struct process *process = service->processes[index];

    give_slot_back(service, process);
    if (service->restarting == process)
        service->restarting = NULL;
    process_free(process);
    service->processes_len--;
    memmove(&service->processes[index], &service->processes[index + 1],
            (service->processes_len - index) * sizeof(struct process *));
}

void service_close(struct service *service)
{
    while (service->processes_len > 0)
        forget(service, service->processes_len - 1);
    free(service->processes);
    /* The socket's file is removed before the lock is released: a successor with the lock makes
     * the file anew. Clients that wait for the end are answered when both are free. */
    control_retire(service->control);
    files_close(&service->files);
    service->closed = true;
    control_check(service->control);
    control_close(service->control);
    log_give_to(NULL, NULL);
    upgrade_close(&service->upgrade);
    settings_free(service->settings);
    free(service->slots);
    stats_free(service->stats);
    free(service->launch.bin_dir);
    file_close(&service->launch.stats_fd);
    file_close(&service->launch.epoll_fd);
    file_close(&service->signal_fd);
}

static struct process *take(struct service *service, const struct roster_entry *entry)
{
    for (size_t i = 0; i < service->processes_len; i++) {
        struct process *process = service->processes[i];

        if (process != NULL && roster_is(entry, process)) {
            service->processes[i] = NULL;
            return process;
        }
    }
    return NULL;
}

static struct process *add(struct service *service, const struct roster_entry *entry)
{
    struct process *process =
        process_new(&service->launch, entry->kind, entry->name, entry->number);

    if (!take_slot(service, process)) {
        log_error(LOG_PLAIN, "%s not started: no slot for one more process; restart the service",
                  process->title);
        process_free(process);
        return NULL;
    }
    process->files = roster_files(service->settings, process->name);
    process->unwanted = true; /* so that it is started like one wanted again */
    return process;
}

static void want(struct process *process, bool wanted)
{
    if (wanted == process->unwanted)
        process_handle_event(process, wanted ? EVENT_START : EVENT_STOP);
    process->unwanted = !wanted;
}

void service_follow_roster(struct service *service)
{
    struct roster roster;
    size_t len = 0;

    stats_set(service->launch.own, STATS_WORKERS_WANTED, (uint64_t)service->workers);
    roster_plan(&roster, service->settings, service->workers);
    struct process **followed =
        xcalloc(roster.len + service->processes_len, sizeof(struct process *));
    for (size_t i = 0; i < roster.len; i++) {
        struct process *process = take(service, &roster.entries[i]);

        followed[len] = process != NULL ? process : add(service, &roster.entries[i]);
        len += followed[len] != NULL;
    }
    size_t wanted = len;
    for (size_t i = 0; i < service->processes_len; i++)
        if (service->processes[i] != NULL)
            followed[len++] = service->processes[i];
    free(service->processes);
    service->processes = followed;
    service->processes_len = len;
    for (size_t i = wanted; i < len; i++)
        want(followed[i], false);
    for (size_t i = 0; i < wanted; i++)
        want(followed[i], true);
    roster_free(&roster);
}

static const enum process_kind ENDING[] = {[PHASE_CONSUMERS] = PROCESS_CONSUMER,
                                           [PHASE_WORKERS] = PROCESS_WORKER,
                                           [PHASE_MONITOR] = PROCESS_MONITOR};

static void send_event(struct service *service, enum process_kind kind, enum states_event event)
{
    for (size_t i = 0; i < service->processes_len; i++)
        if (service->processes[i]->kind == kind)
            process_handle_event(service->processes[i], event);
}

static void announce_shutdown(struct service *service)
{
    for (size_t i = 0; i < service->processes_len; i++) {
        service->processes[i]->restart_pending = false;
        process_handle_event(service->processes[i], EVENT_SHUTDOWN);
    }
    service->restarting = NULL;
}

/* Shortens stops under way: a process that is already stopping gets no more time than the
 * others. */
static void shorten_stops(struct service *service)
{
    for (size_t i = 0; i < service->processes_len; i++) {
        struct states_lifecycle *lifecycle = &service->processes[i]->lifecycle;

        if (lifecycle->state == STATE_STOPPING)
            lifecycle->deadline_ms =
                clock_earlier_ms(lifecycle->deadline_ms, service->launch.rules.stop_by_ms);
    }
}

void service_stop(struct service *service, int exit_code)
{
    if (service->upgrading)
        log_notice(LOG_PLAIN, "Upgrade cancelled: the service is stopping");
    service->upgrading = false;
    if (service->phase != PHASE_RUNNING)
        return;
    log_info(LOG_PLAIN, "Stopping: the consumers first, then the workers, then the monitor");
    service->exit_code = exit_code;
    service->phase = PHASE_CONSUMERS;
    int64_t now = clock_monotonic_ms();
    service->workers_by_ms = now + service->launch.rules.stop_timeout_ms / 2;
    service->launch.rules.stop_by_ms = now + service->launch.rules.stop_timeout_ms;
    announce_shutdown(service);
    shorten_stops(service);
    send_event(service, PROCESS_CONSUMER, EVENT_STOP);
}

void service_quit(struct service *service)
{
    if (service->quitting)
        return;
    log_notice(LOG_PLAIN, "Stopping at once: every process is killed");
    service->quitting = true;
    service->upgrading = false;
    service->phase = PHASE_MONITOR;
    announce_shutdown(service);
    for (size_t i = 0; i < service->processes_len; i++)
        process_signal(service->processes[i], SIGKILL);
}

int service_upgrade(struct service *service, struct error *err)
{
    if (service->upgrade.state == UPGRADE_CHECKING || service->upgrading)
        return error_set(err, ERR_USAGE, "an upgrade is under way");
    if (service->phase != PHASE_RUNNING)
        return error_set(err, ERR_USAGE, "the service is stopping");
    int result = upgrade_begin(&service->upgrade, service->launch.bin_dir, service->arguments,
                               clock_monotonic_ms(), err);
    if (result == 0)
        log_info(LOG_WITH(log_text("program", service->upgrade.program)),
                 "Upgrade: the new program checks whether it can take over");
    return result;
}

static void advance_upgrade(struct service *service)
{
    const struct upgrade *upgrade = &service->upgrade;

    if (service->phase != PHASE_RUNNING || upgrade->state != UPGRADE_PASSED)
        return;
    log_notice(LOG_PLAIN, "Upgrade to %s from " MQTT_BRIDGE_VERSION ": the processes end before it",
               upgrade->version);
    service_stop(service, 0);
    service->upgrading = true;
}

int service_scale(struct service *service, int64_t workers, struct error *err)
{
    if (workers < 0 || workers > service->workers_max)
        return error_set(err, ERR_USAGE, "%lld workers: must be from 0 to %lld", (long long)workers,
                         (long long)service->workers_max);
    if (service->phase != PHASE_RUNNING || workers == service->workers)
        return 0;
    log_info(LOG_PLAIN, "Scaling to %lld workers from %lld", (long long)workers,
             (long long)service->workers);
    service->workers = workers;
    service_follow_roster(service);
    return 0;
}

void service_restart(struct service *service, struct process *process)
{
    if (process->kind == PROCESS_WORKER && process->lifecycle.state == STATE_RUNNING) {
        process->restart_pending = true;
        service->restart_failure[0] = '\0';
    } else {
        process_handle_event(process, EVENT_RESTART);
    }
}

void service_restart_workers(struct service *service)
{
    if (service->phase != PHASE_RUNNING)
        return;
    log_info(LOG_PLAIN, "Rolling restart: the workers are replaced one by one");
    for (size_t i = 0; i < service->processes_len; i++)
        if (service->processes[i]->kind == PROCESS_WORKER)
            service_restart(service, service->processes[i]);
}

static bool reopen_log(struct service *service)
{
    struct error err = {0};
    int fd = files_open_log(service->settings, &err);

    if (fd < 0)
        log_error(LOG_PLAIN, "Log not reopened: %s; lines go on to the former file", err.text);
    else
        use_log(service, fd);
    return fd >= 0;
}

void service_reopen_logs(struct service *service)
{
    if (!reopen_log(service))
        return;
    log_info(LOG_PLAIN, "Log reopened");
    for (size_t i = 0; i < service->processes_len; i++)
        process_signal(service->processes[i], SIGUSR1);
}

static void forget_unwanted(struct service *service)
{
    for (size_t i = service->processes_len; i-- > 0;) {
        const struct process *process = service->processes[i];

        if (process->unwanted && !states_alive(&process->lifecycle))
            forget(service, i);
    }
}

static void fail_rolling_restart(struct service *service)
{
    const struct process *process = service->restarting;
    char output[100];
    struct buf left = {0};

    bytes_to_printable(bytes_of(process->output.last_line), output, sizeof(output));
    for (size_t i = 0; i < service->processes_len; i++) {
        if (service->processes[i]->restart_pending)
            buf_printf(&left, "%s %s", left.len == 0 ? "; not restarted:" : "",
                       service->processes[i]->title);
        service->processes[i]->restart_pending = false;
    }
    snprintf(service->restart_failure, sizeof(service->restart_failure),
             "%s does not come back (%s%s%s)", process->title, process->cause,
             output[0] != '\0' ? ": " : "", output);
    log_error(LOG_PLAIN, "Rolling restart given up: %s%s", service->restart_failure,
              buf_text(&left));
    service->restarting = NULL;
    buf_free(&left);
}

/* Ends the step of a rolling restart if the worker is ready again, or can't become ready. */
static void finish_restart_step(struct service *service)
{
    const struct states_lifecycle *lifecycle = &service->restarting->lifecycle;
    bool waits = lifecycle->state == STATE_STARTING &&
                 clock_monotonic_ms() - lifecycle->started_ms < SERVICE_RESTART_TIMEOUT_MS;

    if (lifecycle->state == STATE_BACKOFF || lifecycle->state == STATE_FATAL)
        fail_rolling_restart(service);
    else if (lifecycle->state != STATE_STOPPING && !waits)
        service->restarting = NULL;
}

static void advance_rolling_restart(struct service *service)
{
    if (service->restarting != NULL)
        finish_restart_step(service);
    for (size_t i = 0; i < service->processes_len && service->restarting == NULL; i++) {
        struct process *process = service->processes[i];

        if (!process->restart_pending)
            continue;
        process->restart_pending = false;
        if (process->lifecycle.state == STATE_RUNNING) {
            service->restarting = process;
            process_handle_event(process, EVENT_RESTART);
        }
    }
}

#define ANY (-1)

static bool is_alive(const struct service *service, int kind)
{
    bool alive = false;

    for (size_t i = 0; i < service->processes_len && !alive; i++)
        alive = (kind == ANY || (int)service->processes[i]->kind == kind) &&
                states_alive(&service->processes[i]->lifecycle);
    return alive;
}

static bool is_phase_over(const struct service *service)
{
    return !is_alive(service, (int)ENDING[service->phase]) ||
           (service->phase == PHASE_CONSUMERS && service->workers_by_ms <= clock_monotonic_ms());
}

static void advance_shutdown(struct service *service)
{
    while (service->phase < PHASE_MONITOR && is_phase_over(service)) {
        service->phase++;
        send_event(service, ENDING[service->phase], EVENT_STOP);
    }
    if (service->phase == PHASE_MONITOR && !is_alive(service, ANY))
        service->phase = PHASE_ENDED;
}

static void log_when_all_run(struct service *service)
{
    size_t running = 0;
    int64_t now = clock_monotonic_ms();

    for (size_t i = 0; i < service->processes_len; i++)
        running += service->processes[i]->lifecycle.state == STATE_RUNNING;
    bool all = running == service->processes_len;
    if (all && !service->all_running)
        log_info(LOG_WITH(log_number("processes", (int64_t)running),
                          log_number("up_ms", now - service->started_ms)),
                 "All processes run");
    service->all_running = all;
}

/* Applies [supervisor] on_fatal = exit; service_publish applies `unready`. */
static void handle_fatal(struct service *service)
{
    bool exits = service->settings->supervisor.on_fatal == ON_FATAL_EXIT;

    for (size_t i = 0; i < service->processes_len; i++) {
        struct process *process = service->processes[i];

        if (exits && process->became_fatal && service->phase == PHASE_RUNNING) {
            log_critical(LOG_PLAIN, "%s was given up and on_fatal is exit: the service ends",
                         process->title);
            service_stop(service, process->exit_code != 0 ? process->exit_code : 1);
        }
        process->became_fatal = false;
    }
}

const char *service_ending(const struct service *service)
{
    return service->upgrading ? "the service is being upgraded" : "the service is stopping";
}

void service_publish(const struct service *service)
{
    bool unready = service->settings->supervisor.on_fatal == ON_FATAL_UNREADY;
    char text[STATS_REASON_SIZE] = "";
    char reason[STATS_REASON_SIZE];

    for (size_t i = 0; i < service->processes_len; i++) {
        const struct process *process = service->processes[i];

        process_publish(process);
        if (process->lifecycle.state != STATE_FATAL || !unready)
            continue;
        process_reason(process, reason);
        snprintf(text, sizeof(text), "%s was given up: %s", process->title, reason);
    }
    if (service->phase != PHASE_RUNNING)
        snprintf(text, sizeof(text), "%s", service_ending(service));
    stats_reason(service->launch.own, text);
}

void service_advance(struct service *service)
{
    handle_fatal(service);
    forget_unwanted(service);
    advance_upgrade(service);
    if (service->phase == PHASE_RUNNING) {
        advance_rolling_restart(service);
        log_when_all_run(service);
    } else {
        advance_shutdown(service);
    }
    service_publish(service);
}

static void log_faults(const struct buf *faults)
{
    struct bytes rest = buf_bytes(faults);
    struct bytes line;

    log_error(LOG_PLAIN, "Settings not reloaded, nothing has changed; their faults follow");
    while (rest.len > 0) {
        bytes_split(rest, '\n', &line, &rest);
        if (line.len > 0)
            log_error(LOG_PLAIN, "%.*s", BYTES_ARG(line));
    }
}

static void keep(const char *key, char **fresh, char *const *present)
{
    if (strcmp(*fresh, *present) == 0)
        return;
    log_warning(LOG_PLAIN, "[supervisor] %s: takes effect at the next start of the service", key);
    free(*fresh);
    *fresh = xstrdup(*present);
}

static void keep_fixed_settings(struct settings *fresh, const struct settings *present)
{
    keep("state_dir", &fresh->supervisor.state_dir, &present->supervisor.state_dir);
    keep("socket", &fresh->supervisor.socket, &present->supervisor.socket);
    keep("pid_file", &fresh->supervisor.pid_file, &present->supervisor.pid_file);
    keep("user", &fresh->supervisor.user, &present->supervisor.user);
}

static void adopt_worker_count(struct service *service, const struct settings *fresh)
{
    int64_t count = fresh->worker.count;

    if (count == service->settings->worker.count)
        return;
    if (count > service->workers_max) {
        log_error(
            LOG_PLAIN,
            "[worker] count: %lld takes effect at the next start of the service; %lld until then",
            (long long)count, (long long)service->workers_max);
        count = service->workers_max;
    }
    service->workers = count;
}

/* Marks processes that exist; new ones start with the new settings. A process stays marked until it is
 * started, so a reload takes up what an earlier rolling restart has left undone. */
static void mark_affected(const struct service *service, const struct settings *before)
{
    for (size_t i = 0; i < service->processes_len; i++) {
        struct process *process = service->processes[i];
        uint32_t files = roster_files(service->settings, process->name);

        if (files != process->files || roster_is_affected(before, service->settings, process->name))
            process->affected = true;
        process->files = files;
    }
}

static int restart_affected(struct service *service)
{
    int restarted = 0;

    for (size_t i = 0; i < service->processes_len; i++) {
        struct process *process = service->processes[i];

        if (process->unwanted || (!process->affected && process->lifecycle.state != STATE_FATAL))
            continue;
        /* The next start of such a process has the new settings without a restart. */
        if (process->lifecycle.state == STATE_STOPPED || process->lifecycle.state == STATE_STOPPING)
            continue;
        service_restart(service, process);
        restarted++;
    }
    return restarted;
}

int service_reload(struct service *service, struct buf *faults)
{
    struct settings *fresh = NULL;

    if (settings_load(&fresh, service->config, true, faults) < 0) {
        if (service->config != NULL && access(service->config, R_OK) < 0 && errno == EACCES)
            buf_printf(faults, "%s: let a group of the bridge's user (%u) read it, or restart it\n",
                       service->config, (unsigned)geteuid());
        log_faults(faults);
        return -ERR_USAGE;
    }
    struct settings *before = service->settings;
    keep_fixed_settings(fresh, before);
    adopt_worker_count(service, fresh);
    service->settings = fresh;
    if (strcmp(before->log.file, fresh->log.file) != 0)
        reopen_log(service);
    use_settings(service);

    mark_affected(service, before);
    service_follow_roster(service);
    int restarted = restart_affected(service);
    settings_free(before);
    log_info(LOG_WITH(log_number("restarted", restarted)), "Settings reloaded");
    settings_log_notices(service->settings);
    return restarted;
}
