/* Last values: the newest message document of each topic, in the hash `{<stream>}__latest`: topic -> document.
 *
 * Workers write it, whichever comes first: a document takes the place of another only if it is newer, by the sequence of
 * their spool, else by the time of receipt, else by the order of dispatch. Of more than `limit` topics some go: of
 * five that are drawn at random the one that was received longest ago, for each that is too many. Nothing depends on
 * this hash but what a page shows when it opens.
 *
 * Same connection and rules as queue.h. What a callback is handed lives during the callback only. */
#ifndef COMMON_CLIENT_QUEUE_LATEST_H
#define COMMON_CLIENT_QUEUE_LATEST_H

#include "common/client/queue.h"

/* pairs: a topic and its document, each added with queue_batch_add; so many topics may there be. The documents are
 * those of common/wire/update.h, with identities of ours. */
void queue_keep_latest(struct queue *queue, int64_t limit, const struct queue_batch *pairs,
                       queue_done *done, void *context);
void queue_forget_latest(struct queue *queue, queue_done *done, void *context); /* all of them */

struct queue_latest {
    struct bytes topic;
    struct bytes document; /* data NULL: left out */
};

/* cursor: where to go on, 0 once all were seen. */
typedef void queue_latest_read(void *context, int result, uint64_t cursor,
                               const struct queue_latest *latest, size_t len,
                               const struct error *err);
/* About `count` of them; 0 begins. All that are there from the first call to the last come, some perhaps twice.
 * Documents beyond so many bytes together are left out. */
void queue_scan_latest(struct queue *queue, uint64_t cursor, size_t count, size_t bytes,
                       queue_latest_read *done, void *context);

#endif
