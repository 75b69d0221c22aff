#include "supervisor/statistics.h"

#include "common/base/alloc.h"
#include "common/base/bytes.h"
#include "common/base/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct statistics_owner {
    char name[STATS_NAME_SIZE]; /* kept when the slot is free again; "": nobody had it yet */
    bool present;
};

int statistics_open(struct statistics *statistics, const struct settings *settings,
                    struct error *err)
{
    int64_t count = settings->worker.count;
    int64_t consumers = (int64_t)settings->consumers_len + 1 + STATISTICS_SPARE_SLOTS;
    int64_t most = STATS_SLOTS_MAX - consumers - 2; /* beside the monitor and the supervisor */

    *statistics = (struct statistics){.fd = -1};

    statistics->workers_max = count > STATISTICS_WORKERS_MAX ? count : STATISTICS_WORKERS_MAX;
    if (statistics->workers_max > most)
        statistics->workers_max = most > 0 ? most : 0;
    if (count > statistics->workers_max)
        return error_set(err, ERR_USAGE,
                         "[worker] count: %lld with %zu consumers are more processes than %d",
                         (long long)count, settings->consumers_len + 1, STATS_SLOTS_MAX);
    size_t slots = (size_t)(consumers + statistics->workers_max + 2);
    int result = stats_create(&statistics->stats, slots, &statistics->fd, err);
    if (result < 0)
        return result;
    statistics->owners = xcalloc(slots, sizeof(*statistics->owners));
    statistics->owners[slots - 1].present = true;
    statistics->own = &statistics->stats->slot[slots - 1];
    snprintf(statistics->own->name, STATS_NAME_SIZE, "supervisor");
    statistics->own->number = 1;
    stats_set(statistics->own, STATS_PID, (uint64_t)getpid());
    stats_set(statistics->own, STATS_STARTED_US, (uint64_t)clock_wall_us());
    stats_beat(statistics->own);
    return 0;
}

void statistics_close(struct statistics *statistics)
{
    free(statistics->owners);
    stats_free(statistics->stats);
    if (statistics->fd >= 0)
        close(statistics->fd);
    *statistics = (struct statistics){.fd = -1};
}

/* The best free slot: the predecessor's, else one that nobody had, else that of a process that is gone. */
bool statistics_assign(struct statistics *statistics, struct process *process)
{
    enum { PREDECESSORS, UNUSED, STRANGERS, NONE } found = NONE;
    char name[STATS_NAME_SIZE];

    snprintf(name, sizeof(name), "%.*s", STATS_NAME_SIZE - 1, process->name);
    for (size_t i = 0; i < statistics->stats->slots_len; i++) {
        const struct stats_slot *slot = &statistics->stats->slot[i];
        const struct statistics_owner *owner = &statistics->owners[i];
        bool same = strcmp(owner->name, name) == 0 && (int)slot->number == process->number;
        int rank = same ? PREDECESSORS : owner->name[0] == '\0' ? UNUSED : STRANGERS;

        if (rank < (int)found && !owner->present) {
            found = rank;
            process->slot_index = i;
        }
    }
    if (found == NONE)
        return false;
    process->slot = &statistics->stats->slot[process->slot_index];
    if (found == STRANGERS)
        memset(process->slot, 0, sizeof(*process->slot));
    process->slot->number = (uint32_t)process->number;
    memcpy(process->slot->name, name, sizeof(name));
    struct statistics_owner *owner = &statistics->owners[process->slot_index];
    memcpy(owner->name, name, sizeof(name));
    owner->present = true;
    process->sampled = statistics_done(process);
    return true;
}

void statistics_release(struct statistics *statistics, const struct process *process)
{
    process->slot->name[0] = '\0';
    statistics->owners[process->slot_index].present = false;
}

void statistics_read_reason(const struct process *process, char out[STATS_REASON_SIZE])
{
    const char *last_line = process->output.last_line;
    char text[2 * STATS_REASON_SIZE];

    if (states_alive(&process->lifecycle)) {
        stats_reason_read(process->slot, out);
        return;
    }
    snprintf(text, sizeof(text), "%s%s%s", process->cause,
             process->cause[0] != '\0' && last_line[0] != '\0' ? ": " : "",
             process->cause[0] != '\0' ? last_line : "");
    bytes_to_printable(bytes_of(text), out, STATS_REASON_SIZE);
}

void statistics_write_reason(const struct process *process)
{
    char reason[STATS_REASON_SIZE];
    char text[STATS_REASON_SIZE];

    if (states_alive(&process->lifecycle))
        return;
    statistics_read_reason(process, reason);
    snprintf(text, sizeof(text), "%s%s%s", states_name(process->lifecycle.state),
             reason[0] != '\0' ? ": " : "", reason);
    stats_reason(process->slot, text);
}

uint64_t statistics_done(const struct process *process)
{
    switch (process->kind) {
    case PROCESS_CONSUMER:
        return stats_counter(process->slot, STATS_DISPATCHED);
    case PROCESS_WORKER:
        return stats_counter(process->slot, STATS_HANDLED_DONE) +
               stats_counter(process->slot, STATS_HANDLED_DROPPED) +
               stats_counter(process->slot, STATS_HANDLED_CONFLATED);
    case PROCESS_MONITOR:
        break;
    }
    return 0;
}

uint64_t statistics_failed(const struct process *process)
{
    switch (process->kind) {
    case PROCESS_CONSUMER:
        return stats_counter(process->slot, STATS_DISPATCH_OVERSIZED);
    case PROCESS_WORKER:
        return stats_counter(process->slot, STATS_HANDLED_REJECT);
    case PROCESS_MONITOR:
        break;
    }
    return 0;
}

void statistics_sample(struct process *process, int64_t since_ms)
{
    uint64_t done = statistics_done(process);

    process->rate = (double)(done - process->sampled) * 1000 / (double)since_ms;
    process->sampled = done;
}
