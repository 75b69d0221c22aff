/* Batches: from the spool onto the wire, and their answers. */
#include "common/base/clock.h"
#include "consumer/dispatch/dispatch_internal.h"

#include <stdio.h>

#define BATCH_MESSAGES 256

static void note_failed_append(struct dispatch *dispatch, const struct dispatch_batch *batch,
                               const struct error *err)
{
    struct error late;

    stats_add(dispatch->slot, STATS_DISPATCH_ERRORS, 1);
    /* What stands behind the late one ends with it. */
    if (dispatch->trouble.code == ERR_NONE && queue_timed_out(dispatch->queue)) {
        append_limit_timed_out(&dispatch->pace, batch->bytes, batch->count);
        append_limit_explain(&dispatch->pace, queue_place(dispatch->queue), &late);
        err = &late;
    }
    dispatch_note_trouble(dispatch, err);
}

static void on_appended(void *context, int result, const struct error *err)
{
    struct dispatch *dispatch = context;

    if (dispatch->in_flight_len == 0)
        return;
    struct dispatch_batch *batch = &dispatch->in_flight[dispatch->first];
    dispatch->first = (dispatch->first + 1) % APPEND_LIMIT_IN_FLIGHT;
    dispatch->in_flight_len--;
    if (result < 0) {
        note_failed_append(dispatch, batch, err);
        return;
    }
    int64_t took_us = clock_monotonic_us() - batch->sent_us;
    append_limit_answered(&dispatch->pace, took_us / 1000);
    spool_commit(dispatch->spool, &batch->end);
    dispatch->sent += batch->count + batch->oversized;
    stats_add(dispatch->slot, STATS_DISPATCHED, batch->count);
    stats_add(dispatch->slot, STATS_DISPATCH_REPLAYED, batch->replayed);
    stats_add(dispatch->slot, STATS_DISPATCH_OVERSIZED, batch->oversized);
    stats_observe(dispatch->slot, STATS_DISPATCH_US, took_us);
    dispatch_mark_healthy(dispatch);
}

static void send_batch(struct dispatch *dispatch, struct dispatch_batch *batch,
                       const struct spool_message *last)
{
    size_t at = (dispatch->first + dispatch->in_flight_len) % APPEND_LIMIT_IN_FLIGHT;

    batch->sent_us = clock_monotonic_us();
    batch->bytes = dispatch->values.resp.len;
    spool_mark_text(last->run, last->sequence, batch->next);
    dispatch->in_flight[at] = *batch;
    dispatch->in_flight_len++;
    queue_append(dispatch->queue, spool_mark_id(dispatch->spool),
                 buf_bytes(&dispatch->expected_mark), bytes_of(batch->next), &dispatch->values,
                 dispatch->pace.answer_timeout_ms - dispatch->pace.timeout_ms, on_appended,
                 dispatch);
    buf_clear(&dispatch->expected_mark);
    buf_append_text(&dispatch->expected_mark, batch->next);
}

static void encode(struct dispatch *dispatch, const struct spool_message *message)
{
    dispatch_envelope_encode(dispatch->template, spool_id(dispatch->spool), message,
                             &dispatch->values.value);
}

bool dispatch_send_next(struct dispatch *dispatch)
{
    struct dispatch_batch batch = {0};
    struct spool_message message, last = {0};
    struct error err;
    int more = 1;

    queue_batch_clear(&dispatch->values);
    while (more != 0 && batch.count < BATCH_MESSAGES &&
           dispatch->values.resp.len < dispatch->pace.bytes) {
        more = spool_next(dispatch->spool, &message, &err);
        if (more < 0)
            log_fault(&dispatch->damage, LOG_LEVEL_ERROR, LOG_PLAIN, "%s", err.text);
        if (more <= 0)
            continue;
        if (!message.oversized)
            encode(dispatch, &message);
        if (message.oversized ||
            (int64_t)dispatch->values.value.len > dispatch->transport->max_entry) {
            dispatch->oversized_message = message;
            dispatch->oversized_end = spool_position(dispatch->spool);
            break;
        }
        queue_batch_add(&dispatch->values);
        batch.end = spool_position(dispatch->spool);
        batch.count++;
        batch.replayed += message.sequence <= dispatch->replay_until;
        last = message;
    }
    if (batch.count > 0)
        send_batch(dispatch, &batch, &last);
    return batch.count > 0;
}

void dispatch_send_oversized(struct dispatch *dispatch, int64_t now_ms)
{
    struct dispatch_batch batch = {.oversized = 1};

    if (dispatch->in_flight_len > 0)
        return;
    if (!dispatch->oversized_message.oversized &&
        !oversized_is_written(dispatch->oversized, &dispatch->oversized_message)) {
        if (oversized_can_write(dispatch->oversized, now_ms)) {
            encode(dispatch, &dispatch->oversized_message);
            oversized_write(dispatch->oversized, &dispatch->oversized_message,
                            spool_id(dispatch->spool), buf_bytes(&dispatch->values.value), now_ms);
        }
        snprintf(dispatch->reason, sizeof(dispatch->reason), "%s",
                 oversized_reason(dispatch->oversized));
        return;
    }
    queue_batch_clear(&dispatch->values);
    batch.end = dispatch->oversized_end;
    send_batch(dispatch, &batch, &dispatch->oversized_message);
    dispatch->oversized_message.sequence = 0;
}
