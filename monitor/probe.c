#include "monitor/probe.h"

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/readiness.h"
#include "common/client/failure_admin.h"
#include "common/client/hub_probe.h"
#include "monitor/queue_probe.h"

#include <stdlib.h>

/* Who reads the answers takes them for old only if a whole round failed to come twice. */
_Static_assert(READINESS_STALE_MS == 2 * (PROBE_INTERVAL_MS + STATS_SERVERS * PROBE_LIMIT_MS),
               "the age at which answers are stale");

struct probe {
    const struct settings *settings;
    struct stats *stats;
    struct queue_probe *queue;
    struct failure_admin *failure; /* NULL: not asked yet, or the settings are wrong */
    enum stats_server next;
    int64_t round_ms; /* when this round began, monotonic */
    struct log_fault fault[STATS_SERVERS];
};

static const char *const NAMES[STATS_SERVERS] = {
    [STATS_REDIS] = "Redis", [STATS_DATABASE] = "The failure transport", [STATS_HUB] = "The hub"};

int probe_new(struct probe **probe, const struct settings *settings, struct stats *stats,
              struct error *err)
{
    struct probe *made = xcalloc(1, sizeof *made);

    if (queue_probe_new(&made->queue, &settings->transports[0], PROBE_LIMIT_MS, err) < 0) {
        free(made);
        return -(int)err->code;
    }
    made->settings = settings;
    made->stats = stats;
    *probe = made;
    return 0;
}

void probe_free(struct probe *probe)
{
    if (probe == NULL)
        return;
    queue_probe_free(probe->queue);
    failure_admin_free(probe->failure);
    free(probe);
}

/* Why it is not well, for all; and a line in the log when that begins and when it ends. */
static void tell(struct probe *probe, enum stats_server server, int result, const struct error *err)
{
    const char *text = result < 0 ? err->text : "";

    stats_answer(&probe->stats->probe, server, text);
    if (result < 0)
        log_fault(&probe->fault[server], LOG_LEVEL_WARNING, LOG_PLAIN, "%s is not well: %s",
                  NAMES[server], text);
    else
        log_fault_over(&probe->fault[server], LOG_PLAIN, "%s is well again", NAMES[server]);
}

static void ask_redis(struct probe *probe)
{
    struct stats_probe *stats = &probe->stats->probe;
    struct queue_numbers numbers;
    struct error err = {0};
    int result = queue_probe_ask(probe->queue, &numbers, &err);

    tell(probe, STATS_REDIS, result, &err);
    atomic_store(&stats->ready, numbers.ready);
    atomic_store(&stats->pending, numbers.pending);
    atomic_store(&stats->delayed, numbers.delayed);
    atomic_store(&stats->oldest_ms, numbers.oldest_ms);
    atomic_store(&stats->redis_ok, result == 0);
}

static int count_failures(struct probe *probe, int64_t *count, struct error *err)
{
    int result = 0;

    if (probe->failure == NULL)
        result = failure_admin_new(&probe->failure, &probe->settings->failure, err);
    if (result == 0)
        result = failure_admin_count(probe->failure, PROBE_LIMIT_MS, count, err);
    return result;
}

static void ask_database(struct probe *probe)
{
    struct stats_probe *stats = &probe->stats->probe;
    struct error err = {0};
    int64_t count = -1;

    if (probe->settings->failure.dsn[0] == '\0') {
        /* Nothing to tell, whatever a monitor with other settings may have left here. */
        atomic_store(&stats->failed, -1);
        atomic_store(&stats->failure_ok, -1);
        return;
    }
    int result = count_failures(probe, &count, &err);
    tell(probe, STATS_DATABASE, result, &err);
    atomic_store(&stats->failed, result == 0 ? count : -1);
    atomic_store(&stats->failure_ok, result == 0);
}

static void ask_hub(struct probe *probe)
{
    struct error err = {0};

    if (probe->settings->mercure.url[0] == '\0') { /* consumers alone */
        atomic_store(&probe->stats->probe.hub_ok, -1);
        return;
    }
    int result = hub_reachable(&probe->settings->mercure, PROBE_LIMIT_MS, &err);

    tell(probe, STATS_HUB, result, &err);
    atomic_store(&probe->stats->probe.hub_ok, result == 0);
}

int64_t probe_step(struct probe *probe)
{
    int64_t now = clock_monotonic_ms();

    switch (probe->next) {
    case STATS_REDIS:
        probe->round_ms = now;
        ask_redis(probe);
        probe->next = STATS_DATABASE;
        return now;
    case STATS_DATABASE:
        ask_database(probe);
        probe->next = STATS_HUB;
        return now;
    case STATS_HUB:
    case STATS_SERVERS:
        break;
    }
    ask_hub(probe);
    probe->next = STATS_REDIS;
    atomic_store(&probe->stats->probe.probed_ms, clock_monotonic_ms());
    return probe->round_ms + PROBE_INTERVAL_MS;
}
