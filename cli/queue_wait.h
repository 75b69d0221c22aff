/* The queue for a program that may wait: a request is sent, then waited for.
 *
 *     struct queue_wait wait = {0};
 *     queue_set_up(queue, queue_wait_number, &wait);
 *     result = queue_wait(queue, &wait, &err);
 *
 * Each wait has the queue's own time-out. SIGPIPE is for the caller to ignore. */
#ifndef CLI_QUEUE_WAIT_H
#define CLI_QUEUE_WAIT_H

#include "common/client/queue.h"

struct queue_wait {
    bool there;
    int result;
    int64_t number; /* of queue_wait_number */
    struct error err;
};

/* Callbacks, with a struct queue_wait as context. */
void queue_wait_done(void *wait, int result, const struct error *err);
void queue_wait_number(void *wait, int result, int64_t number, const struct error *err);

/* Until it is there. Returns its result, with err. */
MUST_CHECK int queue_wait(struct queue *queue, const struct queue_wait *wait, struct error *err);
/* Connects, unless it is connected. */
MUST_CHECK int queue_wait_connected(struct queue *queue, struct error *err);

#endif
