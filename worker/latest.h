/* Last values on their way to Redis: of what was published to everybody as message documents, the newest of each topic
 * (common/client/queue.h). A page shows them when it opens. One thread.
 *
 * They go out just before the acknowledgements of their entries, in the same write, and are kept until those are
 * answered: what is acknowledged has its last value in Redis, also after a kill. Nothing waits for them: where Redis
 * refuses them they are dropped, and told once; and what comes while 4 MB of them are unanswered is not kept.
 *
 * A document of more than LATEST_DOCUMENT_MAX bytes is kept without its payload: `bytes` in its place says how long that
 * was. So Redis holds `last_values` times twice that at the most. */
#ifndef WORKER_LATEST_H
#define WORKER_LATEST_H

#include "common/client/queue.h"
#include "worker/entry.h"

#define LATEST_DOCUMENT_MAX ((size_t)16 * 1024)

struct latest;

struct latest *latest_new(int64_t limit); /* NULL: 0 topics */
void latest_free(struct latest *latest);  /* NULL is allowed, here and below */

/* The hub has the entry, and with it what a batch carries. Passed over where others may not see it, or it was no
 * message document. */
void latest_add(struct latest *latest, const struct entry *entry);
/* Before acknowledgements are sent: what was added and is not acknowledged. */
void latest_send(struct latest *latest, struct queue *queue);
/* All that was sent is acknowledged. */
void latest_acknowledged(struct latest *latest);

#endif
