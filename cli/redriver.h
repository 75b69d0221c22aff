/* The settings' transports for a program that may wait: each is connected to when it is first needed.
 *
 * Entries are sent under a guard, queue_redrive: whatever is sent twice under one guard within seven days is in the stream
 * once. Answers are waited for with queue_wait. */
#ifndef CLI_REDRIVER_H
#define CLI_REDRIVER_H

#include "cli/queue_wait.h"
#include "common/settings/settings.h"

struct redriver;

struct redriver *redriver_new(const struct settings *settings);
void redriver_free(struct redriver *redriver);

struct redriver_transport { /* owned by the redriver */
    const struct settings_transport *settings;
    struct queue *queue;
};

/* Connected. -ERR_NOT_FOUND: the settings have none of that name; else as queue_connect. */
MUST_CHECK int redriver_open(struct redriver *redriver, struct bytes name,
                             struct redriver_transport **transport, struct error *err);

#endif
