/* How much waits in a transport's Redis: what `messenger:stats` would count, and the oldest entry's age.
 * Blocking, each answer under the limit given at the start; one thread. */
#ifndef MONITOR_QUEUE_PROBE_H
#define MONITOR_QUEUE_PROBE_H

#include "common/base/settings.h"

struct queue_probe;

/* -1 where Redis does not tell. */
struct queue_numbers {
    int64_t ready;     /* entries that the group has not read */
    int64_t pending;   /* read and not acknowledged */
    int64_t delayed;   /* in the delayed set */
    int64_t oldest_ms; /* age of the oldest entry that is not done; 0: there is none */
};

/* -ERR_USAGE if the DSN is wrong. Connects at the first question, and again after a break. */
MUST_CHECK int queue_probe_new(struct queue_probe **probe,
                               const struct settings_transport *transport, int64_t limit_ms,
                               struct error *err);
void queue_probe_free(struct queue_probe *probe);

/* 0, or negative with err ("redis://host:6379/messages: connection refused") and all numbers -1. */
MUST_CHECK int queue_probe_ask(struct queue_probe *probe, struct queue_numbers *numbers,
                               struct error *err);

#endif
