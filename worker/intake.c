#include "worker/intake.h"

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/random.h"
#include "worker/intake_internal.h"
#include "worker/settle.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RECONNECT_MIN_MS 100
#define RECONNECT_MAX_MS 5000
#define LEASE_WAIT_MS    1000
#define LAST_READ_MS     100

int intake_new(struct intake **intake, const struct child *child,
               const struct settings_transport *transport, const char *instance,
               struct publisher *publisher, struct rejects *rejects, struct error *err)
{
    struct intake *made = xcalloc(1, sizeof(*made));

    if (queue_new(&made->reader, transport, err) < 0) {
        free(made);
        return -(int)err->code;
    }
    if (queue_new(&made->writer, transport, err) < 0) {
        queue_free(made->reader);
        free(made);
        return -(int)err->code;
    }
    const char *given = queue_dsn(made->writer)->consumer;
    made->child = child;
    made->publisher = publisher;
    made->rejects = rejects;
    made->me.consumer = xasprintf("%s-%d", given != NULL ? given : instance, child->number);
    made->me.instance = xstrdup(instance);
    snprintf(made->me.token, sizeof(made->me.token), "%.60s:%016" PRIx64, instance, random_u64());
    made->backoff =
        (struct backoff){.minimum_ms = RECONNECT_MIN_MS, .maximum_ms = RECONNECT_MAX_MS};
    made->settle = settle_new(child, transport, made->writer, made->me.consumer, rejects);
    snprintf(made->trouble, sizeof(made->trouble), "%s: not connected yet",
             queue_place(made->writer));
    *intake = made;
    return 0;
}

static void forget_careful(struct intake *intake)
{
    struct entry *entry = intake->careful_head;

    /* The one that is being charged is released by its callback. */
    intake->careful_head = NULL;
    intake->careful_tail = NULL;
    while (entry != NULL) {
        struct entry *next = entry->next;

        intake_settled(intake, entry);
        entry = next;
    }
}

void intake_free(struct intake *intake)
{
    if (intake == NULL)
        return;
    intake->phase = INTAKE_RELEASED;
    forget_careful(intake);
    queue_free(intake->reader);
    queue_free(intake->writer);
    settle_free(intake->settle);
    free((char *)intake->me.consumer);
    free((char *)intake->me.instance);
    free(intake);
}

void intake_break(struct intake *intake, const char *why)
{
    if (intake->phase == INTAKE_RELEASING || intake->phase == INTAKE_RELEASED) {
        intake->phase = INTAKE_RELEASED;
        return;
    }
    intake->phase = INTAKE_DOWN;
    snprintf(intake->trouble, sizeof(intake->trouble), "%s", why);
    log_fault(&intake->fault, LOG_LEVEL_ERROR, LOG_PLAIN,
              "Nothing can be read: %s. Trying again; what is read is kept", why);
    intake->again_ms = clock_monotonic_ms() + backoff_next(&intake->backoff);
    intake->asked = false;
    queue_disconnect(intake->reader);
    queue_disconnect(intake->writer);
    forget_careful(intake);
    publisher_forget(intake->publisher, intake);
    rejects_forget(intake->rejects, intake);
    stats_set(intake->child->slot, STATS_REDIS_CONNECTED, 0);
}

void intake_distrust(struct intake *intake, const char *why)
{
    char text[200];

    if (intake->phase == INTAKE_DOWN)
        return;
    snprintf(text, sizeof(text), "%s", why);
    intake_break(intake, text);
}

static void connected(void *context, int result, const struct error *err)
{
    struct intake *intake = context;

    if (intake->phase != INTAKE_CONNECTING)
        return;
    if (result < 0) {
        intake_distrust(intake, err->text);
        return;
    }
    if (++intake->connected == 2)
        intake->phase = INTAKE_GROUP;
}

static void group_made(void *context, int result, const struct error *err)
{
    struct intake *intake = context;

    intake->asked = false;
    if (intake->phase != INTAKE_GROUP)
        return;
    if (result < 0)
        intake_distrust(intake, err->text);
    else
        intake->phase = INTAKE_LEASE;
}

static void lease_taken(void *context, int result, int64_t number, const struct error *err)
{
    struct intake *intake = context;

    intake->asked = false;
    if (intake->phase != INTAKE_LEASE)
        return;
    if (result < 0) {
        intake_distrust(intake, err->text);
        return;
    }
    if (number == 0) {
        intake->again_ms = clock_monotonic_ms() + LEASE_WAIT_MS;
        snprintf(intake->trouble, sizeof(intake->trouble),
                 "%s: another host reads as consumer %s; waiting for its lease to end",
                 queue_place(intake->writer), intake->me.consumer);
        log_fault(&intake->fault, LOG_LEVEL_WARNING, LOG_PLAIN, "%s", intake->trouble);
        return;
    }
    intake->careful = number == 2 && !intake->held_before;
    if (intake->careful)
        log_notice(
            LOG_WITH(log_text("consumer", intake->me.consumer)),
            "The worker before this one did not end in order: what it had in hand is handled "
            "one at a time first");
    intake->held_before = true;
    intake->renew_ms = clock_monotonic_ms() + QUEUE_RENEW_MS;
    intake->pending_after = (struct stream_id){0, 0};
    intake->phase = INTAKE_SETTLING;
}

static void lease_renewed(void *context, int result, int64_t number, const struct error *err)
{
    struct intake *intake = context;

    (void)err;
    intake->renewing = false;
    if (result == 0 && number == 0 && intake->phase > INTAKE_LEASE)
        intake_distrust(intake, "the lease on our consumer name has ended");
}

static void renew(struct intake *intake, int64_t now_ms)
{
    if (intake->renewing || now_ms < intake->renew_ms)
        return;
    intake->renewing = true;
    intake->renew_ms = now_ms + QUEUE_RENEW_MS;
    queue_renew_lease(intake->writer, &intake->me, lease_renewed, intake);
}

static void connect_both(struct intake *intake)
{
    intake->phase = INTAKE_CONNECTING;
    intake->connected = 0;
    intake->reading = false;
    intake->renewing = false;
    intake->moving = false;
    intake->adopting = false;
    intake->claiming = false;
    queue_connect(intake->writer, connected, intake);
    if (intake->phase == INTAKE_CONNECTING)
        queue_connect(intake->reader, connected, intake);
}

/* A connection that ended by itself. */
static bool is_broken(const struct intake *intake)
{
    if (intake->phase == INTAKE_DOWN || intake->phase == INTAKE_CONNECTING ||
        intake->phase == INTAKE_RELEASED)
        return false;
    return !queue_is_connected(intake->writer) ||
           (!intake->stopped && !queue_is_connected(intake->reader));
}

static void begin_running(struct intake *intake)
{
    intake->trouble[0] = '\0';
    backoff_reset(&intake->backoff);
    log_fault_over(&intake->fault, LOG_PLAIN, "Reading again");
    stats_set(intake->child->slot, STATS_REDIS_CONNECTED, 1);
}

/* The order of reading, once connected: see the header. */
static void run(struct intake *intake, int64_t now_ms, bool may_read, size_t room)
{
    intake->active = false;
    renew(intake, now_ms);
    if (now_ms >= intake->keep_ms)
        intake_keep_open(intake);
    intake_careful_turn(intake);
    if (intake->stopped || !may_read || intake->careful_head != NULL ||
        intake->careful_asked != NULL || (intake->careful && intake->open > 0))
        return;
    intake->careful = false;
    intake->active = true;
    if (!intake->moving && now_ms >= intake->due_ms)
        intake_move_due(intake);
    if (!intake->adopting && now_ms >= intake->adopt_ms && room > 0)
        intake_adopt(intake, room);
    if (!intake->claiming && now_ms >= intake->claim_ms && room > 0)
        intake_claim(intake, room);
    if (!intake->reading && room > 0)
        intake_read_more(intake, room);
}

/* A read that is under way when we stop may bring entries that are ours then: it is waited for, but a
 * read of an empty stream would only block. */
static void end_last_read(struct intake *intake, int64_t now_ms)
{
    if (!intake->reading || now_ms < intake->last_read_ms)
        return;
    intake->reading = false;
    queue_disconnect(intake->reader);
}

static void step(struct intake *intake, int64_t now_ms, bool may_read, size_t room)
{
    switch (intake->phase) {
    case INTAKE_DOWN:
        if (!intake->stopped && now_ms >= intake->again_ms)
            connect_both(intake);
        break;
    case INTAKE_GROUP:
        if (!intake->asked) {
            intake->asked = true;
            queue_create_group(intake->writer, group_made, intake);
        }
        break;
    case INTAKE_LEASE:
        if (!intake->asked && now_ms >= intake->again_ms) {
            intake->asked = true;
            queue_take_lease(intake->writer, &intake->me, lease_taken, intake);
        }
        break;
    case INTAKE_SETTLING:
        publisher_forget(intake->publisher, intake);
        if (publisher_in_flight(intake->publisher, intake) == 0 && intake->open == 0 &&
            settle_is_idle(intake->settle)) {
            intake->phase = INTAKE_PENDING;
            begin_running(intake);
        }
        renew(intake, now_ms);
        break;
    case INTAKE_PENDING:
        renew(intake, now_ms);
        intake_careful_turn(intake);
        if (!intake->asked && !intake->stopped && may_read && room > 0)
            intake_read_pending_page(intake);
        break;
    case INTAKE_RUNNING:
        run(intake, now_ms, may_read, room);
        break;
    case INTAKE_CONNECTING:
    case INTAKE_RELEASING:
    case INTAKE_RELEASED:
        break;
    }
}

void intake_turn(struct intake *intake, int64_t now_ms, bool may_read, size_t room)
{
    if (is_broken(intake)) {
        const struct queue *ended =
            queue_is_connected(intake->writer) ? intake->reader : intake->writer;
        char why[200];

        snprintf(why, sizeof(why), "%.199s", queue_last_error(ended)->text);
        intake_break(intake, why);
    }
    enum intake_phase before;
    do {
        before = intake->phase;
        step(intake, now_ms, may_read, room);
    } while (intake->phase != before);
    if (intake->stopped)
        end_last_read(intake, now_ms);
    settle_turn(intake->settle);
}

void intake_stop(struct intake *intake)
{
    intake->stopped = true;
    intake->last_read_ms = clock_monotonic_ms() + LAST_READ_MS;
    forget_careful(intake);
}

static void released(void *context, int result, const struct error *err)
{
    struct intake *intake = context;

    (void)result;
    (void)err;
    intake->phase = INTAKE_RELEASED;
}

void intake_release(struct intake *intake)
{
    if (intake->phase == INTAKE_RELEASING || intake->phase == INTAKE_RELEASED)
        return;
    if (intake->phase <= INTAKE_LEASE || !queue_is_connected(intake->writer)) {
        intake->phase = INTAKE_RELEASED;
        return;
    }
    intake->phase = INTAKE_RELEASING;
    queue_release_lease(intake->writer, &intake->me, released, intake);
}

bool intake_is_released(const struct intake *intake)
{
    return intake->phase == INTAKE_RELEASED;
}

unsigned intake_poll(const struct intake *intake, struct curl_waitfd fds[INTAKE_FDS])
{
    const struct queue *queues[INTAKE_FDS] = {intake->reader, intake->writer};
    unsigned len = 0;

    /* poll's bits and curl's are not the same ones. */
    for (size_t i = 0; i < INTAKE_FDS; i++) {
        short events = queue_events(queues[i]);

        if (queue_fd(queues[i]) < 0)
            continue;
        fds[len] = (struct curl_waitfd){.fd = queue_fd(queues[i])};
        if ((events & 0x01) != 0)
            fds[len].events |= CURL_WAIT_POLLIN;
        if ((events & 0x04) != 0)
            fds[len].events |= CURL_WAIT_POLLOUT;
        len++;
    }
    return len;
}

void intake_process(struct intake *intake, const struct curl_waitfd *fds, unsigned len)
{
    struct queue *queues[INTAKE_FDS] = {intake->reader, intake->writer};

    for (size_t i = 0; i < INTAKE_FDS; i++) {
        short revents = 0;

        for (unsigned j = 0; j < len; j++) {
            if (fds[j].fd != queue_fd(queues[i]))
                continue;
            revents |= (fds[j].revents & CURL_WAIT_POLLIN) != 0 ? 0x01 : 0;
            revents |= (fds[j].revents & CURL_WAIT_POLLOUT) != 0 ? 0x04 : 0;
        }
        queue_process(queues[i], revents);
    }
}

static void soonest(int64_t *deadline, int64_t candidate)
{
    if (candidate >= 0 && (*deadline < 0 || candidate < *deadline))
        *deadline = candidate;
}

int64_t intake_deadline_ms(const struct intake *intake)
{
    int64_t deadline = -1;

    soonest(&deadline, queue_deadline_ms(intake->reader));
    soonest(&deadline, queue_deadline_ms(intake->writer));
    if (intake->stopped && intake->reading)
        soonest(&deadline, intake->last_read_ms);
    switch (intake->phase) {
    case INTAKE_DOWN:
    case INTAKE_LEASE:
        if (!intake->asked && !intake->stopped)
            soonest(&deadline, intake->again_ms);
        break;
    case INTAKE_RUNNING:
        if (intake->active && !intake->moving)
            soonest(&deadline, intake->due_ms);
        soonest(&deadline, intake->renew_ms);
        break;
    case INTAKE_SETTLING:
    case INTAKE_PENDING:
        soonest(&deadline, intake->renew_ms);
        break;
    case INTAKE_CONNECTING:
    case INTAKE_GROUP:
    case INTAKE_RELEASING:
    case INTAKE_RELEASED:
        break;
    }
    return deadline;
}

bool intake_is_running(const struct intake *intake)
{
    return intake->phase == INTAKE_RUNNING || intake->phase == INTAKE_PENDING;
}

bool intake_is_quiet(const struct intake *intake)
{
    switch (intake->phase) {
    case INTAKE_DOWN:
    case INTAKE_RELEASING:
    case INTAKE_RELEASED:
        return true;
    case INTAKE_LEASE:
        return !intake->asked; /* another host's */
    case INTAKE_CONNECTING:
    case INTAKE_GROUP:
    case INTAKE_SETTLING:
    case INTAKE_PENDING:
        return false;
    case INTAKE_RUNNING:
        return intake->reading && intake->dry && intake->open == 0;
    }
    return true;
}

bool intake_is_idle(const struct intake *intake)
{
    return intake->open == 0 && !intake->reading && settle_is_idle(intake->settle);
}

size_t intake_open(const struct intake *intake)
{
    return intake->open;
}

const char *intake_trouble(const struct intake *intake)
{
    return intake->trouble;
}

struct settle *intake_settle(const struct intake *intake)
{
    return intake->settle;
}

void intake_settled(struct intake *intake, struct entry *entry)
{
    if (entry->open_previous != NULL)
        entry->open_previous->open_next = entry->open_next;
    else
        intake->open_first = entry->open_next;
    if (entry->open_next != NULL)
        entry->open_next->open_previous = entry->open_previous;
    intake->open--;
    entry_release(entry);
}

void intake_handled(struct intake *intake, bool done)
{
    intake->handled++;
    if (!done)
        intake->failed++;
}

uint64_t intake_count(const struct intake *intake, bool done)
{
    return done ? intake->handled : intake->failed;
}

void intake_will_be_due(struct intake *intake, int64_t due_ms)
{
    int64_t monotonic = clock_monotonic_ms() + (due_ms - clock_wall_us() / 1000);

    if (monotonic < intake->due_ms)
        intake->due_ms = monotonic;
}
