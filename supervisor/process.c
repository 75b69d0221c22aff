#include "supervisor/process.h"

#include "common/base/alloc.h"
#include "common/base/child.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

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
    states_init(&process->life);
    process->ready_fd = -1;
    process->words_fd = -1;
    process->watched_by = -1;
    process->ready_watch = (struct watch){WATCH_READY, process};
    process->words_watch = (struct watch){WATCH_WORDS, process};
    return process;
}

void process_free(struct process *process)
{
    process_close_ready(process);
    process_close_words(process);
    free(process);
}

/* The settings as a descriptor of its own, since children share no position in it. */
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

/* The descriptors of one start, on the supervisor's side of the fork. */
struct lines {
    int settings;
    int ready[2];
    int words[2];
};

static int open_lines(struct lines *lines, struct bytes settings, struct error *err)
{
    lines->settings = settings_memory(settings, err);
    if (lines->settings < 0)
        return lines->settings;
    if (pipe2(lines->ready, O_CLOEXEC) < 0) {
        error_system(err, "pipe");
        close(lines->settings);
        return -ERR_SYSTEM;
    }
    if (pipe2(lines->words, O_CLOEXEC) < 0) {
        error_system(err, "pipe");
        close(lines->settings);
        close_pair(lines->ready);
        return -ERR_SYSTEM;
    }
    fcntl(lines->ready[0], F_SETFL, O_NONBLOCK);
    fcntl(lines->words[0], F_SETFL, O_NONBLOCK);
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

/* Everything below runs in the child: a fault is its last words. */
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

static void place_descriptors(const struct lines *lines, const struct launch *launch)
{
    const int wanted[] = {lines->settings, launch->stats_fd, lines->ready[1], launch->log_fd};
    int moved[4];
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    int words = fcntl(lines->words[1], F_DUPFD_CLOEXEC, FIRST_FREE_FD);

    /* First all out of the way, then each to its place. */
    for (int i = 0; i < 4; i++)
        moved[i] = fcntl(wanted[i], F_DUPFD_CLOEXEC, FIRST_FREE_FD);
    if (words < 0 || dup2(words, STDOUT_FILENO) < 0 || dup2(words, STDERR_FILENO) < 0)
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

static void set_environment(const struct process *process)
{
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

static void become_user(const struct launch *launch)
{
    if (!launch->change_user)
        return;
    if (setgroups((size_t)launch->groups_len, launch->groups) < 0 ||
        setresgid(launch->gid, launch->gid, launch->gid) < 0 ||
        setresuid(launch->uid, launch->uid, launch->uid) < 0)
        fail("becoming user %u", (unsigned)launch->uid);
}

static __attribute__((noreturn)) void run(const struct process *process,
                                          const struct launch *launch, const struct lines *lines,
                                          pid_t supervisor)
{
    const char *program = program_of(process->kind);
    char *path = xasprintf("%s/%s", launch->bin_dir, program);
    char *argv[] = {path, NULL};

    setpgid(0, 0);
    reset_signals();
    place_descriptors(lines, launch);
    set_environment(process);
    become_user(launch);
    /* After the change of user, which clears it; and the supervisor may already be gone. */
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
        fail("PR_SET_PDEATHSIG");
    if (getppid() != supervisor)
        _exit(PROCESS_EXIT_NOT_STARTED);
    execv(path, argv);
    dprintf(STDERR_FILENO, "%s: %s (in %s)\n", program, strerror(errno), launch->bin_dir);
    _exit(PROCESS_EXIT_NOT_STARTED);
}

int process_spawn(struct process *process, const struct launch *launch, struct error *err)
{
    struct lines lines;
    pid_t supervisor = getpid();
    int failed = open_lines(&lines, launch->settings, err);

    if (failed < 0)
        return failed;
    if (process->slot != NULL)
        stats_reason(process->slot, ""); /* what was said while there was none */
    pid_t pid = fork();
    if (pid == 0)
        run(process, launch, &lines, supervisor);
    if (pid < 0)
        error_system(err, "fork");
    close(lines.settings);
    close(lines.ready[1]);
    close(lines.words[1]);
    if (pid < 0) {
        close(lines.ready[0]);
        close(lines.words[0]);
        return -ERR_SYSTEM;
    }
    setpgid(pid, pid); /* on both sides, whoever comes first */
    process->pid = pid;
    process->hung = false;
    process->ready_fd = lines.ready[0];
    process->words_fd = lines.words[0];
    process->ready_line = (struct ready_line){0};
    process->words = (struct words){0};
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

int process_watch(struct process *process, int epoll_fd, struct error *err)
{
    struct epoll_event ready = {.events = EPOLLIN, .data.ptr = &process->ready_watch};
    struct epoll_event words = {.events = EPOLLIN, .data.ptr = &process->words_watch};

    process->watched_by = epoll_fd;
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, process->ready_fd, &ready) < 0 ||
        epoll_ctl(epoll_fd, EPOLL_CTL_ADD, process->words_fd, &words) < 0)
        return error_system(err, "epoll");
    return 0;
}

static void close_pipe(const struct process *process, int *fd)
{
    if (*fd < 0)
        return;
    /* Closing is not enough: another child between fork and exec has the pipe too, and as long as it does
     * its events would go on coming, for a process that may be forgotten by then. */
    if (process->watched_by >= 0)
        epoll_ctl(process->watched_by, EPOLL_CTL_DEL, *fd, NULL);
    close(*fd);
    *fd = -1;
}

void process_close_ready(struct process *process)
{
    close_pipe(process, &process->ready_fd);
}

void process_close_words(struct process *process)
{
    close_pipe(process, &process->words_fd);
}

enum event process_ended(struct process *process, const siginfo_t *info)
{
    bool exited = info->si_code == CLD_EXITED;

    /* Before the reaping: until then the number can't belong to anybody else. */
    kill(-process->pid, SIGKILL);
    process_close_ready(process);
    process_close_words(process);
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
                 process->hung ? " (it gave no sign of life)" : "");
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

uint64_t process_done(const struct process *process)
{
    switch (process->kind) {
    case PROCESS_CONSUMER:
        return stats_counter(process->slot, STATS_DISPATCHED);
    case PROCESS_WORKER:
        return stats_counter(process->slot, STATS_HANDLED_DONE);
    case PROCESS_MONITOR:
        break;
    }
    return 0;
}

uint64_t process_failed(const struct process *process)
{
    switch (process->kind) {
    case PROCESS_CONSUMER:
        return stats_counter(process->slot, STATS_DISPATCH_OVERSIZED);
    case PROCESS_WORKER:
        return stats_counter(process->slot, STATS_HANDLED_REJECT);
    case PROCESS_MONITOR:
        break;
    }
    return 0;
}

bool process_matches(const struct process *process, const char *target)
{
    char numbered[PROCESS_NAME_SIZE + 12];

    snprintf(numbered, sizeof(numbered), "%s:%d", process->name, process->number);
    return strcmp(target, process->title) == 0 || strcmp(target, process->name) == 0 ||
           strcmp(target, numbered) == 0;
}
