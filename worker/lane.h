/* The queue of one topic, or of one batch topic: its entries in order, behind them those that are left in Redis, behind
 * those the ones that wait for the end of their window; and what is held against the first one. At most one update is
 * in flight, so that order per topic holds. And all lanes of a worker, with the list that each stands in (struct lanes).
 * What is sent when, and who is blamed, is the publisher's business. One thread. */
#ifndef WORKER_LANE_H
#define WORKER_LANE_H

#include "worker/publication.h"
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
    struct entry *head;    /* utlist.h; those that are set aside (ENTRY_ASIDE) are the first ones */
    struct entry_ids left; /* behind them: left in Redis */
    struct entry *rest;    /* what the first of those carries: source_take_carried; NULL: nothing */
    /* Behind those: it carries the others of its window (ENTRY_GATHERED, or ENTRY_ASIDE if the lane is). NULL: none came
     * since the last one. */
    struct entry *gathered;
    int64_t window_ms; /* when the window of gathered ends; it then joins the lane's queue */
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
/* A batch has failed: all that the lane has is left, in its order, and what the first one carries is published alone. */
void lane_leave_batches(struct lane *lane);
/* The newest value is refused: the one before it is left, to be published in its place with all the others (rest). */
void lane_leave_one_before(struct lane *lane);
/* The one before has been read again, and carries the rest. */
void lane_take_rest(struct lane *lane, struct entry *entry);
/* It is not there to be published: the one before that is left, with what remains of the rest. */
void lane_skip_one_before(struct lane *lane);
/* Releases what is of that source (NULL: of any), but not the first one if keep_head, and forgets what is left. */
void lane_forget(struct lane *lane, const struct source *source, bool keep_head);

/* What is published together: the entries of a lane's window. Of a route with `latest` the newest entry stands for the
 * others; of one with `batch` the first one carries their documents. What is carried stays pending in Redis: it is
 * acknowledged with the entry that carries it, or read again. Source: docs/ROUTES.md. */

/* Only entries of one source are carried together: false if the lane's window holds another's. */
bool lane_gather_fits(const struct lane *lane, const struct entry *entry);
/* lane->route says how. True if the window is full. */
bool lane_gather_add(struct lane *lane, struct entry *entry, int64_t now_ms);
/* Takes what the window holds out of it; NULL: nothing. */
struct entry *lane_gather_take(struct lane *lane);
/* A newest value that waits to be sent gives way to a newer one that was gathered meanwhile. */
void lane_gather_refresh(struct lane *lane);

/* All lanes of a worker --------------------------------------------------------------------------- */

struct lanes {
    struct publication *publication;
    size_t aside_max; /* bytes */
    bool ending;      /* the worker ends: no window is waited for */
    bool crowded;     /* no more may be gathered: likewise */
    bool behind;      /* more waits in Redis, and has for some time: windows last longer */

    struct lane *all;          /* by key; each is in one of these: */
    struct lane_list ready;    /* to be sent, in turn */
    struct lane_list flight;   /* sent, the oldest first */
    struct lane_list overdue;  /* the same, while requests that were sent later passed */
    struct lane_list aside;    /* failed, the oldest failure first: waits for contrast */
    struct lane_list recalled; /* tried first after the breaker has closed */
    struct lane_list paused;   /* until due_ms */
    struct lane_list held;     /* settled as soon as it may be */
    struct lane_list unloaded; /* all that it has is left in Redis */
    struct lane_list
        gathering; /* all that it has waits for the end of its window, the next one first */
    size_t left;   /* entries that lanes have left in Redis */
};

void lanes_free(struct lanes *lanes); /* releases all entries */

/* Behind all others of its lane. */
void lanes_add(struct lanes *lanes, struct entry *entry, int64_t now_ms);
/* The lane's head has changed, or there is none: to the list that it belongs in. A lane without entries is freed. */
void lanes_place(struct lanes *lanes, struct lane *lane);
/* The head waits for another window; a newer one may take its place there. */
void lanes_put_off(struct lanes *lanes, struct lane *lane, int64_t now_ms);
/* Windows that are over. Returns when the next one is; -1: none is waited for. */
int64_t lanes_end_windows(struct lanes *lanes, int64_t now_ms);
/* The same for pauses. */
int64_t lanes_resume(struct lanes *lanes, int64_t now_ms);

/* Of how many the head is on the wire, or its answer not yet acted on. */
size_t lanes_count_in_flight(const struct lanes *lanes, const struct source *source);
/* An overdue request that is waited for no longer; NULL: none. */
const struct lane *lanes_find_late(const struct lanes *lanes, const struct source *source,
                                   int64_t now_ms);
/* Releases what is not in flight of that source, and forgets what is left of it. */
void lanes_forget(struct lanes *lanes, const struct source *source);
/* Of a worker that ends: what waits for the hub. */
void lanes_forget_waiting(struct lanes *lanes);

/* What lanes of handlers have left of that source goes to `ids`: it takes their way once more, from the start. */
void lanes_take_handled(struct lanes *lanes, const struct source *source, struct entry_ids *ids);
/* A page of what a lane has left of that source, to be read again; 0: none, or one is being read. The entries
 * that were found are given back, in their order, with lanes_add_again; lanes_end_page says how many of the page they
 * were taken from. After lanes_forget the lane may not be used. */
size_t lanes_begin_page(struct lanes *lanes, const struct source *source, struct stream_id *ids,
                        size_t max, bool *redelivered, struct lane **lane);
void lanes_add_again(struct lane *lane, struct entry *entry, int64_t now_ms); /* ENTRY_ASIDE */
void lanes_end_page(struct lanes *lanes, struct lane *lane, size_t read);
/* All that is pending and this worker's: what is open, what that carries, and what is left to be read again. */
void lanes_each_pending(const struct lanes *lanes, const struct source *source,
                        entry_ids_visit *visit, void *context);

#endif
