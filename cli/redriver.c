#include "cli/redriver.h"

#include "common/base/alloc.h"
#include "common/base/clock.h"

#include <stdlib.h>
#include <time.h>

#define AGAIN_EVERY_MS 100

struct redriver {
    const struct settings *settings;
    struct redriver_transport **transports;
    size_t len;
};

struct redriver *redriver_new(const struct settings *settings)
{
    struct redriver *redriver = xcalloc(1, sizeof(*redriver));

    redriver->settings = settings;
    return redriver;
}

void redriver_free(struct redriver *redriver)
{
    if (redriver == NULL)
        return;
    for (size_t i = 0; i < redriver->len; i++) {
        queue_free(redriver->transports[i]->queue);
        free(redriver->transports[i]->sent);
        free(redriver->transports[i]);
    }
    free(redriver->transports);
    free(redriver);
}

static struct redriver_transport *find(const struct redriver *redriver, struct bytes name)
{
    for (size_t i = 0; i < redriver->len; i++)
        if (bytes_equal_text(name, redriver->transports[i]->settings->name))
            return redriver->transports[i];
    return NULL;
}

static int add(struct redriver *redriver, struct bytes name, struct error *err)
{
    const struct settings_transport *settings = settings_transport(redriver->settings, name);
    struct queue *queue;

    if (settings == NULL)
        return error_set(err, ERR_NOT_FOUND, "there is no [transport:%.*s]", BYTES_ARG(name));
    if (queue_new(&queue, settings, err) < 0)
        return -(int)err->code;
    struct redriver_transport *transport = xcalloc(1, sizeof(*transport));
    *transport = (struct redriver_transport){.settings = settings, .queue = queue};
    redriver->transports =
        xrealloc(redriver->transports, (redriver->len + 1) * sizeof(struct redriver_transport *));
    redriver->transports[redriver->len++] = transport;
    return 0;
}

void redriver_take_answer(void *context, int result, int64_t number, const struct error *err)
{
    struct redriver_answer *answer = context;

    *answer = (struct redriver_answer){.there = true, .result = result, .number = number};
    if (err != NULL)
        answer->err = *err;
}

int redriver_await(const struct redriver_transport *transport, const struct redriver_answer *answer,
                   struct error *err)
{
    while (!answer->there)
        queue_wait_once(transport->queue);
    *err = answer->err;
    return answer->result;
}

static void connected(void *answer, int result, const struct error *err)
{
    redriver_take_answer(answer, result, 0, err);
}

static int connect_if_needed(const struct redriver_transport *transport, struct error *err)
{
    struct redriver_answer answer = {0};

    if (queue_is_connected(transport->queue))
        return 0;
    queue_connect(transport->queue, connected, &answer);
    return redriver_await(transport, &answer, err);
}

int redriver_open(struct redriver *redriver, struct bytes name,
                  struct redriver_transport **transport, struct error *err)
{
    *transport = find(redriver, name);
    if (*transport == NULL) {
        if (add(redriver, name, err) < 0)
            return -(int)err->code;
        *transport = redriver->transports[redriver->len - 1];
    }
    return connect_if_needed(*transport, err);
}

static void send_one(struct redriver_transport *transport, size_t i)
{
    struct redriver_message *message = transport->sent[i];

    message->answer = (struct redriver_answer){0};
    queue_redrive(transport->queue, message->guard, i > 0 ? transport->sent[i - 1]->guard : NULL,
                  message->value, redriver_take_answer, &message->answer);
}

void redriver_send(struct redriver_transport *transport, struct redriver_message *message)
{
    size_t len = transport->sent_len;

    if ((len & (len - 1)) == 0)
        transport->sent =
            xrealloc(transport->sent, (len * 2 + 1) * sizeof(struct redriver_message *));
    transport->sent[transport->sent_len++] = message;
    send_one(transport, len);
}

/* Waits for all answers, and returns the index of the first refused message. All later messages
 * were refused too. */
static size_t first_refused(const struct redriver_transport *transport)
{
    size_t refused = transport->sent_len;
    struct error err;

    for (size_t i = transport->sent_len; i-- > 0;)
        if (redriver_await(transport, &transport->sent[i]->answer, &err) < 0)
            refused = i;
    return refused;
}

/* True if the refusal is temporary. A new connection finds the node to which a slot has moved,
 * or a promoted replica. */
static bool may_be_taken_later(const struct redriver_message *message)
{
    int result = message->answer.result;

    return result == -ERR_UNREACHABLE || result == -ERR_FULL || result == -ERR_FENCED;
}

static void send_again(struct redriver_transport *transport, size_t from)
{
    struct error err;

    if (connect_if_needed(transport, &err) < 0)
        return;
    for (size_t i = from; i < transport->sent_len; i++)
        send_one(transport, i);
}

/* Sends refused messages again, as long as Redis accepts at least one within the time-out. */
static void settle(struct redriver_transport *transport)
{
    int64_t deadline_ms = clock_monotonic_ms() + queue_timeout_ms(transport->queue);
    size_t refused = first_refused(transport);

    while (refused < transport->sent_len && may_be_taken_later(transport->sent[refused]) &&
           clock_monotonic_ms() < deadline_ms) {
        size_t before = refused;

        nanosleep(&(struct timespec){0, AGAIN_EVERY_MS * 1000000}, NULL);
        send_again(transport, refused);
        refused = first_refused(transport);
        if (refused > before)
            deadline_ms = clock_monotonic_ms() + queue_timeout_ms(transport->queue);
    }
    if (refused < transport->sent_len)
        queue_disconnect(transport->queue);
    transport->sent_len = 0;
}

void redriver_wait(struct redriver *redriver)
{
    for (size_t i = 0; i < redriver->len; i++)
        (void)first_refused(redriver->transports[i]);
    for (size_t i = 0; i < redriver->len; i++)
        settle(redriver->transports[i]);
}
