/* mqtt-bridge-worker: takes entries from the transports, has them published, settles them.
 *
 * One thread, one loop: step (do what is due), poll (the hub's sockets, Redis, PostgreSQL, signals),
 * process (callbacks). */
#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/runtime/child.h"
#include "worker/failures.h"
#include "worker/instance.h"
#include "worker/publisher.h"
#include "worker/reader.h"
#include "worker/settle.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define TRANSPORTS_MAX    16
#define READING_BYTES_MAX ((size_t)16 * 1024 * 1024)
#define RELEASE_MS        1000 /* for leases and handlers, part of the worker's half of stop_timeout */
#define FULL_MS           5000 /* a limit may be full so long before it is reported */

enum phase { WORKING, DRAINING, RELEASING, ENDED };

struct worker {
    struct child child;
    struct publisher *publisher;
    struct failures *failures;
    struct reader *readers[TRANSPORTS_MAX]; /* in order of priority */
    size_t readers_len;
    struct load load; /* of all transports */
    struct pollfd *fds;
    enum phase phase;
    int exit_code;
    int64_t deadline_ms; /* while draining or releasing */
    int64_t started_ms;
    int64_t beat_ms;
    bool ready;
    int64_t
        full_ms; /* since when entries that wait for the hub fill a limit; -1: no limit is full */
    char full[120]; /* which limit is reached, for the status; "" : none */
    struct log_fault full_fault;
};

/* [worker] transports: names separated by commas or spaces. */
static void open_readers(struct worker *worker, const char *instance)
{
    const struct settings *settings = worker->child.settings;
    struct bytes rest = bytes_of(settings->worker.transports), name;
    struct error err;

    while (bytes_next_item(&rest, &name)) {
        const struct settings_transport *transport = settings_transport(settings, name);

        if (transport == NULL) {
            error_set(&err, ERR_USAGE,
                      "[worker] transports: \"%.*s\": there is no section [transport:%.*s]",
                      BYTES_ARG(name), BYTES_ARG(name));
            child_fail_start(&worker->child, &err);
        }
        if (worker->readers_len == TRANSPORTS_MAX) {
            error_set(&err, ERR_USAGE, "[worker] transports: more than %d", TRANSPORTS_MAX);
            child_fail_start(&worker->child, &err);
        }
        if (reader_new(&worker->readers[worker->readers_len], &worker->child, transport, instance,
                       &worker->load, worker->publisher, worker->failures, &err) < 0)
            child_fail_start(&worker->child, &err);
        worker->readers_len++;
    }
    if (worker->readers_len == 0) {
        error_set(&err, ERR_USAGE, "[worker] transports: none given");
        child_fail_start(&worker->child, &err);
    }
}

static void open_worker(struct worker *worker, int argc, char **argv)
{
    struct error err;
    char *instance = NULL;

    child_start(&worker->child, argc, argv, "mqtt-bridge-worker",
                "handles messages: from the Redis stream to the Mercure hub");
    const struct settings *settings = worker->child.settings;
    if (instance_read(&instance, &settings->supervisor, &err) < 0 ||
        instance_lock(&settings->supervisor, worker->child.number, &err) < 0)
        child_fail_start(&worker->child, &err);
    if (failures_new(&worker->failures, &settings->failure, settle_rejected, &err) < 0 ||
        publisher_new(&worker->publisher, &worker->child, &err) < 0)
        child_fail_start(&worker->child, &err);
    open_readers(worker, instance);
    worker->fds = xcalloc(2 + handlers_fds(publisher_handlers(worker->publisher)) +
                              worker->readers_len * READER_FDS,
                          sizeof(*worker->fds));
    worker->started_ms = clock_monotonic_ms();
    log_info(LOG_WITH(log_text("transports", settings->worker.transports),
                      log_text("hub", settings->mercure.url), log_text("instance", instance),
                      log_number("max_retries", settings->retry.max_retries)),
             "Worker %d starts: from %s to %s", worker->child.number, settings->worker.transports,
             settings->mercure.url);
    if (settings->failure.dsn[0] == '\0')
        log_warning(LOG_PLAIN, "There is no failure transport ([failure] dsn, DATABASE_URL): a "
                               "message that can't be handled is put off for an hour, again and "
                               "again");
    free(instance);
}

static uint64_t count_handled(const struct worker *worker, bool done)
{
    uint64_t count = 0;

    for (size_t i = 0; i < worker->readers_len; i++)
        count += done ? reader_source(worker->readers[i])->handled
                      : reader_source(worker->readers[i])->failed;
    return count;
}

/* Resident memory in bytes: what --memory-limit is compared with, as memory_get_usage under PHP. */
static int64_t resident_bytes(void)
{
    long pages = 0;
    FILE *file = fopen("/proc/self/statm", "re");

    if (file == NULL)
        return 0;
    if (fscanf(file, "%*d %ld", &pages) != 1)
        pages = 0;
    fclose(file);
    return (int64_t)pages * sysconf(_SC_PAGESIZE);
}

/* Entries that count against prefetch: asked for, or read and not acknowledged. Those that wait for a row don't. */
static size_t count_open(const struct worker *worker)
{
    const size_t *entries = worker->load.entries;
    size_t open = load_at_hand(entries) + entries[ENTRY_ASIDE] + worker->load.requested;

    for (size_t i = 0; i < worker->readers_len; i++)
        open += settle_waiting(reader_source(worker->readers[i])->settle);
    return open;
}

/* Entries that wait for the end of a window, and then for the hub. */
static size_t count_gathered(const struct worker *worker)
{
    return worker->load.entries[ENTRY_GATHERED] + worker->load.carried[ENTRY_GATHERED];
}

/* Entries that are read and not settled, and of which only the ids are kept. */
static size_t count_ids(const struct worker *worker)
{
    return worker->load.carried[ENTRY_ASIDE] + publisher_lanes(worker->publisher)->left;
}

static size_t window_left(const struct worker *worker)
{
    size_t limit = (size_t)worker->child.settings->worker.prefetch_window;
    size_t gathered = count_gathered(worker);

    return gathered < limit ? limit - gathered : 0;
}

/* The fewest entries worth a reading: a few at a time cost Redis a multiple. */
static size_t page_least(const struct settings_worker *settings)
{
    int64_t least = settings->prefetch < settings->prefetch_window ? settings->prefetch
                                                                   : settings->prefetch_window;

    return least < 4 ? 1 : (size_t)least / 4;
}

/* Windows end early where nothing more could be read until they are over. */
static bool is_crowded(const struct worker *worker)
{
    const struct settings_worker *settings = &worker->child.settings->worker;

    return window_left(worker) < page_least(settings) ||
           worker->load.bytes[ENTRY_GATHERED] >= (size_t)settings->prefetch_bytes;
}

/* How many further entries may be open now. Entries that are set aside take no room, since others must go on. */
static size_t room(const struct worker *worker)
{
    const struct settings_worker *settings = &worker->child.settings->worker;
    size_t limit = (size_t)settings->prefetch;
    size_t open = count_open(worker);

    if (settings->consume.limit > 0) {
        uint64_t handled = count_handled(worker, true);
        uint64_t left = (uint64_t)settings->consume.limit > handled
                            ? (uint64_t)settings->consume.limit - handled
                            : 0;

        if (left < limit)
            limit = (size_t)left;
        open += count_gathered(worker) + count_ids(worker);
        /* Several transports may be asked before one answers: one entry each, so that the limit holds. */
        if (worker->readers_len > 1 && limit > open + 1)
            limit = open + 1;
    } else if (publisher_wants_beyond(worker->publisher)) {
        open -= worker->load.entries[ENTRY_ASIDE];
    }
    size_t room = open < limit ? limit - open : 0;
    size_t more = window_left(worker);
    if (room > more)
        room = more;
    return limit == (size_t)settings->prefetch && room < page_least(settings) ? 0 : room;
}

/* The bytes that one reading may bring. */
static size_t bytes_left(size_t limit, size_t held)
{
    size_t left = held < limit ? limit - held : 0;

    return left < READING_BYTES_MAX ? left : READING_BYTES_MAX;
}

/* Entries that are set aside have a limit of `prefetch_bytes` of their own (load_is_crowded). So have the ids that
 * lanes have left in Redis, or carry while they are aside. */
static bool is_aside_full(const struct worker *worker)
{
    size_t limit = (size_t)worker->child.settings->worker.prefetch_bytes;

    return load_is_crowded(&worker->load, limit) ||
           worker->load.carried[ENTRY_ASIDE] * sizeof(struct stream_id) +
                   publisher_lanes(worker->publisher)->left * sizeof(struct entry_left) >=
               limit;
}

static struct credit credit_of(const struct worker *worker)
{
    size_t limit = (size_t)worker->child.settings->worker.prefetch_bytes;
    const size_t *held = worker->load.bytes;
    size_t others = load_at_hand(held) + held[ENTRY_GATHERED];
    bool is_full = others >= limit || is_aside_full(worker);

    return (struct credit){.entries = is_full ? 0 : room(worker),
                           .bytes = bytes_left(limit, others),
                           .aside_bytes = bytes_left(limit, held[ENTRY_ASIDE])};
}

/* The setting whose limit is filled by entries that wait for the hub; NULL: there is room. */
static const char *full_limit(const struct worker *worker)
{
    const struct settings_worker *settings = &worker->child.settings->worker;

    if (is_aside_full(worker) ||
        worker->load.bytes[ENTRY_GATHERED] >= (size_t)settings->prefetch_bytes)
        return "prefetch_bytes";
    return window_left(worker) < page_least(settings) ? "prefetch_window" : NULL;
}

/* Not reported while the breaker is open, which is reported itself. */
static void report_full(struct worker *worker, int64_t now_ms)
{
    const char *limit = publisher_is_blocked(worker->publisher) ? NULL : full_limit(worker);

    if (limit == NULL) {
        if (worker->full[0] != '\0')
            log_fault_over(&worker->full_fault, LOG_PLAIN,
                           "Messages that waited for the hub have left: reading resumed");
        worker->full[0] = '\0';
        worker->full_ms = -1;
        return;
    }
    if (worker->full_ms < 0)
        worker->full_ms = now_ms;
    if (now_ms - worker->full_ms < FULL_MS)
        return;
    snprintf(worker->full, sizeof(worker->full),
             "messages that wait for the hub fill [worker] %s: nothing new is read", limit);
    log_fault(
        &worker->full_fault, LOG_LEVEL_WARNING, LOG_WITH(log_text("limit", limit)),
        "Messages that wait for the hub fill [worker] %s: nothing new is read until some have "
        "left",
        limit);
}

static void begin_draining(struct worker *worker, int64_t now_ms, int exit_code)
{
    /* The consumers may have used the first half of stop_timeout. */
    int64_t timeout = worker->child.settings->supervisor.stop_timeout_ms / 2;

    timeout -= timeout > 2 * RELEASE_MS ? RELEASE_MS : timeout / 2;
    worker->phase = DRAINING;
    worker->exit_code = exit_code;
    worker->deadline_ms = now_ms + timeout;
    failures_stop(worker->failures, now_ms);
    publisher_stop(worker->publisher);
    for (size_t i = 0; i < worker->readers_len; i++)
        reader_stop(worker->readers[i]);
}

static void check_limits(struct worker *worker, int64_t now_ms)
{
    const struct settings_consume *limits = &worker->child.settings->worker.consume;
    const char *reached = NULL;

    if (limits->limit > 0 && count_handled(worker, true) >= (uint64_t)limits->limit)
        reached = "--limit";
    else if (limits->failure_limit > 0 &&
             count_handled(worker, false) >= (uint64_t)limits->failure_limit)
        reached = "--failure-limit";
    else if (limits->time_limit_ms > 0 && now_ms - worker->started_ms >= limits->time_limit_ms)
        reached = "--time-limit";
    else if (limits->memory_limit > 0 && now_ms >= worker->beat_ms &&
             resident_bytes() >= limits->memory_limit)
        reached = "--memory-limit";
    if (reached == NULL)
        return;
    log_info(LOG_WITH(log_text("option", reached)), "Worker %d ends as planned: %s is reached",
             worker->child.number, reached);
    begin_draining(worker, now_ms, CHILD_EXIT_PLANNED);
}

static bool is_drained(const struct worker *worker, int64_t now_ms)
{
    bool without_rows = failures_are_overdue(worker->failures, now_ms);

    for (size_t i = 0; i < worker->readers_len; i++)
        if (!reader_is_idle(worker->readers[i], without_rows) &&
            !reader_is_lost(worker->readers[i], now_ms))
            return false;
    return publisher_is_drained(worker->publisher, now_ms);
}

/* The breaker is open, no request is in flight, and all acknowledgements are sent: the other entries stay pending. */
static bool is_settled(const struct worker *worker, int64_t now_ms)
{
    if (!publisher_is_blocked(worker->publisher) || hub_busy(publisher_hub(worker->publisher)) > 0)
        return false;
    for (size_t i = 0; i < worker->readers_len; i++) {
        const struct source *source = reader_source(worker->readers[i]);

        if (lanes_count_in_flight(publisher_lanes(worker->publisher), source) > 0 ||
            (!settle_is_idle(source->settle) && !reader_is_lost(worker->readers[i], now_ms)))
            return false;
    }
    return true;
}

static bool is_released(const struct worker *worker)
{
    for (size_t i = 0; i < worker->readers_len; i++)
        if (!reader_is_released(worker->readers[i]))
            return false;
    return handlers_have_ended(publisher_handlers(worker->publisher));
}

static void advance_end(struct worker *worker, int64_t now_ms)
{
    bool is_done = (is_drained(worker, now_ms) || is_settled(worker, now_ms)) &&
                   handlers_have_ended(publisher_handlers(worker->publisher));

    if (worker->phase == DRAINING && (is_done || now_ms >= worker->deadline_ms)) {
        worker->phase = RELEASING;
        worker->deadline_ms = now_ms + RELEASE_MS;
        publisher_end(worker->publisher);
        for (size_t i = 0; i < worker->readers_len; i++)
            reader_release(worker->readers[i]);
        handlers_end(publisher_handlers(worker->publisher));
    }
    if (worker->phase == RELEASING && (is_released(worker) || now_ms >= worker->deadline_ms))
        worker->phase = ENDED;
}

static void tell_state(struct worker *worker, int64_t now_ms)
{
    struct stats_slot *slot = worker->child.slot;
    const char *trouble = "";
    bool running = true;

    for (size_t i = 0; i < worker->readers_len; i++) {
        running = running && reader_is_running(worker->readers[i]);
        if (trouble[0] == '\0')
            trouble = source_trouble(reader_source(worker->readers[i]));
    }
    if (trouble[0] == '\0')
        trouble = publisher_trouble(worker->publisher);
    if (trouble[0] == '\0')
        trouble = failures_trouble(worker->failures);
    if (trouble[0] == '\0')
        trouble = worker->full;
    stats_reason(slot, trouble);
    stats_set(slot, STATS_CONNECTED,
              running && !publisher_is_blocked(worker->publisher) &&
                  handlers_trouble(publisher_handlers(worker->publisher))[0] == '\0');
    stats_set(slot, STATS_PREFETCHED,
              count_open(worker) + count_gathered(worker) + worker->load.carried[ENTRY_ASIDE]);
    if (running && !worker->ready) {
        worker->ready = true;
        child_ready(&worker->child);
        log_info(LOG_PLAIN, "Worker %d is ready", worker->child.number);
    }
    if (now_ms >= worker->beat_ms) {
        worker->beat_ms = now_ms + child_beat_ms(&worker->child);
        stats_beat(slot);
    }
}

/* A transport is read only while all transports of higher priority have nothing. */
static void step(struct worker *worker, int64_t now_ms)
{
    bool may_read = worker->phase == WORKING && (publisher_wants_another(worker->publisher) ||
                                                 !publisher_is_blocked(worker->publisher));
    bool has_priority = true;

    if (worker->phase == WORKING)
        check_limits(worker, now_ms);
    for (size_t i = 0; i < worker->readers_len; i++) {
        struct credit credit = credit_of(worker);

        credit.may_read = may_read;
        credit.has_priority = has_priority;
        reader_step(worker->readers[i], now_ms, &credit);
        has_priority = has_priority && reader_is_quiet(worker->readers[i]);
    }
    failures_step(worker->failures, now_ms);
    publisher_lanes(worker->publisher)->crowded = is_crowded(worker);
    publisher_step(worker->publisher, now_ms);
    advance_end(worker, now_ms);
    report_full(worker, now_ms);
    tell_state(worker, now_ms);
}

static int poll_timeout(const struct worker *worker, int64_t now_ms)
{
    const struct settings_consume *limits = &worker->child.settings->worker.consume;
    int64_t deadline = worker->beat_ms;

    for (size_t i = 0; i < worker->readers_len; i++)
        deadline = clock_earlier_ms(deadline, reader_deadline_ms(worker->readers[i]));
    deadline = clock_earlier_ms(deadline, publisher_deadline_ms(worker->publisher));
    deadline = clock_earlier_ms(deadline, failures_deadline_ms(worker->failures));
    if (limits->time_limit_ms > 0 && worker->phase == WORKING)
        deadline = clock_earlier_ms(deadline, worker->started_ms + limits->time_limit_ms);
    if (worker->phase != WORKING)
        deadline = clock_earlier_ms(deadline, worker->deadline_ms);
    return clock_poll_timeout(deadline, now_ms);
}

static void wait_and_process(struct worker *worker, int64_t now_ms)
{
    struct handlers *handlers = publisher_handlers(worker->publisher);
    struct pollfd *fds = worker->fds;
    unsigned first[TRANSPORTS_MAX + 1] = {0};
    unsigned len = 1;

    fds[0] = (struct pollfd){.fd = worker->child.signal_fd, .events = POLLIN};
    if (failures_fd(worker->failures) >= 0)
        fds[len++] = (struct pollfd){.fd = failures_fd(worker->failures), .events = POLLIN};
    for (size_t i = 0; i < worker->readers_len; i++) {
        first[i] = len;
        len += reader_poll(worker->readers[i], fds + len);
    }
    first[worker->readers_len] = len;
    unsigned handlers_len = handlers_poll(handlers, fds + len);
    hub_poll(publisher_hub(worker->publisher), fds, len + handlers_len,
             poll_timeout(worker, now_ms));

    switch (child_read_signal(&worker->child)) {
    case CHILD_STOP:
        if (worker->phase == WORKING)
            begin_draining(worker, clock_monotonic_ms(), CHILD_EXIT_DONE);
        break;
    case CHILD_QUIT:
        worker->phase = ENDED;
        break;
    case CHILD_NONE:
        break;
    }
    hub_process(publisher_hub(worker->publisher));
    for (size_t i = 0; i < worker->readers_len; i++)
        reader_process(worker->readers[i], fds + first[i], first[i + 1] - first[i]);
    failures_process(worker->failures);
    handlers_process(handlers, fds + len, handlers_len);
}

/* Entries that are still open stay pending in Redis. */
static void close_worker(struct worker *worker)
{
    publisher_free(worker->publisher);
    failures_free(worker->failures);
    for (size_t i = 0; i < worker->readers_len; i++)
        reader_free(worker->readers[i]);
    free(worker->fds);
    child_end(&worker->child);
}

int main(int argc, char **argv)
{
    struct worker worker = {.phase = WORKING, .full_ms = -1};

    open_worker(&worker, argc, argv);
    while (worker.phase != ENDED) {
        int64_t now_ms = clock_monotonic_ms();

        step(&worker, now_ms);
        if (worker.phase != ENDED)
            wait_and_process(&worker, now_ms);
    }
    log_info(LOG_WITH(log_number("handled", (int64_t)count_handled(&worker, true))),
             "Worker %d ends", worker.child.number);
    close_worker(&worker);
    return worker.exit_code;
}
