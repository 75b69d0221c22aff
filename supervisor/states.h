/* The life of one child, as a table: state × event → what it does to the state, and what to do in the
 * world. Pure: no clock, no process, no log; the caller passes the time (monotonic ms) and carries the
 * actions out. The only chance in it is the jitter of a back-off.
 *
 *     stopped   by the operator's wish, or never started
 *     starting  the process is there and has not said READY
 *     running   it has
 *     backoff   it died; its place is filled again at deadline_ms
 *     stopping  it was asked to end (SIGTERM); SIGKILL at deadline_ms
 *     exited    it ended while the whole service is ending: nobody fills its place
 *     fatal     it was given up; only the operator (start, restart, or a reload that concerns it)
 *               brings it back
 *
 * After a death: an end that was planned never counts (at once if it had been ready for a second, else
 * after 100 ms). A failure of a child that had been ready for a second: at once. Other failures are
 * quick deaths: back-off from 100 ms doubling to 30 s with jitter, and more than start_retries of them
 * without a healthy minute between are fatal. A child that lived for a minute without getting ready
 * (its server is away) is not a quick death: it comes back after the back-off, for ever. */
#ifndef SUPERVISOR_STATES_H
#define SUPERVISOR_STATES_H

#include "common/base/backoff.h"

#include <stdbool.h>
#include <stdint.h>

#define STATES_PROVEN_MS      1000  /* ready for so long: restarted at once */
#define STATES_HEALTHY_MS     60000 /* ready for so long: all is forgiven */
#define STATES_BACKOFF_MIN_MS 100
#define STATES_BACKOFF_MAX_MS 30000
#define STATES_KILL_AGAIN_MS  1000 /* SIGKILL is repeated while the process is still there */

enum state {
    STATE_STOPPED,
    STATE_STARTING,
    STATE_RUNNING,
    STATE_BACKOFF,
    STATE_STOPPING,
    STATE_EXITED,
    STATE_FATAL,
    STATES_LEN
};

enum event {
    EVENT_START,    /* wanted: it should run */
    EVENT_STOP,     /* wanted: it should not */
    EVENT_RESTART,  /* wanted: a fresh one */
    EVENT_LAST,     /* the service is ending: whoever ends from now on is not replaced */
    EVENT_READY,    /* the child said so */
    EVENT_DEADLINE, /* deadline_ms has passed */
    EVENT_HANG,     /* no beat for too long */
    EVENT_DONE,     /* it ended: exit code 0 or a planned end */
    EVENT_SETTINGS, /* it ended: no use to try again with these settings */
    EVENT_FAILED,   /* it ended: any other exit code, a signal, or it could not be started */
    EVENTS_LEN
};

/* What the caller does now; several may be set. */
enum action {
    ACTION_NONE = 0,
    ACTION_SPAWN = 1 << 0,     /* start the process; if that fails: EVENT_FAILED */
    ACTION_TERMINATE = 1 << 1, /* SIGTERM */
    ACTION_KILL = 1 << 2,      /* SIGKILL */
    ACTION_WAIT = 1 << 3,      /* a back-off has begun: say until when */
    ACTION_GIVE_UP = 1 << 4,   /* it is fatal: say so, see on_fatal */
};

struct states_rules {
    int64_t start_retries;
    int64_t stop_timeout_ms;
};

struct life {
    enum state state;
    int64_t started_ms;  /* of the present or last process */
    int64_t ready_ms;    /* -1: not ready */
    int64_t deadline_ms; /* -1: none */
    struct backoff backoff;
    int64_t quick_deaths;
    uint64_t starts;
    bool again; /* stopping: fill the place when it is empty */
    bool last;  /* never fill it again */
};

void states_init(struct life *life); /* stopped */
/* Returns the actions. An event that means nothing in a state changes nothing: a child's word, or a
 * late one, never harms. */
unsigned states_step(struct life *life, const struct states_rules *rules, enum event event,
                     int64_t now_ms);

bool states_alive(const struct life *life); /* a process is there: starting, running, stopping */
const char *states_name(enum state state);  /* "backoff" */
const char *states_event_name(enum event event);

#endif
