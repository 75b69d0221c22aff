/* Probes Redis, the failure transport's database and the hub in turn, with plain blocking calls, each under
 * PROBE_LIMIT_MS.
 *
 * The results go into the statistics (struct stats_probe), where every program can read them: numbers, and
 * why a server fails its probe. One thread. */
#ifndef MONITOR_PROBE_H
#define MONITOR_PROBE_H

#include "common/runtime/stats.h"
#include "common/settings/settings.h"

#define PROBE_LIMIT_MS    2000
#define PROBE_INTERVAL_MS 3000

struct probe;

/* Both are kept, not copied. -ERR_USAGE if the first transport's DSN is wrong. */
MUST_CHECK int probe_new(struct probe **probe, const struct settings *settings, struct stats *stats,
                         struct error *err);
void probe_free(struct probe *probe);

/* Probes the next server. Returns when to call again (monotonic ms): now, or at the end of a round when the
 * next round is due. */
int64_t probe_step(struct probe *probe);

#endif
