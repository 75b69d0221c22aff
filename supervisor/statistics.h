/* What the supervisor writes into shared memory: who has which slot, why a process does not work, rates.
 *
 * A process gets the slot of its predecessor, so that totals go on. A slot whose process is gone keeps its
 * numbers until another process needs it. One thread. */
#ifndef SUPERVISOR_STATISTICS_H
#define SUPERVISOR_STATISTICS_H

#include "common/runtime/stats.h"
#include "common/settings/settings.h"
#include "supervisor/process.h"

#define STATISTICS_WORKERS_MAX 64 /* or [worker] count, if that is more */
#define STATISTICS_SPARE_SLOTS 16 /* for consumers that a reload adds */

struct statistics {
    struct stats *stats;
    int fd;                          /* of the shared memory, which children inherit; -1: none */
    struct stats_slot *own;          /* the supervisor's: its beat, why the service is not ready */
    struct statistics_owner *owners; /* one a slot */
    int64_t workers_max;             /* there are slots for so many */
};

/* -ERR_USAGE: [worker] count and the consumers are more processes than there can be slots. */
MUST_CHECK int statistics_open(struct statistics *statistics, const struct settings *settings,
                               struct error *err);
void statistics_close(struct statistics *statistics);

/* Gives the process a slot; false if all are taken. */
MUST_CHECK bool statistics_assign(struct statistics *statistics, struct process *process);
/* The process is no longer wanted: readers of the statistics must not miss it. */
void statistics_release(struct statistics *statistics, const struct process *process);

/* Why the process does not do its work: what it says itself while it lives, else how it ended. */
void statistics_read_reason(const struct process *process, char out[STATS_REASON_SIZE]);
/* Writes the reason of a process that is not there into its slot, for the monitor. */
void statistics_write_reason(const struct process *process);

/* What the process has got done, and what failed for good; 0 for the monitor. */
uint64_t statistics_done(const struct process *process);
uint64_t statistics_failed(const struct process *process);
/* Computes the process's rate over the time since the last sample. */
void statistics_sample(struct process *process, int64_t since_ms);

#endif
