#include "common/runtime/child.h"

#include "common/base/alloc.h"
#include "common/base/file.h"
#include "common/base/log.h"
#include "common/base/process_kind.h"
#include "common/runtime/command_line.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#define BEAT_MOST_MS 1000

/* The kind of "mqtt-bridge-worker". */
static enum process_kind kind_of(const char *program)
{
    return process_kind_of(strrchr(program, '-') + 1);
}

/* The option by which a program is named: consumers have names, workers numbers, and there is one monitor. */
static const char *option_of(const char *program)
{
    enum process_kind kind = kind_of(program);

    return kind == PROCESS_CONSUMER ? "name" : kind == PROCESS_WORKER ? "slot" : NULL;
}

static void append_help(struct buf *help, const struct command_line *line, const char *summary)
{
    bool name = kind_of(line->program) == PROCESS_CONSUMER;
    bool slot = kind_of(line->program) == PROCESS_WORKER;

    buf_printf(help,
               "%s - %s\n\n"
               "usage: %s [--config FILE]%s\n\n"
               "  --config FILE  the settings (default: $MQTT_BRIDGE_CONFIG; without one, the\n"
               "                 environment and the defaults)\n",
               line->program, summary, line->program,
               name   ? " [--name NAME]"
               : slot ? " [--slot N]"
                      : "");
    if (name)
        buf_append_text(help, "  --name NAME    which consumer: that of [consumer:NAME]; default: "
                              "that of [mqtt]\n");
    if (slot)
        buf_append_text(help, "  --slot N       which worker of this host (default 1)\n");
    buf_append_text(
        help, "  --version\n\n"
              "mqtt-bridge-supervisor starts and watches this program; by itself it runs in the\n"
              "foreground until SIGTERM.\n");
}

static int read_slot(const struct command_line *line)
{
    uint64_t number = 0;

    if (!bytes_to_u64(bytes_of(line->value), &number) || number < 1 || number > 9999) {
        fprintf(stderr, "%s: --slot %s: must be a number from 1 to 9999\n", line->program,
                line->value);
        exit(CHILD_EXIT_SETTINGS);
    }
    return (int)number;
}

/* A descriptor or number that the supervisor named in the environment; -1 without one. */
static int inherited(const char *name)
{
    const char *text = getenv(name);
    uint64_t value = 0;

    if (text == NULL || !bytes_to_u64(bytes_of(text), &value) || value > 65535)
        return -1;
    return (int)value;
}

static int inherited_fd(const char *name)
{
    int fd = inherited(name);

    if (fd >= 0 && fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
        return -1;
    return fd;
}

static void load_settings(struct child *child, const struct command_line *line)
{
    int fd = inherited_fd("MQTT_BRIDGE_SETTINGS_FD");
    struct buf text = {0};
    struct error err = {0};

    if (fd >= 0) {
        int result = file_read_fd(fd, "MQTT_BRIDGE_SETTINGS_FD", SIZE_MAX, &text, &err);
        close(fd);
        if (result < 0 || settings_unpack(&child->settings, buf_bytes(&text), &err) < 0) {
            fprintf(stderr, "%s: %s\n", line->program, err.text);
            exit(CHILD_EXIT_SETTINGS);
        }
    } else if (settings_load(&child->settings, line->config,
                             kind_of(line->program) == PROCESS_WORKER, &text) < 0) {
        settings_print_lines(line->program, "", &text);
        exit(CHILD_EXIT_SETTINGS);
    }
    buf_free(&text);
}

static void attach_stats(struct child *child, const char *program)
{
    int fd = inherited_fd("MQTT_BRIDGE_STATS_FD");
    int slot = inherited("MQTT_BRIDGE_STATS_SLOT");
    struct error err = {0};

    if (fd < 0 || slot < 0) {
        child->stats = stats_private();
        atomic_store(child->stats->log_level, (int)child->settings->log.level);
        child->slot = &child->stats->slot[0];
        snprintf(child->slot->name, sizeof(child->slot->name), "%s", child->name);
        child->slot->number = (uint32_t)child->number;
        return;
    }
    if (stats_attach(&child->stats, fd, &err) < 0) {
        fprintf(stderr, "%s: %s\n", program, err.text);
        exit(CHILD_EXIT_SETTINGS);
    }
    close(fd);
    if ((size_t)slot >= child->stats->slots_len) {
        fprintf(stderr, "%s: MQTT_BRIDGE_STATS_SLOT=%d: there are %zu\n", program, slot,
                child->stats->slots_len);
        exit(CHILD_EXIT_SETTINGS);
    }
    child->slot = &child->stats->slot[slot];
}

static int open_log_file(const struct child *child)
{
    if (child->settings->log.file[0] == '\0')
        return STDERR_FILENO;
    int fd = open(child->settings->log.file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
    if (fd < 0)
        fprintf(stderr, "%s: %s; logging to standard error\n", child->settings->log.file,
                strerror(errno));
    return fd < 0 ? STDERR_FILENO : fd;
}

static void open_log(struct child *child)
{
    struct log_options options = {
        .format = child->settings->log.format, .process = child->name, .slot = child->number};
    int fd = inherited_fd("MQTT_BRIDGE_LOG_FD");

    child->log_fd = fd >= 0 ? fd : open_log_file(child);
    options.fd = child->log_fd;
    log_open(&options);
    log_follow_level(child->stats->log_level);
    log_give_to(stats_log, child->slot);
}

static void open_signals(struct child *child)
{
    sigset_t signals;

    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGQUIT);
    sigaddset(&signals, SIGHUP);
    sigaddset(&signals, SIGUSR1);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    signal(SIGPIPE, SIG_IGN);
    child->signal_fd = signalfd(-1, &signals, SFD_NONBLOCK | SFD_CLOEXEC);
    if (child->signal_fd < 0) {
        perror("signalfd");
        exit(CHILD_EXIT_FAILED);
    }
}

/* Sets name and number from the supervisor's variables, else from the program's own option. */
static void name_child(struct child *child, const struct command_line *line)
{
    const char *kind = PROCESS_KIND_NAMES[kind_of(line->program)];
    const char *given = getenv("MQTT_BRIDGE_NAME");
    int number = inherited("MQTT_BRIDGE_SLOT");
    bool slot = line->value != NULL && kind_of(line->program) == PROCESS_WORKER;

    child->number = slot ? read_slot(line) : 1;
    if (number > 0)
        child->number = number;
    if (given == NULL && line->value != NULL && !slot)
        child->name = xasprintf("%s:%s", kind, line->value);
    else
        child->name = xstrdup(given != NULL ? given : kind);
}

void child_start(struct child *child, int argc, char **argv, const char *program,
                 const char *summary)
{
    struct command_line line = {.program = program, .option = option_of(program)};
    struct buf help = {0};

    append_help(&help, &line, summary);
    line.help = buf_text(&help);
    command_line_read(&line, argc, argv);
    buf_free(&help);
    *child = (struct child){.notify_fd = inherited_fd("MQTT_BRIDGE_NOTIFY_FD")};
    child->supervised = child->notify_fd >= 0;
    name_child(child, &line);
    load_settings(child, &line);
    attach_stats(child, program);
    open_log(child);
    settings_log_notices(child->settings); /* none under a supervisor, which has logged them */
    open_signals(child);
    stats_beat(child->slot);
}

void child_ready(struct child *child)
{
    if (child->notify_fd < 0)
        return;
    /* A failure means that the supervisor is gone, and this process is about to be killed. */
    ssize_t ignored = write(child->notify_fd, "READY\n", 6);
    (void)ignored;
    close(child->notify_fd);
    child->notify_fd = -1;
}

void child_fail_start(const struct child *child, const struct error *err)
{
    log_critical(LOG_PLAIN, "Can't start: %s", err->text);
    /* The supervisor adds the program's name itself. */
    if (!file_is_same(child->log_fd, STDERR_FILENO))
        fprintf(stderr, "%s%s%s\n", child->supervised ? "" : program_invocation_short_name,
                child->supervised ? "" : ": ", err->text);
    exit(err->code == ERR_USAGE ? CHILD_EXIT_SETTINGS : CHILD_EXIT_FAILED);
}

/* True if the log is a regular file, which log rotation may have moved. /dev/stdout would be another pipe for a child
 * than for the supervisor, and opening a FIFO would block. */
static bool can_have_moved(const char *file)
{
    struct stat info;

    return file[0] != '\0' && (stat(file, &info) < 0 || S_ISREG(info.st_mode));
}

static void reopen_log(struct child *child)
{
    int former = child->log_fd;

    int fresh = open_log_file(child);

    /* The descriptor's number is kept, since another thread may be writing to it at this moment. */
    if (former > STDERR_FILENO && dup3(fresh, former, O_CLOEXEC) == former) {
        if (fresh > STDERR_FILENO)
            close(fresh);
        fresh = former;
    }
    child->log_fd = fresh;
    log_reopen(fresh);
}

enum child_signal child_read_signal(struct child *child)
{
    struct signalfd_siginfo info;
    enum child_signal result = CHILD_NONE;

    while (read(child->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info))
        if (info.ssi_signo == SIGQUIT)
            result = CHILD_QUIT;
        else if (info.ssi_signo == SIGTERM || info.ssi_signo == SIGINT)
            result = result == CHILD_QUIT ? CHILD_QUIT : CHILD_STOP;
        else if (info.ssi_signo == SIGUSR1 && can_have_moved(child->settings->log.file))
            reopen_log(child);
    return result;
}

int64_t child_beat_ms(const struct child *child)
{
    int64_t quarter = child->settings->supervisor.hang_timeout_ms / 4;

    return quarter > 0 && quarter < BEAT_MOST_MS ? quarter : BEAT_MOST_MS;
}

void child_end(struct child *child)
{
    close(child->signal_fd);
    file_close(&child->notify_fd);
    settings_free(child->settings);
    child->settings = NULL;
    free(child->name);
    child->name = NULL;
    /* Not stats_free: an abandoned thread may still count or log. The memory is freed when the process ends. */
    free(child->stats);
    child->stats = NULL;
}
