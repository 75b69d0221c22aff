#include "supervisor/process.h"

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/file.h"
#include "common/base/log.h"
#include "common/base/sys.h"
#include "common/runtime/child.h"
#include "common/runtime/status.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define LAST_READS 16 /* reads of 4 KB from the pipes of a child that has ended */

/* The numbers of the child's descriptors. */
enum { SETTINGS_FD = 3, STATS_FD, NOTIFY_FD, LOG_FD, FIRST_FREE_FD };

const char *const PROCESS_PROGRAMS[PROCESS_PROGRAMS_LEN] = {
    [PROCESS_CONSUMER] = "mqtt-bridge-consumer",
    [PROCESS_WORKER] = "mqtt-bridge-worker",
    [PROCESS_MONITOR] = "mqtt-bridge-monitor"};

static bool is_blank(const char *line)
{
    return line[strspn(line, " \t\r")] == '\0';
}

static bool may_be_shown(struct process_output *output, int64_t now_ms)
{
    if (output->shown == 0 || now_ms - output->window_ms >= PROCESS_WINDOW_MS) {
        output->window_ms = now_ms;
        output->shown = 0;
    }
    if (output->shown >= PROCESS_LINES_PER_WINDOW)
        return false;
    output->shown++;
    return true;
}

static void finish_line(struct process_output *output, int64_t now_ms, process_output_show *show,
                        void *context)
{
    output->line[output->len] = '\0';
    output->len = 0;
    if (is_blank(output->line))
        return;
    bytes_to_printable(bytes_of(output->line), output->last_line, sizeof(output->last_line));
    if (!may_be_shown(output, now_ms)) {
        output->hidden++;
        return;
    }
    show(context, output->last_line, output->hidden);
    output->hidden = 0;
}

void process_output_feed(struct process_output *output, struct bytes bytes, int64_t now_ms,
                         process_output_show *show, void *context)
{
    for (size_t i = 0; i < bytes.len; i++) {
        char c = bytes.data[i];

        if (c == '\n')
            finish_line(output, now_ms, show, context);
        else if (output->len < sizeof(output->line) - 1)
            output->line[output->len++] = c == '\0' ? ' ' : c;
    }
}

void process_output_end(struct process_output *output, int64_t now_ms, process_output_show *show,
                        void *context)
{
    if (output->len > 0)
        finish_line(output, now_ms, show, context);
    if (output->hidden > 0)
        show(context, output->last_line, output->hidden - 1);
    output->hidden = 0;
}

bool process_ready_feed(struct process_ready *line, struct bytes bytes)
{
    for (size_t i = 0; i < bytes.len && !line->spoilt; i++) {
        char c = bytes.data[i];

        if (c == '\n') {
            line->spoilt = true;
            return line->len == 5 && memcmp(line->text, "READY", 5) == 0;
        }
        if (line->len == sizeof(line->text))
            line->spoilt = true;
        else
            line->text[line->len++] = c;
    }
    return false;
}

struct process *process_new(struct launch *launch, enum process_kind kind, const char *name,
                            int number)
{
    struct process *process = xcalloc(1, sizeof(*process));

    process->launch = launch;
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
    /* Closing is not enough: another child between fork and exec also holds the pipe. Meanwhile
     * events of the pipe would come for a process that may be gone. */
    if (process->watched_by >= 0)
        epoll_ctl(process->watched_by, EPOLL_CTL_DEL, *fd, NULL);
    close(*fd);
    *fd = -1;
}

void process_free(struct process *process)
{
    close_pipe(process, &process->ready_fd);
    close_pipe(process, &process->output_fd);
    free(process);
}

/* The descriptors for starting a child; -1: none, or not to be closed here any more. */
struct pipes {
    int settings;
    int ready[2];
    int output[2];
};

static void close_pipes(const struct pipes *pipes)
{
    int fds[] = {pipes->settings, pipes->ready[0], pipes->ready[1], pipes->output[0],
                 pipes->output[1]};

    for (size_t i = 0; i < LENGTH_OF(fds); i++)
        file_close(&fds[i]);
}

static int open_pipes(struct pipes *pipes, struct bytes settings, struct error *err)
{
    *pipes = (struct pipes){.ready = {-1, -1}, .output = {-1, -1}};
    /* Each child gets its own memfd: children must not share a read position. */
    pipes->settings = file_in_memory("mqtt-bridge-settings", settings);
    if (pipes->settings < 0 || pipe2(pipes->ready, O_CLOEXEC) < 0 ||
        pipe2(pipes->output, O_CLOEXEC) < 0) {
        error_system(err, "settings of %zu bytes, and pipes", settings.len);
        close_pipes(pipes);
        return -ERR_SYSTEM;
    }
    fcntl(pipes->ready[0], F_SETFL, O_NONBLOCK);
    fcntl(pipes->output[0], F_SETFL, O_NONBLOCK);
    return 0;
}

static void reset_signals(void)
{
    sigset_t ignored;

    sigemptyset(&ignored);
    /* An ignored signal that is blocked later is still delivered to a signalfd. */
    sigaddset(&ignored, SIGHUP);
    sigaddset(&ignored, SIGUSR1);
    /* The children are in no foreground group: writing to a terminal must not stop them. */
    sigaddset(&ignored, SIGTTOU);
    sys_reset_signals(&ignored);
}

/* Runs in the child, as do all functions up to run. The error text becomes the child's last
 * output. */
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

    /* All descriptors are moved to high numbers before each gets its own. */
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

static __attribute__((noreturn)) void run(const struct process *process, const struct pipes *pipes,
                                          pid_t supervisor)
{
    const struct launch *launch = process->launch;
    const char *program = PROCESS_PROGRAMS[process->kind];
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

static int spawn(struct process *process, struct error *err)
{
    struct pipes pipes;
    pid_t supervisor = getpid();
    struct buf settings = {0};

    settings_pack(process->launch->settings, process->name, &settings);
    int failed = open_pipes(&pipes, buf_bytes(&settings), err);
    buf_free(&settings);
    if (failed < 0)
        return failed;
    stats_reason(process->slot, ""); /* clears that of the last process */
    pid_t pid = fork();
    if (pid == 0)
        run(process, &pipes, supervisor);
    if (pid > 0) {
        process->ready_fd = pipes.ready[0];
        process->output_fd = pipes.output[0];
        pipes.ready[0] = pipes.output[0] = -1;
    } else {
        error_system(err, "fork");
    }
    close_pipes(&pipes);
    if (pid < 0)
        return -ERR_SYSTEM;
    setpgid(pid, pid); /* parent and child both do it: either may run first */
    process->pid = pid;
    process->hung = false;
    process->ready_line = (struct process_ready){0};
    process->output = (struct process_output){0};
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

static int watch_pipes(struct process *process, struct error *err)
{
    int epoll_fd = process->launch->epoll_fd;
    struct epoll_event ready = {.events = EPOLLIN, .data.ptr = &process->ready_watch};
    struct epoll_event output = {.events = EPOLLIN, .data.ptr = &process->output_watch};

    process->watched_by = epoll_fd;
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, process->ready_fd, &ready) < 0 ||
        epoll_ctl(epoll_fd, EPOLL_CTL_ADD, process->output_fd, &output) < 0)
        return error_system(err, "epoll");
    return 0;
}

static enum states_event note_end(struct process *process, const siginfo_t *info)
{
    bool exited = info->si_code == CLD_EXITED;

    /* The group is killed before waitpid: until then its number can't belong to another group. */
    kill(-process->pid, SIGKILL);
    close_pipe(process, &process->ready_fd);
    close_pipe(process, &process->output_fd);
    process->pid = 0;
    stats_clear_gauges(process->slot);
    atomic_store(&process->slot->beat_ms, 0);
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

static bool is_death(enum states_event event)
{
    return event == EVENT_DONE || event == EVENT_SETTINGS || event == EVENT_FAILED;
}

/* Logs one line for each death: which process ended how, and what happens next. */
static void report_death(const struct process *process, enum stats_state before,
                         enum states_event event)
{
    const struct states_lifecycle *lifecycle = &process->lifecycle;
    bool says = process->output.last_line[0] != '\0' && event != EVENT_DONE;
    const struct log_field context[] = {
        log_text("process", process->title),
        says ? log_text("last_output", process->output.last_line)
             : (struct log_field){.kind = LOG_FIELD_END},
        {.kind = LOG_FIELD_END},
    };
    bool ended = lifecycle->state == STATE_STOPPED || lifecycle->state == STATE_EXITED;
    enum log_level level = event == EVENT_DONE ? LOG_LEVEL_INFO : LOG_LEVEL_WARNING;
    const char *planned =
        lifecycle->state == STATE_BACKOFF && level == LOG_LEVEL_INFO ? " as planned" : "";
    char next[64] = "";

    if (lifecycle->state == STATE_STARTING && before == STATE_STOPPING)
        level = LOG_LEVEL_INFO;
    if (lifecycle->state == STATE_STARTING)
        snprintf(next, sizeof(next), "; %s",
                 before == STATE_STOPPING ? "its successor starts" : "started again at once");
    else if (lifecycle->state == STATE_BACKOFF)
        snprintf(next, sizeof(next), "; started again in %lld ms",
                 (long long)(lifecycle->deadline_ms - lifecycle->now_ms));
    if (ended || next[0] != '\0')
        log_write(level, context, "%s ended%s (%s)%s", process->title, planned, process->cause,
                  next);
    else if (event == EVENT_SETTINGS)
        log_critical(context, "%s given up: it refuses its settings (%s); correct them and reload",
                     process->title, process->cause);
    else
        log_critical(
            context,
            "%s given up after %lld deaths in a row (%s); `mqtt-bridge start %s` tries again",
            process->title, (long long)(lifecycle->at_once + lifecycle->quick_deaths),
            process->cause, process->title);
}

static void start(struct process *process)
{
    struct launch *launch = process->launch;
    struct error err = {0};

    process->start = ++launch->starts;
    if (spawn(process, &err) < 0) {
        snprintf(process->cause, sizeof(process->cause), "%.*s", STATS_EXIT_SIZE - 1, err.text);
        process->output = (struct process_output){0};
        process_handle_event(process, EVENT_FAILED);
        return;
    }
    stats_set(process->slot, STATS_STARTED_US, (uint64_t)clock_wall_us());
    process->affected = false;
    process->hang_timeout_ms = launch->hang_timeout_ms;
    if (watch_pipes(process, &err) < 0)
        log_error(LOG_PLAIN, "%s: readiness and output will not be seen until the next start: %s",
                  process->title, err.text);
    log_debug(LOG_WITH(log_text("process", process->title), log_number("child", process->pid)),
              "%s starts", process->title);
}

/* Logs one line for each action on a process, and when it becomes ready. */
static void report_step(const struct process *process, enum stats_state before,
                        enum states_event event, unsigned actions)
{
    const struct states_lifecycle *lifecycle = &process->lifecycle;

    if (event == EVENT_READY && before == STATE_STARTING)
        log_info(LOG_WITH(log_number("after_ms", lifecycle->now_ms - lifecycle->started_ms)),
                 "%s is ready", process->title);
    else if (event == EVENT_HANG && (actions & ACTION_KILL))
        log_error(LOG_PLAIN, "%s hangs: no heartbeat for %lld ms; killed", process->title,
                  (long long)process->hang_timeout_ms);
    else if (event == EVENT_DEADLINE && (actions & ACTION_KILL))
        log_warning(LOG_PLAIN, "%s has not ended within %lld ms: killed", process->title,
                    (long long)process->launch->rules.stop_timeout_ms);
    else if (actions & ACTION_TERMINATE)
        log_info(LOG_PLAIN, "%s is asked to end%s", process->title,
                 lifecycle->restart ? ", to be replaced" : "");
}

static void handle(struct process *process, enum states_event event)
{
    int64_t now = clock_monotonic_ms();
    enum stats_state before = process->lifecycle.state;
    unsigned actions = states_step(&process->lifecycle, &process->launch->rules, event, now);

    if (is_death(event) && before != process->lifecycle.state)
        report_death(process, before, event);
    if (is_death(event) && event != EVENT_DONE && before != STATE_STOPPING)
        stats_add(process->slot, STATS_CRASHES, 1);
    if ((actions & ACTION_SPAWN) && process->lifecycle.starts > 1)
        stats_add(process->slot, STATS_RESTARTS, 1);
    report_step(process, before, event, actions);
    if (actions & ACTION_TERMINATE)
        process_signal(process, SIGTERM);
    if (actions & ACTION_KILL)
        process_signal(process, SIGKILL);
    if (actions & ACTION_SPAWN)
        start(process);
    if (actions & ACTION_FATAL)
        process->became_fatal = true;
}

void process_handle_event(struct process *process, enum states_event event)
{
    process->launch->about = process->slot;
    handle(process, event);
    process->launch->about = NULL;
}

static void log_output(void *context, const char *line, uint64_t hidden)
{
    const struct process *process = context;
    const struct log_field left_out[] = {log_number("lines_left_out", (int64_t)hidden),
                                         {.kind = LOG_FIELD_END}};

    process->launch->about = process->slot;
    log_warning(hidden > 0 ? left_out : LOG_PLAIN, "%s says: %s", process->title, line);
    process->launch->about = NULL;
}

bool process_read_output(struct process *process)
{
    char bytes[4096];
    ssize_t got = process->output_fd >= 0 ? read(process->output_fd, bytes, sizeof(bytes)) : -1;

    if (got > 0)
        process_output_feed(&process->output, (struct bytes){bytes, (size_t)got},
                            clock_monotonic_ms(), log_output, process);
    if (got == 0)
        close_pipe(process, &process->output_fd);
    return got > 0;
}

void process_read_ready(struct process *process)
{
    char bytes[64];
    ssize_t got = process->ready_fd >= 0 ? read(process->ready_fd, bytes, sizeof(bytes)) : -1;

    if (got > 0 && process_ready_feed(&process->ready_line, (struct bytes){bytes, (size_t)got}))
        process_handle_event(process, EVENT_READY);
    if (got == 0)
        close_pipe(process, &process->ready_fd);
}

void process_handle_exit(struct process *process, const siginfo_t *info)
{
    process_read_ready(process);
    for (int i = 0; i < LAST_READS && process_read_output(process); i++)
        continue;
    process_output_end(&process->output, clock_monotonic_ms(), log_output, process);
    enum states_event event = note_end(process, info);
    waitpid(info->si_pid, NULL, 0); /* a zombie: returns at once */
    process_handle_event(process, event);
}

/* Returns when the process will have been silent for hang_timeout; -1: it need not beat now. */
static int64_t hang_deadline(const struct process *process)
{
    int64_t beat = (int64_t)atomic_load_explicit(&process->slot->beat_ms, memory_order_relaxed);
    int64_t last = process->lifecycle.started_ms;

    if (process->hang_timeout_ms <= 0 || process->hung ||
        (process->lifecycle.state != STATE_STARTING && process->lifecycle.state != STATE_RUNNING))
        return -1;
    last = beat > last ? beat : last;
    last = process->launch->resumed_ms > last ? process->launch->resumed_ms : last;
    return last + process->hang_timeout_ms;
}

void process_check_deadlines(struct process *process, int64_t now_ms)
{
    int64_t hang = hang_deadline(process);

    if (hang >= 0 && hang <= now_ms) {
        process->hung = true;
        process_handle_event(process, EVENT_HANG);
    }
    if (process->lifecycle.deadline_ms >= 0 && process->lifecycle.deadline_ms <= now_ms)
        process_handle_event(process, EVENT_DEADLINE);
}

int64_t process_deadline(const struct process *process)
{
    return clock_earlier_ms(process->lifecycle.deadline_ms, hang_deadline(process));
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

void process_reason(const struct process *process, char out[STATS_REASON_SIZE])
{
    const char *last_line = process->cause[0] != '\0' ? process->output.last_line : "";
    char text[2 * STATS_REASON_SIZE];

    if (states_alive(&process->lifecycle)) {
        stats_reason_read(process->slot, out);
        return;
    }
    snprintf(text, sizeof(text), "%s%s%s", process->cause, last_line[0] != '\0' ? ": " : "",
             last_line);
    bytes_to_printable(bytes_of(text), out, STATS_REASON_SIZE);
}

void process_publish(const struct process *process)
{
    const struct states_lifecycle *lifecycle = &process->lifecycle;
    struct stats_slot *slot = process->slot;
    bool waits = lifecycle->state == STATE_BACKOFF;
    char reason[STATS_REASON_SIZE];

    if (strncmp(slot->name, process->name, STATS_NAME_SIZE - 1) != 0)
        snprintf(slot->name, STATS_NAME_SIZE, "%.*s", STATS_NAME_SIZE - 1, process->name);
    slot->number = (uint32_t)process->number;
    stats_set(slot, STATS_STATE, lifecycle->state);
    stats_set(slot, STATS_UNWANTED, process->unwanted);
    stats_set(slot, STATS_PID, (uint64_t)process->pid);
    stats_set(slot, STATS_STARTED_MS, (uint64_t)lifecycle->started_ms);
    stats_set(slot, STATS_NEXT_TRY_MS, waits ? (uint64_t)lifecycle->deadline_ms : 0);
    stats_exit(slot, process->cause);
    if (states_alive(lifecycle))
        return;
    process_reason(process, reason);
    stats_reason(slot, reason);
}

void process_sample(struct process *process, int64_t since_ms)
{
    uint64_t done = status_done(process->slot);

    stats_set(process->slot, STATS_RATE, (done - process->sampled) * 1000000 / (uint64_t)since_ms);
    process->sampled = done;
}

void process_keep_line(void *context, const char *line)
{
    const struct launch *launch = context;

    stats_log(launch->own, line);
    if (launch->about != NULL)
        stats_log(launch->about, line);
}
