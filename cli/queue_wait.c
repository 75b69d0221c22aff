#include "cli/queue_wait.h"

void queue_wait_done(void *context, int result, const struct error *err)
{
    struct queue_wait *wait = context;

    wait->there = true;
    wait->result = result;
    if (err != NULL)
        wait->err = *err;
}

void queue_wait_number(void *context, int result, int64_t number, const struct error *err)
{
    queue_wait_done(context, result, err);
    ((struct queue_wait *)context)->number = number;
}

int queue_wait(struct queue *queue, const struct queue_wait *wait, struct error *err)
{
    while (!wait->there)
        queue_wait_once(queue);
    *err = wait->err;
    return wait->result;
}

int queue_wait_connected(struct queue *queue, struct error *err)
{
    struct queue_wait wait = {0};

    if (queue_is_connected(queue))
        return 0;
    queue_connect(queue, queue_wait_done, &wait);
    return queue_wait(queue, &wait, err);
}
