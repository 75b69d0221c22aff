/* The whole service: its processes, and what the operator wants done with them, by signal or by command.
 * One thread. Nothing waits: service_advance takes the next step of whatever is under way.
 *
 * Shutdown: from its beginning nobody is replaced. The consumers are asked to end; when they are gone, or half of
 * stop_timeout is over, the workers drain; the monitor is last. Whoever is there after stop_timeout gets SIGKILL.
 *
 * Rolling restart: one worker after the other. The next one follows when the successor is ready, or has not
 * become ready within SERVICE_RESTART_TIMEOUT_MS. If a successor dies, the other workers stay as they are.
 *
 * Reload: the settings are read and checked anew; with any fault nothing changes. Restarted are affected processes
 * (roster.h), those whose files have other contents, and those that were given up; workers one after the other. New
 * processes are started, removed ones stopped.
 * The number of workers follows the file if the file's number has changed; else `scale` stays in force.
 * [supervisor] state_dir, socket, pid_file and user stay until the next start, which is logged.
 *
 * Upgrade (upgrade.h): when the new program has passed its check the service is shut down as above, and main becomes the
 * new one. Whoever asks for the end meanwhile gets the end.
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
    int own_log_fd; /* the children's log, for the supervisor itself: never blocks */
    struct stats *stats;
    struct service_slot *slots;
    int64_t workers_max;        /* there are slots for so many */
    struct process **processes; /* as the roster has them, and behind those the unwanted ones */
    size_t processes_len;
    int64_t workers;
    struct process *restarting; /* the worker that a rolling restart is at; NULL: none */
    char restart_failure[SERVICE_RESTART_FAILURE_SIZE]; /* of the last rolling restart; "": none */
    enum phase phase;
    int64_t workers_by_ms; /* of PHASE_CONSUMERS: the workers are asked to end then at the latest */
    bool quitting;
    struct upgrade upgrade;
    bool upgrading;   /* the shutdown is for the upgrade */
    char **arguments; /* of main */
    bool closed;      /* it has ended, and holds nothing any more */
    bool all_running;
    int exit_code;
    bool on_terminal; /* a SIGHUP may say that it was closed */
    int64_t started_ms;
    int64_t ticked_ms;
    int signal_fd;
    struct watch signal_watch;
    struct watch control_watch;
    struct control *control;
};

/* lock_fd: handed over by the program that we were before, or -1. Gives up root, locks the state directory, makes the shared memory and the epoll descriptor; starts no process. settings
 * becomes the service's, also on failure. */
MUST_CHECK int service_open(struct service *service, const char *config, struct settings *settings,
                            int lock_fd, struct error *err);
void service_close(struct service *service);
/* Makes the processes those of the settings and of the number of workers: starts and stops what differs. */
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
/* Returns how many processes are restarted, or -ERR_USAGE with every fault as a line in faults. Logs what
 * happened either way. */
MUST_CHECK int service_reload(struct service *service, struct buf *faults);

/* The next step of a rolling restart and of the shutdown; on_fatal; forgets processes that are gone and not wanted; logs
 * when everything runs; publishes in the statistics what the supervisor knows. Call it after everything that happens. */
void service_advance(struct service *service);
const char *service_ending(const struct service *service); /* why it takes no orders */
/* What the monitor and `status` read: each process, and why the service itself is not ready. */
void service_publish(const struct service *service);

#endif
