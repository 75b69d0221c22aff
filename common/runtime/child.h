/* What every worker program has in common: its settings, statistics, log, signals and readiness,
 * whether the supervisor started it or somebody typed its name.
 *
 * Under the supervisor these are inherited, named by environment variables:
 *     MQTT_BRIDGE_SETTINGS_FD  memfd with settings_pack's text
 *     MQTT_BRIDGE_STATS_FD     the statistics' memfd
 *     MQTT_BRIDGE_NOTIFY_FD    one line ("READY\n") is written there when the process does its work
 *     MQTT_BRIDGE_LOG_FD       where log lines go
 *     MQTT_BRIDGE_STATS_SLOT   index in the statistics
 *     MQTT_BRIDGE_NAME, MQTT_BRIDGE_SLOT     "worker", "2"
 * By itself: --config FILE (or MQTT_BRIDGE_CONFIG) and the environment, a private statistics slot,
 * [log] file or standard error, --slot N for a worker, --name NAME for a consumer. --help and --version
 * answer.
 * One thread: call from main, before any other thread exists (signals are blocked here and read
 * through signal_fd). */
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
    int notify_fd; /* -1 by itself */
    int log_fd;
    bool supervised;
};

enum child_signal {
    CHILD_NONE,
    CHILD_STOP, /* SIGTERM or SIGINT: finish what is in hand, then end */
    CHILD_QUIT, /* SIGQUIT: end at once */
};

/* Exits by itself with 0 (--help, --version) or 2 (usage or settings, every fault on standard error).
 * program: "mqtt-bridge-worker"; summary: one line for --help. */
void child_start(struct child *child, int argc, char **argv, const char *program,
                 const char *summary);
void child_ready(struct child *child);
/* The program can't begin its work: says why in the log and, for whoever started it, on standard error
 * (under the supervisor this is its last output), unless that is where the log goes. Exits, with
 * CHILD_EXIT_SETTINGS for ERR_USAGE, else CHILD_EXIT_FAILED. */
void child_fail_start(const struct child *child, const struct error *err) __attribute__((noreturn));
/* What the signal descriptor says; SIGUSR1 (log file reopened) and SIGHUP (ignored: the supervisor
 * restarts what changed) are dealt with inside. */
enum child_signal child_read_signal(struct child *child);
/* How often a program beats: often enough for hang_timeout, and for one that a reload makes shorter. */
int64_t child_beat_ms(const struct child *child);
/* Exit codes that the supervisor understands. */
enum child_exit {
    CHILD_EXIT_DONE = 0,     /* stopped as asked, or a planned end (--limit ...): never a failure */
    CHILD_EXIT_FAILED = 1,   /* could not go on; try again */
    CHILD_EXIT_SETTINGS = 2, /* no use to try again with these settings */
    CHILD_EXIT_PLANNED = 75, /* --limit, --time-limit, --memory-limit reached: replace me */
};
void child_end(struct child *child);

#endif
