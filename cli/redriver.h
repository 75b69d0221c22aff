/* The settings' transports for a program that may wait: each is connected to when it is first needed.
 *
 * Entries are sent under a guard, queue_redrive: whatever is sent twice under one guard within seven days is in the stream
 * once. What is sent between two waits goes into a stream in its order: where Redis refuses one, those behind it are
 * refused as well. A refusal that may pass (no room in the stream or in Redis, a slot that moves, no replica) is waited for
 * as long as one of them is taken within the transport's time-out, over a new connection where the old one is lost.
 * SIGPIPE is for the caller to ignore. */
#ifndef CLI_REDRIVER_H
#define CLI_REDRIVER_H

#include "common/client/queue.h"
#include "common/settings/settings.h"

struct redriver;

struct redriver *redriver_new(const struct settings *settings);
void redriver_free(struct redriver *redriver);

struct redriver_transport { /* owned by the redriver */
    const struct settings_transport *settings;
    struct queue *queue;
    struct redriver_message **sent; /* since the last redriver_wait */
    size_t sent_len;
};

/* Connected. -ERR_NOT_FOUND: the settings have none of that name; else as queue_connect. */
MUST_CHECK int redriver_open(struct redriver *redriver, struct bytes name,
                             struct redriver_transport **transport, struct error *err);

/* A request of the queue that is waited for, at most for the queue's own time-out:
 *
 *     struct redriver_answer answer = {0};
 *     queue_set_up(transport->queue, redriver_take_answer, &answer);
 *     result = redriver_await(transport, &answer, &err);
 */
struct redriver_answer {
    bool there;
    int result;
    int64_t number;
    struct error err;
};
void redriver_take_answer(void *answer, int result, int64_t number, const struct error *err);
/* Returns its result, with err. */
MUST_CHECK int redriver_await(const struct redriver_transport *transport,
                              const struct redriver_answer *answer, struct error *err);

struct redriver_message {
    const char *guard;
    struct bytes value;
    struct redriver_answer answer; /* after redriver_wait; number 0: it had been sent before */
};

/* The message, its guard and its value must live until redriver_wait. In order for one transport. */
void redriver_send(struct redriver_transport *transport, struct redriver_message *message);
/* Until all that was sent is added, or refused for good: the first that was refused says why. Its transport is
 * connected to anew when it is opened next. */
void redriver_wait(struct redriver *redriver);

#endif
