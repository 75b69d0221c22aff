#include "cli/redriver.h"

#include "common/base/alloc.h"
#include "common/client/queue.h"

#include <stdlib.h>

struct redriver_transport {
    const struct settings_transport *settings;
    struct queue *queue;
    size_t under_way; /* answers that are waited for */
};

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
        free(redriver->transports[i]);
    }
    free(redriver->transports);
    free(redriver);
}

static void wait_for(struct redriver_transport *transport)
{
    while (transport->under_way > 0)
        queue_wait_once(transport->queue);
}

static void on_connected(void *context, int result, const struct error *err)
{
    struct redriver_answer *answer = context;

    answer->transport->under_way--;
    answer->result = result;
    if (err != NULL)
        answer->err = *err;
}

static void on_redriven(void *context, int result, int64_t added, const struct error *err)
{
    on_connected(context, result, err);
    ((struct redriver_answer *)context)->added = added != 0;
}

static int connect_to(struct redriver_transport *transport, struct error *err)
{
    struct redriver_answer answer = {.transport = transport};

    if (queue_is_connected(transport->queue))
        return 0;
    transport->under_way++;
    queue_connect(transport->queue, on_connected, &answer);
    wait_for(transport);
    *err = answer.err;
    return answer.result;
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

int redriver_open(struct redriver *redriver, struct bytes name,
                  struct redriver_transport **transport, struct error *err)
{
    *transport = find(redriver, name);
    if (*transport == NULL) {
        if (add(redriver, name, err) < 0)
            return -(int)err->code;
        *transport = redriver->transports[redriver->len - 1];
    }
    return connect_to(*transport, err);
}

bool redriver_wraps(const struct redriver_transport *transport)
{
    return queue_dsn(transport->queue)->redis_serialized;
}

int64_t redriver_max_entry(const struct redriver_transport *transport)
{
    return transport->settings->max_entry;
}

void redriver_send(struct redriver_transport *transport, const char *guard, struct bytes value,
                   struct redriver_answer *answer)
{
    *answer = (struct redriver_answer){.transport = transport};
    transport->under_way++;
    queue_redrive(transport->queue, guard, value, on_redriven, answer);
}

void redriver_wait(struct redriver *redriver)
{
    for (size_t i = 0; i < redriver->len; i++)
        wait_for(redriver->transports[i]);
}
