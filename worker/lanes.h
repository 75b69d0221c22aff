/* All lanes of a worker, and the list that each stands in. What is sent when, and who is blamed, is the publisher's
 * business. One thread. */
#ifndef WORKER_LANES_H
#define WORKER_LANES_H

#include "worker/lane.h"
#include "worker/publication.h"

struct lanes {
    struct publication *publication;
    size_t aside_max; /* bytes */
    bool ending;      /* the worker ends: no window is waited for */
    bool crowded;     /* no more may be gathered: likewise */

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
void lanes_take_handled(struct lanes *lanes, const struct source *source, struct ids *ids);
/* A page of what a lane has left of that source, to be read again; 0: none, or one is being read. The entries
 * that were found are given back, in their order, with lanes_add_again; lanes_end_page says how many of the page they
 * were taken from. After lanes_forget the lane may not be used. */
size_t lanes_begin_page(struct lanes *lanes, const struct source *source, struct stream_id *ids,
                        size_t max, bool *redelivered, struct lane **lane);
void lanes_add_again(struct lane *lane, struct entry *entry, int64_t now_ms); /* ENTRY_ASIDE */
void lanes_end_page(struct lanes *lanes, struct lane *lane, size_t read);
/* All that is pending and this worker's: what is open, what that carries, and what is left to be read again. */
void lanes_each_pending(const struct lanes *lanes, const struct source *source, ids_visit *visit,
                        void *context);

#endif
