#include "cli/queue_wait.h"

#include "common/base/clock.h"

#include <poll.h>

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
    while (!wait->there) {
        struct pollfd fd = {.fd = queue_fd(queue), .events = queue_events(queue)};
        int timeout = clock_poll_timeout(queue_deadline_ms(queue), clock_monotonic_ms());

        if (poll(&fd, 1, timeout) <= 0)
            fd.revents = 0;
        queue_process(queue, fd.revents);
    }
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
