/* mqtt-bridge-consumer: from the broker through the spool into the Redis stream.
 *
 * paho's receive thread appends to the spool (receiver.h). Everything else happens in main. It
 * waits in one poll for signals, the session's events, Redis and, when it has nothing to send, for the
 * next append. Nothing here blocks. */
#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/runtime/child.h"
#include "common/settings/settings_table.h"
#include "consumer/dispatch/dispatch.h"
#include "consumer/mqtt/receiver.h"
#include "consumer/mqtt/session.h"
#include "consumer/mqtt/subscriptions.h"
#include "consumer/orphan_spools.h"
#include "consumer/spool/spool.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/param.h>
#include <unistd.h>

#define SYNC_INTERVAL_MS 1000
#define REPORT_MS        100
#define LEVEL_MS         20 /* main looks at the spool's level at this interval, or after appends */
#define PAUSED_MS        1000 /* interval of main's wake-ups while disconnected for lack of room */
#define LEAVE_LIMIT_MS   2000 /* time for DISCONNECT when the consumer is to end */
#define STOP_MARGIN_MS   1000 /* the consumer ends this long before the supervisor kills it */

struct consumer {
    struct child child;
    const struct settings_mqtt *mqtt;
    struct spool *spool;
    struct subscriptions *filters;
    struct receiver *receiver;
    struct session *session;
    struct dispatch *dispatch;
    struct orphan_spools *orphans; /* only the consumer of [mqtt] sends orphan spools */

    bool stopping;
    bool paused; /* disconnected from the broker until the spool has room */
    bool guarantees_logged;
    int64_t leave_by_ms; /* while stopping: DISCONNECT is waited for until then */
    int64_t stop_by_ms;  /* while stopping: messages are sent until then */
    int64_t beat_ms;     /* when the next beat is due */
    int64_t sync_ms;     /* when the next sync is due; -1: sync is not `interval` */
    int64_t report_ms;   /* when the next report is due */
    int64_t paused_since_us;
    uint64_t damaged; /* damaged records already counted */
};

static void beat(void *slot)
{
    stats_beat(slot);
}

static void open_spool(struct consumer *consumer)
{
    const struct settings_spool *settings = &consumer->child.settings->spool;
    char *dir = spool_path(consumer->child.settings, consumer->mqtt->client_id,
                           dispatch_destination(consumer->dispatch));
    struct spool_options options = {
        .dir = dir,
        .size = settings->size,
        .retain = settings->retain,
        .largest_message = consumer->mqtt->maximum_packet_size,
        .sync = settings->sync,
        .destination = dispatch_destination(consumer->dispatch),
        .progress = beat,
        .context = consumer->child.slot,
        .receives = true,
    };
    struct error err = {0};

    if (spool_open(&consumer->spool, &options, &err) < 0)
        child_fail_start(&consumer->child, &err);
    consumer->sync_ms = options.sync == SPOOL_SYNC_INTERVAL ? 0 : -1;
    free(dir);
}

static void open_all(struct consumer *consumer)
{
    struct child *child = &consumer->child;
    struct error err = {0};
    char *above = spool_path(child->settings, consumer->mqtt->client_id, NULL);
    char *subscriptions = xasprintf("%s/" SUBSCRIPTIONS_FILE, above);
    int result = dispatch_new(&consumer->dispatch, child->settings, child->slot, &err);

    if (result < 0)
        child_fail_start(child, &err);
    open_spool(consumer);
    result = subscriptions_new(&consumer->filters, consumer->mqtt, subscriptions, &err);
    if (result < 0)
        child_fail_start(child, &err);
    consumer->receiver = receiver_new(consumer->spool, consumer->filters, child->slot);
    result = session_new(&consumer->session, consumer->mqtt, consumer->filters, consumer->receiver,
                         child->slot, &err);
    if (result < 0)
        child_fail_start(child, &err);
    consumer->orphans = orphan_spools_new(child->settings, dispatch_destination(consumer->dispatch),
                                          child->slot, consumer->mqtt == &child->settings->mqtt);
    free(above);
    free(subscriptions);
}

static void close_all(struct consumer *consumer)
{
    orphan_spools_free(consumer->orphans);
    session_free(consumer->session);
    receiver_free(consumer->receiver);
    dispatch_free(consumer->dispatch);
    subscriptions_free(consumer->filters);
    spool_close(consumer->spool);
    child_end(&consumer->child);
}

static const char *from_the_broker(const struct session_facts *facts)
{
    if (facts->lowest_qos == 0)
        return facts->highest_qos == 0 ? "at most once" : "at most once for filters of QoS 0";
    return facts->lowest_qos == 2 ? "exactly once while it keeps the session" : "at least once";
}

static const char *spool_survives(const struct settings_spool *spool)
{
    switch (spool->sync) {
    case SPOOL_SYNC_NONE:
        return "crash";
    case SPOOL_SYNC_INTERVAL:
        return "crash; power cut but for a second";
    case SPOOL_SYNC_ALWAYS:
        return "power cut";
    }
    return "";
}

static const char *known(const char *text)
{
    return text[0] != '\0' ? text : "not said";
}

static void warn_of_weaknesses(const struct settings *settings, const struct settings_mqtt *mqtt,
                               const struct session_facts *facts, const struct queue_server *server)
{
    int64_t expiry_s = facts->session_expiry_s;

    if (facts->lowest_qos == 0)
        log_warning(LOG_PLAIN,
                    "QoS 0: what is published while the consumer is not connected never arrives");
    if (facts->version == 5 && expiry_s == 0)
        log_warning(LOG_PLAIN, "The broker keeps no session (session expiry 0): what is published "
                               "while the consumer is not connected never arrives");
    else if (facts->version == 5 && expiry_s < mqtt->session_expiry_ms / 1000)
        log_warning(LOG_PLAIN,
                    "The broker keeps the session for %" PRId64 " s instead of %" PRId64
                    " s (session_expiry)",
                    expiry_s, mqtt->session_expiry_ms / 1000);
    if (server->maxmemory_policy[0] != '\0' && strcmp(server->maxmemory_policy, "noeviction") != 0)
        log_warning(LOG_PLAIN,
                    "Redis has maxmemory-policy %s: it may evict the stream and the mark; set it "
                    "to noeviction",
                    server->maxmemory_policy);
    if (strcmp(server->appendonly, "no") == 0)
        log_warning(LOG_PLAIN,
                    "Redis has appendonly no: its restart loses what came since its last snapshot; "
                    "the spool sends again the last %" PRId64 " MB ([spool] retain)",
                    settings->spool.retain / (1024 * 1024));
    if (server->stream_max_entries > 0)
        log_warning(LOG_WITH(log_number("stream_max_entries", server->stream_max_entries)),
                    "stream_max_entries is set: Redis drops the oldest entries beyond it, read or "
                    "not");
}

/* Logs the delivery guarantee in force, and a warning for each part that is weaker than it
 * looks. That happens once, when broker and Redis are both connected for the first time. */
static void log_guarantees(const struct settings *settings, const struct settings_mqtt *mqtt,
                           const struct session_facts *facts, const struct queue_server *server)
{
    warn_of_weaknesses(settings, mqtt, facts, server);
    log_info(LOG_WITH(log_text("mqtt", facts->version == 5 ? "5" : "3.1.1"),
                      log_number("qos_min", facts->lowest_qos),
                      log_number("qos_max", facts->highest_qos),
                      log_flag("session_present", facts->session_present),
                      log_number("session_expiry_s", facts->session_expiry_s),
                      log_text("spool_sync", setting_word(SPOOL_SYNC_WORDS, settings->spool.sync)),
                      log_number("spool_size", settings->spool.size),
                      log_number("spool_retain", settings->spool.retain),
                      log_text("redis", known(server->version)),
                      log_text("appendonly", known(server->appendonly)),
                      log_text("appendfsync", known(server->appendfsync)),
                      log_text("maxmemory_policy", known(server->maxmemory_policy))),
             "Promised: broker to spool %s (the spool survives a %s), spool to Redis exactly once, "
             "Redis to hub at least once",
             from_the_broker(facts), spool_survives(&settings->spool));
}

static _Noreturn void exit_at_once(const struct consumer *consumer)
{
    if (consumer->sync_ms >= 0)
        spool_sync(consumer->spool);
    _exit(CHILD_EXIT_DONE);
}

static void read_signals(struct consumer *consumer, int64_t now_ms)
{
    int64_t stop_timeout_ms = consumer->child.settings->supervisor.stop_timeout_ms;
    enum child_signal got = child_read_signal(&consumer->child);

    if (got == CHILD_QUIT)
        exit_at_once(consumer);
    if (got != CHILD_STOP || consumer->stopping)
        return;
    consumer->stopping = true;
    stop_timeout_ms -= stop_timeout_ms > 2 * STOP_MARGIN_MS ? STOP_MARGIN_MS : stop_timeout_ms / 2;
    consumer->stop_by_ms = now_ms + stop_timeout_ms;
    consumer->leave_by_ms = now_ms + MIN(stop_timeout_ms, LEAVE_LIMIT_MS);
    log_info(LOG_PLAIN, "Stopping: disconnecting from the broker, then sending what is spooled");
}

/* Applies back-pressure: the broker keeps the messages that the spool has no room for. */
static void watch_level(struct consumer *consumer)
{
    struct stats_slot *slot = consumer->child.slot;
    int64_t now_us = clock_monotonic_us();
    bool before = consumer->paused;

    if (before)
        stats_add(slot, STATS_SPOOL_PAUSED_US, (uint64_t)(now_us - consumer->paused_since_us));
    consumer->paused_since_us = now_us;
    consumer->paused =
        before ? !spool_below_low_water(consumer->spool) : spool_above_high_water(consumer->spool);
    if (!before && consumer->paused)
        log_warning(
            LOG_PLAIN,
            "The spool is nearly full: not connected to the broker until half of it is sent; "
            "the broker keeps what is published");
    else if (before && !consumer->paused)
        log_notice(LOG_PLAIN, "The spool has room again: connecting to the broker");
    stats_set(slot, STATS_SPOOL_PAUSED, consumer->paused);
    if (consumer->paused || consumer->stopping)
        session_leave(consumer->session);
    else
        session_join(consumer->session);
}

static void report_health(struct consumer *consumer)
{
    struct stats_slot *slot = consumer->child.slot;
    struct dispatch_health redis = dispatch_health(consumer->dispatch);
    const char *orphans = orphan_spools_state(consumer->orphans).reason;
    struct session_facts facts = session_facts(consumer->session);
    const char *session =
        consumer->paused ? "the spool is nearly full: the broker is left for now" : facts.reason;
    char reason[STATS_REASON_SIZE];

    bool only_degraded = session[0] == '\0' && redis.degraded;
    snprintf(reason, sizeof(reason), "%s%s%s", redis.reason,
             redis.reason[0] != '\0' && session[0] != '\0' ? "; " : "", session);
    /* The trouble of an orphan spool is reported only if the consumer itself has none. */
    if (reason[0] == '\0' || (only_degraded && orphans[0] != '\0'))
        snprintf(reason, sizeof(reason), "%.*s", (int)sizeof(reason) - 1, orphans);
    stats_reason(slot, reason);
    /* The state of the transport's Redis: an orphan spool may have another. */
    stats_set(slot, STATS_REDIS_CONNECTED, redis.connected);
    stats_set(slot, STATS_REDIS_DEGRADED, only_degraded && orphans[0] == '\0');
    /* A consumer whose spool is full at the start counts as ready: the supervisor must not take
     * the start for hanging. */
    if (facts.ready || consumer->paused)
        child_ready(&consumer->child);
    if (!consumer->guarantees_logged && facts.ready && redis.server != NULL) {
        consumer->guarantees_logged = true;
        log_guarantees(consumer->child.settings, consumer->mqtt, &facts, redis.server);
    }
}

static void report(struct consumer *consumer, int64_t now_ms)
{
    struct stats_slot *slot = consumer->child.slot;
    struct spool_state state;

    spool_state(consumer->spool, &state);
    struct orphan_spools_state orphans = orphan_spools_state(consumer->orphans);
    stats_set(slot, STATS_SPOOL_BYTES, state.used_bytes);
    stats_set(slot, STATS_SPOOL_MESSAGES, state.unsent_records + orphans.unsent);
    stats_set(slot, STATS_SPOOL_LIMIT, state.limit_bytes);
    stats_set(slot, STATS_OVERSIZED_MESSAGES, orphans.oversized_messages);
    stats_set(slot, STATS_OVERSIZED_BYTES, orphans.oversized_bytes);
    stats_add(slot, STATS_SPOOL_DAMAGED, state.damaged_records - consumer->damaged);
    consumer->damaged = state.damaged_records;
    report_health(consumer);
    consumer->report_ms = now_ms + REPORT_MS;
}

static void keep_time(struct consumer *consumer, int64_t now_ms)
{
    if (now_ms >= consumer->beat_ms) {
        stats_beat(consumer->child.slot);
        consumer->beat_ms = now_ms + child_beat_ms(&consumer->child);
    }
    if (consumer->sync_ms >= 0 && now_ms >= consumer->sync_ms) {
        spool_sync(consumer->spool);
        consumer->sync_ms = now_ms + SYNC_INTERVAL_MS;
    }
    if (now_ms >= consumer->report_ms)
        report(consumer, now_ms);
}

/* True if a stop is over. A stop first disconnects from the broker, so that no more messages
 * come, and then sends the spool's messages. */
static bool is_over(const struct consumer *consumer, int64_t now_ms)
{
    struct spool_state state;

    if (!consumer->stopping)
        return false;
    if (!session_facts(consumer->session).away && now_ms < consumer->leave_by_ms)
        return false;
    spool_state(consumer->spool, &state);
    return state.unsent_records == 0 || now_ms >= consumer->stop_by_ms;
}

static int64_t next_deadline_ms(const struct consumer *consumer, int64_t now_ms, bool asleep)
{
    int64_t deadline_ms = consumer->beat_ms;

    deadline_ms = clock_earlier_ms(deadline_ms, session_deadline_ms(consumer->session));
    deadline_ms = clock_earlier_ms(deadline_ms, dispatch_deadline_ms(consumer->dispatch));
    deadline_ms = clock_earlier_ms(deadline_ms, orphan_spools_deadline_ms(consumer->orphans));
    deadline_ms = clock_earlier_ms(deadline_ms, consumer->sync_ms);
    if (!asleep)
        deadline_ms = clock_earlier_ms(deadline_ms, now_ms + LEVEL_MS);
    else if (consumer->paused) /* the disk may have room again */
        deadline_ms = clock_earlier_ms(deadline_ms, now_ms + PAUSED_MS);
    if (consumer->stopping) {
        deadline_ms = clock_earlier_ms(deadline_ms, consumer->stop_by_ms);
        if (now_ms < consumer->leave_by_ms)
            deadline_ms = clock_earlier_ms(deadline_ms, consumer->leave_by_ms);
    }
    return deadline_ms;
}

enum {
    FD_SIGNAL,
    FD_SPOOL,
    FD_SESSION,
    FD_DISPATCH = FD_SESSION + SESSION_POLL_FDS,
    FD_ORPHANS,
    FD_COUNT
};

/* Waits for the next event. An append wakes main only after spool_arm_wakeup, which is called
 * only when main could send. */
static void wait_for_work(struct consumer *consumer, struct pollfd fds[FD_COUNT])
{
    bool can_send = dispatch_can_send(consumer->dispatch);
    bool asleep = can_send && spool_arm_wakeup(consumer->spool);
    int timeout_ms = 0;

    fds[FD_SIGNAL] = (struct pollfd){.fd = consumer->child.signal_fd, .events = POLLIN};
    fds[FD_SPOOL] =
        (struct pollfd){.fd = asleep ? spool_event_fd(consumer->spool) : -1, .events = POLLIN};
    session_poll(consumer->session, &fds[FD_SESSION]);
    fds[FD_DISPATCH] = dispatch_poll(consumer->dispatch);
    fds[FD_ORPHANS] = orphan_spools_poll(consumer->orphans);
    if (asleep || !can_send) {
        int64_t now_ms = clock_monotonic_ms();

        if (asleep)
            report(consumer, now_ms);
        timeout_ms = clock_poll_timeout(next_deadline_ms(consumer, now_ms, asleep), now_ms);
    }
    if (poll(fds, FD_COUNT, timeout_ms) < 0 && errno != EINTR)
        abort(); /* a bug: one of the descriptors is closed */
    if (asleep)
        spool_disarm_wakeup(consumer->spool);
}

static void run(struct consumer *consumer)
{
    struct pollfd fds[FD_COUNT] = {0};

    dispatch_start(consumer->dispatch, consumer->spool, dispatch_destination(consumer->dispatch));
    for (;;) {
        int64_t now_ms = clock_monotonic_ms();

        keep_time(consumer, now_ms);
        if (fds[FD_SIGNAL].revents != 0)
            read_signals(consumer, now_ms);
        dispatch_process(consumer->dispatch, fds[FD_DISPATCH].revents, now_ms);
        orphan_spools_process(consumer->orphans, fds[FD_ORPHANS].revents, now_ms);
        watch_level(consumer);
        session_process(consumer->session, &fds[FD_SESSION], now_ms);
        if (is_over(consumer, now_ms))
            return;
        wait_for_work(consumer, fds);
    }
}

static void report_unsent(const struct consumer *consumer)
{
    struct spool_state state;

    spool_state(consumer->spool, &state);
    if (state.unsent_records == 0)
        log_info(LOG_PLAIN, "Stopped: everything that was received is in Redis");
    else
        log_warning(LOG_WITH(log_number("messages", (int64_t)state.unsent_records)),
                    "Stopped: the spool keeps messages that Redis has not taken; they are sent at "
                    "the next start");
}

/* Removes the variables of proxies, through which paho would connect for MQTT too. paho heeds
 * no_proxy only since 1.3.14. The environment may change here, since no other thread runs yet. */
static void connect_without_proxy(void)
{
    unsetenv("http_proxy");
    unsetenv("https_proxy");
}

int main(int argc, char **argv)
{
    struct consumer consumer = {0};
    struct error err;

    child_start(&consumer.child, argc, argv, "mqtt-bridge-consumer",
                "from the MQTT broker through the spool into the Redis stream");
    alloc_give_back_large(); /* frees the memory of large entries at once */
    connect_without_proxy();
    consumer.mqtt = settings_consumer(consumer.child.settings, consumer.child.name, &err);
    if (consumer.mqtt == NULL)
        child_fail_start(&consumer.child, &err);
    open_all(&consumer);
    run(&consumer);
    report_unsent(&consumer);
    /* The broker has not answered DISCONNECT: paho's threads may still use the spool. */
    if (!session_facts(consumer.session).away)
        exit_at_once(&consumer);
    close_all(&consumer);
    return CHILD_EXIT_DONE;
}
