#include "supervisor/process.h"

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/runtime/child.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define LAST_READS 16 /* of 4 KB: what a dead child left behind */

/* Where the child finds its descriptors. */
enum { SETTINGS_FD = 3, STATS_FD, NOTIFY_FD, LOG_FD, FIRST_FREE_FD };

static const char *program_of(enum process_kind kind)
{
    switch (kind) {
    case PROCESS_CONSUMER:
        return "mqtt-bridge-consumer";
    case PROCESS_WORKER:
        return "mqtt-bridge-worker";
    case PROCESS_MONITOR:
        return "mqtt-bridge-monitor";
    }
    return "";
}

struct process *process_new(enum process_kind kind, const char *name, int number)
{
    struct process *process = xcalloc(1, sizeof(*process));

    process->kind = kind;
    process->number = number > 0 ? number : 1;
    snprintf(process->name, sizeof(process->name), "%s", name);
    if (number > 0)
        snprintf(process->title, sizeof(process->title), "%.60s:%d", name, number);
    else
        snprintf(process->title, sizeof(process->title), "%s", name);
    states_init(&process->lifecycle);
    process->ready_fd = -1;
    process->output_fd = -1;
    process->watched_by = -1;
    process->ready_watch = (struct watch){WATCH_READY, process};
    process->output_watch = (struct watch){WATCH_OUTPUT, process};
    return process;
}

static void close_pipe(const struct process *process, int *fd)
{
    if (*fd < 0)
        return;
    /* Closing is not enough: another child between fork and exec has the pipe too. While it does, events of
     * the pipe would come, for a process that may be forgotten by then. */
    if (process->watched_by >= 0)
        epoll_ctl(process->watched_by, EPOLL_CTL_DEL, *fd, NULL);
    close(*fd);
    *fd = -1;
}

static void close_ready(struct process *process)
{
    close_pipe(process, &process->ready_fd);
}

static void close_output(struct process *process)
{
    close_pipe(process, &process->output_fd);
}

void process_free(struct process *process)
{
    close_ready(process);
    close_output(process);
    free(process);
}

/* Each child gets a descriptor of its own: children must not share a read position. */
static int settings_memory(struct bytes settings, struct error *err)
{
    int fd = memfd_create("mqtt-bridge-settings", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    if (fd < 0)
        return error_system(err, "memfd_create");
    size_t done = 0;
    while (done < settings.len) {
        ssize_t written = write(fd, settings.data + done, settings.len - done);

        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0) {
            error_system(err, "settings of %zu bytes", settings.len);
            close(fd);
            return -ERR_SYSTEM;
        }
        done += (size_t)written;
    }
    lseek(fd, 0, SEEK_SET);
    fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL);
    return fd;
}

static void close_pair(int pair[2])
{
    close(pair[0]);
    close(pair[1]);
}

/* The descriptors of one start. */
struct pipes {
    int settings;
    int ready[2];
    int output[2];
};

static int open_pipes(struct pipes *pipes, struct bytes settings, struct error *err)
{
    pipes->settings = settings_memory(settings, err);
    if (pipes->settings < 0)
        return pipes->settings;
    if (pipe2(pipes->ready, O_CLOEXEC) < 0) {
        error_system(err, "pipe");
        close(pipes->settings);
        return -ERR_SYSTEM;
    }
    if (pipe2(pipes->output, O_CLOEXEC) < 0) {
        error_system(err, "pipe");
        close(pipes->settings);
        close_pair(pipes->ready);
        return -ERR_SYSTEM;
    }
    fcntl(pipes->ready[0], F_SETFL, O_NONBLOCK);
    fcntl(pipes->output[0], F_SETFL, O_NONBLOCK);
    return 0;
}

static void reset_signals(void)
{
    sigset_t none;

    for (int number = 1; number < NSIG; number++)
        signal(number, SIG_DFL);
    /* An ignored signal that is blocked later is still delivered to a signalfd. */
    signal(SIGHUP, SIG_IGN);
    signal(SIGUSR1, SIG_IGN);
    /* The children are no foreground group: writing to a terminal must not stop them. */
    signal(SIGTTOU, SIG_IGN);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

/* Runs in the child, as all functions up to run: the fault becomes the child's last output. */
static __attribute__((noreturn, format(printf, 1, 2))) void fail(const char *format, ...)
{
    int saved = errno;
    va_list arguments;

    va_start(arguments, format);
    vdprintf(STDERR_FILENO, format, arguments);
    va_end(arguments);
    dprintf(STDERR_FILENO, ": %s\n", strerror(saved));
    _exit(PROCESS_EXIT_NOT_STARTED);
}

static void install_descriptors(const struct pipes *pipes, const struct launch *launch)
{
    const int wanted[] = {pipes->settings, launch->stats_fd, pipes->ready[1], launch->log_fd};
    int moved[4];
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    int output = fcntl(pipes->output[1], F_DUPFD_CLOEXEC, FIRST_FREE_FD);

    /* All are moved out of the way before each gets its number. */
    for (int i = 0; i < 4; i++)
        moved[i] = fcntl(wanted[i], F_DUPFD_CLOEXEC, FIRST_FREE_FD);
    if (output < 0 || dup2(output, STDOUT_FILENO) < 0 || dup2(output, STDERR_FILENO) < 0)
        _exit(PROCESS_EXIT_NOT_STARTED);
    if (null < 0)
        fail("/dev/null");
    if (null != STDIN_FILENO && dup2(null, STDIN_FILENO) < 0)
        fail("standard input");
    if (null == STDIN_FILENO)
        fcntl(null, F_SETFD, 0);
    for (int i = 0; i < 4; i++)
        if (moved[i] < 0 || dup2(moved[i], SETTINGS_FD + i) < 0)
            fail("descriptor %d", SETTINGS_FD + i);
    close_range(FIRST_FREE_FD, ~0U, 0);
}

static void set_number(const char *name, size_t value)
{
    char text[24];

    snprintf(text, sizeof(text), "%zu", value);
    if (setenv(name, text, 1) < 0)
        fail("%s", name);
}

static void set_environment(const struct process *process, const struct settings *settings)
{
    struct buf passed = {0};

    if (process->kind == PROCESS_WORKER)
        settings_passed_variables(settings, &passed);
    environ = settings_environment(settings, buf_bytes(&passed));
    unsetenv("MQTT_BRIDGE_CONFIG");
    if (setenv("MQTT_BRIDGE_NAME", process->name, 1) < 0)
        fail("MQTT_BRIDGE_NAME");
    set_number("MQTT_BRIDGE_SLOT", (size_t)process->number);
    set_number("MQTT_BRIDGE_SETTINGS_FD", SETTINGS_FD);
    set_number("MQTT_BRIDGE_STATS_FD", STATS_FD);
    set_number("MQTT_BRIDGE_NOTIFY_FD", NOTIFY_FD);
    set_number("MQTT_BRIDGE_LOG_FD", LOG_FD);
    set_number("MQTT_BRIDGE_STATS_SLOT", process->slot_index);
    unsetenv("NOTIFY_SOCKET");
}

static __attribute__((noreturn)) void run(const struct process *process,
                                          const struct launch *launch, const struct pipes *pipes,
                                          pid_t supervisor)
{
    const char *program = program_of(process->kind);
    char *path = xasprintf("%s/%s", launch->bin_dir, program);
    char *argv[] = {path, NULL};

    setpgid(0, 0);
    reset_signals();
    install_descriptors(pipes, launch);
    set_environment(process, launch->settings);
    /* The supervisor may be gone by now. */
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
        fail("PR_SET_PDEATHSIG");
    if (getppid() != supervisor)
        _exit(PROCESS_EXIT_NOT_STARTED);
    execv(path, argv);
    dprintf(STDERR_FILENO, "%s: %s (in %s)\n", program, strerror(errno), launch->bin_dir);
    _exit(PROCESS_EXIT_NOT_STARTED);
}

static int spawn(struct process *process, const struct launch *launch, struct error *err)
{
    struct pipes pipes;
    pid_t supervisor = getpid();
    struct buf settings = {0};

    settings_pack(launch->settings, process->name, &settings);
    int failed = open_pipes(&pipes, buf_bytes(&settings), err);
    buf_free(&settings);
    if (failed < 0)
        return failed;
    if (process->slot != NULL)
        stats_reason(process->slot, ""); /* the last process's */
    pid_t pid = fork();
    if (pid == 0)
        run(process, launch, &pipes, supervisor);
    if (pid < 0)
        error_system(err, "fork");
    close(pipes.settings);
    close(pipes.ready[1]);
    close(pipes.output[1]);
    if (pid < 0) {
        close(pipes.ready[0]);
        close(pipes.output[0]);
        return -ERR_SYSTEM;
    }
    setpgid(pid, pid); /* parent and child both do it: either may run first */
    process->pid = pid;
    process->hung = false;
    process->ready_fd = pipes.ready[0];
    process->output_fd = pipes.output[0];
    process->ready_line = (struct notify_ready){0};
    process->output = (struct notify_output){0};
    return 0;
}

void process_signal(const struct process *process, int number)
{
    if (process->pid <= 0)
        return;
    if (number == SIGKILL)
        kill(-process->pid, SIGKILL);
    kill(process->pid, number);
}

static int watch_pipes(struct process *process, int epoll_fd, struct error *err)
{
    struct epoll_event ready = {.events = EPOLLIN, .data.ptr = &process->ready_watch};
    struct epoll_event output = {.events = EPOLLIN, .data.ptr = &process->output_watch};

    process->watched_by = epoll_fd;
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, process->ready_fd, &ready) < 0 ||
        epoll_ctl(epoll_fd, EPOLL_CTL_ADD, process->output_fd, &output) < 0)
        return error_system(err, "epoll");
    return 0;
}

static enum event note_end(struct process *process, const siginfo_t *info)
{
    bool exited = info->si_code == CLD_EXITED;

    /* The group is killed before the reaping: until then its number can't belong to another. */
    kill(-process->pid, SIGKILL);
    close_ready(process);
    close_output(process);
    process->pid = 0;
    if (process->slot != NULL) {
        stats_clear_gauges(process->slot);
        atomic_store(&process->slot->beat_ms, 0);
    }
    process->exit_code = exited ? info->si_status : 128 + info->si_status;
    if (exited)
        snprintf(process->cause, sizeof(process->cause), "exit code %d", info->si_status);
    else
        snprintf(process->cause, sizeof(process->cause), "signal SIG%s%s",
                 sigabbrev_np(info->si_status) ? sigabbrev_np(info->si_status) : "?",
                 process->hung ? " (hung: no heartbeat)" : "");
    if (!exited)
        return EVENT_FAILED;
    switch (info->si_status) {
    case CHILD_EXIT_DONE:
    case CHILD_EXIT_PLANNED:
        return EVENT_DONE;
    case CHILD_EXIT_SETTINGS:
        return EVENT_SETTINGS;
    default:
        return EVENT_FAILED;
    }
}

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
        log_text("last_output", process->output.last_line),
        {.kind = LOG_FIELD_END},
    };
    const struct log_field *with = process->output.last_line[0] != '\0' && event != EVENT_DONE
                                       ? context
                                       : LOG_WITH(log_text("process", process->title));
    const struct lifecycle *lifecycle = &process->lifecycle;

    if (lifecycle->state == STATE_STOPPED || lifecycle->state == STATE_EXITED)
        log_write(event == EVENT_DONE ? LOG_LEVEL_INFO : LOG_LEVEL_WARNING, with, "%s ended (%s)",
                  process->title, process->cause);
    else if (lifecycle->state == STATE_STARTING && before == STATE_STOPPING)
        log_info(with, "%s ended (%s); its successor starts", process->title, process->cause);
    else if (lifecycle->state == STATE_STARTING)
        log_write(event == EVENT_DONE ? LOG_LEVEL_INFO : LOG_LEVEL_WARNING, with,
                  "%s ended (%s); started again at once", process->title, process->cause);
    else if (lifecycle->state == STATE_BACKOFF && event == EVENT_DONE)
        log_info(with, "%s ended as planned (%s); started again in %lld ms", process->title,
                 process->cause, (long long)(lifecycle->deadline_ms - now_ms));
    else if (lifecycle->state == STATE_BACKOFF)
        log_warning(with, "%s ended (%s); started again in %lld ms", process->title, process->cause,
                    (long long)(lifecycle->deadline_ms - now_ms));
    else if (event == EVENT_SETTINGS)
        log_critical(with, "%s given up: it refuses its settings (%s); correct them and reload",
                     process->title, process->cause);
    else
        log_critical(
            with, "%s given up after %lld deaths in a row (%s); `mqtt-bridge start %s` tries again",
            process->title, (long long)(lifecycle->at_once + lifecycle->quick_deaths),
            process->cause, process->title);
}

/* For the status, and in the statistics for the monitor. */
static void count(struct process *process, uint64_t *number, enum stats_counter counter)
{
    (*number)++;
    stats_add(process->slot, counter, 1);
}

static void start(struct process *process, const struct launch *launch)
{
    struct error err = {0};

    if (spawn(process, launch, &err) < 0) {
        snprintf(process->cause, sizeof(process->cause), "%.*s", PROCESS_CAUSE_SIZE - 1, err.text);
        process->output = (struct notify_output){0};
        process_handle_event(process, launch, EVENT_FAILED);
        return;
    }
    stats_set(process->slot, STATS_PID, (uint64_t)process->pid);
    stats_set(process->slot, STATS_STARTED_US, (uint64_t)clock_wall_us());
    process->affected = false;
    process->hang_timeout_ms = launch->hang_timeout_ms;
    if (watch_pipes(process, launch->epoll_fd, &err) < 0)
        log_error(LOG_PLAIN, "%s: neither its readiness nor its output will be seen: %s",
                  process->title, err.text);
    log_debug(LOG_WITH(log_text("process", process->title), log_number("child", process->pid)),
              "%s starts", process->title);
}

static void note(const struct process *process, struct history *history, enum state before,
                 enum event event, unsigned actions)
{
    const struct lifecycle *lifecycle = &process->lifecycle;
    const char *output = process->output.last_line;

    if (is_death(event) && before != lifecycle->state)
        history_add(history, "%s ended (%s%s%s), now %s", process->title, process->cause,
                    output[0] != '\0' && event != EVENT_DONE ? ": " : "",
                    event != EVENT_DONE ? output : "", states_name(lifecycle->state));
    else if (event == EVENT_READY && before == STATE_STARTING)
        history_add(history, "%s is ready", process->title);
    else if (actions & ACTION_TERMINATE)
        history_add(history, "%s is asked to end%s", process->title,
                    lifecycle->restart ? ", to be replaced" : "");
    else if (actions & ACTION_KILL)
        history_add(history, "%s is killed: %s", process->title,
                    event == EVENT_HANG ? "it hangs" : "it has not ended in time");
}

void process_handle_event(struct process *process, const struct launch *launch, enum event event)
{
    int64_t now = clock_monotonic_ms();
    enum state before = process->lifecycle.state;
    unsigned actions = states_step(&process->lifecycle, &launch->rules, event, now);

    if (is_death(event) && before != process->lifecycle.state)
        report_death(process, before, event, now);
    if (is_death(event) && event != EVENT_DONE && before != STATE_STOPPING)
        count(process, &process->crashes, STATS_CRASHES);
    if ((actions & ACTION_SPAWN) && process->lifecycle.starts > 1)
        count(process, &process->restarts, STATS_RESTARTS);
    if (event == EVENT_READY && before == STATE_STARTING)
        log_info(LOG_WITH(log_number("after_ms", now - process->lifecycle.started_ms)),
                 "%s is ready", process->title);
    if (event == EVENT_DEADLINE && (actions & ACTION_KILL))
        log_warning(LOG_PLAIN, "%s has not ended within %lld ms: killed", process->title,
                    (long long)launch->rules.stop_timeout_ms);
    note(process, launch->history, before, event, actions);
    if (actions & ACTION_TERMINATE)
        process_signal(process, SIGTERM);
    if (actions & ACTION_KILL)
        process_signal(process, SIGKILL);
    if (actions & ACTION_SPAWN)
        start(process, launch);
    if (actions & ACTION_FATAL)
        process->became_fatal = true;
}

static void log_output(void *context, const char *line, uint64_t hidden)
{
    const struct process *process = context;

    if (hidden > 0)
        log_warning(LOG_WITH(log_number("lines_left_out", (int64_t)hidden)), "%s says: %s",
                    process->title, line);
    else
        log_warning(LOG_PLAIN, "%s says: %s", process->title, line);
}

bool process_read_output(struct process *process)
{
    char bytes[4096];
    ssize_t got = process->output_fd >= 0 ? read(process->output_fd, bytes, sizeof(bytes)) : -1;

    if (got > 0)
        notify_output_feed(&process->output, (struct bytes){bytes, (size_t)got},
                           clock_monotonic_ms(), log_output, process);
    if (got == 0)
        close_output(process);
    return got > 0;
}

void process_read_ready(struct process *process, const struct launch *launch)
{
    char bytes[64];
    ssize_t got = process->ready_fd >= 0 ? read(process->ready_fd, bytes, sizeof(bytes)) : -1;

    if (got > 0 && notify_ready_feed(&process->ready_line, (struct bytes){bytes, (size_t)got}))
        process_handle_event(process, launch, EVENT_READY);
    if (got == 0)
        close_ready(process);
}

void process_handle_exit(struct process *process, const struct launch *launch,
                         const siginfo_t *info)
{
    process_read_ready(process, launch);
    for (int i = 0; i < LAST_READS && process_read_output(process); i++)
        continue;
    notify_output_end(&process->output, clock_monotonic_ms(), log_output, process);
    enum event event = note_end(process, info);
    waitpid(info->si_pid, NULL, 0); /* a zombie: returns at once */
    process_handle_event(process, launch, event);
}

bool process_matches(const struct process *process, const char *target)
{
    char numbered[PROCESS_NAME_SIZE + 12];

    snprintf(numbered, sizeof(numbered), "%s:%d", process->name, process->number);
    size_t len = strlen(process->name);
    bool every = strncmp(target, process->name, len) == 0 && strcmp(target + len, ":*") == 0;

    return every || strcmp(target, process->title) == 0 || strcmp(target, process->name) == 0 ||
           strcmp(target, numbered) == 0;
}
