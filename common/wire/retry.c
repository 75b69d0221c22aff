#include "common/wire/retry.h"

#include "common/wire/envelope.h"
#include "common/wire/json.h"
#include "common/wire/php.h"

#include <math.h>

bool retry_is_allowed(const struct retry_strategy *strategy, int64_t retry_count)
{
    return retry_count < strategy->max_retries;
}

int64_t retry_delay_ms(const struct retry_strategy *strategy, int64_t retry_count, uint64_t random)
{
    double delay = (double)strategy->delay_ms * pow(strategy->multiplier, (double)retry_count);

    /* Symfony draws a whole number of ms from [-spread, spread]. */
    double spread = floor(delay * strategy->jitter);
    double share = (double)(random >> 11) * 0x1p-53; /* [0, 1) */

    if (spread > 0)
        delay += floor(share * (2 * spread + 1)) - spread;
    /* Written with `!`, so that an infinite delay or NaN counts as too long. */
    if (strategy->max_delay_ms > 0 && !(delay <= (double)strategy->max_delay_ms))
        return strategy->max_delay_ms;
    if (!(delay < (double)RETRY_DELAY_MAX_MS))
        return RETRY_DELAY_MAX_MS;
    return delay > 0 ? (int64_t)ceil(delay) : 0;
}

int retry_member_encode(struct buf *member, struct bytes body, struct bytes headers,
                        struct bytes uniqid, struct error *err)
{
    struct buf json = {0};
    int failed = envelope_join(&json, body, headers, false, err);

    if (failed == 0) {
        json.len--; /* removes the closing brace: one more member follows */
        buf_append(&json, BYTES(",\"uniqid\":"));
        if (json_quote_php(&json, uniqid) < 0)
            failed = error_set(err, ERR_FORMAT, "the uniqid is not UTF-8");
        buf_append_char(&json, '}');
    }
    if (failed == 0)
        buf_append(member, buf_bytes(&json));
    buf_free(&json);
    return failed;
}

int retry_member_to_value(struct buf *value, struct bytes member, bool redis_serialized,
                          struct arena *arena)
{
    struct bytes body = json_object_get(member, "body", arena);
    struct bytes headers = json_object_get(member, "headers", arena);
    struct buf json = {0};

    if (!bytes_starts_with(body, BYTES("\"")))
        return -ERR_FORMAT;

    /* Both raw texts are copied: a delay must change nothing in the message. */
    buf_append(&json, BYTES("{\"body\":"));
    buf_append(&json, body);
    buf_append(&json, BYTES(",\"headers\":"));
    buf_append(&json, headers.len > 0 ? headers : BYTES("[]"));
    buf_append_char(&json, '}');
    if (redis_serialized)
        php_write_string(value, buf_bytes(&json));
    else
        buf_append(value, buf_bytes(&json));
    buf_free(&json);
    return 0;
}
