/* Is the bridge doing its work? The one answer of /readyz and the page (the monitor's) and of `health` and
 * `status` (the supervisor's), from the settings and shared memory. Pure, but for readiness_limits_now. */
#ifndef COMMON_RUNTIME_READINESS_H
#define COMMON_RUNTIME_READINESS_H

#include "common/runtime/stats.h"
#include "common/settings/settings.h"

/* What the monitor has learned of the servers is not believed when it is older. */
#define READINESS_STALE_MS 18000

/* A process without a beat for so long does not run, where hang_timeout is off. */
#define READINESS_BEAT_MS 60000

#define READINESS_REASON_SIZE 256
#define READINESS_TEXT_SIZE   (READINESS_REASON_SIZE + 32)

enum readiness_part {
    READINESS_SUPERVISOR,
    READINESS_BROKER, /* every consumer is connected */
    READINESS_SPOOL, /* no connected consumer has a reason why it can't send what it keeps; that one
                         sends slowly is told, and not required */
    READINESS_WORKER, /* at least one is at work, where any is wanted */
    READINESS_REDIS,
    READINESS_HUB,      /* required where workers are wanted: nobody else needs it */
    READINESS_DATABASE, /* never required: failures wait */
    READINESS_PAGE,     /* never required: the monitor can't listen, and tries again */
    READINESS_PARTS
};

struct readiness_answer {
    bool ok;
    bool configured;                    /* false: there is none, and so nothing to be told (ok) */
    bool required;                      /* false: told, but the bridge is ready without it */
    char reason[READINESS_REASON_SIZE]; /* "" when ok */
};

struct readiness {
    bool ready;
    struct readiness_answer part[READINESS_PARTS];
};

extern const char *const READINESS_NAMES[READINESS_PARTS]; /* "broker", ... */

struct readiness_limits {
    int64_t now_ms; /* monotonic */
    int64_t
        beat_ms; /* a process whose beat is older does not count as running; 0: READINESS_BEAT_MS */
};

struct readiness_limits readiness_limits_now(const struct settings *settings);

bool readiness_is_running(const struct stats_slot *slot, const struct readiness_limits *limits);
/* The supervisor's beat is fresh; true also where it has no slot (then, that we live says it: a child
 * does not outlive its supervisor). */
bool readiness_supervisor_is_alive(const struct stats *stats,
                                   const struct readiness_limits *limits);
/* Where the supervisor does not let the monitor run, which was stopped or given up, the servers are left out. */
void readiness_judge(struct readiness *readiness, const struct settings *settings,
                     const struct stats *stats, const struct readiness_limits *limits);

/* "hub: connection refused"; false, and nothing, where the part is well. */
bool readiness_tell(const struct readiness *readiness, enum readiness_part part,
                    char out[READINESS_TEXT_SIZE]);

#endif
