#include "common/wire/delayed.h"

#include "common/wire/envelope.h"
#include "common/wire/json.h"
#include "common/wire/php.h"

int delayed_encode(struct buf *member, struct bytes body, struct bytes headers, struct bytes uniqid,
                   struct error *err)
{
    struct buf json = {0};
    int failed = envelope_join(&json, body, headers, false, err);

    if (failed == 0) {
        json.len--; /* the brace goes behind one more member */
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

int delayed_to_value(struct buf *value, struct bytes member, bool redis_serialized,
                     struct arena *arena, struct error *err)
{
    struct bytes body, headers = BYTES("[]");
    struct buf json = {0};

    if (envelope_split(member, "the delayed member", &body, &headers, arena, err) < 0)
        return -ERR_FORMAT;

    /* Both texts as they are: nothing is changed by a delay. */
    buf_append(&json, BYTES("{\"body\":"));
    buf_append(&json, body);
    buf_append(&json, BYTES(",\"headers\":"));
    buf_append(&json, headers);
    buf_append_char(&json, '}');
    if (redis_serialized)
        php_write_string(value, buf_bytes(&json));
    else
        buf_append(value, buf_bytes(&json));
    buf_free(&json);
    return 0;
}
