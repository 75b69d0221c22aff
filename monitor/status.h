/* The monitor's answers as JSON: /status, /readyz and /config.json. Pure, but for the clock's time of
 * day in /status. */
#ifndef MONITOR_STATUS_H
#define MONITOR_STATUS_H

#include "common/base/buf.h"
#include "common/runtime/readiness.h"
#include "common/settings/settings.h"

/* {"ready":false,"reasons":["hub: connection refused"],"parts":{"broker":{"ok":true},…}}; without the texts, which
 * show addresses, the names alone: "reasons":["hub"]. */
void status_write_readiness(struct buf *out, const struct readiness *readiness, bool with_texts);

/* Everything: readiness, each process by slot, the transport, the failure transport, totals. */
void status_write(struct buf *out, const struct settings *settings, const struct stats *stats,
                  const struct readiness *readiness, const struct readiness_limits *limits);

/* What the page has to know: where the hub is and what to subscribe to. */
void status_write_page_config(struct buf *out, const struct settings *settings);

#endif
