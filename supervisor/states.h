/* The lifecycle of one child as a table: state × event → new state and actions.
 *
 * Pure: no clock, no process, no log. The caller passes the time (monotonic ms) and carries out the actions. The only
 * randomness of the table is the jitter of the back-off.
 *
 *     stopped   the operator stopped it, or it was never started
 *     starting  the process exists and has not said READY
 *     running   the process has said READY
 *     backoff   the process died; it is started again at deadline_ms
 *     stopping  the process was asked to end (SIGTERM); SIGKILL at deadline_ms
 *     exited    the process ended during the shutdown and is not started again
 *     fatal     it failed too often; only the operator starts it again (start, restart, reload)
 *
 * What follows an end of the process:
 *     planned (--limit ...)       started again: at once if it had been ready for a second, else after 100 ms.
 *                                 Never counts as a failure
 *     ready for a second before   started again at once, STATES_AT_ONCE_MAX times without a healthy minute
 *     lived for a minute          started again after the back-off, without limit: its server may be away
 *     any other failure           a quick death: back-off from 100 ms, doubling to 30 s, with jitter.
 *                                 More than start_retries quick deaths without a healthy minute are fatal */
#ifndef SUPERVISOR_STATES_H
#define SUPERVISOR_STATES_H

#include "common/base/clock.h"
#include "common/runtime/stats.h"

#include <stdbool.h>
#include <stdint.h>

#define STATES_PROVEN_MS      1000 /* ready for so long: started again at once */
#define STATES_AT_ONCE_MAX    3
#define STATES_HEALTHY_MS     60000 /* ready for so long: deaths and back-off start from zero */
#define STATES_BACKOFF_MIN_MS 100
#define STATES_BACKOFF_MAX_MS 30000
#define STATES_KILL_AGAIN_MS  1000 /* SIGKILL is repeated while the process is still there */

enum states_event {
    EVENT_START,    /* request: run */
    EVENT_STOP,     /* request: do not run */
    EVENT_RESTART,  /* request: run as a new process */
    EVENT_SHUTDOWN, /* the service is ending: start nothing any more */
    EVENT_READY,    /* the child said READY */
    EVENT_DEADLINE, /* deadline_ms has passed */
    EVENT_HANG,     /* no beat for too long */
    EVENT_DONE,     /* end: exit code 0 or planned */
    EVENT_SETTINGS, /* end: can't work with these settings */
    EVENT_FAILED,   /* end: any other exit code or a signal; or it could not be started */
    EVENTS_LEN
};

/* What the caller does now; several may be set. */
enum states_action {
    ACTION_NONE = 0,
    ACTION_SPAWN = 1 << 0,     /* start the process; if that fails: EVENT_FAILED */
    ACTION_TERMINATE = 1 << 1, /* SIGTERM */
    ACTION_KILL = 1 << 2,      /* SIGKILL */
    ACTION_FATAL = 1 << 3,     /* given up: see [supervisor] on_fatal */
};

struct states_rules {
    int64_t start_retries;
    int64_t stop_timeout_ms;
    int64_t
        stop_by_ms; /* the whole service ends: SIGKILL not later than that; 0: it does not end */
};

struct states_lifecycle {
    enum stats_state state;
    int64_t started_ms;  /* of the present or last process */
    int64_t ready_ms;    /* -1: not ready */
    int64_t deadline_ms; /* -1: none */
    struct clock_backoff backoff;
    int64_t at_once; /* deaths that were followed by a start at once */
    int64_t quick_deaths;
    uint64_t starts;
    bool restart;                     /* stopping: start it again when it has ended */
    bool shutdown;                    /* never start it again */
    const struct states_rules *rules; /* of the present step, as now_ms */
    int64_t now_ms;
};

void states_init(struct states_lifecycle *lifecycle); /* stopped */
/* Returns the actions. An event that has no cell in the table changes nothing, so a late event, or one of a child that
 * misbehaves, does no harm. */
unsigned states_step(struct states_lifecycle *lifecycle, const struct states_rules *rules,
                     enum states_event event, int64_t now_ms);

/* The process exists: starting, running or stopping. */
bool states_alive(const struct states_lifecycle *lifecycle);

#endif
