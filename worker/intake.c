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
/* Acknowledgements that Redis does not have yet are worth a wait: without them what was published is
 * published again. Long enough for a connection that was cut or a server that changes over quickly,
 * short beside stop_timeout: longer would hold up an end that can settle nothing more. */
#define GIVE_UP_MS       1500
#define LARGEST_AT_FIRST (4 * 1024 * 1024) /* until sizes are known */

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
    made->me.token = xasprintf("%s:%016" PRIx64, instance, random_u64());
    made->largest = LARGEST_AT_FIRST;
    made->backoff =
        (struct backoff){.minimum_ms = RECONNECT_MIN_MS, .maximum_ms = RECONNECT_MAX_MS};
    made->settle = settle_new(child, made, transport, made->writer, made->me.consumer, rejects);
    snprintf(made->trouble, sizeof(made->trouble), "%s: not connected yet",
             queue_place(made->writer));
    *intake = made;
    return 0;
}

void intake_free(struct intake *intake)
{
    if (intake == NULL)
        return;
    size_t lost = settle_waiting(intake->settle);
    if (lost > 0)
        log_warning(LOG_WITH(log_number("entries", (int64_t)lost)),
                    "%s: %zu entries are done but could not be acknowledged; they will be handled "
                    "once more",
                    queue_place(intake->writer), lost);
    intake->phase = INTAKE_RELEASED;
    intake_careful_forget(intake);
    queue_free(intake->reader);
    queue_free(intake->writer);
    settle_free(intake->settle);
    free((char *)intake->me.consumer);
    free((char *)intake->me.instance);
    free((char *)intake->me.token);
    free(intake);
}

static void break_off(struct intake *intake, const char *why)
{
    if (intake->phase == INTAKE_RELEASING || intake->phase == INTAKE_RELEASED) {
        intake->phase = INTAKE_RELEASED;
        return;
    }
    if (intake->phase > INTAKE_CONNECTING)
        intake->give_up_ms = clock_monotonic_ms() + GIVE_UP_MS;
    intake->phase = INTAKE_DOWN;
    snprintf(intake->trouble, sizeof(intake->trouble), "%s", why);
    log_fault(&intake->fault, LOG_LEVEL_ERROR, LOG_PLAIN,
              "Nothing can be read: %s. Trying again; what is queued is kept", why);
    intake->again_ms = clock_monotonic_ms() + backoff_next(&intake->backoff);
    intake->asked = false;
    intake->proven = false;
    queue_disconnect(intake->reader);
    queue_disconnect(intake->writer);
    intake_careful_forget(intake);
    publisher_forget(intake->publisher, intake);
    rejects_forget(intake->rejects, intake);
    intake->promised = 0;
    stats_set(intake->child->slot, STATS_REDIS_CONNECTED, 0);
}

void intake_fail(struct intake *intake, int result, const struct error *err)
{
    struct error copy = *err;

    if (intake->phase == INTAKE_DOWN)
        return;
    if (result == -ERR_REFUSED)
        intake->backoff.next_ms = intake->backoff.maximum_ms; /* time alone does not mend it */
    break_off(intake, copy.text);
}

void intake_be_well(struct intake *intake)
{
    if (intake->trouble[0] == '\0')
        return;
    intake->trouble[0] = '\0';
    log_fault_over(&intake->fault, LOG_PLAIN, "Reading again");
    stats_set(intake->child->slot, STATS_REDIS_CONNECTED, 1);
}

void intake_complain(struct intake *intake, enum intake_complaint about, const struct error *err)
{
    /* A connection that broke is dealt with as a whole. */
    if (!queue_is_connected(intake->writer))
        return;
    snprintf(intake->complaint[about], sizeof(intake->complaint[about]), "%s", err->text);
    log_fault(&intake->complaint_fault[about], LOG_LEVEL_ERROR, LOG_PLAIN, "Redis refuses: %s",
              err->text);
}

void intake_content(struct intake *intake, enum intake_complaint about)
{
    if (intake->complaint[about][0] == '\0')
        return;
    intake->complaint[about][0] = '\0';
    log_fault_over(&intake->complaint_fault[about], LOG_PLAIN, "Redis no longer refuses");
}

static void connected(void *context, int result, const struct error *err)
{
    struct intake *intake = context;

    if (intake->phase != INTAKE_CONNECTING)
        return;
    if (result < 0) {
        intake_fail(intake, result, err);
        return;
    }
    if (++intake->connected == 2)
        intake->phase = queue_dsn(intake->writer)->auto_setup ? INTAKE_GROUP : INTAKE_LEASE;
}

static void group_made(void *context, int result, const struct error *err)
{
    struct intake *intake = context;

    intake->asked = false;
    if (intake->phase != INTAKE_GROUP)
        return;
    if (result < 0)
        intake_fail(intake, result, err);
    else
        intake->phase = INTAKE_LEASE;
}

static void wait_for_lease(struct intake *intake)
{
    intake->again_ms = clock_monotonic_ms() + LEASE_WAIT_MS;
    snprintf(intake->trouble, sizeof(intake->trouble),
             "%s: another worker reads as consumer %s; waiting for its lease to end",
             queue_place(intake->writer), intake->me.consumer);
    log_fault(&intake->fault, LOG_LEVEL_WARNING, LOG_PLAIN,
              "%s. Two hosts must not share an instance id or a consumer name", intake->trouble);
}

static void lease_taken(void *context, int result, int64_t number, const struct error *err)
{
    struct intake *intake = context;

    intake->asked = false;
    if (intake->phase != INTAKE_LEASE)
        return;
    if (result < 0) {
        intake_fail(intake, result, err);
        return;
    }
    if (number == 0) {
        wait_for_lease(intake);
        return;
    }
    intake->held_before = true;
    intake->renew_ms = clock_monotonic_ms() + QUEUE_RENEW_MS;
    intake->pending_after = (struct stream_id){0, 0};
    intake->phase = INTAKE_SETTLING;
}

static void lease_renewed(void *context, int result, int64_t number, const struct error *err)
{
    struct intake *intake = context;
    struct error lost;

    intake->renewing = false;
    if (result < 0) {
        intake_complain(intake, COMPLAINT_RENEW, err);
        return;
    }
    intake_content(intake, COMPLAINT_RENEW);
    if (number != 0 || intake->phase <= INTAKE_LEASE)
        return;
    error_set(&lost, ERR_UNREACHABLE, "%s: the lease on our consumer name has ended",
              queue_place(intake->writer));
    intake_fail(intake, -ERR_UNREACHABLE, &lost);
}

static void renew(struct intake *intake, int64_t now_ms)
{
    if (intake->renewing || now_ms < intake->renew_ms)
        return;
    intake->renewing = true;
    intake->renew_ms = now_ms + QUEUE_RENEW_MS;
    queue_renew_lease(intake->writer, &intake->me, lease_renewed, intake);
}

/* The lease, and what is open under it. */
static void hold(struct intake *intake, int64_t now_ms)
{
    renew(intake, now_ms);
    if (now_ms >= intake->keep_ms)
        intake_keep_open(intake);
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
bool intake_is_broken(const struct intake *intake)
{
    if (intake->phase == INTAKE_DOWN || intake->phase == INTAKE_CONNECTING ||
        intake->phase == INTAKE_RELEASED)
        return false;
    return !queue_is_connected(intake->writer) ||
           (!intake->stopped && !queue_is_connected(intake->reader));
}

/* The order of reading, once connected: see the header. */
static void run(struct intake *intake, int64_t now_ms, bool may_read, size_t room)
{
    intake->active = false;
    intake->had_room = room > 0;
    hold(intake, now_ms);
    intake_careful_turn(intake, now_ms);
    if (!may_read)
        intake_be_well(intake); /* it is others that we wait for */
    if (intake->stopped || !may_read || intake->careful_head != NULL ||
        (intake->careful && intake->open > intake->rejecting + intake->refused))
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
        if (intake_wants_redis(intake) && now_ms >= intake->again_ms)
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
            queue_take_lease(intake->writer, &intake->me, !intake->held_before, lease_taken,
                             intake);
        }
        break;
    case INTAKE_SETTLING:
        publisher_forget(intake->publisher, intake);
        rejects_forget(intake->rejects, intake);
        if (publisher_in_flight(intake->publisher, intake) == 0 && intake->open == 0 &&
            settle_is_idle(intake->settle)) {
            intake->phase = INTAKE_PENDING;
        }
        renew(intake, now_ms);
        break;
    case INTAKE_PENDING:
        hold(intake, now_ms);
        intake_careful_turn(intake, now_ms);
        if (!may_read)
            intake_be_well(intake);
        if (!intake->asked && !intake->stopped && may_read && room > 0)
            intake_read_pending_page(intake, room);
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
    if (intake_is_broken(intake)) {
        const struct queue *ended =
            queue_is_connected(intake->writer) ? intake->reader : intake->writer;
        char why[200];

        snprintf(why, sizeof(why), "%.199s", queue_last_error(ended)->text);
        break_off(intake, why);
    }
    enum intake_phase before;
    do {
        before = intake->phase;
        step(intake, now_ms, may_read, room);
    } while (intake->phase != before);
    if (intake->stopped)
        end_last_read(intake, now_ms);
    settle_turn(intake->settle, now_ms, intake->open == 0 || intake->stopped);
    /* What was asked goes out now, not after the next poll. */
    queue_process(intake->writer, 0);
    queue_process(intake->reader, 0);
}

void intake_stop(struct intake *intake)
{
    int64_t now_ms = clock_monotonic_ms();

    intake->stopped = true;
    intake->last_read_ms = now_ms + LAST_READ_MS;
    intake->give_up_ms = now_ms + GIVE_UP_MS;
    if (intake->phase == INTAKE_DOWN)
        intake->again_ms = now_ms;
    backoff_reset(&intake->backoff);
    intake_careful_forget(intake);
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
    intake_careful_release(intake);
    intake->phase = INTAKE_RELEASING;
    queue_disconnect(intake->reader); /* nothing is delivered to a name that may go now */
    queue_release_lease(intake->writer, &intake->me, released, intake);
}

bool intake_is_released(const struct intake *intake)
{
    return intake->phase == INTAKE_RELEASED;
}

void intake_settled(struct intake *intake, struct entry *entry)
{
    if (entry->open_previous != NULL)
        entry->open_previous->open_next = entry->open_next;
    else
        intake->open_first = entry->open_next;
    if (entry->open_next != NULL)
        entry->open_next->open_previous = entry->open_previous;
    if (intake->in_hand == entry)
        intake->in_hand = NULL;
    intake->open--;
    intake->open_bytes -= entry->value.len;
    if (entry->rejecting)
        intake->rejecting--;
    if (entry->refused_at > 0)
        intake->refused--;
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
