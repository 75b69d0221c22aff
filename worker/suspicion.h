/* Decides whether the hub or an update is to blame when the update does not pass. Only contrast tells: an update is
 * blamed only if another update, or our own probe, was sent after its failure and passed.
 * One table: state of a lane's first entry × event → state and action. Pure: no clock, no I/O.
 *
 *   in flight:      PASSED      FAILED        LIMITED       REFUSED  UNAUTHORIZED
 *   SENT            CLEAR done  FAILED        PAUSED pause  REFUSED  UNAUTHORIZED
 *   ALONE           CLEAR done  FAILED_ALONE  PAUSED pause  REFUSED  UNAUTHORIZED
 *
 *   set aside:      CONTRAST       AT_WORK        HUB_DOWN
 *   FAILED          PAUSED strike  PAUSED strike  RECALLED
 *   FAILED_ALONE    PAUSED strike  PAUSED strike  –
 *   REFUSED         CLEAR reject   –              CLEAR
 *   UNAUTHORIZED    CLEAR retry    –              CLEAR
 *
 *   SEND: from CLEAR to SENT, from RECALLED and PAUSED to ALONE. No other cell changes anything.
 *
 * An update that failed among others before the hub went down is RECALLED: tried first, with nothing else in flight. An
 * update that failed ALONE keeps its state: it may bring the hub down, and the first update that passes afterwards
 * tells. The last strike ends in RETRY (breaker_window_strikes). A rate limiter's answer blames no update. */
#ifndef WORKER_SUSPICION_H
#define WORKER_SUSPICION_H

#include <stdint.h>

enum suspicion_state {
    SUSPICION_CLEAR,
    SUSPICION_SENT,
    SUSPICION_FAILED,       /* no later update has passed yet */
    SUSPICION_REFUSED,      /* 400, 403 or 413, and no later update has passed yet */
    SUSPICION_UNAUTHORIZED, /* 401, and no later update has passed yet */
    SUSPICION_RECALLED,     /* failed shortly before the breaker opened */
    SUSPICION_PAUSED,       /* blamed, or limited: waits for its time */
    SUSPICION_ALONE,        /* sent once more, with a short time-out */
    SUSPICION_FAILED_ALONE, /* failed again, and no later update has passed yet */
    SUSPICION_STATES
};

enum suspicion_event {
    SUSPICION_ON_SEND,
    SUSPICION_ON_PASSED,
    SUSPICION_ON_FAILED,
    SUSPICION_ON_LIMITED,
    SUSPICION_ON_REFUSED,
    SUSPICION_ON_UNAUTHORIZED,
    SUSPICION_ON_CONTRAST, /* an update that was sent after this failure has passed */
    SUSPICION_ON_AT_WORK,  /* our own probe got 401 or 403: not passed, but the hub answers */
    SUSPICION_ON_HUB_DOWN, /* the breaker opened */
    SUSPICION_EVENTS
};

enum suspicion_action {
    SUSPICION_NOTHING,
    SUSPICION_SET_ASIDE, /* other lanes go on; wait for contrast */
    SUSPICION_PAUSE,     /* wait for a time; no update is blamed */
    SUSPICION_STRIKE,    /* wait for a time; this update is blamed */
    SUSPICION_READY,     /* may be sent like any other update */
    SUSPICION_RECALL,    /* to be tried first once the breaker has closed */
    SUSPICION_DONE,
    SUSPICION_RETRY,
    SUSPICION_REJECT,
};

struct suspicion {
    enum suspicion_state state;
    uint8_t strikes;
};

/* strikes: after so many the action is SUSPICION_RETRY. */
enum suspicion_action suspicion_step(struct suspicion *suspicion, enum suspicion_event event,
                                     unsigned strikes);

#endif
