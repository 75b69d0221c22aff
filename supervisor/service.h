/* The whole service: what it is made of, and which processes exist. The rest is in files of its own:
 * events.h (what happens to a process), orders.h (what the operator wants), reload.h, status.h,
 * commands.h (the control socket's verbs), loop.h (waiting). All of it one thread; nothing blocks. */
#ifndef SUPERVISOR_SERVICE_H
#define SUPERVISOR_SERVICE_H

#include "common/base/settings.h"
#include "common/base/stats.h"
#include "supervisor/control.h"
#include "supervisor/place.h"
#include "supervisor/process.h"
#include "supervisor/states.h"

#define SERVICE_WORKERS_MAX       64 /* or [worker] count, if that is more */
#define SERVICE_SPARE_SLOTS       16 /* for consumers that a reload adds */
#define SERVICE_ROLL_FAILURE_SIZE 256

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
    struct buf packed; /* the settings as the children get them */
    struct launch launch;
    struct place place;
    int own_log_fd; /* the children's log, for ourselves: never blocks */
    struct states_rules rules;
    struct stats *stats;
    struct stats_slot *own; /* ours: the beat, and why the service as a whole is not ready */
    char (*slot_owners)[STATS_NAME_SIZE]; /* who had each slot last, kept when it is free again */
    struct process **processes;           /* consumers, workers, monitor */
    size_t processes_len;
    int64_t workers;
    int64_t workers_max;
    struct process *rolling; /* the worker whose turn it is */
    char
        roll_failure[SERVICE_ROLL_FAILURE_SIZE]; /* why the last rolling restart was given up; "" */
    enum phase phase;
    bool quitting;
    bool all_running;
    int exit_code;
    int64_t started_ms;
    int64_t ticked_ms;
    int64_t resumed_ms; /* we ourselves stood still until then: silence before it means nothing */
    int epoll_fd;
    int signal_fd;
    struct watch signal_watch;
    struct watch control_watch;
    struct control *control;
};

/* Takes the place, makes the shared memory and the epoll descriptor; starts nothing yet. settings becomes
 * the service's, also on failure. */
MUST_CHECK int service_open(struct service *service, const char *config, struct settings *settings,
                            struct error *err);
void service_close(struct service *service);

/* Makes the processes what the settings and the number of workers say. */
void service_follow_roster(struct service *service);
/* After settings has changed: packs it for the children, takes over rules, level and format of the log. */
void service_use_settings(struct service *service);
/* Our lines and the children's go there from now on; fd becomes the service's. */
void service_use_log(struct service *service, int fd);
/* The process is gone and not wanted. */
void service_forget(struct service *service, size_t index);

#endif
