#include "consumer/dispatch_pace.h"

#include <inttypes.h>

static bool is_normal(const struct dispatch_pace *pace)
{
    return pace->bytes == DISPATCH_PACE_BYTES && pace->patience_ms == pace->timeout_ms;
}

void dispatch_pace_init(struct dispatch_pace *pace, int64_t timeout_ms)
{
    *pace = (struct dispatch_pace){
        .timeout_ms = timeout_ms, .patience_ms = timeout_ms, .bytes = DISPATCH_PACE_BYTES};
}

static void be_more_patient(struct dispatch_pace *pace)
{
    int64_t most_ms = DISPATCH_PACE_PATIENCE_MAX;

    if (most_ms < pace->timeout_ms)
        most_ms = pace->timeout_ms;
    pace->patience_ms = pace->patience_ms < most_ms / 2 ? pace->patience_ms * 2 : most_ms;
}

void dispatch_pace_timed_out(struct dispatch_pace *pace, size_t bytes, size_t messages)
{
    pace->late++;
    pace->late_bytes = bytes;
    pace->late_ms = pace->patience_ms;
    /* The last message of an append may have gone far beyond the limit. */
    if (messages <= 1 || bytes <= DISPATCH_PACE_BYTES_MIN || pace->bytes == DISPATCH_PACE_BYTES_MIN)
        be_more_patient(pace);
    pace->bytes = (bytes < pace->bytes ? bytes : pace->bytes) / 2;
    if (pace->bytes < DISPATCH_PACE_BYTES_MIN)
        pace->bytes = DISPATCH_PACE_BYTES_MIN;
}

static void allow_more(struct dispatch_pace *pace, size_t more)
{
    size_t room = DISPATCH_PACE_BYTES - pace->bytes;

    pace->bytes += more < room ? more : room;
}

void dispatch_pace_answered(struct dispatch_pace *pace, int64_t took_ms)
{
    if (took_ms > pace->timeout_ms)
        return;
    pace->patience_ms =
        pace->patience_ms / 2 > pace->timeout_ms ? pace->patience_ms / 2 : pace->timeout_ms;
    if (took_ms <= pace->timeout_ms / 3)
        allow_more(pace, pace->bytes);
    else if (took_ms <= pace->timeout_ms * 2 / 3)
        allow_more(pace, pace->bytes / 8);
    if (is_normal(pace))
        pace->late = 0;
}

size_t dispatch_pace_under_way(const struct dispatch_pace *pace)
{
    return is_normal(pace) ? DISPATCH_PACE_UNDER_WAY : 1;
}

bool dispatch_pace_is_strained(const struct dispatch_pace *pace)
{
    return pace->late > 1;
}

void dispatch_pace_explain(const struct dispatch_pace *pace, const char *place, struct error *err)
{
    error_set(err, ERR_UNREACHABLE,
              "%s: no answer in time to %zu bytes (%" PRId64 " ms). If the link takes only so "
              "much: timeout=SECONDS in the DSN; now at most %zu bytes at once, for %" PRId64 " ms",
              place, pace->late_bytes, pace->late_ms, pace->bytes, pace->patience_ms);
}
