/* mqtt-bridge-supervisor: starts, watches, restarts, scales and stops the bridge's processes.
 *
 * The only wait of the program is here, epoll: signals, the control socket, the children's pipes, deadlines. It takes
 * one event at a time, so that nothing that an event frees has another event waiting. As PID 1 or subreaper it reaps
 * every process that ends. */
#include "common/base/alloc.h"
#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/base/file.h"
#include "common/base/log.h"
#include "common/runtime/child.h"
#include "common/runtime/command_line.h"
#include "supervisor/commands.h"
#include "supervisor/service.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#define PROGRAM        "mqtt-bridge-supervisor"
#define DEFAULT_CONFIG "/etc/mqtt-bridge/mqtt-bridge.ini"
#define TICK_MS        1000
#define STOOD_STILL_MS 3000 /* at most, see stood_still_ms */

static const char HELP[] =
    PROGRAM " - runs the bridge: consumers, workers and the monitor\n\n"
            "usage: " PROGRAM " [--config FILE]\n\n"
            "  --config FILE  the settings (default: $MQTT_BRIDGE_CONFIG, else\n"
            "                 " DEFAULT_CONFIG " if it is there, else the\n"
            "                 environment and the defaults)\n"
            "  --upgrade VERSION  says whether this program could take over from a running\n"
            "                 bridge of that version, with these settings; does nothing else\n"
            "  --version\n\n"
            "It stays in the foreground. SIGTERM, SIGINT drain and stop; SIGQUIT stops at once;\n"
            "SIGHUP reloads the settings, or stops it if its terminal was closed; SIGUSR1 reopens\n"
            "the log; SIGUSR2 replaces the workers one after the other; SIGTTIN, SIGTTOU: one\n"
            "worker more, one less.\n"
            "Exit code: 0 stopped in order, 1 failed, 2 settings, 3 already running;\n"
            "with on_fatal = exit that of the process that was given up.\n";

/* A descriptor that is opened later must not become standard input, output or error of a child. */
static void fill_standard_descriptors(void)
{
    int fd;

    do {
        fd = open("/dev/null", O_RDWR);
    } while (fd >= 0 && fd <= STDERR_FILENO);
    file_close(&fd);
}

static int fail(const struct error *err)
{
    fprintf(stderr, PROGRAM ": %s\n", err->text);
    switch (err->code) {
    case ERR_LOCKED:
        return 3;
    case ERR_USAGE:
        return CHILD_EXIT_SETTINGS;
    default:
        return CHILD_EXIT_FAILED;
    }
}

static bool has_terminal(void)
{
    int fd = open("/dev/tty", O_RDWR | O_NOCTTY | O_CLOEXEC);

    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

/* True for a SIGHUP of the kernel, or of a shell that passes it on. Under `nohup` SIGHUP is
 * ignored. */
static bool terminal_has_closed(const struct service *service, const struct signalfd_siginfo *info)
{
    return service->on_terminal && (info->ssi_code == SI_KERNEL || !has_terminal());
}

static int open_signals(struct service *service, struct error *err)
{
    static const int SIGNALS[] = {SIGTERM, SIGINT,  SIGQUIT, SIGHUP, SIGUSR1,
                                  SIGUSR2, SIGTTIN, SIGTTOU, SIGCHLD};
    struct sigaction hangup;
    sigset_t signals;

    sigaction(SIGHUP, NULL, &hangup);
    service->on_terminal = has_terminal() && hangup.sa_handler != SIG_IGN;
    sigemptyset(&signals);
    for (size_t i = 0; i < LENGTH_OF(SIGNALS); i++)
        sigaddset(&signals, SIGNALS[i]);
    /* With an inherited SIG_IGN for SIGCHLD, the kernel would reap children without a report. */
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
    if (epoll_ctl(service->launch.epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0)
        return error_system(err, "epoll");
    return 0;
}

static int open_loop(struct service *service, int listen_fd, struct error *err)
{
    int result;

    if (prctl(PR_SET_CHILD_SUBREAPER, 1) < 0)
        return error_system(err, "PR_SET_CHILD_SUBREAPER");
    if ((result = open_signals(service, err)) < 0 ||
        (result = watch(service, service->signal_fd, &service->signal_watch, WATCH_SIGNALS, err)) <
            0 ||
        (result = control_open(&service->control, service->settings->supervisor.socket, listen_fd,
                               commands_answer, service, err)) < 0 ||
        (result = files_write_pid(&service->files, service->settings, err)) < 0)
        return result;
    return watch(service, control_fd(service->control), &service->control_watch, WATCH_CONTROL,
                 err);
}

static struct process *find_pid(const struct service *service, pid_t pid)
{
    for (size_t i = 0; i < service->processes_len; i++)
        if (service->processes[i]->pid == pid)
            return service->processes[i];
    return NULL;
}

static void finish_check(struct service *service, const siginfo_t *info)
{
    struct upgrade *upgrade = &service->upgrade;

    upgrade_handle_exit(upgrade, info);
    if (upgrade->state == UPGRADE_REFUSED)
        log_error(LOG_PLAIN, "Upgrade refused, the service goes on as before: %s",
                  buf_text(&upgrade->refusal));
}

static void reap(struct service *service)
{
    for (;;) {
        siginfo_t info = {0};

        /* WNOWAIT: the number stays the process's own until process_handle_exit has killed its group. */
        if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) < 0 || info.si_pid == 0)
            return;
        struct process *process = find_pid(service, info.si_pid);
        if (process != NULL)
            process_handle_exit(process, &info);
        else if (service->upgrade.pid == info.si_pid)
            finish_check(service, &info);
        else
            waitpid(info.si_pid, NULL, 0);
    }
}

static void scale_by(struct service *service, int64_t difference)
{
    struct error err = {0};
    int64_t workers = service->workers + difference;

    if (workers < 1)
        log_warning(LOG_PLAIN, "SIGTTOU ignored: one worker is the minimum");
    else if (service_scale(service, workers, &err) < 0)
        log_warning(LOG_PLAIN, "SIGTTIN ignored: %s", err.text);
}

static void reload(struct service *service)
{
    struct buf faults = {0};

    if (service->phase == PHASE_RUNNING && service_reload(service, &faults) < 0)
        buf_clear(&faults); /* service_reload has logged them */
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
        /* A second Ctrl-C ends the service at once. */
        if (service->phase != PHASE_RUNNING && !service->upgrading)
            service_quit(service);
        else
            service_stop(service, 0);
        break;
    case SIGTERM:
        service_stop(service, 0);
        break;
    case SIGQUIT:
        service_quit(service);
        break;
    case SIGHUP:
        if (!terminal_has_closed(service, &info)) {
            reload(service);
            break;
        }
        log_notice(LOG_PLAIN, "Terminal closed: stopping the service");
        service_stop(service, 0);
        break;
    case SIGUSR1:
        service_reopen_logs(service);
        break;
    case SIGUSR2:
        service_restart_workers(service);
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
        process_read_ready(watched->process);
        break;
    case WATCH_OUTPUT:
        process_read_output(watched->process);
        break;
    }
}

/* Returns the interval of beats: after hang_timeout without a beat the monitor takes the
 * supervisor for dead. */
static int64_t tick_ms(const struct service *service)
{
    int64_t quarter = service->settings->supervisor.hang_timeout_ms / 4;

    return quarter > 0 && quarter < TICK_MS ? quarter : TICK_MS;
}

/* Returns the delay of a tick that shows a standstill of supervisor and children, such as
 * SIGSTOP or a frozen container. The children's silence before and after, up to a quarter of
 * hang_timeout each, must not add up to hang_timeout. */
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
        service->launch.resumed_ms = now_ms;
    service->ticked_ms = now_ms;
    stats_beat(service->launch.own);
    for (size_t i = 0; i < service->processes_len; i++)
        process_sample(service->processes[i], since);
}

static void check_deadlines(struct service *service, int64_t now_ms)
{
    for (size_t i = 0; i < service->processes_len; i++)
        process_check_deadlines(service->processes[i], now_ms);
    upgrade_check_deadline(&service->upgrade, now_ms);
    int64_t patience = control_deadline(service->control);
    if (patience >= 0 && patience <= now_ms)
        control_process(service->control, now_ms);
}

static int64_t next_deadline(const struct service *service)
{
    int64_t first = service->ticked_ms + tick_ms(service);

    for (size_t i = 0; i < service->processes_len; i++)
        first = clock_earlier_ms(first, process_deadline(service->processes[i]));
    first = clock_earlier_ms(first, upgrade_deadline(&service->upgrade));
    if (service->phase == PHASE_CONSUMERS)
        first = clock_earlier_ms(first, service->workers_by_ms);
    return clock_earlier_ms(first, control_deadline(service->control));
}

static void run_loop(struct service *service)
{
    for (;;) {
        struct epoll_event event;

        service_advance(service);
        if (service->phase == PHASE_ENDED)
            return;
        control_check(service->control);
        int64_t now = clock_monotonic_ms();
        int timeout = clock_poll_timeout(next_deadline(service), now);

        if (epoll_wait(service->launch.epoll_fd, &event, 1, timeout) == 1)
            handle(service, event.data.ptr);
        now = clock_monotonic_ms();
        tick(service, now);
        check_deadlines(service, now);
    }
}

static void announce(const struct service *service)
{
    log_info(LOG_WITH(log_text("config", service->config != NULL ? service->config : ""),
                      log_text("state_dir", service->settings->supervisor.state_dir),
                      log_number("consumers", (int64_t)service->settings->consumers_len + 1),
                      log_number("workers", service->workers)),
             PROGRAM " " MQTT_BRIDGE_VERSION " starts");
    if (geteuid() == 0)
        log_warning(LOG_PLAIN, "The bridge runs as root without need: set [supervisor] user");
    if (service->config != NULL && access(service->config, R_OK) < 0)
        log_warning(LOG_PLAIN,
                    "%s can't be read by the bridge's user (%u): a reload will change nothing. Let "
                    "a group of that user read it",
                    service->config, (unsigned)geteuid());
    settings_log_unreadable(service->settings);
    settings_log_notices(service->settings);
}

/* For --upgrade, checks everything that a start would check, and the programs in this program's
 * folder. Frees the settings. */
static int answer_upgrade(struct settings *settings)
{
    struct error err = {0};
    char *folder = NULL;
    int result = files_check(settings, &err);

    settings_free(settings);
    if (result == 0)
        result = files_locate_programs(&folder, &err);
    if (result == 0)
        result = upgrade_programs(folder, &err);
    free(folder);
    if (result < 0)
        return fail(&err);
    puts(PROGRAM " " MQTT_BRIDGE_VERSION);
    return 0;
}

static void take_over(struct service *service, const struct upgrade_handed *handed)
{
    struct control_request request = {.verb = CONTROL_UPGRADE, .wait = true, .begun = true};

    log_notice(LOG_PLAIN, "Upgraded to " MQTT_BRIDGE_VERSION " from %s", handed->former);
    request.deadline_ms = clock_monotonic_ms() + COMMANDS_START_MS;
    snprintf(request.former, sizeof(request.former), "%s", handed->former);
    if (handed->client_fd >= 0)
        control_adopt(service->control, handed->client_fd, &request);
}

/* Executes the new program, or else this one again. Returns the exit code if both fail. */
static int execute_upgrade(struct service *service, int listen_fd)
{
    struct upgrade_handed handed = {.listen_fd = listen_fd,
                                    .workers = service->workers,
                                    .configured = service->settings->worker.count,
                                    .former = MQTT_BRIDGE_VERSION};
    char *program = xstrdup(service->upgrade.program);
    char **arguments = service->arguments;
    char text[256];

    handed.client_fd = control_hand_over_client(service->control, CONTROL_UPGRADE);
    handed.lock_fd = files_hand_over(&service->files);
    service_close(service);
    upgrade_execute(program, arguments, &handed);
    snprintf(text, sizeof(text),
             "not upgraded: %s: %s; the bridge starts again as " MQTT_BRIDGE_VERSION, program,
             strerror(errno));
    log_critical(LOG_PLAIN, "%s", text);
    control_refuse_handed(handed.client_fd, text);
    handed.client_fd = -1;
    upgrade_execute("/proc/self/exe", arguments, &handed); /* works even if the file was removed */
    log_critical(LOG_PLAIN,
                 "The service has ended: " MQTT_BRIDGE_VERSION " can't be started again either: %s",
                 strerror(errno));
    free(program);
    return CHILD_EXIT_FAILED;
}

static int run(const char *config, struct settings *settings, char **argv,
               const struct upgrade_handed *handed)
{
    struct service service;
    struct error err = {0};
    bool upgraded = handed->former[0] != '\0';

    if (service_open(&service, config, settings, handed->lock_fd, &err) < 0 ||
        open_loop(&service, handed->listen_fd, &err) < 0) {
        service_close(&service);
        control_refuse_handed(handed->client_fd, err.text);
        return fail(&err);
    }
    service.arguments = argv;
    announce(&service);
    if (upgraded && handed->configured == settings->worker.count &&
        handed->workers <= service.workers_max)
        service.workers = handed->workers;
    if (upgraded)
        take_over(&service, handed);
    service_follow_roster(&service);
    run_loop(&service);
    log_info(LOG_PLAIN, "Stopped");
    int listen_fd = service.upgrading ? control_hand_over(service.control) : -1;
    if (service.upgrading) /* no stop was requested meanwhile */
        return execute_upgrade(&service, listen_fd);
    service_close(&service);
    return service.exit_code;
}

int main(int argc, char **argv)
{
    struct command_line line = {.program = PROGRAM, .help = HELP, .option = UPGRADE_OPTION};
    struct upgrade_handed handed;
    struct settings *settings = NULL;
    struct buf faults = {0};

    upgrade_inherit(&handed);
    command_line_read(&line, argc, argv);
    if (line.config == NULL && access(DEFAULT_CONFIG, F_OK) == 0)
        line.config = DEFAULT_CONFIG;
    fill_standard_descriptors();
    int loaded = settings_load(&settings, line.config, true, &faults);
    if (loaded < 0) {
        settings_print_lines(PROGRAM, "", &faults);
        control_refuse_handed(handed.client_fd, buf_text(&faults));
    }
    buf_free(&faults);
    if (loaded < 0)
        return CHILD_EXIT_SETTINGS;
    if (line.value != NULL)
        return answer_upgrade(settings);
    return run(line.config, settings, argv, &handed);
}
