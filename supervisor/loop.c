#include "supervisor/loop.h"

#include "common/base/clock.h"
#include "common/base/log.h"
#include "supervisor/commands.h"
#include "supervisor/events.h"
#include "supervisor/orders.h"
#include "supervisor/reload.h"
#include "supervisor/status.h"

#include <errno.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#define TICK_MS        1000
#define STOOD_STILL_MS 3000 /* at most, see stood_still_ms */
#define LAST_READS     16   /* of 4 KB: what a dead child left behind */

static int open_signals(struct service *service, struct error *err)
{
    static const int SIGNALS[] = {SIGTERM, SIGINT,  SIGQUIT, SIGHUP, SIGUSR1,
                                  SIGUSR2, SIGTTIN, SIGTTOU, SIGCHLD};
    sigset_t signals;

    sigemptyset(&signals);
    for (size_t i = 0; i < sizeof(SIGNALS) / sizeof(SIGNALS[0]); i++)
        sigaddset(&signals, SIGNALS[i]);
    /* An ignored SIGCHLD, which is inherited, would let the children vanish unseen. */
    signal(SIGCHLD, SIG_DFL);
    signal(SIGPIPE, SIG_IGN);
    if (sigprocmask(SIG_SETMASK, &signals, NULL) < 0)
        return error_system(err, "signals");
    service->signal_fd = signalfd(-1, &signals, SFD_NONBLOCK | SFD_CLOEXEC);
    if (service->signal_fd < 0)
        return error_system(err, "signals");
    return 0;
}

static int watch(struct service *service, int fd, struct watch *who, enum watch_kind kind,
                 struct error *err)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = who};

    who->kind = kind;
    if (epoll_ctl(service->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0)
        return error_system(err, "epoll");
    return 0;
}

int loop_open(struct service *service, struct error *err)
{
    const struct launch *launch = &service->launch;
    uid_t owner = launch->change_user ? launch->uid : (uid_t)-1;
    int result;

    if (prctl(PR_SET_CHILD_SUBREAPER, 1) < 0)
        return error_system(err, "PR_SET_CHILD_SUBREAPER");
    if ((result = open_signals(service, err)) < 0 ||
        (result = watch(service, service->signal_fd, &service->signal_watch, WATCH_SIGNALS, err)) <
            0 ||
        (result = control_open(&service->control, service->settings->supervisor.socket, owner,
                               commands_answer, service, err)) < 0 ||
        (result = place_say_pid(&service->place, service->settings, launch, err)) < 0)
        return result;
    return watch(service, control_fd(service->control), &service->control_watch, WATCH_CONTROL,
                 err);
}

static void say_words(void *context, const char *line, uint64_t hidden)
{
    const struct process *process = context;

    if (hidden > 0)
        log_warning(LOG_WITH(log_number("lines_left_out", (int64_t)hidden)), "%s says: %s",
                    process->title, line);
    else
        log_warning(LOG_PLAIN, "%s says: %s", process->title, line);
}

/* One read; false when there is nothing (more) to read. The end of file closes the pipe, which also ends
 * the watching. */
static bool read_words(struct process *process)
{
    char bytes[4096];
    ssize_t got = process->words_fd >= 0 ? read(process->words_fd, bytes, sizeof(bytes)) : -1;

    if (got > 0)
        words_feed(&process->words, (struct bytes){bytes, (size_t)got}, clock_monotonic_ms(),
                   say_words, process);
    if (got == 0)
        process_close_words(process);
    return got > 0;
}

static void read_ready(struct service *service, struct process *process)
{
    char bytes[64];
    ssize_t got = process->ready_fd >= 0 ? read(process->ready_fd, bytes, sizeof(bytes)) : -1;

    if (got > 0 && ready_feed(&process->ready_line, (struct bytes){bytes, (size_t)got}))
        events_raise(service, process, EVENT_READY);
    if (got == 0)
        process_close_ready(process);
}

static struct process *find_pid(const struct service *service, pid_t pid)
{
    for (size_t i = 0; i < service->processes_len; i++)
        if (service->processes[i]->pid == pid)
            return service->processes[i];
    return NULL;
}

static void bury(struct service *service, struct process *process, const siginfo_t *info)
{
    read_ready(service, process);
    for (int i = 0; i < LAST_READS && read_words(process); i++)
        continue;
    words_end(&process->words, clock_monotonic_ms(), say_words, process);
    enum event event = process_ended(process, info);
    waitpid(info->si_pid, NULL, 0); /* a zombie: returns at once */
    events_raise(service, process, event);
}

static void reap(struct service *service)
{
    for (;;) {
        siginfo_t info = {0};

        /* First looked at, so that its number is still its own while its group is cleared. */
        if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) < 0 || info.si_pid == 0)
            return;
        struct process *process = find_pid(service, info.si_pid);
        if (process != NULL)
            bury(service, process, &info);
        else
            waitpid(info.si_pid, NULL, 0);
    }
}

static void scale_by(struct service *service, int64_t difference)
{
    struct error err = {0};
    int64_t workers = service->workers + difference;

    if (workers < 1)
        log_warning(LOG_PLAIN, "One worker is the least that SIGTTOU leaves");
    else if (orders_scale(service, workers, &err) < 0)
        log_warning(LOG_PLAIN, "SIGTTIN: %s", err.text);
}

static void reload(struct service *service)
{
    struct buf faults = {0};

    if (service->phase == PHASE_RUNNING && reload_settings(service, &faults) < 0)
        buf_clear(&faults); /* they are in the log */
    buf_free(&faults);
}

static void read_signal(struct service *service)
{
    struct signalfd_siginfo info;

    if (read(service->signal_fd, &info, sizeof(info)) != (ssize_t)sizeof(info))
        return;
    switch (info.ssi_signo) {
    case SIGCHLD:
        reap(service);
        break;
    case SIGINT:
        /* The second Ctrl-C of an impatient person. */
        if (service->phase != PHASE_RUNNING)
            orders_quit(service);
        else
            orders_stop(service, 0);
        break;
    case SIGTERM:
        orders_stop(service, 0);
        break;
    case SIGQUIT:
        orders_quit(service);
        break;
    case SIGHUP:
        reload(service);
        break;
    case SIGUSR1:
        orders_reopen_logs(service);
        break;
    case SIGUSR2:
        orders_restart_workers(service);
        break;
    case SIGTTIN:
        scale_by(service, 1);
        break;
    case SIGTTOU:
        scale_by(service, -1);
        break;
    default:
        break;
    }
}

static void handle(struct service *service, const struct watch *watched)
{
    switch (watched->kind) {
    case WATCH_SIGNALS:
        read_signal(service);
        break;
    case WATCH_CONTROL:
        control_process(service->control, clock_monotonic_ms());
        break;
    case WATCH_READY:
        read_ready(service, watched->process);
        break;
    case WATCH_WORDS:
        read_words(watched->process);
        break;
    }
}

/* Who watches our beat is as strict as we are with the children's. */
static int64_t tick_ms(const struct service *service)
{
    int64_t quarter = service->settings->supervisor.hang_timeout_ms / 4;

    return quarter > 0 && quarter < TICK_MS ? quarter : TICK_MS;
}

/* A tick so late means that we did not run: a frozen container, SIGSTOP. The children will not have run
 * either, and what they were silent before and since, a quarter of hang_timeout, must not add up to it. */
static int64_t stood_still_ms(const struct service *service)
{
    int64_t half = service->settings->supervisor.hang_timeout_ms / 2;

    return half > 0 && half < STOOD_STILL_MS ? half : STOOD_STILL_MS;
}

static void tick(struct service *service, int64_t now_ms)
{
    int64_t since = now_ms - service->ticked_ms;

    if (since < tick_ms(service))
        return;
    if (since > stood_still_ms(service))
        service->resumed_ms = now_ms;
    service->ticked_ms = now_ms;
    stats_beat(service->own);
    status_say_reasons(service);
    for (size_t i = 0; i < service->processes_len; i++) {
        struct process *process = service->processes[i];
        uint64_t done = process_done(process);

        process->rate = (double)(done - process->sampled) * 1000 / (double)since;
        process->sampled = done;
    }
}

/* When the process will have been silent for too long; -1: that does not matter now. */
static int64_t hang_deadline(const struct service *service, const struct process *process)
{
    int64_t timeout = service->settings->supervisor.hang_timeout_ms;
    int64_t beat = (int64_t)atomic_load_explicit(&process->slot->beat_ms, memory_order_relaxed);
    int64_t last = process->life.started_ms;

    if (timeout <= 0 || process->hung ||
        (process->life.state != STATE_STARTING && process->life.state != STATE_RUNNING))
        return -1;
    last = beat > last ? beat : last;
    last = service->resumed_ms > last ? service->resumed_ms : last;
    return last + timeout;
}

static void check_deadlines(struct service *service, int64_t now_ms)
{
    for (size_t i = 0; i < service->processes_len; i++) {
        struct process *process = service->processes[i];
        int64_t hang = hang_deadline(service, process);

        if (hang >= 0 && hang <= now_ms) {
            log_error(LOG_PLAIN, "%s gave no sign of life for %lld ms: killed", process->title,
                      (long long)service->settings->supervisor.hang_timeout_ms);
            process->hung = true;
            events_raise(service, process, EVENT_HANG);
        }
        if (process->life.deadline_ms >= 0 && process->life.deadline_ms <= now_ms)
            events_raise(service, process, EVENT_DEADLINE);
    }
    int64_t patience = control_deadline(service->control);
    if (patience >= 0 && patience <= now_ms)
        control_process(service->control, now_ms);
}

static int64_t next_deadline(const struct service *service)
{
    int64_t first = service->ticked_ms + tick_ms(service);

    for (size_t i = 0; i < service->processes_len; i++) {
        first = clock_earlier_ms(first, service->processes[i]->life.deadline_ms);
        first = clock_earlier_ms(first, hang_deadline(service, service->processes[i]));
    }
    first = clock_earlier_ms(first, control_deadline(service->control));
    return first;
}

void loop_run(struct service *service)
{
    while (service->phase != PHASE_ENDED) {
        struct epoll_event event;
        int64_t now = clock_monotonic_ms();
        int timeout = clock_poll_timeout(next_deadline(service), now);

        if (epoll_wait(service->epoll_fd, &event, 1, timeout) == 1)
            handle(service, event.data.ptr);
        now = clock_monotonic_ms();
        tick(service, now);
        check_deadlines(service, now);
        orders_settle(service);
    }
}
