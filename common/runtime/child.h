/* What consumer, worker and monitor have in common: settings, statistics, log, signals and readiness, with or without a
 * supervisor.
 *
 * Under the supervisor these are inherited, named by environment variables:
 *     MQTT_BRIDGE_SETTINGS_FD  memfd with settings_pack's text
 *     MQTT_BRIDGE_STATS_FD     the statistics' memfd
 *     MQTT_BRIDGE_NOTIFY_FD    "READY\n" is written there when the process does its work
 *     MQTT_BRIDGE_LOG_FD       where log lines go
 *     MQTT_BRIDGE_STATS_SLOT   index in the statistics
 *     MQTT_BRIDGE_NAME, MQTT_BRIDGE_SLOT     "worker", "2"
 * Without a supervisor: --config FILE (or MQTT_BRIDGE_CONFIG) and the environment, a private statistics slot, [log]
 * file or standard error. A worker has --slot N, a consumer --name NAME; all have --help and --version.
 * One thread: call from main, before any other thread exists (signals are blocked here and read through signal_fd). */
#ifndef COMMON_RUNTIME_CHILD_H
#define COMMON_RUNTIME_CHILD_H

#include "common/base/error.h"
#include "common/runtime/stats.h"
#include "common/settings/settings.h"

struct child {
    struct settings *settings;
    struct stats *stats;
    struct stats_slot *slot;
    char *name;    /* "consumer", "consumer:garden", "worker", "monitor" */
    int number;    /* 1, 2, ... */
    int signal_fd; /* SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1: non-blocking */
    int notify_fd; /* -1 without a supervisor */
    int log_fd;
    bool supervised;
};

enum child_signal {
    CHILD_NONE,
    CHILD_STOP, /* SIGTERM or SIGINT: finish the work under way, then end */
    CHILD_QUIT, /* SIGQUIT: end at once */
};

/* Exits with 0 after --help and --version, with 2 after a fault of usage or settings; every fault is printed.
 * program: "mqtt-bridge-worker"; summary: one line for --help. */
void child_start(struct child *child, int argc, char **argv, const char *program,
                 const char *summary);
void child_ready(struct child *child);
/* The program can't begin its work. Logs the error, and prints it on standard error too, if the log goes elsewhere:
 * under the supervisor that is the child's last output. Exits with CHILD_EXIT_SETTINGS for ERR_USAGE, else with
 * CHILD_EXIT_FAILED. */
void child_fail_start(const struct child *child, const struct error *err) __attribute__((noreturn));
/* Reads the signal descriptor. Handles SIGUSR1 itself (reopens the log file), and ignores SIGHUP: the supervisor
 * restarts what a reload affects. */
enum child_signal child_read_signal(struct child *child);
/* How often a program beats: often enough for hang_timeout, also if a reload makes that shorter. */
int64_t child_beat_ms(const struct child *child);
/* Exit codes that the supervisor understands. */
enum child_exit {
    CHILD_EXIT_DONE = 0,     /* stopped as asked, or a planned end (--limit ...): never a failure */
    CHILD_EXIT_FAILED = 1,   /* could not go on; a new start may help */
    CHILD_EXIT_SETTINGS = 2, /* a new start with these settings would fail again */
    CHILD_EXIT_PLANNED =
        75, /* --limit, --time-limit or --memory-limit is reached: to be replaced */
};
void child_end(struct child *child);

#endif
