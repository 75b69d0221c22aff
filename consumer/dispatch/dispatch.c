#include "consumer/dispatch/dispatch_internal.h"

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "consumer/dispatch/mark_report.h"
#include "consumer/dispatch/previous_destination.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RETRY_MIN_MS 100
#define RETRY_MAX_MS 5000
#define FENCED_MAX   3 /* in a row without a success: then as any other error */

static void begin_mark(struct dispatch *dispatch);

/* Trouble -------------------------------------------------------------------------------------- */

void dispatch_note_trouble(struct dispatch *dispatch, const struct error *err)
{
    if (dispatch->trouble.code == ERR_NONE)
        dispatch->trouble = *err;
}

static void wait_and_retry(struct dispatch *dispatch, int64_t now_ms)
{
    int64_t wait_ms = backoff_next(&dispatch->backoff);

    if (dispatch->former != NULL)
        previous_destination_reason(dispatch->reason, sizeof(dispatch->reason), dispatch->former,
                                    &dispatch->trouble);
    else
        snprintf(dispatch->reason, sizeof(dispatch->reason), "%.*s",
                 (int)sizeof(dispatch->reason) - 1, dispatch->trouble.text);
    log_fault(&dispatch->fault, LOG_LEVEL_ERROR, LOG_WITH(log_number("retry_ms", wait_ms)),
              "%s; the spool keeps what arrives",
              dispatch->former != NULL ? dispatch->reason : dispatch->trouble.text);
    queue_disconnect(dispatch->queue); /* outstanding answers come now, as errors */
    dispatch->in_flight_len = 0;
    dispatch->oversized_message.sequence = 0;
    dispatch->trouble = (struct error){0};
    dispatch->state = DISPATCH_WAITING;
    dispatch->retry_ms = now_ms + wait_ms;
}

static void deal_with_trouble(struct dispatch *dispatch, int64_t now_ms)
{
    if (dispatch->trouble.code == ERR_NONE && dispatch->state == DISPATCH_RUNNING &&
        !queue_is_connected(dispatch->queue))
        dispatch_note_trouble(dispatch, queue_last_error(dispatch->queue));
    if (dispatch->trouble.code == ERR_NONE)
        return;
    if (dispatch->trouble.code != ERR_FENCED || !queue_is_connected(dispatch->queue)) {
        wait_and_retry(dispatch, now_ms);
        return;
    }
    /* The batches behind it are fenced too: their answers first, then one look at the mark. */
    if (dispatch->in_flight_len > 0)
        return;
    if (++dispatch->fenced > FENCED_MAX) {
        wait_and_retry(dispatch, now_ms);
        return;
    }
    log_notice(LOG_PLAIN, "%s; reading it again", dispatch->trouble.text);
    dispatch->trouble = (struct error){0};
    dispatch->oversized_message.sequence = 0;
    begin_mark(dispatch);
}

void dispatch_mark_healthy(struct dispatch *dispatch)
{
    struct error slow = {0};

    if (append_limit_is_degraded(&dispatch->pace))
        append_limit_explain(&dispatch->pace, queue_place(dispatch->queue), &slow);
    snprintf(dispatch->reason, sizeof(dispatch->reason), "%.*s", (int)sizeof(dispatch->reason) - 1,
             slow.text);
    backoff_reset(&dispatch->backoff);
    dispatch->fenced = 0;
    log_fault_over(&dispatch->fault, LOG_PLAIN, "%s: takes messages again",
                   queue_place(dispatch->queue));
}

/* The mark ------------------------------------------------------------------------------------- */

static void on_server(void *context, int result, const struct queue_server *server,
                      const struct error *err)
{
    struct dispatch *dispatch = context;

    (void)err; /* the connection's end, which is dealt with elsewhere */
    if (result < 0)
        return;
    dispatch->server = *server;
    dispatch->server_known = true;
}

/* Where appends have failed it takes messages only when it has taken one; unless none is left, as where what
 * was given up arrived all the same. */
static bool is_well_with_the_mark(const struct dispatch *dispatch)
{
    struct spool_state state;

    spool_state(dispatch->spool, &state);
    return state.unsent_records == 0 ||
           (dispatch->fenced == 0 && !append_limit_is_degraded(&dispatch->pace));
}

static void on_mark(void *context, int result, struct bytes mark, const struct error *err)
{
    struct dispatch *dispatch = context;
    struct spool_state before;

    if (result < 0) {
        dispatch_note_trouble(dispatch, err);
        return;
    }
    spool_state(dispatch->spool, &before);
    uint64_t committed = before.committed_sequence;
    struct mark_result rewound = spool_apply_mark(dispatch->spool, mark);
    if (committed >= rewound.position && committed > dispatch->replay_until)
        dispatch->replay_until = committed;
    buf_clear(&dispatch->expected_mark);
    buf_append(&dispatch->expected_mark, mark);
    mark_report(&rewound, mark, queue_place(dispatch->queue));
    if (rewound.kind == MARK_GAP)
        stats_add(dispatch->slot, STATS_SPOOL_GAP, rewound.missing);
    if (rewound.kind == MARK_COPIED) {
        begin_mark(dispatch);
        return;
    }
    dispatch->state = DISPATCH_RUNNING;
    if (is_well_with_the_mark(dispatch))
        dispatch_mark_healthy(dispatch);
    if (!dispatch->server_known)
        queue_read_server(dispatch->queue, on_server, dispatch);
}

static void begin_mark(struct dispatch *dispatch)
{
    dispatch->state = DISPATCH_CONNECTING;
    queue_read_mark(dispatch->queue, spool_mark_id(dispatch->spool), on_mark, dispatch);
}

static void on_connected(void *context, int result, const struct error *err)
{
    struct dispatch *dispatch = context;

    if (result < 0)
        dispatch_note_trouble(dispatch, err);
    else
        begin_mark(dispatch);
}

/* The destination ------------------------------------------------------------------------------- */

bool dispatch_is_at(const struct dispatch *dispatch, const char *destination)
{
    return strcmp(destination, queue_place(dispatch->queue)) == 0;
}

/* A changed DSN: what was stored under the former one still goes there, and first. */
static int turn_to_destination(struct dispatch *dispatch, struct error *err)
{
    const char *destination = spool_destination(dispatch->spool);
    struct queue *queue;
    int result;

    if (strcmp(dispatch->settings->spool.former, "redirect") == 0)
        destination = dispatch->place;
    if (dispatch_is_at(dispatch, destination))
        return 0;
    free(dispatch->former);
    dispatch->former = NULL;
    if (strcmp(destination, dispatch->place) == 0) {
        result = queue_new(&queue, dispatch->transport, err);
    } else {
        dispatch->former = xstrdup(destination);
        result = previous_destination_queue_new(&queue, dispatch->transport, dispatch->former, err);
    }
    if (result == 0) {
        queue_free(dispatch->queue);
        dispatch->queue = queue;
        append_limit_init(&dispatch->pace, queue_timeout_ms(queue));
    }
    return result;
}

static void connect_now(struct dispatch *dispatch)
{
    struct error err = {0};

    dispatch->state = DISPATCH_CONNECTING;
    if (turn_to_destination(dispatch, &err) < 0)
        dispatch_note_trouble(dispatch, &err);
    else
        queue_connect(dispatch->queue, on_connected, dispatch);
}

/* The caller's ---------------------------------------------------------------------------------- */

int dispatch_new(struct dispatch **dispatch, const struct settings *settings,
                 struct stats_slot *slot, struct error *err)
{
    struct dispatch *made = xcalloc(1, sizeof(*made));

    *made = (struct dispatch){.settings = settings, .slot = slot};
    made->transport = settings_transport(settings, BYTES("async"));
    made->backoff = (struct backoff){.minimum_ms = RETRY_MIN_MS, .maximum_ms = RETRY_MAX_MS};
    if (made->transport == NULL) {
        free(made);
        return error_set(err, ERR_USAGE, "there is no [transport:async]");
    }
    int result = queue_new(&made->queue, made->transport, err);
    if (result < 0) {
        free(made);
        return result;
    }
    append_limit_init(&made->pace, queue_timeout_ms(made->queue));
    made->template = dispatch_envelope_new(made->transport, queue_dsn(made->queue));
    made->oversized = oversized_new(settings);
    made->place = xstrdup(queue_place(made->queue));
    snprintf(made->reason, sizeof(made->reason), "%s: not connected yet", queue_place(made->queue));
    *dispatch = made;
    return 0;
}

void dispatch_free(struct dispatch *dispatch)
{
    if (dispatch == NULL)
        return;
    dispatch->in_flight_len = 0;
    queue_free(dispatch->queue);
    oversized_free(dispatch->oversized);
    envelope_template_free(dispatch->template);
    queue_batch_free(&dispatch->values);
    buf_free(&dispatch->expected_mark);
    free(dispatch->place);
    free(dispatch->former);
    free(dispatch);
}

const char *dispatch_place(const struct dispatch *dispatch)
{
    return dispatch->place;
}

void dispatch_start(struct dispatch *dispatch, struct spool *spool)
{
    dispatch->spool = spool;
    dispatch->state = DISPATCH_WAITING;
    dispatch->retry_ms = clock_monotonic_ms();
    if (strcmp(dispatch->settings->spool.former, "redirect") == 0 &&
        strcmp(spool_destination(spool), dispatch->place) != 0)
        previous_destination_redirect(spool, dispatch->place);
}

void dispatch_poll(const struct dispatch *dispatch, struct pollfd fds[DISPATCH_POLL_FDS])
{
    fds[0] = (struct pollfd){.fd = queue_fd(dispatch->queue)};
    if (fds[0].fd >= 0)
        fds[0].events = queue_events(dispatch->queue);
    oversized_poll(dispatch->oversized, &fds[1]);
}

int64_t dispatch_deadline_ms(const struct dispatch *dispatch)
{
    int64_t own_ms = dispatch->state == DISPATCH_WAITING ? dispatch->retry_ms : -1;

    if (dispatch->oversized_message.sequence != 0 && dispatch->in_flight_len == 0)
        own_ms = clock_earlier_ms(own_ms, oversized_deadline_ms(dispatch->oversized));
    return clock_earlier_ms(own_ms, queue_deadline_ms(dispatch->queue));
}

void dispatch_process(struct dispatch *dispatch, const struct pollfd fds[DISPATCH_POLL_FDS],
                      int64_t now_ms)
{
    queue_process(dispatch->queue, fds[0].revents);
    oversized_process(dispatch->oversized);
    deal_with_trouble(dispatch, now_ms);
    if (dispatch->state == DISPATCH_WAITING && now_ms >= dispatch->retry_ms) {
        connect_now(dispatch);
        deal_with_trouble(dispatch, now_ms);
    }
    if (dispatch->trouble.code != ERR_NONE)
        return;
    while (dispatch->state == DISPATCH_RUNNING && dispatch->oversized_message.sequence == 0 &&
           dispatch->in_flight_len < append_limit_in_flight(&dispatch->pace))
        if (!dispatch_send_next(dispatch))
            break;
    if (dispatch->state == DISPATCH_RUNNING && dispatch->oversized_message.sequence != 0)
        dispatch_send_oversized(dispatch, now_ms);
    queue_process(dispatch->queue, 0); /* what was sent goes out now */
    deal_with_trouble(dispatch, now_ms);
}

bool dispatch_can_send(const struct dispatch *dispatch)
{
    return dispatch->state == DISPATCH_RUNNING &&
           dispatch->in_flight_len < append_limit_in_flight(&dispatch->pace) &&
           dispatch->oversized_message.sequence == 0 && dispatch->trouble.code == ERR_NONE;
}

bool dispatch_is_done(const struct dispatch *dispatch)
{
    struct spool_state state;

    if (dispatch->state != DISPATCH_RUNNING || dispatch->in_flight_len > 0 ||
        dispatch->oversized_message.sequence != 0)
        return false;
    spool_state(dispatch->spool, &state);
    return state.unsent_records == 0;
}

uint64_t dispatch_sent(const struct dispatch *dispatch)
{
    return dispatch->sent;
}

const char *dispatch_reason(const struct dispatch *dispatch)
{
    return dispatch->reason;
}

bool dispatch_is_connected(const struct dispatch *dispatch)
{
    return dispatch->state == DISPATCH_RUNNING;
}

bool dispatch_is_slow(const struct dispatch *dispatch)
{
    return append_limit_is_degraded(&dispatch->pace) && !dispatch_is_in_trouble(dispatch) &&
           dispatch->oversized_message.sequence == 0;
}

bool dispatch_is_in_trouble(const struct dispatch *dispatch)
{
    return dispatch->fault.standing;
}

const struct queue_server *dispatch_server(const struct dispatch *dispatch)
{
    return dispatch->server_known ? &dispatch->server : NULL;
}

int64_t dispatch_stream_max_entries(const struct dispatch *dispatch)
{
    return queue_dsn(dispatch->queue)->stream_max_entries;
}
