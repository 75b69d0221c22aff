/* /metrics: the statistics in Prometheus' text format, version 0.0.4. Each metric's name, help and source is a row of
 * the tables in metrics.c. Pure, but reads the certificates that the settings name. */
#ifndef MONITOR_METRICS_H
#define MONITOR_METRICS_H

#include "common/base/buf.h"
#include "common/runtime/readiness.h"
#include "common/settings/settings.h"

#define METRICS_CONTENT_TYPE "text/plain; version=0.0.4; charset=utf-8"

void metrics_write(struct buf *out, const struct settings *settings, const struct stats *stats,
                   const struct readiness_limits *limits);

#endif
