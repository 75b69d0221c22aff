#include "supervisor/service.h"

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "supervisor/account.h"
#include "supervisor/roster.h"

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
    atomic_store(service->statistics.stats->log_level, (int)service->settings->log.level);
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
    if (service->own_log_fd >= 0)
        close(service->own_log_fd);
    if (service->launch.log_fd >= 0)
        close(service->launch.log_fd);
    service->own_log_fd = own;
    service->launch.log_fd = fd;
}

int service_open(struct service *service, const char *config, struct settings *settings,
                 struct error *err)
{
    int result;

    *service = (struct service){
        .config = config,
        .settings = settings,
        .launch = {.stats_fd = -1, .log_fd = -1, .epoll_fd = epoll_create1(EPOLL_CLOEXEC)},
        .files = {.error_fd = -1, .lock_fd = -1},
        .own_log_fd = -1,
        .statistics = {.fd = -1},
        .started_ms = clock_monotonic_ms(),
        .signal_fd = -1};
    service->launch.history = &service->history;
    service->workers = settings->worker.count;
    service->resumed_ms = service->started_ms;
    service->ticked_ms = service->started_ms;
    if (service->launch.epoll_fd < 0)
        return error_system(err, "epoll");
    service->files.error_fd = files_open_own_log(&service->files, STDERR_FILENO);
    if ((result = files_locate_programs(&service->launch.bin_dir, err)) < 0 ||
        (result = account_become(settings, err)) < 0 ||
        (result = files_open(&service->files, settings, err)) < 0 ||
        (result = statistics_open(&service->statistics, settings, err)) < 0 ||
        (result = files_open_log(settings, err)) < 0)
        return result;
    service->launch.stats_fd = service->statistics.fd;
    use_log(service, result);
    use_settings(service);
    return 0;
}

static void forget(struct service *service, size_t index)
{
    struct process *process = service->processes[index];

    statistics_release(&service->statistics, process);
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
    /* The socket's file goes before the lock: a successor that has the lock makes the file anew. Clients
     * that wait for the end learn of it when both are free. */
    control_retire(service->control);
    files_close(&service->files);
    control_close(service->control);
    settings_free(service->settings);
    statistics_close(&service->statistics);
    free(service->launch.bin_dir);
    if (service->launch.epoll_fd >= 0)
        close(service->launch.epoll_fd);
    if (service->signal_fd >= 0)
        close(service->signal_fd);
}

static struct process *find(const struct service *service, const struct roster_entry *entry)
{
    int number = entry->number > 0 ? entry->number : 1;

    for (size_t i = 0; i < service->processes_len; i++) {
        struct process *process = service->processes[i];

        if (process->kind == entry->kind && process->number == number &&
            strcmp(process->name, entry->name) == 0)
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

static void add(struct service *service, const struct roster_entry *entry)
{
    struct process *process = process_new(entry->kind, entry->name, entry->number);

    if (!statistics_assign(&service->statistics, process)) {
        log_error(LOG_PLAIN, "%s not started: no slot for one more process; restart the service",
                  process->title);
        process_free(process);
        return;
    }
    service->processes =
        xrealloc(service->processes, (service->processes_len + 1) * sizeof(struct process *));
    service->processes[service->processes_len++] = process;
    process->files = roster_files(service->settings, process->name);
    process_handle_event(process, &service->launch, EVENT_START);
}

void service_follow_roster(struct service *service)
{
    struct roster roster;

    stats_set(service->statistics.own, STATS_WORKERS_WANTED, (uint64_t)service->workers);
    roster_plan(&roster, service->settings, service->workers);
    for (size_t i = 0; i < service->processes_len; i++) {
        struct process *process = service->processes[i];
        bool wanted = roster_has(&roster, process);

        if (!wanted && !process->unwanted)
            process_handle_event(process, &service->launch, EVENT_STOP);
        else if (wanted && process->unwanted)
            process_handle_event(process, &service->launch, EVENT_START);
        process->unwanted = !wanted;
    }
    for (size_t i = 0; i < roster.len; i++)
        if (find(service, &roster.entries[i]) == NULL)
            add(service, &roster.entries[i]);
    roster_free(&roster);
    qsort(service->processes, service->processes_len, sizeof(struct process *), by_rank);
}

static enum process_kind kind_of(enum phase phase)
{
    switch (phase) {
    case PHASE_WORKERS:
        return PROCESS_WORKER;
    case PHASE_MONITOR:
        return PROCESS_MONITOR;
    case PHASE_RUNNING:
    case PHASE_CONSUMERS:
    case PHASE_ENDED:
        break;
    }
    return PROCESS_CONSUMER;
}

static void send_event(struct service *service, enum process_kind kind, enum event event)
{
    for (size_t i = 0; i < service->processes_len; i++)
        if (service->processes[i]->kind == kind)
            process_handle_event(service->processes[i], &service->launch, event);
}

static void announce_shutdown(struct service *service)
{
    for (size_t i = 0; i < service->processes_len; i++) {
        service->processes[i]->restart_pending = false;
        process_handle_event(service->processes[i], &service->launch, EVENT_SHUTDOWN);
    }
    service->restarting = NULL;
}

/* Who was being stopped already has no longer than the rest. */
static void shorten_stops(struct service *service)
{
    for (size_t i = 0; i < service->processes_len; i++) {
        struct lifecycle *lifecycle = &service->processes[i]->lifecycle;

        if (lifecycle->state == STATE_STOPPING)
            lifecycle->deadline_ms =
                clock_earlier_ms(lifecycle->deadline_ms, service->launch.rules.stop_by_ms);
    }
}

void service_stop(struct service *service, int exit_code)
{
    if (service->phase != PHASE_RUNNING)
        return;
    history_add(&service->history, "the service is stopping");
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
    service->phase = PHASE_MONITOR;
    announce_shutdown(service);
    for (size_t i = 0; i < service->processes_len; i++)
        process_signal(service->processes[i], SIGKILL);
}

int service_scale(struct service *service, int64_t workers, struct error *err)
{
    if (workers < 0 || workers > service->statistics.workers_max)
        return error_set(err, ERR_USAGE, "%lld workers: must be from 0 to %lld", (long long)workers,
                         (long long)service->statistics.workers_max);
    if (service->phase != PHASE_RUNNING || workers == service->workers)
        return 0;
    log_info(LOG_PLAIN, "Scaling to %lld workers from %lld", (long long)workers,
             (long long)service->workers);
    history_add(&service->history, "scaled to %lld workers from %lld", (long long)workers,
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
        process_handle_event(process, &service->launch, EVENT_RESTART);
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

void service_reopen_logs(struct service *service)
{
    struct error err = {0};
    int fd = files_open_log(service->settings, &err);

    if (fd < 0) {
        log_error(LOG_PLAIN, "Log not reopened: %s", err.text);
        return;
    }
    use_log(service, fd);
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
    history_add(&service->history, "rolling restart given up: %s", service->restart_failure);
    log_error(LOG_PLAIN, "Rolling restart given up: %s%s", service->restart_failure,
              buf_text(&left));
    service->restarting = NULL;
    buf_free(&left);
}

/* Ends the present step where the worker has come back, or where waiting for it makes no sense. */
static void finish_restart_step(struct service *service)
{
    const struct lifecycle *lifecycle = &service->restarting->lifecycle;
    int64_t lived = clock_monotonic_ms() - lifecycle->started_ms;

    switch (lifecycle->state) {
    case STATE_RUNNING:
        service->restarting = NULL;
        break;
    case STATE_STARTING:
        if (lived >= SERVICE_RESTART_TIMEOUT_MS)
            service->restarting = NULL;
        break;
    case STATE_STOPPING:
        break;
    case STATE_BACKOFF:
    case STATE_FATAL:
        fail_rolling_restart(service);
        break;
    case STATE_STOPPED:
    case STATE_EXITED:
    case STATES_LEN:
        service->restarting = NULL;
        break;
    }
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
            process_handle_event(process, &service->launch, EVENT_RESTART);
        }
    }
}

static bool any_alive(const struct service *service, enum process_kind kind)
{
    for (size_t i = 0; i < service->processes_len; i++)
        if (service->processes[i]->kind == kind && states_alive(&service->processes[i]->lifecycle))
            return true;
    return false;
}

static bool is_anybody_alive(const struct service *service)
{
    return any_alive(service, PROCESS_CONSUMER) || any_alive(service, PROCESS_WORKER) ||
           any_alive(service, PROCESS_MONITOR);
}

static bool is_phase_over(const struct service *service)
{
    return !any_alive(service, kind_of(service->phase)) ||
           (service->phase == PHASE_CONSUMERS && service->workers_by_ms <= clock_monotonic_ms());
}

static void advance_shutdown(struct service *service)
{
    while (service->phase < PHASE_MONITOR && is_phase_over(service)) {
        service->phase++;
        send_event(service, kind_of(service->phase), EVENT_STOP);
    }
    if (service->phase == PHASE_MONITOR && !is_anybody_alive(service))
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

/* [supervisor] on_fatal = exit; service_write_reasons does `unready`. */
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

void service_advance(struct service *service)
{
    handle_fatal(service);
    forget_unwanted(service);
    if (service->phase == PHASE_RUNNING) {
        advance_rolling_restart(service);
        log_when_all_run(service);
    } else {
        advance_shutdown(service);
    }
}

void service_write_reasons(const struct service *service)
{
    bool unready = service->settings->supervisor.on_fatal == ON_FATAL_UNREADY;
    char text[STATS_REASON_SIZE] = "";
    char reason[STATS_REASON_SIZE];

    for (size_t i = 0; i < service->processes_len; i++) {
        const struct process *process = service->processes[i];

        stats_set(process->slot, STATS_UNWANTED, process->unwanted);
        statistics_write_reason(process);
        if (process->lifecycle.state != STATE_FATAL || !unready)
            continue;
        statistics_read_reason(process, reason);
        snprintf(text, sizeof(text), "%s was given up: %s", process->title, reason);
    }
    if (service->phase != PHASE_RUNNING)
        snprintf(text, sizeof(text), "the service is stopping");
    stats_reason(service->statistics.own, text);
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
    if (count > service->statistics.workers_max) {
        log_error(
            LOG_PLAIN,
            "[worker] count: %lld takes effect at the next start of the service; %lld until then",
            (long long)count, (long long)service->statistics.workers_max);
        count = service->statistics.workers_max;
    }
    service->workers = count;
}

static void reopen_log_if_moved(struct service *service, const struct settings *before)
{
    struct error err = {0};

    if (strcmp(before->log.file, service->settings->log.file) == 0)
        return;
    int fd = files_open_log(service->settings, &err);
    if (fd < 0) {
        log_error(LOG_PLAIN, "%s; the log stays where it was", err.text);
        return;
    }
    use_log(service, fd);
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
        /* Its next start has the new settings without a restart. */
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
        log_faults(faults);
        return -ERR_USAGE;
    }
    struct settings *before = service->settings;
    keep_fixed_settings(fresh, before);
    adopt_worker_count(service, fresh);
    service->settings = fresh;
    reopen_log_if_moved(service, before);
    use_settings(service);

    mark_affected(service, before);
    service_follow_roster(service);
    int restarted = restart_affected(service);
    settings_free(before);
    history_add(&service->history, "settings reloaded, restarted: %d", restarted);
    log_info(LOG_WITH(log_number("restarted", restarted)), "Settings reloaded");
    settings_log_notices(service->settings);
    return restarted;
}
