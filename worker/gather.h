/* What is published together: the entries of a lane's window. Of a route with `latest` the newest entry stands for the
 * others; of one with `batch` the first one carries their documents. What is carried stays pending in Redis: it is
 * acknowledged with the entry that carries it, or read again. Source: docs/ROUTES.md. One thread.
 *
 *   lane->gathered   the entry that carries the others (ENTRY_GATHERED, or ENTRY_ASIDE if the lane is);
 *                    NULL: none since the last window
 *   lane->window_ms  when its window ends; it then joins the lane's queue */
#ifndef WORKER_GATHER_H
#define WORKER_GATHER_H

#include "worker/lane.h"
#include "worker/publication.h"

/* Only entries of one source are carried together: false if the lane's window holds another's. */
bool gather_fits(const struct lane *lane, const struct entry *entry);
/* lane->route says how. True if the window is full. */
bool gather_add(struct lane *lane, struct entry *entry, int64_t now_ms);
/* Takes what the window holds out of it; NULL: nothing. */
struct entry *gather_take(struct lane *lane);
/* A newest value that waits to be sent gives way to a newer one that was gathered meanwhile. */
void gather_refresh(struct lane *lane);
/* By the sequence of their spool, else the time of their receipt, else the order of their dispatch. */
bool gather_is_newer(const struct entry *a, const struct entry *b);

#endif
