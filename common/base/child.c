#include "common/base/child.h"

#include "common/base/alloc.h"
#include "common/base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

struct command_line {
    const char *config;
    const char *name;
    int number;
};

static const char *kind_of(const char *program)
{
    return strrchr(program, '-') + 1;
}

/* There is more than one consumer by name, more than one worker by number, and one monitor. */
static bool takes_name(const char *program)
{
    return strcmp(kind_of(program), "consumer") == 0;
}

static bool takes_slot(const char *program)
{
    return strcmp(kind_of(program), "worker") == 0;
}

static void print_help(const char *program, const char *summary)
{
    printf("%s - %s\n\n"
           "usage: %s [--config FILE]%s%s\n\n"
           "  --config FILE  the settings (default: $MQTT_BRIDGE_CONFIG; without one, the\n"
           "                 environment and the defaults)\n",
           program, summary, program, takes_name(program) ? " [--name NAME]" : "",
           takes_slot(program) ? " [--slot N]" : "");
    if (takes_name(program))
        printf(
            "  --name NAME    which consumer: that of [consumer:NAME]; default: that of [mqtt]\n");
    if (takes_slot(program))
        printf("  --slot N       which worker of this host (default 1)\n");
    printf("  --version\n\n"
           "mqtt-bridge-supervisor starts and watches this program; by itself it runs in the\n"
           "foreground until SIGTERM.\n");
}

static int read_number(const char *text, const char *program)
{
    uint64_t number = 0;

    if (!bytes_to_u64(bytes_of(text), &number) || number < 1 || number > 9999) {
        fprintf(stderr, "%s: --slot %s: must be a number from 1 to 9999\n", program, text);
        exit(CHILD_EXIT_SETTINGS);
    }
    return (int)number;
}

static struct command_line parse(int argc, char **argv, const char *program, const char *summary)
{
    static const struct option NONE = {NULL, 0, NULL, 0};
    static const struct option NAME = {"name", required_argument, NULL, 'n'};
    static const struct option SLOT = {"slot", required_argument, NULL, 's'};
    const struct option options[] = {{"config", required_argument, NULL, 'c'},
                                     {"help", no_argument, NULL, 'h'},
                                     {"version", no_argument, NULL, 'V'},
                                     takes_name(program)   ? NAME
                                     : takes_slot(program) ? SLOT
                                                           : NONE,
                                     NONE};
    struct command_line line = {.config = getenv("MQTT_BRIDGE_CONFIG"), .number = 1};
    int option;

    if (line.config != NULL && line.config[0] == '\0')
        line.config = NULL; /* as every variable that is empty */
    while ((option = getopt_long(argc, argv, "c:h", options, NULL)) != -1) {
        switch (option) {
        case 'c':
            line.config = optarg;
            break;
        case 'n':
            line.name = optarg;
            break;
        case 's':
            line.number = read_number(optarg, program);
            break;
        case 'h':
            print_help(program, summary);
            exit(0);
        case 'V':
            printf("%s %s\n", program, MQTT_BRIDGE_VERSION);
            exit(0);
        default:
            fprintf(stderr, "%s: see %s --help\n", program, program);
            exit(CHILD_EXIT_SETTINGS);
        }
    }
    if (optind < argc) {
        fprintf(stderr, "%s: unexpected argument \"%s\"; see %s --help\n", program, argv[optind],
                program);
        exit(CHILD_EXIT_SETTINGS);
    }
    return line;
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

static void read_whole(int fd, struct buf *out)
{
    off_t at = 0;

    for (;;) {
        ssize_t got = pread(fd, buf_reserve(out, 4096), 4096, at);
        if (got <= 0)
            return;
        out->len += (size_t)got;
        at += got;
    }
}

static void load_settings(struct child *child, const struct command_line *line, const char *program)
{
    int fd = inherited_fd("MQTT_BRIDGE_SETTINGS_FD");
    struct buf text = {0};
    struct error err = {0};

    if (fd >= 0) {
        read_whole(fd, &text);
        close(fd);
        if (settings_unpack(&child->settings, buf_bytes(&text), &err) < 0) {
            fprintf(stderr, "%s: %s\n", program, err.text);
            exit(CHILD_EXIT_SETTINGS);
        }
    } else if (settings_load(&child->settings, line->config, &text) < 0) {
        fprintf(stderr, "%.*s", BYTES_ARG(buf_bytes(&text)));
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
    if ((uint32_t)slot >= child->stats->slots_len) {
        fprintf(stderr, "%s: MQTT_BRIDGE_STATS_SLOT=%d: there are %u\n", program, slot,
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
    struct log_options options = {.level = LOG_LEVEL_INFO, .process = child->name};
    int fd = inherited_fd("MQTT_BRIDGE_LOG_FD");

    log_level_parse(bytes_of(child->settings->log.level), &options.level);
    options.format =
        strcmp(child->settings->log.format, "json") == 0 ? LOG_FORMAT_JSON : LOG_FORMAT_LINE;
    options.slot = child->number;
    child->log_fd = fd >= 0 ? fd : open_log_file(child);
    options.fd = child->log_fd;
    log_open(&options);
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

void child_start(struct child *child, int argc, char **argv, const char *program,
                 const char *summary)
{
    struct command_line line = parse(argc, argv, program, summary);
    const char *kind = kind_of(program);
    int number = inherited("MQTT_BRIDGE_SLOT");

    *child = (struct child){.notify_fd = inherited_fd("MQTT_BRIDGE_NOTIFY_FD")};
    child->supervised = child->notify_fd >= 0;
    child->number = number > 0 ? number : line.number;
    const char *given = getenv("MQTT_BRIDGE_NAME");
    if (given == NULL && line.name != NULL)
        child->name = xasprintf("%s:%s", kind, line.name);
    else
        child->name = xstrdup(given != NULL ? given : kind);
    load_settings(child, &line, program);
    attach_stats(child, program);
    open_log(child);
    open_signals(child);
    stats_beat(child->slot);
}

void child_ready(struct child *child)
{
    if (child->notify_fd < 0)
        return;
    /* The supervisor may be gone; then it does not matter. */
    ssize_t ignored = write(child->notify_fd, "READY\n", 6);
    (void)ignored;
    close(child->notify_fd);
    child->notify_fd = -1;
}

static bool is_same_file(int left, int right)
{
    struct stat a;
    struct stat b;

    return fstat(left, &a) == 0 && fstat(right, &b) == 0 && a.st_dev == b.st_dev &&
           a.st_ino == b.st_ino;
}

void child_give_up(const struct child *child, const struct error *err)
{
    log_critical(LOG_PLAIN, "Can't start: %s", err->text);
    /* The supervisor knows by itself whose words they are. */
    if (!is_same_file(child->log_fd, STDERR_FILENO))
        fprintf(stderr, "%s%s%s\n", child->supervised ? "" : program_invocation_short_name,
                child->supervised ? "" : ": ", err->text);
    exit(err->code == ERR_USAGE ? CHILD_EXIT_SETTINGS : CHILD_EXIT_FAILED);
}

static void reopen_log(struct child *child)
{
    int former = child->log_fd;

    int fresh = open_log_file(child);

    /* Under the same number, for another thread may be writing at this moment. */
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

    while (read(child->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
        if (info.ssi_signo == SIGQUIT)
            result = CHILD_QUIT;
        else if (info.ssi_signo == SIGTERM || info.ssi_signo == SIGINT)
            result = result == CHILD_QUIT ? CHILD_QUIT : CHILD_STOP;
        else if (info.ssi_signo == SIGUSR1 && child->settings->log.file[0] != '\0')
            reopen_log(child);
    }
    return result;
}

void child_end(struct child *child)
{
    close(child->signal_fd);
    if (child->notify_fd >= 0)
        close(child->notify_fd);
    settings_free(child->settings);
    child->settings = NULL;
    free(child->name);
    child->name = NULL;
}
