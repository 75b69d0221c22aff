/* /metrics: the statistics in Prometheus' text format, version 0.0.4. Each name, its help and where it
 * comes from is a row of the tables in metrics.c. Reads the certificates that the settings name, and is pure but for that. */
#ifndef MONITOR_METRICS_H
#define MONITOR_METRICS_H

#include "common/base/buf.h"
#include "common/runtime/readiness.h"
#include "common/settings/settings.h"

#define METRICS_CONTENT_TYPE "text/plain; version=0.0.4; charset=utf-8"

void metrics_write(struct buf *out, const struct settings *settings, const struct stats *stats,
                   const struct readiness_limits *limits);

#endif
