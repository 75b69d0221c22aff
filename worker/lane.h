/* A lane is the queue of one topic, or of one batch topic. At most one of its updates is in flight, so that order per
 * topic holds. It has, in this order:
 *
 *     head       entries in memory, the first of which may be in flight, set aside or paused
 *     left       ids of entries that are left in Redis for want of room
 *     gathered   entries that wait for the end of their route's window (batch, latest)
 *
 * struct lanes has all lanes of a worker, each in one list. When a lane is sent, and which entry is blamed for a
 * failure, is the publisher's business. One thread. */
#ifndef WORKER_LANE_H
#define WORKER_LANE_H

#include "worker/publication.h"
#include "worker/settle.h"
#include "worker/suspicion.h"

#include <uthash.h>
#include <utlist.h>

/* Lanes in one condition; each lane is in exactly one list. utlist.h: head->prev is the last lane. */
struct lane_list {
    struct lane *head;
    size_t len;
};

struct lane {
    struct entry *head;    /* utlist.h; entries that are set aside (ENTRY_ASIDE) come first */
    struct entry_ids left; /* entries left in Redis, to be read again */
    struct entry *rest;    /* carries the older values of the first of `left`; NULL: none */
    /* Carries the other entries of the open window. ENTRY_GATHERED, or ENTRY_ASIDE if the lane is aside. NULL: no
     * window is open. */
    struct entry *gathered;
    int64_t window_ms; /* when the window ends: `gathered` then joins the lane's queue */
    const struct settings_route *route; /* the route with the window; NULL: entries don't wait */
    const struct source *reading; /* a page of `left` of this source is being read; NULL: none */
    bool reading_alone;           /* the entries of that page are published alone */
    bool is_handled;              /* the entries of the lane come from a handler */
    struct lane_list *list;
    struct lane *prev;
    struct lane *next;

    /* About the first entry: */
    struct suspicion suspicion;
    size_t slot;          /* in flight: the hub's slot */
    int64_t sent_ms;      /* monotonic */
    uint64_t serial;      /* number of the request */
    uint64_t failed_at;   /* set aside: number of the last request sent before it failed */
    uint64_t refused_at;  /* number of the last request sent before the first refusal; 0: none */
    unsigned limits;      /* refusals by a rate limiter */
    int64_t due_ms;       /* paused: until then; overdue: a worker that ends waits until then */
    bool aside;           /* all entries are set aside, and so are those that come */
    enum verdict verdict; /* held: the outcome, settled as soon as the delivery is counted */
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
void lane_free(struct lane *lane); /* the lane must have no entries */

/* Moves the lane to the end of that list, from the list that it is in. list NULL: into none. */
void lane_move(struct lane *lane, struct lane_list *list);
/* Moves the lane into a list that is ordered by window_ms. */
void lane_move_by_window(struct lane *lane, struct lane_list *list);
bool lane_list_has_unrefused(const struct lane_list *list); /* a lane with refused_at 0 */
/* Adds an entry at the end. It is left in Redis if others are left, and set aside if the lane is; limit as for
 * lane_set_aside. */
void lane_add(struct lane *lane, struct entry *entry, size_t limit);
/* Takes the first entry out. The lane's suspicion, refusals and pauses are cleared for the next entry. */
struct entry *lane_pop(struct lane *lane);
/* One update of the first entry has passed: its next update is to be sent. Clears what lane_pop clears. */
void lane_go_on(struct lane *lane);
void lane_explain(struct lane *lane, const char *why);
/* Sets all entries aside, as long as those of all lanes take no more than `limit` bytes; the first one in any case. The
 * other entries are left in Redis. */
void lane_set_aside(struct lane *lane, size_t limit);
/* A batch has failed: all entries are left in Redis, in order. Those of the failed batch are then published alone. */
void lane_leave_batches(struct lane *lane);
/* The newest value is refused: the value before it is left, to be read again and published in its place. That value
 * will carry the older ones, which lane->rest keeps. */
void lane_leave_one_before(struct lane *lane);
/* The value before has been read again: it carries the rest. */
void lane_take_rest(struct lane *lane, struct entry *entry);
/* The value before is gone from Redis: the next older one is left in its place. */
void lane_skip_one_before(struct lane *lane);
/* Releases the entries of that source (NULL: of any), but not the first one if keep_head, and forgets those left. */
void lane_forget(struct lane *lane, const struct source *source, bool keep_head);

/* Entries of one window are published together. With `latest` the newest entry is published in place of the others;
 * with `batch` the first entry carries the documents of all. Carried entries stay pending in Redis: they are
 * acknowledged with the entry that carries them, or read again. Source: docs/ROUTES.md. */

/* Only entries of one source are carried together: false if the lane's window holds another source's. */
bool lane_gather_fits(const struct lane *lane, const struct entry *entry);
/* Latest: the lane's first entry, which may be in flight, carries an entry that is older. False: it is not older. */
bool lane_conflate_late(struct lane *lane, struct entry *entry);
/* Adds an entry to the window, as lane->route says. True if the window is full. */
bool lane_gather_add(struct lane *lane, struct entry *entry, int64_t now_ms);
/* Closes the window and returns its entry; NULL: no window is open. */
struct entry *lane_gather_take(struct lane *lane);
/* A newest value that waits to be sent is replaced by a newer one that was gathered meanwhile. */
void lane_gather_refresh(struct lane *lane);

/* All lanes of a worker. */

struct lanes {
    struct publication *publication;
    size_t aside_max; /* bytes */
    bool ending;      /* the worker ends: windows end at once */
    bool crowded;     /* no more may be gathered: windows end at once */

    struct lane *all;           /* by key; each lane is in one of these lists: */
    struct lane_list ready;     /* to be sent, in turn */
    struct lane_list flight;    /* sent, the oldest request first */
    struct lane_list overdue;   /* sent and unanswered, while later requests passed */
    struct lane_list aside;     /* failed, the oldest failure first: wait for contrast */
    struct lane_list recalled;  /* tried first after the breaker has closed */
    struct lane_list paused;    /* wait until due_ms */
    struct lane_list held;      /* have a verdict that can't be settled yet (source_may_settle) */
    struct lane_list unloaded;  /* have no entries but those left in Redis */
    struct lane_list gathering; /* have no entries but an open window, the first to end first */
    struct lane_list kept;      /* the worker ends, and these are sent no more */
    size_t left;                /* entries that lanes have left in Redis */
};

void lanes_free(struct lanes *lanes); /* releases all entries */

/* Adds the entry at the end of its lane. */
void lanes_add(struct lanes *lanes, struct entry *entry, int64_t now_ms);
/* The lane's first entry has changed or gone: moves the lane into the list that fits. A lane without entries is
 * freed. */
void lanes_place(struct lanes *lanes, struct lane *lane);
/* Puts a newest value that failed into another window, where a newer value may replace it. */
void lanes_put_off(struct lanes *lanes, struct lane *lane, int64_t now_ms);
/* Ends windows that are over. Returns when the next one ends; -1: none is open. */
int64_t lanes_end_windows(struct lanes *lanes, int64_t now_ms);
/* Ends pauses that are over. Returns when the next one ends; -1: none. */
int64_t lanes_resume(struct lanes *lanes, int64_t now_ms);

/* How many lanes have a first entry of that source in flight, or answered and not settled. */
size_t lanes_count_in_flight(const struct lanes *lanes, const struct source *source);
/* A lane whose overdue request is not waited for any longer; NULL: none. */
const struct lane *lanes_find_late(const struct lanes *lanes, const struct source *source,
                                   int64_t now_ms);
/* Releases the entries of that source that are not in flight, and forgets those that are left. */
void lanes_forget(struct lanes *lanes, const struct source *source);
/* The worker ends: lanes that are set aside or paused are sent no more. Their entries stay open. */
void lanes_keep_waiting(struct lanes *lanes);

/* Moves the ids that lanes of handlers have left of that source to `ids`: those entries need their handler again. */
void lanes_take_handled(struct lanes *lanes, const struct source *source, struct entry_ids *ids);
/* Begins a page of ids that a lane has left of that source, to be read again; 0: no lane has one. The entries that were
 * found are given back, in order, with lanes_add_again. lanes_end_page says how many ids of the page were read. After
 * lanes_forget the lane may not be used. */
size_t lanes_begin_page(struct lanes *lanes, const struct source *source, struct stream_id *ids,
                        size_t max, bool *redelivered, struct lane **lane);
void lanes_add_again(struct lane *lane, struct entry *entry, int64_t now_ms); /* ENTRY_ASIDE */
void lanes_end_page(struct lanes *lanes, struct lane *lane, size_t read);
/* Visits every entry that this worker has pending: open entries, those that they carry, and those left in Redis. */
void lanes_each_pending(const struct lanes *lanes, const struct source *source,
                        entry_ids_visit *visit, void *context);

#endif
