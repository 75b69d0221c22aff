/* Who is to blame when an update does not pass: the hub, or this update? Told by contrast alone: an update
 * is blamed only if another one, an entry's or our own probe, was sent after its failure and passed.
 * One table, state of a lane's head × event → state and action. Pure: no clock, no I/O.
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
 * What failed among others when the hub went down is RECALLED: tried first, with nothing else in flight. What
 * failed ALONE keeps its place: it may be what brings the hub down, and the first update that passes afterwards
 * tells. The last strike ends in RETRY (breaker_window_strikes). A limiter's answer blames nobody. */
#ifndef WORKER_SUSPICION_H
#define WORKER_SUSPICION_H

#include <stdint.h>

enum suspicion_state {
    SUSPICION_CLEAR,
    SUSPICION_SENT,
    SUSPICION_FAILED,       /* nothing that was sent since has passed */
    SUSPICION_REFUSED,      /* likewise: 400, 403, 413 */
    SUSPICION_UNAUTHORIZED, /* likewise: 401 */
    SUSPICION_RECALLED,     /* failed shortly before the breaker opened */
    SUSPICION_PAUSED,       /* blamed, or limited: waits for its time */
    SUSPICION_ALONE,        /* sent once more, with a short time-out */
    SUSPICION_FAILED_ALONE, /* and nothing that was sent since has passed */
    SUSPICION_STATES
};

enum suspicion_event {
    SUSPICION_ON_SEND,
    SUSPICION_ON_PASSED,
    SUSPICION_ON_FAILED,
    SUSPICION_ON_LIMITED,
    SUSPICION_ON_REFUSED,
    SUSPICION_ON_UNAUTHORIZED,
    SUSPICION_ON_CONTRAST, /* another passed that was sent after this failure */
    SUSPICION_ON_AT_WORK, /* our own probe got a 401 or 403: it does not pass, but a hub is there */
    SUSPICION_ON_HUB_DOWN, /* the breaker opened */
    SUSPICION_EVENTS
};

enum suspicion_action {
    SUSPICION_NOTHING,
    SUSPICION_SET_ASIDE, /* others go on; wait for contrast */
    SUSPICION_PAUSE,     /* for a time, and nobody is blamed */
    SUSPICION_STRIKE,    /* for a time, and it is blamed */
    SUSPICION_READY,     /* may be sent like any other */
    SUSPICION_RECALL,    /* to be tried first once the breaker has closed */
    SUSPICION_DONE,
    SUSPICION_RETRY,
    SUSPICION_REJECT,
};

struct suspicion {
    enum suspicion_state state;
    uint8_t strikes;
};

/* strikes: so many are enough. */
enum suspicion_action suspicion_step(struct suspicion *suspicion, enum suspicion_event event,
                                     unsigned strikes);

#endif
