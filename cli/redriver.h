/* Sends messages to the settings' transports, for a program that may block. Each transport is connected when it is
 * first needed.
 *
 * Messages are sent under a guard (queue_redrive): a message that is sent twice under one guard within seven days is in
 * the stream once. Messages that are sent between two waits enter a stream in order: if Redis refuses one, those behind
 * it are refused too. After a temporary refusal (no room in the stream or in Redis, a slot that moves, no replica) the
 * message is sent again. A lost connection is replaced. The message fails when no message is accepted within the
 * transport's time-out. The caller must ignore SIGPIPE. */
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

/* Gives a connected transport. -ERR_NOT_FOUND: the settings have none of that name; other errors as queue_connect. */
MUST_CHECK int redriver_open(struct redriver *redriver, struct bytes name,
                             struct redriver_transport **transport, struct error *err);

/* Waits for any other request of the queue, at most for the queue's time-out:
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
/* Returns the request's result, with err. */
MUST_CHECK int redriver_await(const struct redriver_transport *transport,
                              const struct redriver_answer *answer, struct error *err);

struct redriver_message {
    const char *guard;
    struct bytes value;
    struct redriver_answer answer; /* after redriver_wait; number 0: it had been sent before */
};

/* Sends a message, in order for each transport. The message, its guard and its value must live until redriver_wait. */
void redriver_send(struct redriver_transport *transport, struct redriver_message *message);
/* Waits until every message was added or finally refused; the first one that was refused has the reason. The transport
 * of that message is connected anew when it is opened next. */
void redriver_wait(struct redriver *redriver);

#endif
