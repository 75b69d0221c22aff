#include "consumer/dispatch/oversized.h"

#include "common/base/alloc.h"
#include "common/base/backoff.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/stats.h"
#include "common/client/failure.h"
#include "common/wire/stamp.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

struct oversized {
    const struct settings_failure *settings;
    struct failure *failure; /* NULL until the first one */
    uint64_t writing;        /* sequence under way; 0: none */
    uint64_t written;        /* sequence of the last one that is committed */
    int64_t retry_ms;
    struct backoff backoff;
    struct log_fault fault;
    char reason[STATS_REASON_SIZE];
};

struct oversized *oversized_new(const struct settings *settings)
{
    struct oversized *made = xcalloc(1, sizeof(*made));

    *made = (struct oversized){.settings = &settings->failure,
                               .backoff = {.minimum_ms = 1000, .maximum_ms = 30000}};
    return made;
}

void oversized_free(struct oversized *oversized)
{
    if (oversized == NULL)
        return;
    if (oversized->failure != NULL)
        failure_free(oversized->failure);
    free(oversized);
}

static void wait_and_retry(struct oversized *oversized, const struct error *err, int64_t now_ms)
{
    oversized->retry_ms = now_ms + backoff_next(&oversized->backoff);
    snprintf(oversized->reason, sizeof(oversized->reason),
             "a message too large for Redis waits for the failure transport: %.100s", err->text);
    log_fault(&oversized->fault, LOG_LEVEL_ERROR, LOG_PLAIN, "%s", oversized->reason);
}

static void on_written(void *context, int result, const struct error *err)
{
    struct oversized *oversized = context;
    uint64_t sequence = oversized->writing;

    oversized->writing = 0;
    if (result < 0) {
        wait_and_retry(oversized, err, clock_monotonic_ms());
        return;
    }
    oversized->written = sequence;
    oversized->reason[0] = '\0';
    backoff_reset(&oversized->backoff);
    log_fault_over(&oversized->fault, LOG_PLAIN, "the failure transport takes messages again");
}

static int write_row(struct oversized *oversized, const struct spool_message *message,
                     struct bytes value, struct bytes id, struct error *err)
{
    struct arena arena = {0};
    struct buf body = {0}, headers = {0};
    struct envelope envelope;
    char why[120];
    int why_len =
        snprintf(why, sizeof(why),
                 "The entry of %zu bytes is larger than max_entry of the transport.", value.len);
    struct stamp_failure stamps = {
        .exception_class = BYTES("LengthException"),
        .exception_message = {why, (size_t)why_len},
        .now_us = clock_wall_us(),
        .receiver = BYTES("async"),
        .entry = id,
    };
    int result = envelope_decode(&envelope, value, &arena, err);

    if (result == 0)
        result = stamp_failure(&body, &headers, &envelope, &stamps, err);
    if (result == 0) {
        struct failure_row row = {.body = buf_bytes(&body),
                                  .headers = buf_bytes(&headers),
                                  .look_for = id,
                                  .entry_us = message->received_us};
        failure_write(oversized->failure, &row, on_written, oversized);
    }
    buf_free(&body);
    buf_free(&headers);
    arena_free(&arena);
    return result;
}

bool oversized_is_written(const struct oversized *oversized, const struct spool_message *message)
{
    return oversized->written == message->sequence;
}

bool oversized_can_write(const struct oversized *oversized, int64_t now_ms)
{
    return oversized->writing == 0 && now_ms >= oversized->retry_ms;
}

void oversized_write(struct oversized *oversized, const struct spool_message *message,
                     const char *spool_id, struct bytes value, int64_t now_ms)
{
    struct error err = {0};
    char id[64];
    int result = 0;

    if (oversized->failure == NULL)
        result = failure_new(&oversized->failure, oversized->settings, &err);
    if (result == 0) {
        int id_len = snprintf(id, sizeof(id), "%s-%" PRIu64, spool_id, message->identity);

        log_warning(LOG_WITH(log_bytes("topic", message->topic),
                             log_number("bytes", (int64_t)message->payload.len),
                             log_number("entry_bytes", (int64_t)value.len)),
                    "Message \"%.*s\" is too large for Redis: to the failure transport",
                    BYTES_ARG(message->topic));
        oversized->writing = message->sequence;
        result = write_row(oversized, message, value, (struct bytes){id, (size_t)id_len}, &err);
    }
    if (result < 0) {
        oversized->writing = 0;
        wait_and_retry(oversized, &err, now_ms);
    }
}

const char *oversized_reason(const struct oversized *oversized)
{
    return oversized->reason;
}

void oversized_poll(const struct oversized *oversized, struct pollfd *fd)
{
    *fd = (struct pollfd){.fd = -1};
    if (oversized->failure == NULL)
        return;
    fd->fd = failure_fd(oversized->failure);
    if (fd->fd >= 0)
        fd->events = failure_events(oversized->failure);
}

int64_t oversized_deadline_ms(const struct oversized *oversized)
{
    if (oversized->writing == 0)
        return oversized->retry_ms;
    return oversized->failure != NULL ? failure_deadline_ms(oversized->failure) : -1;
}

void oversized_process(struct oversized *oversized)
{
    if (oversized->failure != NULL)
        failure_process(oversized->failure);
}
