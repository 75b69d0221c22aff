/* The whole service: its processes, and the operator's requests, by signal or by command.
 * One thread. Nothing waits: service_advance takes the next step of whatever is under way.
 *
 * Shutdown: no process is replaced from now on. The consumers are asked to end; when they have ended, or half of
 * stop_timeout is over, the workers drain; the monitor is last. A process that is left after stop_timeout gets SIGKILL.
 *
 * Rolling restart: one worker after the other. The next one follows when the successor is ready, or has not
 * become ready within SERVICE_RESTART_TIMEOUT_MS. If a successor dies, the other workers stay as they are.
 *
 * Reload: the settings are read and checked anew; after any fault nothing changes. Affected processes (roster.h) are
 * restarted, and those whose files have changed, and those that were given up; workers one after the other. New
 * processes are started, removed ones stopped.
 * The number of workers follows the file if the file's number has changed; else `scale` stays in force.
 * [supervisor] state_dir, socket, pid_file and user stay until the next start, which is logged.
 *
 * Upgrade (upgrade.h): when the new program has passed its check, the service is shut down as above, and main
 * executes the new program. A stop that is asked for meanwhile ends the service instead.
 *
 * Statistics: a process gets the slot of its predecessor, so that totals go on. A slot whose process is gone keeps its
 * numbers until another process needs it. */
#ifndef SUPERVISOR_SERVICE_H
#define SUPERVISOR_SERVICE_H

#include "common/settings/settings.h"
#include "supervisor/control.h"
#include "supervisor/files.h"
#include "supervisor/process.h"
#include "supervisor/upgrade.h"

#define SERVICE_RESTART_FAILURE_SIZE 256
#define SERVICE_RESTART_TIMEOUT_MS   30000
#define SERVICE_WORKERS_MAX          64 /* or [worker] count, if that is more */
#define SERVICE_SPARE_SLOTS          16 /* for consumers that a reload adds */

enum phase {
    PHASE_RUNNING,
    PHASE_CONSUMERS, /* the consumers are ending */
    PHASE_WORKERS,
    PHASE_MONITOR,
    PHASE_ENDED,
};

struct service {
    const char *config; /* the ini file; NULL: none */
    struct settings *settings;
    struct launch launch;
    struct files files;
    int own_log_fd; /* the supervisor's own descriptor of the log, which never blocks */
    struct stats *stats;
    struct service_slot *slots;
    int64_t workers_max;        /* there are slots for so many workers */
    struct process **processes; /* in the roster's order, and behind those the unwanted ones */
    size_t processes_len;
    int64_t workers;
    struct process *restarting; /* the worker that a rolling restart is at; NULL: none */
    char restart_failure[SERVICE_RESTART_FAILURE_SIZE]; /* of the last rolling restart; "": none */
    enum phase phase;
    int64_t workers_by_ms; /* PHASE_CONSUMERS: the workers are asked to end not later than that */
    bool quitting;
    struct upgrade upgrade;
    bool upgrading;   /* the shutdown is for the upgrade */
    char **arguments; /* main's argv */
    bool closed;      /* service_close was called */
    bool all_running;
    int exit_code;
    bool on_terminal; /* a SIGHUP may mean that the terminal was closed */
    int64_t started_ms;
    int64_t ticked_ms;
    int signal_fd;
    struct watch signal_watch;
    struct watch control_watch;
    struct control *control;
};

/* Gives up root, locks the state directory, makes the shared memory and the epoll descriptor; starts no process.
 * lock_fd: handed over by the old program of an upgrade, or -1. The service owns settings from now on, also after a
 * failure. */
MUST_CHECK int service_open(struct service *service, const char *config, struct settings *settings,
                            int lock_fd, struct error *err);
void service_close(struct service *service);
/* Starts and stops processes until they are those of the settings and of the number of workers. */
void service_follow_roster(struct service *service);

void service_stop(struct service *service, int exit_code);
void service_quit(struct service *service); /* at once */
/* -ERR_USAGE: not now; -ERR_SYSTEM: the new program can't be run. */
MUST_CHECK int service_upgrade(struct service *service, struct error *err);
/* -ERR_USAGE if there is no room for so many. */
MUST_CHECK int service_scale(struct service *service, int64_t workers, struct error *err);
/* A running worker joins the rolling restart; every other process is restarted at once. */
void service_restart(struct service *service, struct process *process);
void service_restart_workers(struct service *service);
void service_reopen_logs(struct service *service);
/* Returns how many processes are restarted, or -ERR_USAGE with every fault as a line in faults. Logs the outcome. */
MUST_CHECK int service_reload(struct service *service, struct buf *faults);

/* Takes the next step of a rolling restart and of the shutdown, applies on_fatal, and removes unwanted processes that
 * have ended. Logs when everything runs, and publishes the supervisor's knowledge in the statistics. Call it after
 * each event. */
void service_advance(struct service *service);
const char *service_ending(const struct service *service); /* why an ending service refuses */
/* Publishes each process, and why the service itself is not ready, for the monitor and `status`. */
void service_publish(const struct service *service);

#endif
