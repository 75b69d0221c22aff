#include "worker/handler_process.h"

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/file.h"
#include "common/base/log.h"
#include "common/base/sys.h"
#include "common/base/words.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define READ_SIZE        ((size_t)64 * 1024)
#define READS_MAX        16 /* reads in one step: other descriptors wait meanwhile */
#define KEPT_MAX         ((size_t)1024 * 1024) /* a larger buffer is freed once it is empty */
#define TERM_MS          1000                  /* from the end of standard input to SIGTERM */
#define KILL_MS          2000                  /* from the end of standard input to SIGKILL */
#define CLOSED_MS        2000                  /* from the end of a pipe to SIGKILL */
#define EXIT_MS          50   /* without a pidfd: between checks whether the process has ended */
#define ERROR_LINE       1000 /* bytes of a line on standard error; the rest of it is left out */
#define ERROR_LINES_MAX  100  /* a second */
#define EXIT_NOT_STARTED 127

struct handler_process {
    const struct settings *settings;
    const struct settings_handler *handler;
    enum handler_process_state state;
    pid_t pid;
    int in;     /* standard input of the process; -1: closed */
    int out;    /* standard output of the process */
    int errors; /* standard error of the process */
    int exit;   /* pidfd of the process; -1: the kernel, or a filter of system calls, gives none */
    struct buf to;
    size_t written; /* bytes of `to` that are written */
    struct buf from;
    size_t taken;   /* bytes of `from` that were given as lines */
    size_t scanned; /* bytes of `from` that were searched for a line end */
    int64_t term_ms;
    int64_t kill_ms;                /* INT64_MAX: SIGKILL was sent */
    const char *closed;             /* ENDING: the end that it has closed */
    char why[HANDLER_CAUSE_LENGTH]; /* given to handler_process_kill; "": nothing was */
    char cause[HANDLER_CAUSE_LENGTH];

    char error_line[ERROR_LINE];
    size_t error_len;
    char last_error[HANDLER_CAUSE_LENGTH / 2]; /* the last line on standard error */
    int64_t error_ms;                          /* since when error_lines are counted */
    unsigned error_lines;
    uint64_t unlogged;
};

struct handler_process *handler_process_new(const struct settings *settings,
                                            const struct settings_handler *handler)
{
    struct handler_process *process = xcalloc(1, sizeof(*process));

    process->settings = settings;
    process->handler = handler;
    process->in = process->out = process->errors = process->exit = -1;
    return process;
}

static void close_all(struct handler_process *process)
{
    file_close(&process->in);
    file_close(&process->out);
    file_close(&process->errors);
    file_close(&process->exit);
}

static void kill_group(const struct handler_process *process)
{
    kill(-process->pid, SIGKILL);
    kill(process->pid, SIGKILL);
}

void handler_process_free(struct handler_process *process)
{
    if (process->state != HANDLER_DOWN) {
        kill_group(process);
        waitpid(process->pid, NULL, WNOHANG);
    }
    close_all(process);
    buf_free(&process->to);
    buf_free(&process->from);
    free(process);
}

enum handler_process_state handler_process_state(const struct handler_process *process)
{
    return process->state;
}

const char *handler_process_cause(const struct handler_process *process)
{
    return process->cause;
}

/* The worker's environment without settings, secrets and the supervisor's MQTT_BRIDGE_... variables. */
static char **make_environment(const struct handler_process *process)
{
    char **environment =
        settings_environment(process->settings, bytes_of(process->handler->pass_env));
    size_t kept = 0;

    for (size_t i = 0; environment[i] != NULL; i++)
        if (strncmp(environment[i], "MQTT_BRIDGE_", strlen("MQTT_BRIDGE_")) != 0)
            environment[kept++] = environment[i];
    environment[kept] = NULL;
    return environment;
}

/* [0] is the child's end, [1] the worker's. */
struct pipes {
    int in[2];
    int out[2];
    int errors[2];
};

static void close_pipes(struct pipes *pipes)
{
    for (size_t i = 0; i < 2; i++) {
        file_close(&pipes->in[i]);
        file_close(&pipes->out[i]);
        file_close(&pipes->errors[i]);
    }
}

static int open_pipe(int pair[2], bool child_reads)
{
    int ends[2];

    if (pipe2(ends, O_CLOEXEC) < 0)
        return -1;
    pair[0] = ends[child_reads ? 0 : 1];
    pair[1] = ends[child_reads ? 1 : 0];
    return fcntl(pair[1], F_SETFL, O_NONBLOCK);
}

static int open_pipes(struct pipes *pipes, struct error *err)
{
    *pipes = (struct pipes){{-1, -1}, {-1, -1}, {-1, -1}};
    if (open_pipe(pipes->in, true) == 0 && open_pipe(pipes->out, false) == 0 &&
        open_pipe(pipes->errors, false) == 0)
        return 0;
    error_system(err, "pipe");
    close_pipes(pipes);
    return -ERR_SYSTEM;
}

/* In the child. An error goes to standard error, which the worker logs. */
static __attribute__((noreturn)) void run(const struct pipes *pipes, char **words,
                                          char **environment, pid_t worker)
{
    setpgid(0, 0);
    sys_reset_signals(NULL);
    if (dup2(pipes->in[0], STDIN_FILENO) < 0 || dup2(pipes->out[0], STDOUT_FILENO) < 0 ||
        dup2(pipes->errors[0], STDERR_FILENO) < 0)
        _exit(EXIT_NOT_STARTED);
    close_range(STDERR_FILENO + 1, ~0U, 0);
    /* The worker may be gone by now. */
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != worker)
        _exit(EXIT_NOT_STARTED);
    execvpe(words[0], words, environment);
    dprintf(STDERR_FILENO, "%s: %s\n", words[0], strerror(errno));
    _exit(EXIT_NOT_STARTED);
}

static void begin(struct handler_process *process, struct pipes *pipes, pid_t pid)
{
    setpgid(pid, pid); /* parent and child both do it: either may run first */
    process->pid = pid;
    process->exit = pidfd_open(pid, 0);
    process->in = pipes->in[1];
    process->out = pipes->out[1];
    process->errors = pipes->errors[1];
    pipes->in[1] = pipes->out[1] = pipes->errors[1] = -1;
    process->state = HANDLER_RUNNING;
    process->kill_ms = 0;
    process->written = process->taken = process->scanned = process->error_len = 0;
    buf_clear(&process->to);
    buf_clear(&process->from);
    process->why[0] = process->last_error[0] = '\0';
}

int handler_process_start(struct handler_process *process, struct error *err)
{
    struct pipes pipes;
    char **words;
    pid_t worker = getpid();

    if (words_split(&words, bytes_of(process->handler->command), err) < 0)
        return -(int)err->code;
    if (open_pipes(&pipes, err) < 0) {
        words_free(words);
        return -ERR_SYSTEM;
    }
    char **environment = make_environment(process);
    pid_t pid = fork();
    if (pid == 0)
        run(&pipes, words, environment, worker);
    if (pid > 0)
        begin(process, &pipes, pid);
    else
        error_system(err, "fork");
    close_pipes(&pipes);
    free(environment);
    words_free(words);
    return pid > 0 ? 0 : -ERR_SYSTEM;
}

static void tell_unlogged(struct handler_process *process)
{
    if (process->unlogged > 0)
        log_notice(LOG_WITH(log_number("lines", (int64_t)process->unlogged)),
                   "[handler:%s] wrote more than %d lines in a second: %llu are left out",
                   process->handler->name, ERROR_LINES_MAX, (unsigned long long)process->unlogged);
    process->unlogged = 0;
}

static void log_error_line(struct handler_process *process)
{
    int64_t now_ms = clock_monotonic_ms();
    char text[ERROR_LINE + 1];

    bytes_to_printable((struct bytes){process->error_line, process->error_len}, text, sizeof(text));
    process->error_len = 0;
    if (text[0] == '\0')
        return;
    snprintf(process->last_error, sizeof(process->last_error), "%s", text);
    if (now_ms - process->error_ms >= 1000) {
        tell_unlogged(process);
        process->error_ms = now_ms;
        process->error_lines = 0;
    }
    if (process->error_lines++ < ERROR_LINES_MAX)
        log_notice(LOG_WITH(log_number("handler_pid", process->pid)), "[handler:%s] %s",
                   process->handler->name, text);
    else
        process->unlogged++;
}

static void take_errors(struct handler_process *process, const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (text[i] == '\n')
            log_error_line(process);
        else if (process->error_len < ERROR_LINE)
            process->error_line[process->error_len++] = text[i];
}

static void read_errors(struct handler_process *process)
{
    char text[16 * 1024];
    ssize_t got = process->errors < 0 ? -1 : read(process->errors, text, sizeof(text));

    if (got > 0)
        take_errors(process, text, (size_t)got);
    else if (got == 0)
        file_close(&process->errors);
}

/* The end is closed. It may be about to exit: it has some time for that, in which its output is still read. */
static void begin_ending(struct handler_process *process, const char *closed)
{
    file_close(&process->in);
    if (process->state != HANDLER_RUNNING)
        return;
    process->state = HANDLER_ENDING;
    process->closed = closed;
    process->kill_ms = clock_monotonic_ms() + CLOSED_MS;
}

static void kill_now(struct handler_process *process)
{
    kill_group(process);
    process->kill_ms = INT64_MAX;
}

void handler_process_kill(struct handler_process *process, const char *why)
{
    if (process->state == HANDLER_DOWN || process->why[0] != '\0')
        return;
    process->state = HANDLER_ENDING;
    snprintf(process->why, sizeof(process->why), "%s", why);
    file_close(&process->in);
    file_close(&process->out);
    process->taken = process->scanned = process->from.len;
    kill_now(process);
}

void handler_process_finish(struct handler_process *process)
{
    if (process->state != HANDLER_RUNNING)
        return;
    process->state = HANDLER_FINISHING;
    process->term_ms = clock_monotonic_ms() + TERM_MS;
    process->kill_ms = clock_monotonic_ms() + KILL_MS;
    file_close(&process->in);
}

void handler_process_terminate(struct handler_process *process)
{
    int64_t now_ms = clock_monotonic_ms();

    handler_process_finish(process);
    if (process->state == HANDLER_FINISHING && process->term_ms > now_ms &&
        process->term_ms != INT64_MAX)
        process->term_ms = now_ms;
}

/* Removes what was given as lines from the buffer. */
static void compact(struct handler_process *process)
{
    struct buf *from = &process->from;

    if (process->taken == 0)
        return;
    memmove(from->data, from->data + process->taken, from->len - process->taken);
    from->len -= process->taken;
    process->scanned -= process->taken;
    process->taken = 0;
    if (from->len == 0 && from->capacity > KEPT_MAX)
        buf_free(from);
}

static void read_out(struct handler_process *process)
{
    struct buf *from = &process->from;
    ssize_t got = (ssize_t)READ_SIZE;

    compact(process);
    for (int i = 0; i < READS_MAX && process->out >= 0 && got == (ssize_t)READ_SIZE; i++) {
        got = read(process->out, buf_reserve(from, READ_SIZE), READ_SIZE);
        if (got > 0)
            from->len += (size_t)got;
        else if (got == 0 || (errno != EAGAIN && errno != EINTR)) {
            file_close(&process->out);
            begin_ending(process, "output");
        }
    }
}

static void describe_end(const struct handler_process *process, const siginfo_t *info, char *how,
                         size_t size)
{
    const char *name = sigabbrev_np(info->si_status);

    if (process->why[0] != '\0')
        snprintf(how, size, "%s", process->why);
    else if (info->si_code == CLD_EXITED)
        snprintf(how, size, "exit code %d", info->si_status);
    else if (info->si_status == SIGKILL && process->kill_ms == INT64_MAX)
        snprintf(how, size, "it closed its standard %s and did not end: killed after %d ms",
                 process->closed, CLOSED_MS);
    else
        snprintf(how, size, "signal SIG%s", name != NULL ? name : "?");
}

static void explain_end(struct handler_process *process, const siginfo_t *info)
{
    const char *last = process->last_error;
    char how[HANDLER_CAUSE_LENGTH];

    describe_end(process, info, how, sizeof(how));
    snprintf(process->cause, sizeof(process->cause), "%s%s%s%s", how, last[0] != '\0' ? " (" : "",
             last, last[0] != '\0' ? ")" : "");
}

/* If the process has exited: reads what it has written. Children of the process may hold the pipes, so the pipes may
 * stay open. */
static void reap(struct handler_process *process)
{
    siginfo_t info = {0};

    if (waitid(P_PID, (id_t)process->pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
        info.si_pid == 0)
        return;
    /* Before waitpid: until then the group's number can't belong to another process. */
    kill_group(process);
    waitpid(process->pid, NULL, WNOHANG);
    read_out(process);
    for (int i = 0; i < READS_MAX && process->errors >= 0; i++)
        read_errors(process);
    if (process->error_len > 0)
        log_error_line(process);
    tell_unlogged(process);
    close_all(process);
    explain_end(process, &info);
    process->state = HANDLER_DOWN;
}

struct buf *handler_process_out(struct handler_process *process)
{
    return &process->to;
}

static void write_out(struct handler_process *process)
{
    while (process->in >= 0 && process->written < process->to.len) {
        ssize_t done = write(process->in, process->to.data + process->written,
                             process->to.len - process->written);

        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0 && errno != EAGAIN)
            begin_ending(process, "input");
        if (done < 0)
            return;
        process->written += (size_t)done;
    }
    if (process->to.capacity > KEPT_MAX)
        buf_free(&process->to);
    buf_clear(&process->to);
    process->written = 0;
}

/* What poll found; fds NULL: the descriptor is read in any case. */
static short found(int fd, const struct pollfd *fds, unsigned len)
{
    for (unsigned i = 0; i < len; i++)
        if (fds[i].fd == fd)
            return fds[i].revents;
    return fds == NULL ? POLLIN : 0;
}

void handler_process_read(struct handler_process *process, const struct pollfd *fds, unsigned len)
{
    if (found(process->errors, fds, len) != 0)
        read_errors(process);
    if (found(process->out, fds, len) != 0)
        read_out(process);
    /* The writing end of a pipe has an error once nobody can read from it. */
    if ((found(process->in, fds, len) & POLLERR) != 0)
        begin_ending(process, "input");
    if (process->exit >= 0 && found(process->exit, fds, len) != 0)
        reap(process);
}

bool handler_process_line(struct handler_process *process, char **text, size_t *len)
{
    struct buf *from = &process->from;
    size_t left = from->len - process->scanned;
    char *start = from->data + process->taken;
    char *end = left > 0 ? memchr(from->data + process->scanned, '\n', left) : NULL;

    if (end == NULL) {
        process->scanned = from->len;
        if (from->len - process->taken > HANDLER_LINE_MAX)
            handler_process_kill(process, "it wrote a line of more than 16 MB");
        return false;
    }
    *text = start;
    *len = (size_t)(end - start);
    process->taken += *len + 1;
    process->scanned = process->taken;
    return true;
}

void handler_process_step(struct handler_process *process, int64_t now_ms)
{
    if (process->state == HANDLER_RUNNING)
        write_out(process);
    if (process->state == HANDLER_FINISHING && now_ms >= process->term_ms) {
        kill(-process->pid, SIGTERM);
        process->term_ms = INT64_MAX;
    }
    if (process->state == HANDLER_FINISHING && now_ms >= process->kill_ms)
        handler_process_kill(process, "it did not end when it was asked to");
    if (process->state == HANDLER_ENDING && now_ms >= process->kill_ms)
        kill_now(process);
    if (process->state != HANDLER_DOWN && process->exit < 0)
        reap(process);
}

int64_t handler_process_deadline_ms(const struct handler_process *process)
{
    int64_t deadline = -1;

    switch (process->state) {
    case HANDLER_DOWN:
        return -1;
    case HANDLER_RUNNING:
        break;
    case HANDLER_FINISHING:
        deadline = process->term_ms < process->kill_ms ? process->term_ms : process->kill_ms;
        break;
    case HANDLER_ENDING:
        deadline = process->kill_ms == INT64_MAX ? -1 : process->kill_ms;
        break;
    }
    if (process->exit < 0)
        deadline = clock_earlier_ms(deadline, clock_monotonic_ms() + EXIT_MS);
    return deadline;
}

unsigned handler_process_poll(const struct handler_process *process,
                              struct pollfd fds[HANDLER_PROCESS_FDS])
{
    bool has_more = process->written < process->to.len;
    unsigned len = 0;

    if (process->in >= 0)
        fds[len++] = (struct pollfd){.fd = process->in, .events = has_more ? POLLOUT : 0};
    if (process->out >= 0)
        fds[len++] = (struct pollfd){.fd = process->out, .events = POLLIN};
    if (process->errors >= 0)
        fds[len++] = (struct pollfd){.fd = process->errors, .events = POLLIN};
    if (process->exit >= 0)
        fds[len++] = (struct pollfd){.fd = process->exit, .events = POLLIN};
    return len;
}
