/* The queue of one topic, or of one batch topic: its entries in order, behind them those that are left in Redis, behind
 * those the ones that wait for the end of their window; and what is held against the first one. At most one update is
 * in flight, so that order per topic holds. */
#ifndef WORKER_LANE_H
#define WORKER_LANE_H

#include "worker/settle.h"
#include "worker/suspicion.h"

#include <uthash.h>
#include <utlist.h>

/* Lanes in one condition; each lane is in exactly one list. utlist.h: head->prev is the last one. */
struct lane_list {
    struct lane *head;
    size_t len;
};

struct lane {
    struct entry *head; /* utlist.h; those that are set aside (ENTRY_ASIDE) are the first ones */
    struct ids left;    /* behind them: left in Redis */
    struct entry *rest; /* what the first of those carries: source_take_carried; NULL: nothing */
    struct entry *gathered; /* behind those: see gather.h */
    int64_t window_ms;
    const struct settings_route *route; /* has entries wait for a window; NULL: none wait */
    const struct source *reading;       /* whose page of them is being read; NULL: none */
    bool reading_alone;                 /* what that page brings is published alone */
    bool is_handled;                    /* its entries were a handler's */
    struct lane_list *list;
    struct lane *prev;
    struct lane *next;

    /* Of its head: */
    struct suspicion suspicion;
    size_t slot;          /* in flight: where */
    int64_t sent_ms;      /* monotonic */
    uint64_t serial;      /* of its request */
    uint64_t failed_at;   /* set aside: the last request that was sent before it failed */
    uint64_t refused_at;  /* the last request that was sent before its first refusal; 0: none */
    unsigned limits;      /* how often a limiter refused it */
    int64_t due_ms;       /* paused: until then; overdue: an end waits until then */
    bool aside;           /* all are set aside, and so is what comes */
    enum verdict verdict; /* to be settled with, as soon as its delivery is counted */
    char *why;            /* the last failure, for people; or NULL */

    UT_hash_handle hh;
    size_t key_len;
    char key[]; /* publication_lane */
};

static inline enum publish_mode lane_publish(const struct lane *lane)
{
    return lane->route != NULL ? lane->route->publish : PUBLISH_EACH;
}

struct lane *lane_new(struct bytes key, const struct settings_route *route); /* in no list */
void lane_free(struct lane *lane);                                           /* it has no entries */

/* To the end of that list, from wherever it was. list NULL: into none. */
void lane_move(struct lane *lane, struct lane_list *list);
/* The same into a list in the order of window_ms. */
void lane_move_by_window(struct lane *lane, struct lane_list *list);
bool lane_list_has_unrefused(const struct lane_list *list); /* refused_at */
/* Behind all others: set aside if they are, left if some are left. limit: see lane_set_aside. */
void lane_add(struct lane *lane, struct entry *entry, size_t limit);
/* Nothing is held against the next one. */
struct entry *lane_pop(struct lane *lane);
/* The first one's next update is to be sent: likewise. */
void lane_go_on(struct lane *lane);
void lane_explain(struct lane *lane, const char *why);
/* Sets the first one aside, and the others while `limit` bytes of all lanes hold them. The rest is left. */
void lane_set_aside(struct lane *lane, size_t limit);
/* It is aside, and the entry goes beyond the limit. */
bool lane_is_full(const struct lane *lane, const struct entry *entry, size_t limit);
/* A batch has failed: all that the lane has is left, in its order, and what the first one carries is published alone. */
void lane_leave_batches(struct lane *lane);
/* The newest value is refused: the one before it is left, to be published in its place with all the others (rest). */
void lane_leave_one_before(struct lane *lane);
/* The one before has been read again, and carries the rest. */
void lane_take_rest(struct lane *lane, struct entry *entry);
/* It is not there to be published: the one before that is left, with what remains of the rest. */
void lane_skip_one_before(struct lane *lane);
void lane_forget_left(struct lane *lane);
/* Releases what is of that source (NULL: of any), but not the first one if keep_head, and forgets what is left. */
void lane_forget(struct lane *lane, const struct source *source, bool keep_head);

#endif
