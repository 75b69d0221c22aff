/* The bridge's state as one JSON document, docs/CONTROL.md: what the control socket answers to `status` and `health`,
 * and the page's port at /status and /readyz. From the settings and shared memory alone; the clock is the caller's,
 * but for the time of day. The caller deletes what is returned. */
#ifndef COMMON_RUNTIME_STATUS_H
#define COMMON_RUNTIME_STATUS_H

#include "common/runtime/readiness.h"

#include <cjson/cJSON.h>

/* {"ready":false,"reasons":["hub: connection refused"],"parts":{"broker":{"ok":true},…}}; without the texts, which
 * show addresses, the names alone: "reasons":["hub"]. */
cJSON *status_readiness(const struct readiness *readiness, bool with_texts);

/* Everything: readiness, the processes, the transport, the failure transport, the spool, totals. */
cJSON *status_document(const struct settings *settings, const struct stats *stats,
                       const struct readiness_limits *limits);

/* What the process has got done; 0 of a kind that counts nothing. */
uint64_t status_done(const struct stats_slot *slot);

#endif
