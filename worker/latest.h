/* Last values on their way to Redis: the newest message document of each topic, of those published to everybody
 * (common/client/queue.h). A page shows them when it opens. One thread.
 *
 * Last values are sent just before the acknowledgements of their entries, in the same write, and are kept until Redis
 * has answered those. So an acknowledged entry has its last value in Redis, also after a kill. No entry waits for last
 * values: if Redis refuses them they are dropped, which is logged once. While 4 MB are unanswered no more are kept.
 *
 * A document of more than LATEST_DOCUMENT_MAX bytes is kept without its payload: a member `bytes` has the payload's
 * length. So Redis holds at most `last_values` times twice LATEST_DOCUMENT_MAX. */
#ifndef WORKER_LATEST_H
#define WORKER_LATEST_H

#include "common/client/queue.h"
#include "worker/entry.h"

#define LATEST_DOCUMENT_MAX ((size_t)16 * 1024)

struct latest;

struct latest *latest_new(int64_t limit); /* NULL: 0 topics */
void latest_free(struct latest *latest);  /* NULL is allowed, here and below */

/* The hub has the entry, and the entries of its batch. Ignored if the update was private or no message document. */
void latest_add(struct latest *latest, const struct entry *entry);
/* Sends all last values that are not acknowledged; to be called before acknowledgements are sent. */
void latest_send(struct latest *latest, struct queue *queue);
/* Redis has answered the acknowledgements: the last values that were sent before them are forgotten. */
void latest_acknowledged(struct latest *latest);

#endif
