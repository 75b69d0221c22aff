#include "consumer/dispatch/dispatch.h"

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/log.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/param.h>

#define RETRY_MIN_MS 100
#define RETRY_MAX_MS 5000
#define FENCED_MAX   3 /* more FENCED answers in a row count as any other error */
#define HANG_UPS_MAX 3 /* lost connections in a row that show that an append is too large */
/* Larger than a full batch. No server's client-query-buffer-limit can be set lower. */
#define LARGE_APPEND   (1024 * 1024)
#define BATCH_MESSAGES 256
#define MARK_SIZE      40
#define PREVIOUS_MEND                                                                              \
    "; if it is gone for good: [spool] former = redirect (what it already has may come twice)"

enum dispatch_state {
    DISPATCH_WAITING, /* until retry_ms */
    DISPATCH_CONNECTING,
    DISPATCH_READING_MARK,
    DISPATCH_SENDING,
    DISPATCH_FAILING, /* `trouble` says why; batches in flight are answered first */
};

/* Which Redis gets the spool's messages. */
enum dispatch_target {
    TARGET_PRESENT,   /* the transport's */
    TARGET_UNDECIDED, /* an orphan spool: the mark at the transport's Redis will decide */
    TARGET_PREVIOUS,  /* an orphan spool's destination: the transport's Redis has no mark of it */
};

struct batch {
    char next[MARK_SIZE];           /* the mark that the batch sets */
    struct spool_position position; /* position behind the batch's last message */
    size_t count;                   /* entries */
    size_t bytes;
    size_t replayed;  /* number of replayed entries */
    size_t oversized; /* messages in files, without an entry */
    int64_t sent_us;
};

struct dispatch {
    const struct settings *settings;
    const struct settings_transport *transport;
    struct stats_slot *slot;
    struct spool *spool;
    char *destination; /* the destination of the transport's DSN */
    char *previous;    /* an orphan spool's destination, until its queue is made; else NULL */
    enum dispatch_target target;
    struct queue *queue;
    struct envelope_template *template;
    struct queue_batch values;

    enum dispatch_state state;
    int64_t retry_ms;
    struct clock_backoff backoff;
    struct error trouble; /* the first one: FENCED answers or a lost connection follow from it */
    int fenced;           /* FENCED answers in a row */
    struct log_fault fault;
    char reason[STATS_REASON_SIZE];

    struct buf expected_mark; /* the mark that the next batch expects */
    struct buf read_mark;     /* the last one that Redis gave */
    bool mark_is_known;       /* no append was accepted since it was read */
    uint64_t replay_until;    /* records up to here were in Redis once */
    struct dispatch_limit limit;
    struct batch in_flight[DISPATCH_LIMIT_IN_FLIGHT]; /* the oldest first */
    size_t in_flight_len;
    uint64_t one_by_one_until; /* sequence; one of the messages up to it may be too large */
    uint64_t too_large;        /* sequence of a message that was refused alone for its size */
    unsigned hang_ups;         /* upon large appends, since one was accepted */
    char mend[100];            /* what to do about `trouble` */
    struct log_fault damage;
    uint64_t sent; /* messages, since the start */
};

static void note_trouble(struct dispatch *dispatch, const struct error *err)
{
    if (dispatch->state == DISPATCH_FAILING)
        return;
    dispatch->trouble = *err;
    dispatch->mend[0] = '\0';
    dispatch->state = DISPATCH_FAILING;
}

static void mark_healthy(struct dispatch *dispatch)
{
    struct error degraded = {0};

    if (dispatch_limit_is_degraded(&dispatch->limit))
        dispatch_limit_explain(&dispatch->limit, queue_address(dispatch->queue), &degraded);
    snprintf(dispatch->reason, sizeof(dispatch->reason), "%.*s", (int)sizeof(dispatch->reason) - 1,
             degraded.text);
    clock_backoff_reset(&dispatch->backoff);
    dispatch->fenced = 0;
    log_fault_over(&dispatch->fault, LOG_PLAIN, "%s: takes messages again",
                   queue_address(dispatch->queue));
}

/* Fills the reason for the statistics. The text names the destination; a long text is cut, but
 * not the hint behind it. */
static void explain_trouble(struct dispatch *dispatch)
{
    const char *destination = queue_address(dispatch->queue);
    const char *text = dispatch->trouble.text;
    bool previous = dispatch->target == TARGET_PREVIOUS;
    const char *mend = previous ? PREVIOUS_MEND : dispatch->mend;
    bool named = strstr(text, destination) != NULL;
    char why[STATS_REASON_SIZE];

    snprintf(why, sizeof(why) - strlen(mend), "%s%s%s%s", previous ? "the former " : "",
             named ? "" : destination, named ? "" : ": ", text);
    snprintf(dispatch->reason, sizeof(dispatch->reason), "%s%s", why, mend);
}

static void wait_and_retry(struct dispatch *dispatch, int64_t now_ms)
{
    int64_t wait_ms = clock_backoff_next(&dispatch->backoff);

    explain_trouble(dispatch);
    log_fault(&dispatch->fault, LOG_LEVEL_ERROR, LOG_WITH(log_number("retry_ms", wait_ms)),
              "%s; the spool keeps what arrives", dispatch->reason);
    dispatch->state = DISPATCH_WAITING;
    dispatch->retry_ms = now_ms + wait_ms;
}

static const struct {
    enum log_level level;
    const char *text;
} MARK_REPORTS[] = {
    [MARK_IN_STEP] = {LOG_LEVEL_DEBUG, "the mark is where the spool is"},
    [MARK_AHEAD] = {LOG_LEVEL_INFO,
                    "has more than the spool had noted: sending goes on behind the mark"},
    [MARK_BEHIND] = {LOG_LEVEL_NOTICE, "has lost messages that it had taken: sending them again"},
    [MARK_GAP] = {LOG_LEVEL_ERROR,
                  "has lost messages that it had taken: the `missing` are no longer kept ([spool] "
                  "retain) and are lost, sending the others again"},
    [MARK_UNKNOWN_RUN] =
        {LOG_LEVEL_WARNING,
         "the mark is not one that this spool has set (the spool is older than it, "
         "or was made anew): everything kept is sent again, repeats are possible"},
    [MARK_COPIED] = {LOG_LEVEL_INFO,
                     "another process has moved the mark: reading the mark of this copy"},
};

static void report_mark(const struct dispatch *dispatch, const struct mark_result *found,
                        struct bytes mark)
{
    bool nothing = found->kind == MARK_BEHIND && found->replayed == 0;

    log_write(nothing ? LOG_LEVEL_DEBUG : MARK_REPORTS[found->kind].level,
              LOG_WITH(log_bytes("mark", mark), log_number("position", (int64_t)found->position),
                       log_number("replayed", (int64_t)found->replayed),
                       log_number("missing", (int64_t)found->missing)),
              "%s: %s", queue_address(dispatch->queue), MARK_REPORTS[found->kind].text);
    stats_add(dispatch->slot, STATS_SPOOL_GAP, found->missing);
}

static void read_mark(struct dispatch *dispatch);

/* Decides by the transport Redis's mark where the orphan spool's messages go. */
static enum dispatch_target decide_target(struct dispatch *dispatch, struct bytes mark)
{
    if (spool_knows_mark(dispatch->spool, mark)) {
        log_notice(
            LOG_PLAIN,
            "%s: has the mark of the spool that was for %s: what is left in the spool goes there",
            dispatch->destination, dispatch->previous);
        return TARGET_PRESENT;
    }
    if (dispatch->settings->spool.former != SPOOL_FORMER_REDIRECT)
        return TARGET_PREVIOUS;
    log_warning(LOG_PLAIN,
                "[spool] former = redirect: what was stored for %s goes to %s; messages that "
                "the first has already may come twice, with the same X-Mqtt-Id",
                dispatch->previous, dispatch->destination);
    spool_redirect(dispatch->spool);
    return TARGET_PRESENT;
}

/* Moves the spool's positions to the mark. */
static struct mark_result apply_mark(struct dispatch *dispatch, struct bytes mark)
{
    struct spool_state before;

    spool_state(dispatch->spool, &before);
    struct mark_result found = spool_apply_mark(dispatch->spool, mark);
    if (before.committed_sequence >= found.position &&
        before.committed_sequence > dispatch->replay_until)
        dispatch->replay_until = before.committed_sequence;
    if (!dispatch->mark_is_known || !bytes_equal(mark, buf_bytes(&dispatch->read_mark)))
        report_mark(dispatch, &found, mark);
    return found;
}

static void on_mark(void *context, int result, struct bytes mark, const struct error *err)
{
    struct dispatch *dispatch = context;
    struct spool_state after;

    if (result < 0) {
        note_trouble(dispatch, err);
        return;
    }
    if (dispatch->target == TARGET_UNDECIDED) {
        dispatch->target = decide_target(dispatch, mark);
        if (dispatch->target == TARGET_PREVIOUS) {
            dispatch->state = DISPATCH_WAITING; /* go_on connects there, outside this callback */
            dispatch->retry_ms = 0;
            return;
        }
    }
    if (apply_mark(dispatch, mark).kind == MARK_COPIED) {
        read_mark(dispatch);
        return;
    }
    buf_clear(&dispatch->read_mark);
    buf_append(&dispatch->read_mark, mark);
    buf_clear(&dispatch->expected_mark);
    buf_append(&dispatch->expected_mark, mark);
    dispatch->mark_is_known = true;
    dispatch->state = DISPATCH_SENDING;
    spool_state(dispatch->spool, &after);
    if (after.unsent_records == 0)
        mark_healthy(dispatch);
    if (queue_server(dispatch->queue) == NULL)
        queue_ask_server(dispatch->queue);
}

static void read_mark(struct dispatch *dispatch)
{
    dispatch->state = DISPATCH_READING_MARK;
    queue_read_mark(dispatch->queue, spool_mark_id(dispatch->spool), on_mark, dispatch);
}

static void on_connected(void *context, int result, const struct error *err)
{
    struct dispatch *dispatch = context;

    if (result < 0)
        note_trouble(dispatch, err);
    else
        read_mark(dispatch);
}

static int connect_to_previous(struct dispatch *dispatch, struct error *err)
{
    struct queue *queue;
    int result = queue_new_to_append(&queue, dispatch->transport, dispatch->previous, err);

    if (result < 0)
        return result;
    queue_free(dispatch->queue);
    dispatch->queue = queue;
    dispatch_limit_init(&dispatch->limit, queue_timeout_ms(queue));
    free(dispatch->previous);
    dispatch->previous = NULL;
    return 0;
}

static void go_on(struct dispatch *dispatch)
{
    struct error err = {0};

    if (dispatch->target == TARGET_PREVIOUS && dispatch->previous != NULL &&
        connect_to_previous(dispatch, &err) < 0) {
        note_trouble(dispatch, &err);
    } else if (queue_is_connected(dispatch->queue)) {
        read_mark(dispatch);
    } else {
        dispatch->state = DISPATCH_CONNECTING;
        queue_connect(dispatch->queue, on_connected, dispatch);
    }
}

static void deal_with_trouble(struct dispatch *dispatch, int64_t now_ms)
{
    bool connected = queue_is_connected(dispatch->queue);

    if (dispatch->state == DISPATCH_SENDING && !connected)
        note_trouble(dispatch, queue_last_error(dispatch->queue));
    if (dispatch->state != DISPATCH_FAILING || (connected && dispatch->in_flight_len > 0))
        return;
    if (dispatch->trouble.code == ERR_FENCED && connected && dispatch->fenced++ < FENCED_MAX) {
        log_notice(LOG_PLAIN, "%s; reading the mark from Redis", dispatch->trouble.text);
        read_mark(dispatch);
        return;
    }
    wait_and_retry(dispatch, now_ms);
}

/* True if the batch was too large. Redis closes the connection without an answer if a request
 * exceeds its client-query-buffer-limit. */
static bool is_refused_for_its_size(struct dispatch *dispatch, const struct batch *batch,
                                    const struct error *err)
{
    if (err->code == ERR_TOO_LARGE)
        return true;
    if (queue_is_connected(dispatch->queue) || batch->bytes < LARGE_APPEND ||
        ++dispatch->hang_ups < HANG_UPS_MAX)
        return false;
    dispatch->hang_ups = 0;
    return true;
}

static void note_failed_append(struct dispatch *dispatch, const struct batch *batch,
                               const struct error *err)
{
    struct error late;

    stats_add(dispatch->slot, STATS_DISPATCH_ERRORS, 1);
    if (dispatch->state == DISPATCH_FAILING)
        return;
    if (queue_timed_out(dispatch->queue)) {
        dispatch_limit_timed_out(&dispatch->limit, batch->bytes, batch->count);
        dispatch_limit_explain(&dispatch->limit, queue_address(dispatch->queue), &late);
        err = &late;
    }
    bool alone = batch->count + batch->oversized == 1;
    bool too_large = is_refused_for_its_size(dispatch, batch, err);
    bool no_memory = batch->bytes >= LARGE_APPEND && strstr(err->text, "OOM ") != NULL;
    if ((too_large || no_memory) && !alone)
        dispatch->one_by_one_until = batch->position.sequence;
    else if (too_large)
        dispatch->too_large = batch->position.sequence - 1;
    note_trouble(dispatch, err);
    if (no_memory && alone)
        snprintf(
            dispatch->mend, sizeof(dispatch->mend),
            "; if Redis never has room for this one message: [transport:async] max_entry below "
            "%zuK sets it aside",
            batch->bytes / 1024);
}

static void on_appended(void *context, int result, const struct error *err)
{
    struct dispatch *dispatch = context;
    struct batch batch = dispatch->in_flight[0];

    if (dispatch->in_flight_len == 0)
        return; /* called by dispatch_free */
    dispatch->in_flight_len--;
    memmove(dispatch->in_flight, dispatch->in_flight + 1, dispatch->in_flight_len * sizeof(batch));
    if (result < 0) {
        note_failed_append(dispatch, &batch, err);
        return;
    }
    int64_t took_us = clock_monotonic_us() - batch.sent_us;
    dispatch_limit_answered(&dispatch->limit, took_us / 1000);
    spool_commit(dispatch->spool, &batch.position);
    dispatch->mark_is_known = false;
    dispatch->hang_ups = 0;
    if (batch.position.sequence >= dispatch->one_by_one_until)
        dispatch->one_by_one_until = 0;
    dispatch->sent += batch.count + batch.oversized;
    stats_add(dispatch->slot, STATS_DISPATCHED, batch.count);
    stats_add(dispatch->slot, STATS_DISPATCH_REPLAYED, batch.replayed);
    stats_observe(dispatch->slot, STATS_DISPATCH_US, took_us);
    mark_healthy(dispatch);
}

static void send_batch(struct dispatch *dispatch, struct batch *batch)
{
    batch->sent_us = clock_monotonic_us();
    batch->bytes = dispatch->values.resp.len;
    dispatch->in_flight[dispatch->in_flight_len++] = *batch;
    queue_append(dispatch->queue, spool_mark_id(dispatch->spool),
                 buf_bytes(&dispatch->expected_mark), bytes_of(batch->next), &dispatch->values,
                 dispatch->limit.answer_timeout_ms - dispatch->limit.timeout_ms, on_appended,
                 dispatch);
    buf_clear(&dispatch->expected_mark);
    buf_append_text(&dispatch->expected_mark, batch->next);
}

/* Encodes the message into values.value, unless it is too large. */
static bool encode(struct dispatch *dispatch, const struct record *message)
{
    size_t limit = (size_t)dispatch->transport->max_entry;
    char id[64];
    int id_len =
        snprintf(id, sizeof(id), "%s-%" PRIu64, spool_id(dispatch->spool), message->identity);
    struct envelope_message entry = {
        .topic = message->topic,
        .payload = message->payload,
        .id = {id, (size_t)id_len},
        .received_us = message->received_us,
        .qos = message->qos,
        .retained = message->retained,
    };

    if (message->oversized || message->sequence == dispatch->too_large)
        return false;
    buf_clear(&dispatch->values.value);
    return envelope_encode(dispatch->template, &entry, limit, &dispatch->values.value) <= limit;
}

/* Writes the message into a file, for `mqtt-bridge spool`. A repeated attempt finds the file. */
static int set_aside(struct dispatch *dispatch, const struct record *message, struct error *err)
{
    int result = spool_write_oversized(dispatch->spool, message, err);

    if (result == 0) {
        stats_add(dispatch->slot, STATS_DISPATCH_OVERSIZED, 1);
        log_warning(LOG_WITH(log_bytes("topic", message->topic),
                             log_number("bytes", (int64_t)message->payload.len)),
                    "Message \"%.*s\" is too large for Redis ([transport:async] max_entry): it is "
                    "kept as a file, see mqtt-bridge spool",
                    BYTES_ARG(message->topic));
    }
    return result;
}

/* Adds the message to the batch, as an entry or as a file. */
static int add_message(struct dispatch *dispatch, struct batch *batch, const struct record *message,
                       struct error *err)
{
    if (encode(dispatch, message)) {
        queue_batch_add(&dispatch->values);
        batch->count++;
        batch->replayed += message->sequence <= dispatch->replay_until;
    } else {
        if (!message->oversized && set_aside(dispatch, message, err) < 0)
            return -(int)err->code;
        if (message->oversized && message->sequence > dispatch->replay_until)
            stats_add(dispatch->slot, STATS_DISPATCH_OVERSIZED, 1);
        batch->oversized++;
    }
    batch->position = spool_position(dispatch->spool);
    spool_mark_text(message->run, message->sequence, batch->next);
    return 0;
}

static bool has_room(const struct dispatch *dispatch, const struct batch *batch)
{
    size_t messages = batch->count + batch->oversized;

    if (messages > 0 && batch->position.sequence < dispatch->one_by_one_until)
        return false;
    /* At most one file for each append: writing it takes time. */
    return messages < BATCH_MESSAGES && batch->oversized == 0 &&
           dispatch->values.resp.len < dispatch->limit.bytes;
}

/* Fills a batch from the spool and sends it. Returns false if there was nothing to send. */
static bool send_next(struct dispatch *dispatch)
{
    struct batch batch = {0};
    struct record message;
    struct error err;
    int more = 1, added = 0;

    queue_batch_clear(&dispatch->values);
    while (more != 0 && added == 0 && has_room(dispatch, &batch)) {
        more = spool_next(dispatch->spool, &message, &err);
        if (more < 0)
            log_fault(&dispatch->damage, LOG_LEVEL_ERROR, LOG_PLAIN, "%s", err.text);
        if (more > 0)
            added = add_message(dispatch, &batch, &message, &err);
    }
    if (batch.count + batch.oversized > 0)
        send_batch(dispatch, &batch);
    if (added < 0)
        note_trouble(dispatch, &err); /* the message is read again, from the mark on */
    return added == 0 && batch.count + batch.oversized > 0;
}

int dispatch_new(struct dispatch **dispatch, const struct settings *settings,
                 struct stats_slot *slot, struct error *err)
{
    const struct settings_transport *transport = settings_default_transport(settings);
    struct queue *queue;

    int result = queue_new_to_append(&queue, transport, NULL, err);
    if (result < 0)
        return result;
    struct dispatch *made = xcalloc(1, sizeof(*made));
    *made = (struct dispatch){.settings = settings, .transport = transport, .slot = slot};
    made->queue = queue;
    made->backoff = (struct clock_backoff){.minimum_ms = RETRY_MIN_MS, .maximum_ms = RETRY_MAX_MS};
    dispatch_limit_init(&made->limit, queue_timeout_ms(made->queue));
    made->template = queue_envelope_new(made->queue, made->transport);
    made->destination = xstrdup(queue_address(made->queue));
    snprintf(made->reason, sizeof(made->reason), "%s: not connected yet", made->destination);
    *dispatch = made;
    return 0;
}

void dispatch_free(struct dispatch *dispatch)
{
    if (dispatch == NULL)
        return;
    dispatch->in_flight_len = 0;
    queue_free(dispatch->queue);
    envelope_template_free(dispatch->template);
    queue_batch_free(&dispatch->values);
    buf_free(&dispatch->expected_mark);
    buf_free(&dispatch->read_mark);
    free(dispatch->destination);
    free(dispatch->previous);
    free(dispatch);
}

const char *dispatch_destination(const struct dispatch *dispatch)
{
    return dispatch->destination;
}

void dispatch_start(struct dispatch *dispatch, struct spool *spool, const char *destination)
{
    dispatch->spool = spool;
    if (strcmp(destination, dispatch->destination) == 0)
        return;
    dispatch->previous = xstrdup(destination);
    dispatch->target = TARGET_UNDECIDED;
}

struct pollfd dispatch_poll(const struct dispatch *dispatch)
{
    return (struct pollfd){.fd = queue_fd(dispatch->queue),
                           .events = queue_events(dispatch->queue)};
}

int64_t dispatch_deadline_ms(const struct dispatch *dispatch)
{
    return clock_earlier_ms(dispatch->state == DISPATCH_WAITING ? dispatch->retry_ms : -1,
                            queue_deadline_ms(dispatch->queue));
}

void dispatch_process(struct dispatch *dispatch, short revents, int64_t now_ms)
{
    queue_process(dispatch->queue, revents);
    deal_with_trouble(dispatch, now_ms);
    if (dispatch->state == DISPATCH_WAITING && now_ms >= dispatch->retry_ms)
        go_on(dispatch);
    while (dispatch_can_send(dispatch))
        if (!send_next(dispatch))
            break;
    queue_process(dispatch->queue, 0); /* writes the requests to the socket */
    deal_with_trouble(dispatch, now_ms);
}

bool dispatch_can_send(const struct dispatch *dispatch)
{
    return dispatch->state == DISPATCH_SENDING &&
           dispatch->in_flight_len < dispatch_limit_in_flight(&dispatch->limit);
}

bool dispatch_is_done(const struct dispatch *dispatch)
{
    struct spool_state state;

    if (dispatch->state != DISPATCH_SENDING || dispatch->in_flight_len > 0)
        return false;
    spool_state(dispatch->spool, &state);
    return state.unsent_records == 0;
}

struct dispatch_health dispatch_health(const struct dispatch *dispatch)
{
    bool in_trouble = dispatch->fault.standing;

    return (struct dispatch_health){
        .reason = dispatch->reason,
        .connected = dispatch->state == DISPATCH_SENDING && !in_trouble,
        .degraded = dispatch_limit_is_degraded(&dispatch->limit) && !in_trouble,
        .in_trouble = in_trouble,
        .sent = dispatch->sent,
        .server = queue_server(dispatch->queue),
    };
}

static bool is_normal(const struct dispatch_limit *limit)
{
    return limit->bytes == DISPATCH_LIMIT_BYTES && limit->answer_timeout_ms == limit->timeout_ms;
}

void dispatch_limit_init(struct dispatch_limit *limit, int64_t timeout_ms)
{
    *limit = (struct dispatch_limit){
        .timeout_ms = timeout_ms, .answer_timeout_ms = timeout_ms, .bytes = DISPATCH_LIMIT_BYTES};
}

void dispatch_limit_timed_out(struct dispatch_limit *limit, size_t bytes, size_t messages)
{
    limit->late++;
    limit->late_bytes = bytes;
    limit->late_ms = limit->answer_timeout_ms;
    /* The last message of an append may have gone far beyond the limit. */
    if (messages <= 1 || bytes <= DISPATCH_LIMIT_BYTES_MIN ||
        limit->bytes == DISPATCH_LIMIT_BYTES_MIN)
        limit->answer_timeout_ms =
            MIN(limit->answer_timeout_ms * 2, MAX(DISPATCH_LIMIT_TIMEOUT_MAX, limit->timeout_ms));
    limit->bytes =
        (size_t)MAX(MIN((int64_t)bytes, (int64_t)limit->bytes) / 2, DISPATCH_LIMIT_BYTES_MIN);
}

void dispatch_limit_answered(struct dispatch_limit *limit, int64_t took_ms)
{
    size_t more = 0;

    if (took_ms > limit->timeout_ms)
        return;
    limit->answer_timeout_ms = MAX(limit->answer_timeout_ms / 2, limit->timeout_ms);
    if (took_ms <= limit->timeout_ms / 3)
        more = limit->bytes;
    else if (took_ms <= limit->timeout_ms * 2 / 3)
        more = limit->bytes / 8;
    limit->bytes = (size_t)MIN((int64_t)(limit->bytes + more), DISPATCH_LIMIT_BYTES);
    if (is_normal(limit))
        limit->late = 0;
}

size_t dispatch_limit_in_flight(const struct dispatch_limit *limit)
{
    return is_normal(limit) ? DISPATCH_LIMIT_IN_FLIGHT : 1;
}

bool dispatch_limit_is_degraded(const struct dispatch_limit *limit)
{
    return limit->late > 1;
}

void dispatch_limit_explain(const struct dispatch_limit *limit, const char *destination,
                            struct error *err)
{
    error_set(err, ERR_UNREACHABLE,
              "%s: no answer in time to %zu bytes (%" PRId64 " ms)%s; now at most %zu bytes at "
              "once, for %" PRId64 " ms",
              destination, limit->late_bytes, limit->late_ms,
              dispatch_limit_is_degraded(limit)
                  ? ". If the link takes only so much: timeout=SECONDS in the DSN"
                  : "",
              limit->bytes, limit->answer_timeout_ms);
}
