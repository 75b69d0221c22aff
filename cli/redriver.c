#include "cli/redriver.h"

#include "common/base/alloc.h"
#include "common/client/queue.h"

#include <stdlib.h>

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
    return queue_wait_connected((*transport)->queue, err);
}
