/* Is the bridge doing its work? What /readyz and the page say, from shared memory and the last probe.
 * Pure. */
#ifndef MONITOR_READINESS_H
#define MONITOR_READINESS_H

#include "common/base/stats.h"
#include "monitor/probe.h"

enum readiness_part {
    READINESS_SUPERVISOR,
    READINESS_BROKER, /* every consumer is connected */
    READINESS_WORKER, /* at least one runs, where any is wanted */
    READINESS_REDIS,
    READINESS_HUB,      /* required where workers are wanted: nobody else needs it */
    READINESS_DATABASE, /* never required: failures wait */
    READINESS_PARTS
};

struct readiness_answer {
    bool ok;
    bool configured;  /* false: there is none, and so nothing to be told (ok) */
    bool required;    /* false: told, but the bridge is ready without it */
    char reason[256]; /* "" when ok */
};

struct readiness {
    bool ready;
    struct readiness_answer part[READINESS_PARTS];
};

extern const char *const READINESS_NAMES[READINESS_PARTS]; /* "broker", ... */

/* A process whose beat is older than this does not count as running. */
struct readiness_limits {
    int64_t now_ms; /* monotonic */
    int64_t beat_ms;
};

bool readiness_is_running(const struct stats_slot *slot, const struct readiness_limits *limits);
/* The supervisor's beat is fresh; true also where it has no slot (then, that we live says it: a child
 * does not outlive its supervisor). */
bool readiness_supervisor_is_alive(const struct stats *stats,
                                   const struct readiness_limits *limits);
void readiness_judge(struct readiness *readiness, const struct settings *settings,
                     const struct stats *stats, const struct probe_texts *texts,
                     const struct readiness_limits *limits);

#endif
