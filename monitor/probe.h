/* What the servers say: Redis, the failure transport's database and the hub, asked in turn with plain
 * blocking calls, each under PROBE_LIMIT_MS.
 *
 * What is learned goes into the statistics (struct stats_probe), where every program can read it:
 * numbers, and why a server is not well. One thread. */
#ifndef MONITOR_PROBE_H
#define MONITOR_PROBE_H

#include "common/base/settings.h"
#include "common/base/stats.h"

#define PROBE_LIMIT_MS    2000
#define PROBE_INTERVAL_MS 3000

struct probe;

/* Both are kept, not copied. -ERR_USAGE if the first transport's DSN is wrong. */
MUST_CHECK int probe_new(struct probe **probe, const struct settings *settings, struct stats *stats,
                         struct error *err);
void probe_free(struct probe *probe);

/* Asks the next server; returns when to call again (monotonic ms): now, or after the last of a round when
 * the next is due. */
int64_t probe_step(struct probe *probe);

#endif
