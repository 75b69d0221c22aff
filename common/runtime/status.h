/* The bridge's state as one JSON document (docs/CONTROL.md). The control socket answers `status` and `health` with it,
 * and the page's port /status and /readyz. It is made from the settings and shared memory only. The caller gives the
 * monotonic time, and deletes what is returned. */
#ifndef COMMON_RUNTIME_STATUS_H
#define COMMON_RUNTIME_STATUS_H

#include "common/runtime/readiness.h"

#include <cjson/cJSON.h>

/* {"ready":false,"reasons":["hub: connection refused"],"parts":{"broker":{"ok":true},…}}. Without the texts, which show
 * addresses, the reasons are the parts' names: "reasons":["hub"]. */
cJSON *status_readiness(const struct readiness *readiness, bool with_texts);

/* Everything: readiness, the processes, the transport, the failure transport, the spool, totals. */
cJSON *status_document(const struct settings *settings, const struct stats *stats,
                       const struct readiness_limits *limits);

/* How many messages the process has done; 0 for a kind of process that counts none. */
uint64_t status_done(const struct stats_slot *slot);

#endif
