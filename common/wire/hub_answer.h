/* What an answer of the Mercure hub means for the entry that was published. Pure; each row of the table
 * in hub_answer.c has a test. */
#ifndef COMMON_WIRE_HUB_ANSWER_H
#define COMMON_WIRE_HUB_ANSWER_H

#include "common/base/bytes.h"

enum hub_outcome {
    HUB_DONE, /* 200 with our id */
    HUB_WAIT, /* the hub's trouble or our own settings': keep the entry where it is, rest, try again */
    HUB_RETRY,  /* this entry's trouble, perhaps for now: Messenger's delayed retry */
    HUB_REJECT, /* poison: failure transport at once */
};

/* Of HUB_WAIT: can it be due to this one update? */
enum hub_cause {
    HUB_CAUSE_OPEN,  /* yes, if others pass: no answer, 5xx */
    HUB_CAUSE_LIMIT, /* no: 429, too many of them at once */
    HUB_CAUSE_SETTINGS, /* a definite answer, somebody is there: token or URL are wrong, for it or for all */
};

struct hub_answer {
    enum hub_outcome outcome;
    bool mint_again;     /* 401: the token may have been the fault */
    const char *meaning; /* "the hub refused the update", static */
    enum hub_cause cause;
};

/* status 0: no answer (transport says why: connection refused, time-out). id_matches: the body is the
 * update's id, byte for byte. */
struct hub_answer hub_answer_read(long status, bool id_matches);

#endif
