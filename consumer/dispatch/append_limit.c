#include "consumer/dispatch/append_limit.h"

#include <inttypes.h>
#include <sys/param.h>

static bool is_normal(const struct append_limit *limit)
{
    return limit->bytes == APPEND_LIMIT_BYTES && limit->answer_timeout_ms == limit->timeout_ms;
}

void append_limit_init(struct append_limit *limit, int64_t timeout_ms)
{
    *limit = (struct append_limit){
        .timeout_ms = timeout_ms, .answer_timeout_ms = timeout_ms, .bytes = APPEND_LIMIT_BYTES};
}

void append_limit_timed_out(struct append_limit *limit, size_t bytes, size_t messages)
{
    limit->late++;
    limit->late_bytes = bytes;
    limit->late_ms = limit->answer_timeout_ms;
    /* The last message of an append may have gone far beyond the limit. */
    if (messages <= 1 || bytes <= APPEND_LIMIT_BYTES_MIN || limit->bytes == APPEND_LIMIT_BYTES_MIN)
        limit->answer_timeout_ms =
            MIN(limit->answer_timeout_ms * 2, MAX(APPEND_LIMIT_TIMEOUT_MAX, limit->timeout_ms));
    limit->bytes =
        (size_t)MAX(MIN((int64_t)bytes, (int64_t)limit->bytes) / 2, APPEND_LIMIT_BYTES_MIN);
}

void append_limit_answered(struct append_limit *limit, int64_t took_ms)
{
    size_t more = 0;

    if (took_ms > limit->timeout_ms)
        return;
    limit->answer_timeout_ms = MAX(limit->answer_timeout_ms / 2, limit->timeout_ms);
    if (took_ms <= limit->timeout_ms / 3)
        more = limit->bytes;
    else if (took_ms <= limit->timeout_ms * 2 / 3)
        more = limit->bytes / 8;
    limit->bytes = (size_t)MIN((int64_t)(limit->bytes + more), APPEND_LIMIT_BYTES);
    if (is_normal(limit))
        limit->late = 0;
}

size_t append_limit_in_flight(const struct append_limit *limit)
{
    return is_normal(limit) ? APPEND_LIMIT_IN_FLIGHT : 1;
}

bool append_limit_is_degraded(const struct append_limit *limit)
{
    return limit->late > 1;
}

void append_limit_explain(const struct append_limit *limit, const char *destination,
                          struct error *err)
{
    error_set(err, ERR_UNREACHABLE,
              "%s: no answer in time to %zu bytes (%" PRId64 " ms)%s; now at most %zu bytes at "
              "once, for %" PRId64 " ms",
              destination, limit->late_bytes, limit->late_ms,
              append_limit_is_degraded(limit)
                  ? ". If the link takes only so much: timeout=SECONDS in the DSN"
                  : "",
              limit->bytes, limit->answer_timeout_ms);
}
