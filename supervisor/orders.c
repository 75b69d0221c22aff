#include "supervisor/orders.h"

#include "common/base/clock.h"
#include "common/base/log.h"
#include "supervisor/events.h"

#include <signal.h>
#include <stdio.h>

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

static void raise_for_kind(struct service *service, enum process_kind kind, enum event event)
{
    for (size_t i = 0; i < service->processes_len; i++)
        if (service->processes[i]->kind == kind)
            events_raise(service, service->processes[i], event);
}

static void let_all_be_the_last(struct service *service)
{
    for (size_t i = 0; i < service->processes_len; i++) {
        service->processes[i]->roll = false;
        events_raise(service, service->processes[i], EVENT_LAST);
    }
    service->rolling = NULL;
}

void orders_stop(struct service *service, int exit_code)
{
    if (service->phase != PHASE_RUNNING)
        return;
    log_info(LOG_PLAIN, "Stopping: the consumers first, then the workers, then the monitor");
    service->exit_code = exit_code;
    service->phase = PHASE_CONSUMERS;
    let_all_be_the_last(service);
    raise_for_kind(service, PROCESS_CONSUMER, EVENT_STOP);
}

void orders_quit(struct service *service)
{
    if (service->quitting)
        return;
    log_notice(LOG_PLAIN, "Stopping at once");
    service->quitting = true;
    service->phase = PHASE_MONITOR;
    let_all_be_the_last(service);
    for (size_t i = 0; i < service->processes_len; i++)
        process_signal(service->processes[i], SIGKILL);
}

int orders_scale(struct service *service, int64_t workers, struct error *err)
{
    if (workers < 0 || workers > service->workers_max)
        return error_set(err, ERR_USAGE, "%lld workers: must be from 0 to %lld", (long long)workers,
                         (long long)service->workers_max);
    if (service->phase != PHASE_RUNNING || workers == service->workers)
        return 0;
    log_info(LOG_PLAIN, "Workers: %lld, were %lld", (long long)workers,
             (long long)service->workers);
    service->workers = workers;
    service_follow_roster(service);
    return 0;
}

void orders_restart(struct service *service, struct process *process)
{
    if (process->kind == PROCESS_WORKER && process->life.state == STATE_RUNNING) {
        process->roll = true;
        service->roll_failure[0] = '\0';
    } else {
        events_raise(service, process, EVENT_RESTART);
    }
}

void orders_restart_workers(struct service *service)
{
    if (service->phase != PHASE_RUNNING)
        return;
    log_info(LOG_PLAIN, "Rolling restart of the workers");
    for (size_t i = 0; i < service->processes_len; i++)
        if (service->processes[i]->kind == PROCESS_WORKER)
            orders_restart(service, service->processes[i]);
}

void orders_reopen_logs(struct service *service)
{
    struct error err = {0};
    int fd = place_open_log(service->settings, &service->launch, &err);

    if (fd < 0) {
        log_error(LOG_PLAIN, "Log not reopened: %s", err.text);
        return;
    }
    service_use_log(service, fd);
    log_info(LOG_PLAIN, "Log reopened");
    for (size_t i = 0; i < service->processes_len; i++)
        process_signal(service->processes[i], SIGUSR1);
}

static void forget_the_gone(struct service *service)
{
    for (size_t i = service->processes_len; i-- > 0;) {
        const struct process *process = service->processes[i];

        if (process->unwanted && !states_alive(&process->life))
            service_forget(service, i);
    }
}

static void abandon_roll(struct service *service)
{
    const struct process *process = service->rolling;
    const char *words = process->words.last;
    struct buf left = {0};

    for (size_t i = 0; i < service->processes_len; i++) {
        if (service->processes[i]->roll)
            buf_printf(&left, "%s %s", left.len == 0 ? "; not restarted:" : "",
                       service->processes[i]->title);
        service->processes[i]->roll = false;
    }
    snprintf(service->roll_failure, sizeof(service->roll_failure),
             "%s does not come back (%s%s%.100s)", process->title, process->cause,
             words[0] != '\0' ? ": " : "", words);
    log_error(LOG_PLAIN, "Rolling restart given up: %s%s", service->roll_failure, buf_text(&left));
    service->rolling = NULL;
    buf_free(&left);
}

/* Has the one whose turn it is come back, or is there no sense in waiting for it? */
static void end_turn(struct service *service)
{
    const struct life *life = &service->rolling->life;
    int64_t lived = clock_monotonic_ms() - life->started_ms;

    switch (life->state) {
    case STATE_RUNNING:
        service->rolling = NULL;
        break;
    case STATE_STARTING:
        if (lived >= ORDERS_ROLL_PATIENCE_MS)
            service->rolling = NULL;
        break;
    case STATE_STOPPING:
        break;
    case STATE_BACKOFF:
    case STATE_FATAL:
        abandon_roll(service);
        break;
    case STATE_STOPPED:
    case STATE_EXITED:
    case STATES_LEN:
        service->rolling = NULL;
        break;
    }
}

static void advance_roll(struct service *service)
{
    if (service->rolling != NULL)
        end_turn(service);
    for (size_t i = 0; i < service->processes_len && service->rolling == NULL; i++) {
        struct process *process = service->processes[i];

        if (!process->roll)
            continue;
        process->roll = false;
        if (process->life.state == STATE_RUNNING) {
            service->rolling = process;
            events_raise(service, process, EVENT_RESTART);
        }
    }
}

static bool any_alive(const struct service *service, enum process_kind kind)
{
    for (size_t i = 0; i < service->processes_len; i++)
        if (service->processes[i]->kind == kind && states_alive(&service->processes[i]->life))
            return true;
    return false;
}

static void advance_shutdown(struct service *service)
{
    if (service->quitting) {
        for (size_t i = 0; i < service->processes_len; i++)
            if (states_alive(&service->processes[i]->life))
                return;
        service->phase = PHASE_ENDED;
    }
    while (service->phase != PHASE_ENDED && !any_alive(service, kind_of(service->phase))) {
        service->phase++;
        if (service->phase != PHASE_ENDED)
            raise_for_kind(service, kind_of(service->phase), EVENT_STOP);
    }
}

static void say_when_all_run(struct service *service)
{
    size_t running = 0;
    int64_t now = clock_monotonic_ms();

    for (size_t i = 0; i < service->processes_len; i++)
        running += service->processes[i]->life.state == STATE_RUNNING;
    bool all = running == service->processes_len;
    if (all && !service->all_running)
        log_info(LOG_WITH(log_number("processes", (int64_t)running),
                          log_number("up_ms", now - service->started_ms)),
                 "Everything runs");
    service->all_running = all;
}

void orders_settle(struct service *service)
{
    forget_the_gone(service);
    if (service->phase == PHASE_RUNNING) {
        advance_roll(service);
        say_when_all_run(service);
    } else {
        advance_shutdown(service);
    }
}
