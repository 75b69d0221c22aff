/* The entries of one connection, in their order, and what is held against the first of them. */
#ifndef WORKER_LANE_H
#define WORKER_LANE_H

#include "common/client/hub.h"
#include "worker/entry.h"

/* Its head got "wait". Who is to blame, the hub, a limiter before it, or this one message? It is sent again
 * while nothing else is on the wire; and since a limiter may ask for a pause between any two, its failure
 * counts only after as long a rest as sufficed for another. */
enum lane_doubt {
    DOUBT_NONE,
    DOUBT_LIGHT, /* failed among others: goes alone next, at once */
    DOUBT_GRAVE, /* failed alone, too: goes alone next, after a rest */
    DOUBT_TRIED, /* failed alone after the rest: if another passes now, it has one strike more */
};

struct lane {
    struct entry *head;
    struct entry *tail;
    bool sending; /* the head is on the wire, or its answer is held */
    bool held; /* what became of the head is known, but it must be charged before it is settled */
    enum hub_outcome outcome;
    char text[sizeof(((struct hub_result *)NULL)->text)];
    enum lane_doubt doubt;
    uint64_t sent;   /* the number of the request that the head went with */
    int64_t rest_ms; /* and how long before that another had passed; -1: others were on the wire */
};

void lane_push(struct lane *lane, struct entry *entry);
/* The same, but before those with this refused_at: nothing has passed since. None of them has its topic. */
void lane_push_before(struct lane *lane, struct entry *entry, uint64_t refused_at);
struct entry *lane_pop(struct lane *lane); /* the doubt goes with it */
/* Gives back what is not on the wire and comes from that intake. */
void lane_forget(struct lane *lane, const struct intake *intake);

/* Its head must wait, and who is to blame may be its topic: what there is of that goes behind all others. */
void lane_yield(struct lane *lane);
bool lane_has_refused(const struct lane *lane, struct bytes topic);

/* What is to become of its head, not HUB_WAIT. At once, or, if the entry has waited for the hub and is no
 * longer charged, once it is again: an entry that kills us here would otherwise do so for ever. */
void lane_settle(struct lane *lane, enum hub_outcome outcome, const char *text);
void lane_settle_held(struct lane *lane); /* if it can be now */

/* The rest that its head needs for its failure to count, where sufficient_ms sufficed for another. */
int64_t lane_rest_ms(const struct lane *lane, int64_t sufficient_ms);
/* Its head, which went as request lane->sent, got "wait" when `sent` had been sent in all; not for
 * HUB_CAUSE_SETTINGS, which leaves no doubt of this kind. */
void lane_failed(struct lane *lane, enum hub_cause cause, uint64_t sent, int64_t sufficient_ms);

/* The lane of a topic, among so many. */
size_t lanes_number(struct bytes topic, size_t len);
bool lanes_are_in_doubt(const struct lane *lanes, size_t len); /* any of them */
/* Nothing is left to send but what failed alone. */
bool lanes_have_no_other(const struct lane *lanes, size_t len);
/* The probe must wait as well: it was not the fault of those that had their rest. */
void lanes_acquit(struct lane *lanes, size_t len);

#endif
