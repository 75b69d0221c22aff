#include "worker/reader.h"

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/sys.h"
#include "worker/delivery.h"
#include "worker/settle.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define RECONNECT_MIN_MS 100
#define RECONNECT_MAX_MS 5000
#define LEASE_WAIT_MS    1000
#define LAST_READ_MS     100
/* How long a worker that ends waits for a Redis that is away. Without the acknowledgements, messages are published
 * again. The time is enough for a cut connection or a quick fail-over, and short beside stop_timeout. */
#define STOP_LIMIT_MS  1500
#define PAGE           256  /* entries asked for at a time, at the most */
#define BLOCK_MS       5000 /* XREADGROUP; anything else wakes us anyway */
#define TOUCH_LEAST_MS 1000
#define BEHIND         4096 /* entries in a row; a shorter burst is soon read */

enum phase {
    DOWN,       /* until again_ms */
    CONNECTING, /* both connections */
    GROUP,      /* the consumer group is made if it is missing */
    LEASE,      /* the lease is taken, or waited for */
    QUIESCE,    /* requests to the hub from before the connection broke are waited for */
    PENDING,    /* this consumer's pending entries are read */
    RUNNING,
    RELEASING,
    RELEASED,
};

/* Entries that are read again by their ids. */
struct page {
    struct reader *reader;
    bool under_way;
    bool redelivered;
    struct lane *lane; /* lane_page: the lane; NULL if it is gone */
};

struct reader {
    struct source *source;
    struct publisher *publisher;
    struct failures *failures;
    struct queue *queue; /* the connection that may block */
    struct queue_reader me;
    struct delivery delivery;

    enum phase phase;
    struct clock_backoff backoff;
    int64_t again_ms;
    unsigned connected; /* connections of the two that stand */
    bool asked;         /* a request of this phase is unanswered */
    bool held_before;   /* this process has had the lease: a standing one is our own */
    bool proven;        /* XREADGROUP has worked since we connected */
    bool stopped;
    bool renewing;
    int64_t renew_ms, touch_ms; /* when next, monotonic */

    struct stream_id pending_after; /* how far pending entries are read */
    bool pending_is_ours; /* this process read all of them as new: none has killed a worker */
    struct page unread_page;
    struct page lane_page;
    bool active;              /* the last step was free to read: else its deadlines don't matter */
    bool had_room;            /* the last step had room for more entries */
    bool reading;             /* XREADGROUP is under way */
    bool dry;                 /* the last XREADGROUP brought nothing: the next may block */
    size_t requested;         /* this reader's part of load.requested */
    size_t in_a_row;          /* entries of readings that brought all that was asked for */
    int64_t last_read_ms;     /* stopped: until when the last XREADGROUP is waited for */
    int64_t stop_deadline_ms; /* stopped, and Redis is away: until when it is waited for */
};

static void fail(void *context, int result, const struct error *err);
static void redeliver(void *context, struct entry *entry);

int reader_new(struct reader **reader, const struct child *child,
               const struct settings_transport *transport, const char *instance, struct load *total,
               struct publisher *publisher, struct failures *failures, struct error *err)
{
    struct reader *made = xcalloc(1, sizeof(*made));

    if (source_new(&made->source, child, transport, instance, total, err) < 0) {
        free(made);
        return -(int)err->code;
    }
    if (queue_new(&made->queue, transport, err) < 0) {
        source_free(made->source);
        free(made);
        return -(int)err->code;
    }
    made->publisher = publisher;
    made->failures = failures;
    made->source->broken = fail;
    made->source->redeliver = redeliver;
    made->source->context = made;
    made->me =
        (struct queue_reader){.consumer = made->source->consumer,
                              .instance = xstrdup(instance),
                              .token = xasprintf("%s:%016" PRIx64, instance, sys_random_u64())};
    made->delivery = (struct delivery){.source = made->source, .publisher = publisher};
    made->unread_page.reader = made;
    made->lane_page.reader = made;
    made->backoff =
        (struct clock_backoff){.minimum_ms = RECONNECT_MIN_MS, .maximum_ms = RECONNECT_MAX_MS};
    settle_new(made->source, transport, failures);
    *reader = made;
    return 0;
}

void reader_free(struct reader *reader)
{
    struct source *source = reader->source;
    size_t lost = settle_waiting(source->settle);

    if (lost > 0)
        log_warning(LOG_WITH(log_number("entries", (int64_t)lost)),
                    "%s: %zu entries are done but could not be acknowledged; they will be handled "
                    "once more",
                    queue_address(source->writer), lost);
    reader->phase = RELEASED;
    delivery_forget(&reader->delivery);
    queue_free(reader->queue);
    queue_disconnect(source->writer);
    settle_free(source->settle);
    source_free(source);
    free((char *)reader->me.instance);
    free((char *)reader->me.token);
    free(reader);
}

static void set_requested(struct reader *reader, size_t requested)
{
    reader->source->total->requested += requested - reader->requested;
    reader->requested = requested;
}

static void forget_all(struct reader *reader)
{
    delivery_forget(&reader->delivery);
    publisher_forget(reader->publisher, reader->source, clock_monotonic_ms());
    failures_forget(reader->failures, reader->source);
    entry_ids_free(&reader->source->unread);
    entry_ids_free(&reader->source->unwritten);
    reader->lane_page.lane = NULL;
}

/* Entries that were new to this process are so still when read again, unless a worker or a handler has died of one. */
static bool is_pending_ours(const struct reader *reader)
{
    if (reader->phase < PENDING)
        return reader->pending_is_ours; /* as when the last connection ended */
    return (reader->phase == RUNNING || reader->pending_is_ours) &&
           !delivery_claims_unanswered(&reader->delivery) &&
           !delivery_has_redelivered(&reader->delivery);
}

/* why: valid until the connections are closed. */
static void break_off(struct reader *reader, const char *why)
{
    struct source *source = reader->source;

    source->leased = false;
    reader->pending_is_ours = is_pending_ours(reader);
    if (reader->phase == RELEASING || reader->phase == RELEASED) {
        reader->phase = RELEASED;
        return;
    }
    if (reader->phase > CONNECTING)
        reader->stop_deadline_ms = clock_monotonic_ms() + STOP_LIMIT_MS;
    reader->phase = DOWN;
    snprintf(source->trouble, sizeof(source->trouble), "%s", why);
    log_fault(&source->fault, LOG_LEVEL_ERROR, LOG_PLAIN,
              "Reading interrupted: %s. Trying again; what is queued is kept", why);
    reader->again_ms = clock_monotonic_ms() + clock_backoff_next(&reader->backoff);
    reader->asked = false;
    reader->proven = false;
    reader->in_a_row = 0;
    source->behind = false;
    queue_disconnect(reader->queue);
    queue_disconnect(source->writer);
    forget_all(reader);
    set_requested(reader, 0);
    stats_set(source->child->slot, STATS_REDIS_CONNECTED, 0);
}

/* Redis is gone, or refused a command without which nothing goes on. */
static void fail(void *context, int result, const struct error *err)
{
    struct reader *reader = context;

    if (reader->phase == DOWN)
        return;
    if (result == -ERR_REFUSED)
        reader->backoff.next_ms = reader->backoff.maximum_ms; /* time alone does not mend it */
    break_off(reader, err->text);
}

static void redeliver(void *context, struct entry *entry)
{
    struct reader *reader = context;

    source_set_state(entry, ENTRY_QUEUED);
    delivery_redeliver(&reader->delivery, entry);
}

static void connected(void *context, int result, const struct error *err)
{
    struct reader *reader = context;

    if (reader->phase != CONNECTING)
        return;
    if (result < 0)
        fail(reader, result, err);
    else if (++reader->connected == 2)
        reader->phase = queue_dsn(reader->queue)->auto_setup ? GROUP : LEASE;
}

static void connect_both(struct reader *reader)
{
    reader->phase = CONNECTING;
    reader->connected = 0;
    reader->reading = false;
    reader->renewing = false;
    reader->unread_page.under_way = false;
    reader->lane_page.under_way = false;
    queue_connect(reader->source->writer, connected, reader);
    if (reader->phase == CONNECTING)
        queue_connect(reader->queue, connected, reader);
}

static void group_made(void *context, int result, const struct error *err)
{
    struct reader *reader = context;

    reader->asked = false;
    if (reader->phase != GROUP)
        return;
    if (result < 0) {
        fail(reader, result, err);
        return;
    }
    reader->phase = LEASE;
    source_check_groups(reader->source);
}

/* A connection ended by itself; the next step breaks off. */
static bool is_broken(const struct reader *reader)
{
    if (reader->phase == DOWN || reader->phase == CONNECTING || reader->phase == RELEASED)
        return false;
    return !queue_is_connected(reader->source->writer) ||
           (!reader->stopped && !queue_is_connected(reader->queue));
}

static void wait_for_lease(struct reader *reader)
{
    struct source *source = reader->source;

    reader->again_ms = clock_monotonic_ms() + LEASE_WAIT_MS;
    reader->pending_is_ours = false;
    source_forget_overcounts(source);
    snprintf(source->trouble, sizeof(source->trouble),
             "%s: another worker reads as consumer %s; waiting for its lease to end",
             queue_address(source->writer), source->consumer);
    log_fault(&source->fault, LOG_LEVEL_WARNING, LOG_PLAIN,
              "%s. Two hosts must not share an instance id or a consumer name", source->trouble);
}

static void lease_taken(void *context, int result, int64_t number, const struct error *err)
{
    struct reader *reader = context;

    reader->asked = false;
    if (reader->phase != LEASE)
        return;
    if (result < 0) {
        fail(reader, result, err);
        return;
    }
    if (number == 0) {
        wait_for_lease(reader);
        return;
    }
    reader->held_before = true;
    reader->source->leased = true;
    reader->renew_ms = clock_monotonic_ms() + QUEUE_RENEW_MS;
    reader->pending_after = (struct stream_id){0, 0};
    reader->phase = QUIESCE;
}

static void lease_renewed(void *context, int result, int64_t number, const struct error *err)
{
    struct reader *reader = context;
    struct error lost;

    reader->renewing = false;
    if (result < 0) {
        source_report_error(reader->source, ERROR_RENEW, err);
        return;
    }
    source_clear_error(reader->source, ERROR_RENEW);
    if (number != 0 || reader->phase <= LEASE)
        return;
    error_set(&lost, ERR_UNREACHABLE, "%s: the lease on our consumer name has ended",
              queue_address(reader->queue));
    fail(reader, -ERR_UNREACHABLE, &lost);
}

static void renew(struct reader *reader, int64_t now_ms)
{
    if (reader->renewing || now_ms < reader->renew_ms)
        return;
    reader->renewing = true;
    reader->renew_ms = now_ms + QUEUE_RENEW_MS;
    queue_renew_lease(reader->source->writer, &reader->me, lease_renewed, reader);
}

static void touch_all(struct reader *reader)
{
    int64_t every_ms = queue_dsn(reader->source->writer)->redeliver_timeout_ms / 3;

    reader->touch_ms =
        clock_monotonic_ms() + (every_ms > TOUCH_LEAST_MS ? every_ms : TOUCH_LEAST_MS);
    delivery_touch_pending(&reader->delivery);
}

/* Keeps the lease and the pending entries ours. */
static void hold(struct reader *reader, int64_t now_ms)
{
    renew(reader, now_ms);
    if (now_ms >= reader->touch_ms)
        touch_all(reader);
}

static void pending_read(void *context, int result, const struct queue_entry *entries, size_t len,
                         const struct error *err)
{
    struct reader *reader = context;

    reader->asked = false;
    if (reader->phase != PENDING)
        return;
    if (result < 0) {
        fail(reader, result, err);
        return;
    }
    if (len == 0) {
        reader->phase = RUNNING;
        reader->dry = false;
        delivery_begin(&reader->delivery);
        return;
    }
    source_mark_healthy(reader->source);
    size_t read = delivery_hand_on(&reader->delivery, entries, len, !reader->pending_is_ours, NULL);
    if (read > 0)
        reader->pending_after = entries[read - 1].id;
}

static void read_pending(struct reader *reader, const struct credit *credit)
{
    if (reader->asked || delivery_is_busy(&reader->delivery))
        return;
    reader->asked = true;
    queue_read_pending(reader->source->writer, reader->source->consumer, reader->pending_after,
                       source_page_size(reader->source,
                                        credit->entries < PAGE ? credit->entries : PAGE,
                                        credit->bytes),
                       credit->bytes, pending_read, reader);
}

static void page_read(void *context, int result, const struct queue_entry *entries, size_t len,
                      const struct error *err)
{
    struct page *page = context;
    struct reader *reader = page->reader;
    struct lane *lane = page->lane;

    page->under_way = false;
    page->lane = NULL;
    if (result < 0) {
        fail(reader, result, err);
        return;
    }
    if (page == &reader->unread_page)
        set_requested(reader, 0);
    else if (lane == NULL)
        return;
    size_t read = delivery_hand_on(&reader->delivery, entries, len, page->redelivered, lane);
    if (lane != NULL)
        lanes_end_page(publisher_lanes(reader->publisher), lane, read);
    else
        entry_ids_drop(&reader->source->unread, read);
}

static void read_page(struct page *page, const struct stream_id *ids, size_t len, size_t bytes)
{
    page->under_way = true;
    queue_read_ids(page->reader->source->writer, ids, len, bytes, page_read, page);
}

static void read_unread(struct reader *reader, size_t count, const struct credit *credit)
{
    struct stream_id ids[PAGE];
    size_t len = entry_ids_page(&reader->source->unread, ids, count);

    reader->unread_page.redelivered = entry_ids_at(&reader->source->unread, 0)->redelivered;
    set_requested(reader, len);
    read_page(&reader->unread_page, ids, len, credit->bytes);
}

/* Reads a page of entries that a lane has left. The bytes of these entries count among those set
 * aside. */
static void read_lane(struct reader *reader, const struct credit *credit)
{
    struct page *page = &reader->lane_page;
    struct stream_id ids[PAGE];

    if (page->under_way || reader->stopped)
        return;
    lanes_take_handled(publisher_lanes(reader->publisher), reader->source, &reader->source->unread);
    size_t len = lanes_begin_page(publisher_lanes(reader->publisher), reader->source, ids,
                                  source_page_size(reader->source, PAGE, credit->aside_bytes),
                                  &page->redelivered, &page->lane);
    if (len > 0)
        read_page(page, ids, len, credit->aside_bytes);
}

static void new_read(void *context, int result, const struct queue_entry *entries, size_t len,
                     const struct error *err)
{
    struct reader *reader = context;

    reader->reading = false;
    reader->in_a_row =
        len > 0 && len >= reader->requested && !reader->dry ? reader->in_a_row + len : 0;
    reader->source->behind = reader->in_a_row >= BEHIND;
    if (!reader->unread_page.under_way)
        set_requested(reader, 0);
    if (result < 0) {
        /* The stream may be gone: the new connection makes the group anew. */
        if (!reader->stopped)
            fail(reader, result, err);
        return;
    }
    if (!reader->proven) {
        reader->proven = true;
        clock_backoff_reset(&reader->backoff);
        source_mark_healthy(reader->source);
    }
    reader->dry = len == 0;
    for (size_t i = delivery_hand_on(&reader->delivery, entries, len, false, NULL); i < len; i++)
        entry_ids_push_left(&reader->source->unread,
                            (struct entry_left){reader->source, entries[i].id, false, false});
}

static void read_new(struct reader *reader, size_t count, const struct credit *credit)
{
    reader->reading = true;
    /* A read that blocks may bring nothing: it takes no room from the other readers. */
    set_requested(reader, reader->dry ? 0 : count);
    queue_read_new(reader->queue, reader->source->consumer, count, credit->bytes,
                   reader->dry ? BLOCK_MS : 0, new_read, reader);
}

/* Entries that were to be rejected are read again, once there is room for their rows. */
static void take_unwritten(struct reader *reader)
{
    struct entry_ids *ids = &reader->source->unwritten;
    size_t len = ids->len < PAGE ? ids->len : PAGE;

    if (reader->source->unread.len > 0 || len == 0 || !failures_have_room(reader->failures))
        return;
    entry_ids_move(&reader->source->unread, ids, len);
}

/* The order of reading, once connected: see the header. */
static void read_on(struct reader *reader, int64_t now_ms, const struct credit *credit)
{
    size_t room = credit->entries < PAGE ? credit->entries : PAGE;

    reader->active = true;
    delivery_move_due(&reader->delivery, now_ms, credit->bytes);
    if (room == 0)
        return;
    size_t count = source_page_size(reader->source, room, credit->bytes);
    take_unwritten(reader);
    if (reader->source->unread.len == 0)
        delivery_take_over(&reader->delivery, now_ms, count);
    if (reader->unread_page.under_way || (reader->reading && !reader->dry))
        return;
    if (reader->source->unread.len > 0)
        read_unread(reader, count, credit);
    else if (!reader->reading)
        read_new(reader, count, credit);
}

static void run(struct reader *reader, int64_t now_ms, const struct credit *credit)
{
    reader->active = false;
    reader->had_room = credit->entries > 0;
    hold(reader, now_ms);
    delivery_step(&reader->delivery, now_ms);
    if (!credit->may_read || !credit->has_priority)
        source_mark_healthy(reader->source); /* Redis is not what we wait for */
    if (credit->may_read)
        read_lane(reader, credit);
    if (reader->stopped || !credit->may_read || !credit->has_priority)
        return;
    if (reader->phase == RUNNING && !delivery_is_busy(&reader->delivery))
        read_on(reader, now_ms, credit);
    else if (reader->phase == PENDING && credit->entries > 0)
        read_pending(reader, credit);
}

/* A read that is under way when we stop may still deliver entries: it is waited for, but not for long. */
static void end_last_read(struct reader *reader, int64_t now_ms)
{
    if (!reader->reading || now_ms < reader->last_read_ms)
        return;
    reader->reading = false;
    queue_disconnect(reader->queue);
}

/* To read, or to acknowledge what is done. */
static bool wants_redis(const struct reader *reader)
{
    return !reader->stopped || !settle_is_idle(reader->source->settle);
}

static void quiesce(struct reader *reader, int64_t now_ms)
{
    publisher_forget(reader->publisher, reader->source, now_ms);
    failures_forget(reader->failures, reader->source);
    if (lanes_count_in_flight(publisher_lanes(reader->publisher), reader->source) == 0 &&
        reader->source->open == NULL && settle_is_idle(reader->source->settle))
        reader->phase = PENDING;
    renew(reader, now_ms);
}

static void advance(struct reader *reader, int64_t now_ms, const struct credit *credit)
{
    struct queue *writer = reader->source->writer;

    switch (reader->phase) {
    case DOWN:
        if (wants_redis(reader) && now_ms >= reader->again_ms)
            connect_both(reader);
        break;
    case GROUP:
        if (reader->asked)
            break;
        reader->asked = true;
        queue_create_group(writer, group_made, reader);
        break;
    case LEASE:
        if (reader->asked || now_ms < reader->again_ms)
            break;
        reader->asked = true;
        queue_take_lease(writer, &reader->me, !reader->held_before, lease_taken, reader);
        break;
    case QUIESCE:
        quiesce(reader, now_ms);
        break;
    case PENDING:
    case RUNNING:
        run(reader, now_ms, credit);
        break;
    case CONNECTING:
    case RELEASING:
    case RELEASED:
        break;
    }
}

void reader_step(struct reader *reader, int64_t now_ms, const struct credit *credit)
{
    struct source *source = reader->source;
    enum phase before;

    if (is_broken(reader)) {
        const struct queue *ended =
            queue_is_connected(source->writer) ? reader->queue : source->writer;

        break_off(reader, queue_last_error(ended)->text);
    }
    do {
        before = reader->phase;
        advance(reader, now_ms, credit);
    } while (reader->phase != before);
    if (reader->stopped)
        end_last_read(reader, now_ms);
    settle_step(source->settle, now_ms, source->open == NULL || reader->stopped);
    /* Sends the requests of this step now, not after the next poll. */
    queue_process(source->writer, 0);
    queue_process(reader->queue, 0);
}

void reader_stop(struct reader *reader)
{
    int64_t now_ms = clock_monotonic_ms();

    reader->stopped = true;
    reader->last_read_ms = now_ms + LAST_READ_MS;
    reader->stop_deadline_ms = now_ms + STOP_LIMIT_MS;
    if (reader->phase == DOWN)
        reader->again_ms = now_ms;
    clock_backoff_reset(&reader->backoff);
    delivery_forget(&reader->delivery);
    reader->lane_page.lane = NULL;
}

static void released(void *context, int result, const struct error *err)
{
    struct reader *reader = context;

    (void)result;
    (void)err;
    reader->phase = RELEASED;
}

void reader_release(struct reader *reader)
{
    struct source *source = reader->source;

    if (reader->phase == RELEASING || reader->phase == RELEASED)
        return;
    if (reader->phase <= LEASE || !queue_is_connected(source->writer)) {
        reader->phase = RELEASED;
        return;
    }
    delivery_give_back(&reader->delivery);
    source_write_overcounts(source);
    source->leased = false;
    reader->phase = RELEASING;
    queue_disconnect(reader->queue); /* no entry may come for a name that is about to go */
    queue_release_lease(source->writer, &reader->me, released, reader);
}

bool reader_is_released(const struct reader *reader)
{
    return reader->phase == RELEASED;
}

unsigned reader_poll(const struct reader *reader, struct pollfd fds[READER_FDS])
{
    const struct queue *queues[READER_FDS] = {reader->queue, reader->source->writer};
    unsigned len = 0;

    for (size_t i = 0; i < READER_FDS; i++)
        if (queue_fd(queues[i]) >= 0)
            fds[len++] =
                (struct pollfd){.fd = queue_fd(queues[i]), .events = queue_events(queues[i])};
    return len;
}

void reader_process(struct reader *reader, const struct pollfd *fds, unsigned len)
{
    struct queue *queues[READER_FDS] = {reader->queue, reader->source->writer};

    for (size_t i = 0; i < READER_FDS; i++) {
        short revents = 0;

        for (unsigned j = 0; j < len; j++)
            if (fds[j].fd == queue_fd(queues[i]))
                revents |= fds[j].revents;
        queue_process(queues[i], revents);
    }
}

static int64_t phase_deadline_ms(const struct reader *reader)
{
    int64_t deadline = -1;

    if (reader->phase == QUIESCE || reader->phase == PENDING || reader->phase == RUNNING)
        deadline = reader->renewing ? -1 : reader->renew_ms;
    if (reader->phase == PENDING || reader->phase == RUNNING) {
        deadline = clock_earlier_ms(deadline, reader->touch_ms);
        deadline = clock_earlier_ms(deadline, delivery_deadline_ms(&reader->delivery));
    }
    if (reader->phase == RUNNING && reader->active) {
        deadline = clock_earlier_ms(deadline, delivery_due_ms(&reader->delivery));
        if (reader->had_room && reader->source->unread.len == 0)
            deadline = clock_earlier_ms(deadline, delivery_search_ms(&reader->delivery));
    }
    if ((reader->phase == DOWN || reader->phase == LEASE) && !reader->asked && wants_redis(reader))
        deadline = clock_earlier_ms(deadline, reader->again_ms);
    /* A stop_deadline_ms in the past is no deadline. */
    if (reader->phase <= LEASE && reader->phase != GROUP && reader->stopped &&
        reader->stop_deadline_ms > clock_monotonic_ms())
        deadline = clock_earlier_ms(deadline, reader->stop_deadline_ms);
    return deadline;
}

int64_t reader_deadline_ms(const struct reader *reader)
{
    int64_t deadline = phase_deadline_ms(reader);

    if (is_broken(reader))
        return 0;
    deadline = clock_earlier_ms(deadline, queue_deadline_ms(reader->queue));
    deadline = clock_earlier_ms(deadline, queue_deadline_ms(reader->source->writer));
    deadline = clock_earlier_ms(deadline, settle_deadline_ms(reader->source->settle));
    if (reader->stopped && reader->reading)
        deadline = clock_earlier_ms(deadline, reader->last_read_ms);
    return deadline;
}

const struct source *reader_source(const struct reader *reader)
{
    return reader->source;
}

bool reader_is_running(const struct reader *reader)
{
    return (reader->phase == RUNNING || reader->phase == PENDING) &&
           reader->source->trouble[0] == '\0';
}

bool reader_is_quiet(const struct reader *reader)
{
    const size_t *entries = reader->source->entries;

    switch (reader->phase) {
    case DOWN:
    case RELEASING:
    case RELEASED:
        return true;
    case LEASE:
        return !reader->asked; /* another host has the lease */
    case CONNECTING:
        return reader->backoff.next_ms > 0; /* Redis was away */
    case GROUP:
    case QUIESCE:
    case PENDING:
        return false;
    case RUNNING:
        return reader->reading && reader->dry && reader->source->unread.len == 0 &&
               load_at_hand(entries) == 0;
    }
    return true;
}

/* How many entries a worker that ends waits for. */
static size_t count_awaited(const struct reader *reader)
{
    const size_t *entries = reader->source->entries;

    return entries[ENTRY_QUEUED] + entries[ENTRY_HANDLING] + entries[ENTRY_CURRENT] +
           entries[ENTRY_GATHERED];
}

bool reader_is_idle(const struct reader *reader, bool without_rows)
{
    const size_t *entries = reader->source->entries;

    return count_awaited(reader) == 0 && (without_rows || entries[ENTRY_FAILING] == 0) &&
           !reader->reading && settle_is_idle(reader->source->settle);
}

bool reader_is_lost(const struct reader *reader, int64_t now_ms)
{
    return reader->stopped && reader->phase <= CONNECTING && now_ms >= reader->stop_deadline_ms &&
           count_awaited(reader) + reader->source->entries[ENTRY_FAILING] == 0;
}
