#include "consumer/dispatch/append_limit.h"

#include <inttypes.h>

static bool is_normal(const struct append_limit *pace)
{
    return pace->bytes == APPEND_LIMIT_BYTES && pace->answer_timeout_ms == pace->timeout_ms;
}

void append_limit_init(struct append_limit *pace, int64_t timeout_ms)
{
    *pace = (struct append_limit){
        .timeout_ms = timeout_ms, .answer_timeout_ms = timeout_ms, .bytes = APPEND_LIMIT_BYTES};
}

static void be_more_patient(struct append_limit *pace)
{
    int64_t most_ms = APPEND_LIMIT_TIMEOUT_MAX;

    if (most_ms < pace->timeout_ms)
        most_ms = pace->timeout_ms;
    pace->answer_timeout_ms =
        pace->answer_timeout_ms < most_ms / 2 ? pace->answer_timeout_ms * 2 : most_ms;
}

void append_limit_timed_out(struct append_limit *pace, size_t bytes, size_t messages)
{
    pace->late++;
    pace->late_bytes = bytes;
    pace->late_ms = pace->answer_timeout_ms;
    /* The last message of an append may have gone far beyond the limit. */
    if (messages <= 1 || bytes <= APPEND_LIMIT_BYTES_MIN || pace->bytes == APPEND_LIMIT_BYTES_MIN)
        be_more_patient(pace);
    pace->bytes = (bytes < pace->bytes ? bytes : pace->bytes) / 2;
    if (pace->bytes < APPEND_LIMIT_BYTES_MIN)
        pace->bytes = APPEND_LIMIT_BYTES_MIN;
}

static void allow_more(struct append_limit *pace, size_t more)
{
    size_t room = APPEND_LIMIT_BYTES - pace->bytes;

    pace->bytes += more < room ? more : room;
}

void append_limit_answered(struct append_limit *pace, int64_t took_ms)
{
    if (took_ms > pace->timeout_ms)
        return;
    pace->answer_timeout_ms = pace->answer_timeout_ms / 2 > pace->timeout_ms
                                  ? pace->answer_timeout_ms / 2
                                  : pace->timeout_ms;
    if (took_ms <= pace->timeout_ms / 3)
        allow_more(pace, pace->bytes);
    else if (took_ms <= pace->timeout_ms * 2 / 3)
        allow_more(pace, pace->bytes / 8);
    if (is_normal(pace))
        pace->late = 0;
}

size_t append_limit_in_flight(const struct append_limit *pace)
{
    return is_normal(pace) ? APPEND_LIMIT_IN_FLIGHT : 1;
}

bool append_limit_is_degraded(const struct append_limit *pace)
{
    return pace->late > 1;
}

void append_limit_explain(const struct append_limit *pace, const char *place, struct error *err)
{
    error_set(err, ERR_UNREACHABLE,
              "%s: no answer in time to %zu bytes (%" PRId64 " ms). If the link takes only so "
              "much: timeout=SECONDS in the DSN; now at most %zu bytes at once, for %" PRId64 " ms",
              place, pace->late_bytes, pace->late_ms, pace->bytes, pace->answer_timeout_ms);
}
