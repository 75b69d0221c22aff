#include "worker/suspicion.h"

struct cell {
    enum suspicion_state next;
    enum suspicion_action action;
};

#define STATE(name)             [SUSPICION_##name]
#define ON(event, next, action) [SUSPICION_ON_##event] = {SUSPICION_##next, SUSPICION_##action}

/* A cell that is not named changes nothing. It is zero: next state CLEAR with action NOTHING, which no named cell
 * has. */
static const struct cell TABLE[SUSPICION_STATES][SUSPICION_EVENTS] = {
    STATE(CLEAR) = {ON(SEND, SENT, NOTHING)},
    STATE(SENT) = {ON(PASSED, CLEAR, DONE), ON(FAILED, FAILED, SET_ASIDE),
                   ON(LIMITED, PAUSED, PAUSE), ON(REFUSED, REFUSED, SET_ASIDE),
                   ON(UNAUTHORIZED, UNAUTHORIZED, SET_ASIDE)},
    STATE(FAILED) = {ON(CONTRAST, PAUSED, STRIKE), ON(AT_WORK, PAUSED, STRIKE),
                     ON(HUB_DOWN, RECALLED, RECALL)},
    STATE(REFUSED) = {ON(CONTRAST, CLEAR, REJECT), ON(HUB_DOWN, CLEAR, READY)},
    STATE(UNAUTHORIZED) = {ON(CONTRAST, CLEAR, RETRY), ON(HUB_DOWN, CLEAR, READY)},
    STATE(RECALLED) = {ON(SEND, ALONE, NOTHING)},
    STATE(PAUSED) = {ON(SEND, ALONE, NOTHING)},
    STATE(ALONE) = {ON(PASSED, CLEAR, DONE), ON(FAILED, FAILED_ALONE, SET_ASIDE),
                    ON(LIMITED, PAUSED, PAUSE), ON(REFUSED, REFUSED, SET_ASIDE),
                    ON(UNAUTHORIZED, UNAUTHORIZED, SET_ASIDE)},
    STATE(FAILED_ALONE) = {ON(CONTRAST, PAUSED, STRIKE), ON(AT_WORK, PAUSED, STRIKE)},
};

enum suspicion_action suspicion_step(struct suspicion *suspicion, enum suspicion_event event,
                                     unsigned strikes)
{
    struct cell cell = TABLE[suspicion->state][event];

    if (cell.next == SUSPICION_CLEAR && cell.action == SUSPICION_NOTHING)
        return SUSPICION_NOTHING;
    suspicion->state = cell.next;
    if (cell.action != SUSPICION_STRIKE || ++suspicion->strikes < strikes)
        return cell.action;
    suspicion->state = SUSPICION_CLEAR;
    return SUSPICION_RETRY;
}
