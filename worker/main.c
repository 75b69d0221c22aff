/* mqtt-bridge-worker: takes entries from the transports, has them published, settles them.
 *
 * One thread, one loop: turn (do what is due), poll (the hub's sockets, Redis, PostgreSQL, signals),
 * process (callbacks). */
#include "common/base/alloc.h"
#include "common/base/child.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "worker/instance.h"
#include "worker/intake.h"
#include "worker/publisher.h"
#include "worker/rejects.h"
#include "worker/settle.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TRANSPORTS_MAX 16
#define RELEASE_MS     1000 /* for giving leases back, out of stop_timeout */

enum phase { WORKING, DRAINING, RELEASING, ENDED };

struct worker {
    struct child child;
    struct publisher *publisher;
    struct rejects *rejects;
    struct intake *intakes[TRANSPORTS_MAX]; /* in order of priority */
    size_t intakes_len;
    enum phase phase;
    int exit_code;
    int64_t deadline_ms; /* while draining or releasing */
    int64_t started_ms;
    int64_t beat_ms;
    bool ready;
};

/* [worker] transports: names separated by commas or spaces. */
static void open_intakes(struct worker *worker, const char *instance)
{
    const struct settings *settings = worker->child.settings;
    char *names = xstrdup(settings->worker.transports);
    char *rest = NULL;
    struct error err;

    for (char *name = strtok_r(names, ", \t", &rest); name != NULL;
         name = strtok_r(NULL, ", \t", &rest)) {
        const struct settings_transport *transport = settings_transport(settings, bytes_of(name));

        if (transport == NULL) {
            error_set(&err, ERR_USAGE,
                      "[worker] transports: \"%s\": there is no section [transport:%s]", name,
                      name);
            child_give_up(&worker->child, &err);
        }
        if (worker->intakes_len == TRANSPORTS_MAX) {
            error_set(&err, ERR_USAGE, "[worker] transports: more than %d", TRANSPORTS_MAX);
            child_give_up(&worker->child, &err);
        }
        if (intake_new(&worker->intakes[worker->intakes_len], &worker->child, transport, instance,
                       worker->publisher, worker->rejects, &err) < 0)
            child_give_up(&worker->child, &err);
        worker->intakes_len++;
    }
    free(names);
    if (worker->intakes_len == 0) {
        error_set(&err, ERR_USAGE, "[worker] transports: none given");
        child_give_up(&worker->child, &err);
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
        child_give_up(&worker->child, &err);
    if (rejects_new(&worker->rejects, &settings->failure, &err) < 0 ||
        publisher_new(&worker->publisher, &worker->child, &err) < 0)
        child_give_up(&worker->child, &err);
    open_intakes(worker, instance);
    worker->started_ms = clock_monotonic_ms();
    log_info(LOG_WITH(log_text("transports", settings->worker.transports),
                      log_text("hub", settings->mercure.url), log_text("instance", instance)),
             "Worker %d starts: from %s to %s", worker->child.number, settings->worker.transports,
             settings->mercure.url);
    if (settings->failure.dsn[0] == '\0')
        log_warning(LOG_PLAIN, "There is no failure transport ([failure] dsn, DATABASE_URL): a "
                               "message that can't be handled is put off for an hour, again and "
                               "again");
    free(instance);
}

static size_t open_entries(const struct worker *worker)
{
    size_t open = 0;

    for (size_t i = 0; i < worker->intakes_len; i++)
        open += intake_open(worker->intakes[i]);
    return open;
}

static size_t refused_entries(const struct worker *worker)
{
    size_t refused = 0;

    for (size_t i = 0; i < worker->intakes_len; i++)
        refused += intake_open_refused(worker->intakes[i]);
    return refused;
}

static uint64_t count_handled(const struct worker *worker, bool done)
{
    uint64_t count = 0;

    for (size_t i = 0; i < worker->intakes_len; i++)
        count += intake_count(worker->intakes[i], done);
    return count;
}

/* Resident memory in bytes, as memory_get_usage stands in for under PHP. */
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

static size_t open_bytes(const struct worker *worker)
{
    size_t bytes = 0;

    for (size_t i = 0; i < worker->intakes_len; i++)
        bytes += intake_open_bytes(worker->intakes[i]);
    return bytes;
}

/* How many further entries may be open now. */
static size_t room(const struct worker *worker)
{
    const struct settings_worker *settings = &worker->child.settings->worker;
    size_t open = open_entries(worker);
    /* One page for each time that the hub was asked: a wrong token for all fills no memory in haste. */
    if (publisher_wants_beyond(worker->publisher))
        open -= refused_entries(worker);
    size_t limit = (size_t)settings->prefetch;

    if (open_bytes(worker) >= (size_t)settings->prefetch_bytes)
        return 0;

    if (settings->consume.limit > 0) {
        uint64_t handled = count_handled(worker, true);
        uint64_t left = (uint64_t)settings->consume.limit > handled
                            ? (uint64_t)settings->consume.limit - handled
                            : 0;

        if (left < limit)
            limit = (size_t)left;
        /* Of several transports each may be asked before another has answered. */
        if (worker->intakes_len > 1 && limit > open + 1)
            limit = open + 1;
    }
    size_t room = open < limit ? limit - open : 0;
    /* A few at a time would cost Redis a multiple. */
    return limit == (size_t)settings->prefetch && room < limit / 4 ? 0 : room;
}

static void begin_draining(struct worker *worker, int64_t now_ms, int exit_code)
{
    int64_t timeout = worker->child.settings->supervisor.stop_timeout_ms;

    timeout -= timeout > 4 * RELEASE_MS ? 2 * RELEASE_MS : timeout / 2;
    worker->phase = DRAINING;
    worker->exit_code = exit_code;
    worker->deadline_ms = now_ms + timeout;
    for (size_t i = 0; i < worker->intakes_len; i++)
        intake_stop(worker->intakes[i]);
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
    for (size_t i = 0; i < worker->intakes_len; i++)
        if (!intake_is_idle(worker->intakes[i]) && !intake_is_lost(worker->intakes[i], now_ms))
            return false;
    return true;
}

/* The hub rests: what has its 200 is acknowledged, the rest is handed over. */
static bool is_settled(const struct worker *worker, int64_t now_ms)
{
    if (!publisher_is_resting(worker->publisher) || hub_busy(publisher_hub(worker->publisher)) > 0)
        return false;
    for (size_t i = 0; i < worker->intakes_len; i++)
        if (publisher_in_flight(worker->publisher, worker->intakes[i]) > 0 ||
            (!settle_is_idle(intake_settle(worker->intakes[i])) &&
             !intake_is_lost(worker->intakes[i], now_ms)))
            return false;
    return true;
}

static bool is_released(const struct worker *worker)
{
    for (size_t i = 0; i < worker->intakes_len; i++)
        if (!intake_is_released(worker->intakes[i]))
            return false;
    return true;
}

static void advance_end(struct worker *worker, int64_t now_ms)
{
    if (worker->phase == DRAINING && (is_drained(worker, now_ms) || is_settled(worker, now_ms) ||
                                      now_ms >= worker->deadline_ms)) {
        worker->phase = RELEASING;
        worker->deadline_ms = now_ms + RELEASE_MS;
        for (size_t i = 0; i < worker->intakes_len; i++)
            intake_release(worker->intakes[i]);
    }
    if (worker->phase == RELEASING && (is_released(worker) || now_ms >= worker->deadline_ms))
        worker->phase = ENDED;
}

static void tell_state(struct worker *worker, int64_t now_ms)
{
    struct stats_slot *slot = worker->child.slot;
    const char *trouble = "";
    bool running = true;

    for (size_t i = 0; i < worker->intakes_len; i++) {
        running = running && intake_is_running(worker->intakes[i]);
        if (trouble[0] == '\0')
            trouble = intake_trouble(worker->intakes[i]);
    }
    if (trouble[0] == '\0')
        trouble = publisher_trouble(worker->publisher);
    if (trouble[0] == '\0')
        trouble = rejects_trouble(worker->rejects);
    stats_reason(slot, trouble);
    stats_set(slot, STATS_CONNECTED, running && !publisher_is_resting(worker->publisher));
    stats_set(slot, STATS_PREFETCHED, open_entries(worker));
    if (running && !worker->ready) {
        worker->ready = true;
        child_ready(&worker->child);
        log_info(LOG_PLAIN, "Worker %d is ready", worker->child.number);
    }
    if (now_ms >= worker->beat_ms) {
        worker->beat_ms = now_ms + worker->child.settings->supervisor.hang_timeout_ms / 4;
        stats_beat(slot);
    }
}

/* A transport of lower priority is read only while all above it have nothing. */
static void turn(struct worker *worker, int64_t now_ms)
{
    bool wants_another = publisher_wants_another(worker->publisher);
    bool may_read = worker->phase == WORKING &&
                    (wants_another || !publisher_is_resting(worker->publisher)) &&
                    !rejects_are_full(worker->rejects);

    if (worker->phase == WORKING)
        check_limits(worker, now_ms);
    for (size_t i = 0; i < worker->intakes_len; i++) {
        intake_turn(worker->intakes[i], now_ms, may_read, room(worker));
        may_read = may_read && intake_is_quiet(worker->intakes[i]);
    }
    rejects_turn(worker->rejects, now_ms);
    publisher_turn(worker->publisher, now_ms);
    advance_end(worker, now_ms);
    tell_state(worker, now_ms);
}

static int poll_timeout(const struct worker *worker, int64_t now_ms)
{
    const struct settings_consume *limits = &worker->child.settings->worker.consume;
    int64_t deadline = worker->beat_ms;

    for (size_t i = 0; i < worker->intakes_len; i++)
        deadline = clock_earlier_ms(deadline, intake_deadline_ms(worker->intakes[i]));
    deadline = clock_earlier_ms(deadline, publisher_deadline_ms(worker->publisher));
    deadline = clock_earlier_ms(deadline, rejects_deadline_ms(worker->rejects));
    if (limits->time_limit_ms > 0 && worker->phase == WORKING)
        deadline = clock_earlier_ms(deadline, worker->started_ms + limits->time_limit_ms);
    if (worker->phase != WORKING)
        deadline = clock_earlier_ms(deadline, worker->deadline_ms);
    return clock_poll_timeout(deadline, now_ms);
}

static void wait_and_process(struct worker *worker, int64_t now_ms)
{
    struct curl_waitfd fds[2 + TRANSPORTS_MAX * INTAKE_FDS] = {
        {.fd = worker->child.signal_fd, .events = CURL_WAIT_POLLIN}};
    unsigned first[TRANSPORTS_MAX + 1] = {0};
    unsigned len = 1;

    if (rejects_fd(worker->rejects) >= 0) {
        short events = rejects_events(worker->rejects);

        fds[len] = (struct curl_waitfd){.fd = rejects_fd(worker->rejects)};
        fds[len].events = (short)(((events & POLLIN) != 0 ? CURL_WAIT_POLLIN : 0) |
                                  ((events & POLLOUT) != 0 ? CURL_WAIT_POLLOUT : 0));
        len++;
    }
    for (size_t i = 0; i < worker->intakes_len; i++) {
        first[i] = len;
        len += intake_poll(worker->intakes[i], fds + len);
    }
    first[worker->intakes_len] = len;
    hub_poll(publisher_hub(worker->publisher), fds, len, poll_timeout(worker, now_ms));

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
    for (size_t i = 0; i < worker->intakes_len; i++)
        intake_process(worker->intakes[i], fds + first[i], first[i + 1] - first[i]);
    rejects_process(worker->rejects);
}

/* Entries that are still open stay pending in Redis. */
static void close_worker(struct worker *worker)
{
    publisher_free(worker->publisher);
    rejects_free(worker->rejects);
    for (size_t i = 0; i < worker->intakes_len; i++)
        intake_free(worker->intakes[i]);
    child_end(&worker->child);
}

int main(int argc, char **argv)
{
    struct worker worker = {.phase = WORKING};

    open_worker(&worker, argc, argv);
    while (worker.phase != ENDED) {
        int64_t now_ms = clock_monotonic_ms();

        turn(&worker, now_ms);
        if (worker.phase != ENDED)
            wait_and_process(&worker, now_ms);
    }
    log_info(LOG_WITH(log_number("handled", (int64_t)count_handled(&worker, true))),
             "Worker %d ends", worker.child.number);
    close_worker(&worker);
    return worker.exit_code;
}
