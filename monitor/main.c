/* mqtt-bridge-monitor: probes the servers, and answers over HTTP.
 *
 * Redis, the failure transport's database and the hub are probed in turn, with plain blocking calls, each under
 * PROBE_LIMIT_MS. The results go into the statistics (struct stats_probe), where every program can read them:
 * numbers, and why a server fails its probe.
 *
 * Each probe is a blocking call in a thread beside main's loop, which waits for signals, answers from the
 * statistics and beats meanwhile. The bridge works without the monitor, and the monitor without a page: where it
 * can't listen it says why, and tries again. */
#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/offload.h"
#include "common/client/failure.h"
#include "common/client/hub.h"
#include "common/client/redis.h"
#include "common/runtime/child.h"
#include "common/runtime/readiness.h"
#include "common/wire/dsn.h"
#include "monitor/http.h"

#include <poll.h>
#include <stdlib.h>

#define PROBE_LIMIT_MS    2000
#define PROBE_INTERVAL_MS 3000

/* Each probe's time-outs are far below this limit. A longer probe hangs, and the monitor stops
 * beating. */
#define PROBE_HANGS_MS 60000

#define LISTEN_AGAIN_MS 5000

/* Readers take results for stale only after two whole rounds are overdue. */
_Static_assert(READINESS_STALE_MS == 2 * (PROBE_INTERVAL_MS + STATS_SERVERS * PROBE_LIMIT_MS),
               "the age at which answers are stale");

#define CALL(probe, err, ...) REDIS_CALL((probe)->redis, err, __VA_ARGS__)

struct probe {
    const struct settings *settings;
    struct stats *stats;
    struct dsn_redis dsn; /* the first transport's DSN */
    struct redis *redis;
    char *delayed_set;
    struct failure *failure; /* NULL: not probed yet, or the settings are wrong */
    enum stats_server next;  /* the server to probe next */
    int64_t round_ms;        /* monotonic time at which the round began */
    struct offload *call;    /* NULL: no probe is under way */
    int64_t asked_ms;
    int64_t due_ms; /* when the next probe is due; written by the call */
    struct log_fault fault[STATS_SERVERS];
};

/* The numbers of waiting messages in a transport's Redis, and the oldest entry's age, as
 * `messenger:stats` counts. -1: Redis does not tell. */
struct queue_numbers {
    int64_t ready;        /* entries that the group has not read */
    int64_t pending;      /* entries read and not acknowledged */
    int64_t delayed;      /* entries in the delayed set */
    int64_t oldest_ms;    /* age of the oldest entry that is not done; 0: no entry */
    int64_t other_groups; /* groups that lose entries, where done entries are deleted */
};

static const struct queue_numbers NUMBERS_UNKNOWN = {-1, -1, -1, -1, -1};

static int probe_open(struct probe *probe, const struct child *child, struct error *err)
{
    const struct settings_transport *transport = settings_default_transport(child->settings);
    struct buf address = {0};

    *probe = (struct probe){.settings = child->settings, .stats = child->stats};
    if (dsn_redis_parse(&probe->dsn, transport->dsn, err) < 0)
        return error_wrap(err, "[transport:%s] dsn", transport->name);
    dsn_redacted(&address, transport->dsn);
    probe->redis = redis_new(buf_text(&address), PROBE_LIMIT_MS, NULL, NULL);
    probe->delayed_set = xasprintf("%s__queue", probe->dsn.stream);
    buf_free(&address);
    return 0;
}

static void probe_close(struct probe *probe)
{
    redis_free(probe->redis);
    dsn_redis_free(&probe->dsn);
    free(probe->delayed_set);
    failure_free(probe->failure);
}

static int ask_number(struct probe *probe, const char *command, const char *key, int64_t *number,
                      struct error *err)
{
    redisReply *reply = CALL(probe, err, bytes_of(command), bytes_of(key));

    if (reply == NULL)
        return -(int)err->code;
    *number = reply->type == REDIS_REPLY_INTEGER ? reply->integer : -1;
    redis_reply_free(reply);
    return 0;
}

/* Reads the group's pending entries and lag. Redis before 7 has no lag, and later versions not
 * always. Ready are then the stream's entries that are not pending. */
static void ask_group(struct probe *probe, int64_t entries, struct queue_numbers *numbers)
{
    struct error ignored = {0}; /* on an error the numbers stay unknown */
    redisReply *groups =
        CALL(probe, &ignored, BYTES("XINFO"), BYTES("GROUPS"), bytes_of(probe->dsn.stream));

    if (groups == NULL)
        return;
    const redisReply *group = redis_find_group(groups, probe->dsn.group);
    int64_t others = (int64_t)groups->elements - (group != NULL);
    bool deletes = probe->dsn.delete_after_ack || probe->dsn.delete_after_reject;
    numbers->other_groups = deletes ? others : 0;
    if (group == NULL) {
        numbers->ready = entries;
        numbers->pending = 0;
    } else {
        numbers->pending = redis_member_number(group, "pending");
        numbers->ready = redis_member_number(group, "lag");
        if (numbers->ready < 0 && probe->dsn.delete_after_ack)
            numbers->ready = entries > numbers->pending ? entries - numbers->pending : 0;
    }
    redis_reply_free(groups);
}

/* Returns the entry's age by its id "<ms>-<n>". The id is by Redis's clock, the present by this
 * machine's. */
static int64_t age_of(const redisReply *entry)
{
    struct bytes milliseconds;
    struct bytes rest;
    uint64_t ms;

    if (entry->elements < 1 || !redis_is_string(entry->element[0]) ||
        !bytes_split(redis_text(entry->element[0]), '-', &milliseconds, &rest) ||
        !bytes_to_u64(milliseconds, &ms))
        return -1;
    int64_t age = clock_wall_us() / 1000 - (int64_t)ms;
    return age > 0 ? age : 0;
}

static int ask_oldest(struct probe *probe, int64_t *oldest_ms, struct error *err)
{
    redisReply *entries = CALL(probe, err, BYTES("XRANGE"), bytes_of(probe->dsn.stream), BYTES("-"),
                               BYTES("+"), BYTES("COUNT"), BYTES("1"));

    if (entries == NULL)
        return -(int)err->code;
    *oldest_ms = entries->elements > 0 ? age_of(entries->element[0]) : 0;
    redis_reply_free(entries);
    return 0;
}

static int ask(struct probe *probe, struct queue_numbers *numbers, struct error *err)
{
    int64_t entries = 0;

    if (ask_number(probe, "XLEN", probe->dsn.stream, &entries, err) < 0)
        return -(int)err->code;
    if (ask_number(probe, "ZCARD", probe->delayed_set, &numbers->delayed, err) < 0)
        return -(int)err->code;
    if (entries == 0)
        *numbers = (struct queue_numbers){.delayed = numbers->delayed};
    ask_group(probe, entries, numbers);
    /* Without delete_after_ack the stream's oldest entry may be done, so that its age means
     * nothing. */
    if (!probe->dsn.delete_after_ack || entries == 0)
        return 0;
    return ask_oldest(probe, &numbers->oldest_ms, err);
}

static int open_and_ask(struct probe *probe, struct queue_numbers *numbers, struct error *err)
{
    *numbers = NUMBERS_UNKNOWN;
    if (!redis_is_open(probe->redis) && redis_open_dsn(probe->redis, &probe->dsn, err) < 0)
        return -(int)err->code;
    return ask(probe, numbers, err);
}

/* Returns 0, or a negative error with err ("redis://host:6379/messages: connection refused") and
 * all numbers -1. */
static int ask_queue(struct probe *probe, struct queue_numbers *numbers, struct error *err)
{
    int64_t started = clock_monotonic_ms();
    bool kept = redis_is_open(probe->redis);
    int result = open_and_ask(probe, numbers, err);

    /* A kept connection may have broken meanwhile, which says nothing about the server. A second
     * try is made unless the first took long. */
    if (result < 0 && kept && !redis_is_open(probe->redis) &&
        clock_monotonic_ms() - started < PROBE_LIMIT_MS / 2)
        result = open_and_ask(probe, numbers, err);
    if (result < 0)
        *numbers = NUMBERS_UNKNOWN;
    return result;
}

static const char *const NAMES[STATS_SERVERS] = {
    [STATS_REDIS] = "Redis", [STATS_DATABASE] = "The failure transport", [STATS_HUB] = "The hub"};

/* Publishes why the server fails its probe, and logs the begin and the end of the failure. */
static void tell(struct probe *probe, enum stats_server server, int result, const struct error *err)
{
    const char *text = result < 0 ? err->text : "";

    stats_answer(probe->stats->probe, server, text);
    if (result < 0)
        log_fault(&probe->fault[server], LOG_LEVEL_WARNING, LOG_PLAIN, "%s failed its probe: %s",
                  NAMES[server], text);
    else
        log_fault_over(&probe->fault[server], LOG_PLAIN, "%s passes its probe again",
                       NAMES[server]);
}

static void ask_redis(struct probe *probe)
{
    struct stats_probe *stats = probe->stats->probe;
    struct queue_numbers numbers;
    struct error err = {0};
    int result = ask_queue(probe, &numbers, &err);

    tell(probe, STATS_REDIS, result, &err);
    atomic_store(&stats->ready, numbers.ready);
    atomic_store(&stats->pending, numbers.pending);
    atomic_store(&stats->delayed, numbers.delayed);
    atomic_store(&stats->oldest_ms, numbers.oldest_ms);
    atomic_store(&stats->other_groups, numbers.other_groups);
    atomic_store(&stats->redis_ok, result == 0);
}

static int count_failures(struct probe *probe, int64_t *count, struct error *err)
{
    int result = 0;

    if (probe->failure == NULL)
        result = failure_new(&probe->failure, &probe->settings->failure, err);
    if (result == 0)
        result = failure_count(probe->failure, PROBE_LIMIT_MS, count, err);
    return result;
}

static void ask_database(struct probe *probe)
{
    struct stats_probe *stats = probe->stats->probe;
    struct error err = {0};
    int64_t count = -1;

    if (probe->settings->failure.dsn[0] == '\0') {
        /* Clears the results of an earlier monitor with other settings. */
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

    if (probe->settings->mercure.url[0] == '\0') { /* only consumers run, which need no hub */
        atomic_store(&probe->stats->probe->hub_ok, -1);
        return;
    }
    int result = hub_reachable(&probe->settings->mercure, PROBE_LIMIT_MS, &err);

    tell(probe, STATS_HUB, result, &err);
    atomic_store(&probe->stats->probe->hub_ok, result == 0);
}

/* Probes the next server, in a thread. Behind the last server of a round the next round is due
 * later. */
static void ask_next(void *data)
{
    struct probe *probe = data;
    int64_t now = clock_monotonic_ms();

    probe->due_ms = now;
    switch (probe->next) {
    case STATS_REDIS:
        probe->round_ms = now;
        ask_redis(probe);
        probe->next = STATS_DATABASE;
        return;
    case STATS_DATABASE:
        ask_database(probe);
        probe->next = STATS_HUB;
        return;
    case STATS_HUB:
    case STATS_SERVERS:
        break;
    }
    ask_hub(probe);
    probe->next = STATS_REDIS;
    atomic_store(&probe->stats->probe->probed_ms, clock_monotonic_ms());
    probe->due_ms = probe->round_ms + PROBE_INTERVAL_MS;
}

static void keep(void *data)
{
    (void)data; /* main owns the probe, and waits for the call's end */
}

static void ask_if_due(struct probe *probe)
{
    int64_t now = clock_monotonic_ms();

    if (probe->call != NULL || now < probe->due_ms)
        return;
    probe->asked_ms = now;
    probe->call = offload_start(ask_next, keep, probe);
    if (probe->call == NULL)
        ask_next(probe); /* no thread can be started: this probe delays the beat */
}

static void take_answer(struct probe *probe)
{
    if (probe->call == NULL || !offload_is_done(probe->call))
        return;
    offload_free(probe->call);
    probe->call = NULL;
}

static bool hangs(const struct probe *probe)
{
    return probe->call != NULL && clock_monotonic_ms() - probe->asked_ms > PROBE_HANGS_MS;
}

struct page {
    struct http *http; /* NULL: not listening */
    int64_t try_ms;    /* when to try again */
    struct log_fault fault;
};

/* Listens, and tries again later after a failure: the port or the token's file may be
 * unavailable only now. Without a supervisor the first failure ends the monitor, so that a
 * person sees the reason. */
static void listen_if_due(struct page *page, struct child *child)
{
    int64_t now = clock_monotonic_ms();
    struct error err = {0};

    if (page->http != NULL || child->settings->http.listen[0] == '\0' || now < page->try_ms)
        return;
    page->try_ms = now + LISTEN_AGAIN_MS;
    if (http_start(&page->http, child->settings, child->stats, &err) < 0) {
        if (!child->supervised)
            child_fail_start(child, &err);
        stats_reason(child->slot, err.text);
        log_fault(&page->fault, LOG_LEVEL_ERROR, LOG_PLAIN,
                  "HTTP is not served (page, probes, metrics): %s; tried again in %d s", err.text,
                  LISTEN_AGAIN_MS / 1000);
        return;
    }
    stats_reason(child->slot, "");
    log_fault_over(&page->fault, LOG_PLAIN, "HTTP is served again");
}

/* Waits for a signal, an HTTP event, a probe's end, the next probe or the next beat. Then HTTP
 * events are processed. */
static enum child_signal wait_for_signal(struct child *child, const struct probe *probe,
                                         struct http *http)
{
    int64_t now = clock_monotonic_ms();
    int64_t wake_ms = now + child_beat_ms(child);
    struct pollfd fds[2 + HTTP_FDS] = {{.fd = child->signal_fd, .events = POLLIN},
                                       {.fd = -1, .events = POLLIN}};

    http_poll(http, fds + 2);
    if (probe->call != NULL)
        fds[1].fd = offload_fd(probe->call);
    else
        wake_ms = clock_earlier_ms(wake_ms, probe->due_ms);
    wake_ms = clock_earlier_ms(wake_ms, http_deadline(http, now));
    int ready = poll(fds, LENGTH_OF(fds), clock_poll_timeout(wake_ms, now));
    http_process(http, fds + 2);
    return ready > 0 && fds[0].revents != 0 ? child_read_signal(child) : CHILD_NONE;
}

static void run(struct child *child, struct probe *probe, struct page *page)
{
    do {
        if (!hangs(probe))
            stats_beat(child->slot);
        take_answer(probe);
        ask_if_due(probe);
        listen_if_due(page, child);
    } while (wait_for_signal(child, probe, page->http) == CHILD_NONE);

    /* A probe under way still uses `probe` and the settings. */
    while (probe->call != NULL) {
        struct pollfd answer = {.fd = offload_fd(probe->call), .events = POLLIN};

        poll(&answer, 1, -1);
        take_answer(probe);
    }
}

int main(int argc, char **argv)
{
    struct child child;
    struct probe probe;
    struct page page = {0};
    struct error err = {0};

    child_start(&child, argc, argv, "mqtt-bridge-monitor",
                "watches the servers and answers over HTTP");
    if (probe_open(&probe, &child, &err) < 0)
        child_fail_start(&child, &err);
    listen_if_due(&page, &child);
    stats_set(child.slot, STATS_CONNECTED, 1);
    child_ready(&child);
    run(&child, &probe, &page);

    http_stop(page.http);
    probe_close(&probe);
    child_end(&child);
    return CHILD_EXIT_DONE;
}
