/* Decides whether the bridge is ready, from the settings and shared memory. The monitor's /readyz and page and the
 * supervisor's `health` and `status` all give this answer. Pure, but for readiness_limits_now. */
#ifndef COMMON_RUNTIME_READINESS_H
#define COMMON_RUNTIME_READINESS_H

#include "common/runtime/stats.h"
#include "common/settings/settings.h"

/* The monitor's knowledge of the servers counts as unknown when it is older. */
#define READINESS_STALE_MS 18000

/* If hang_timeout is off, a process without a beat for so long does not count as running. */
#define READINESS_BEAT_MS 60000

#define READINESS_REASON_SIZE 256
#define READINESS_TEXT_SIZE   (READINESS_REASON_SIZE + 32)

enum readiness_part {
    READINESS_SUPERVISOR,
    READINESS_BROKER, /* every consumer is connected */
    READINESS_SPOOL, /* every connected consumer can send its spool; a slow link is reported, not required */
    READINESS_WORKER, /* at least one worker works, if any is wanted */
    READINESS_REDIS,
    READINESS_HUB,      /* required if workers are wanted: only they need it */
    READINESS_DATABASE, /* never required: failed messages wait */
    READINESS_PAGE,     /* never required: a monitor that can't listen tries again */
    READINESS_PARTS
};

struct readiness_answer {
    bool ok;
    bool configured;                    /* false: the settings have no such part, which is ok */
    bool required;                      /* false: reported, but the bridge is ready without it */
    char reason[READINESS_REASON_SIZE]; /* "" when ok */
};

struct readiness {
    bool ready;
    struct readiness_answer part[READINESS_PARTS];
};

extern const char *const READINESS_NAMES[READINESS_PARTS]; /* "broker", ... */

struct readiness_limits {
    int64_t now_ms;  /* monotonic */
    int64_t beat_ms; /* a process with an older beat does not run; 0: READINESS_BEAT_MS */
};

struct readiness_limits readiness_limits_now(const struct settings *settings);

bool readiness_is_running(const struct stats_slot *slot, const struct readiness_limits *limits);
/* The supervisor's beat is recent. Also true if it has no slot: a child does not outlive its supervisor. */
bool readiness_supervisor_is_alive(const struct stats *stats,
                                   const struct readiness_limits *limits);
/* The servers are left out if the monitor, which asks them, was stopped or given up. */
void readiness_judge(struct readiness *readiness, const struct settings *settings,
                     const struct stats *stats, const struct readiness_limits *limits);

/* Writes "hub: connection refused"; false, and nothing is written, if the part is ok. */
bool readiness_tell(const struct readiness *readiness, enum readiness_part part,
                    char out[READINESS_TEXT_SIZE]);

#endif
