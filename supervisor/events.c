#include "supervisor/events.h"

#include "common/base/clock.h"
#include "common/base/log.h"
#include "supervisor/orders.h"

#include <stdio.h>
#include <string.h>

static bool is_death(enum event event)
{
    return event == EVENT_DONE || event == EVENT_SETTINGS || event == EVENT_FAILED;
}

/* One line for each death: what ended how, and what happens next. */
static void report_death(const struct process *process, enum state before, enum event event,
                         int64_t now_ms)
{
    const struct log_field context[] = {
        log_text("process", process->title),
        log_text("last_words", process->words.last),
        {.kind = LOG_FIELD_END},
    };
    const struct log_field *with = process->words.last[0] != '\0' && event != EVENT_DONE
                                       ? context
                                       : LOG_WITH(log_text("process", process->title));
    const struct life *life = &process->life;

    if (life->state == STATE_STOPPED || life->state == STATE_EXITED)
        log_write(event == EVENT_DONE ? LOG_LEVEL_INFO : LOG_LEVEL_WARNING, with, "%s ended (%s)",
                  process->title, process->cause);
    else if (life->state == STATE_STARTING && before == STATE_STOPPING)
        log_info(with, "%s ended (%s); its successor starts", process->title, process->cause);
    else if (life->state == STATE_STARTING)
        log_write(event == EVENT_DONE ? LOG_LEVEL_INFO : LOG_LEVEL_WARNING, with,
                  "%s ended (%s); started again at once", process->title, process->cause);
    else if (life->state == STATE_BACKOFF && event == EVENT_DONE)
        log_info(with, "%s ended as planned (%s); started again in %lld ms", process->title,
                 process->cause, (long long)(life->deadline_ms - now_ms));
    else if (life->state == STATE_BACKOFF)
        log_warning(with, "%s ended (%s) before it was ready; started again in %lld ms",
                    process->title, process->cause, (long long)(life->deadline_ms - now_ms));
    else if (event == EVENT_SETTINGS)
        log_critical(with, "%s given up: it refuses its settings (%s)", process->title,
                     process->cause);
    else
        log_critical(with, "%s given up after %lld failed starts (%s); see `mqtt-bridge start`",
                     process->title, (long long)life->quick_deaths, process->cause);
}

static void spawn(struct service *service, struct process *process)
{
    struct error err = {0};

    if (process_spawn(process, &service->launch, &err) < 0) {
        snprintf(process->cause, sizeof(process->cause), "%.*s", PROCESS_CAUSE_SIZE - 1, err.text);
        process->words = (struct words){0};
        events_raise(service, process, EVENT_FAILED);
        return;
    }
    process->concerned = false;
    if (process_watch(process, service->epoll_fd, &err) < 0)
        log_error(LOG_PLAIN, "%s: can't be listened to: %s", process->title, err.text);
    log_debug(LOG_WITH(log_text("process", process->title), log_number("child", process->pid)),
              "%s starts", process->title);
}

/* What a given-up process means for the whole: [supervisor] on_fatal. Unready is status.h's matter. */
static void after_giving_up(struct service *service, const struct process *process)
{
    if (strcmp(service->settings->supervisor.on_fatal, "exit") != 0)
        return;
    log_critical(LOG_PLAIN, "%s was given up and on_fatal is exit: the service ends",
                 process->title);
    orders_stop(service, process->exit_code != 0 ? process->exit_code : 1);
}

void events_raise(struct service *service, struct process *process, enum event event)
{
    int64_t now = clock_monotonic_ms();
    enum state before = process->life.state;
    unsigned actions = states_step(&process->life, &service->rules, event, now);

    if (is_death(event) && before != process->life.state)
        report_death(process, before, event, now);
    if (event == EVENT_READY && before == STATE_STARTING)
        log_info(LOG_WITH(log_number("after_ms", now - process->life.started_ms)), "%s is ready",
                 process->title);
    if (event == EVENT_DEADLINE && (actions & ACTION_KILL))
        log_warning(LOG_PLAIN, "%s has not ended within %lld ms: killed", process->title,
                    (long long)service->rules.stop_timeout_ms);
    if (actions & ACTION_TERMINATE)
        process_signal(process, SIGTERM);
    if (actions & ACTION_KILL)
        process_signal(process, SIGKILL);
    if (actions & ACTION_SPAWN)
        spawn(service, process);
    if (actions & ACTION_GIVE_UP)
        after_giving_up(service, process);
}
