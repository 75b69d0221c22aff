#include "common/wire/stamp.h"

#include "common/wire/envelope.h"
#include "common/wire/json.h"
#include "common/wire/php.h"
#include "common/wire/stamp_body.h"

#include <stdlib.h>

#define HISTORY_SIZE      10 /* Symfony's default */
#define UNDECODABLE_TOPIC "$undecodable"

const struct bytes STAMP_NAMES[STAMP_CLASSES] = {
    [STAMP_MESSAGE_ID] = BYTES(ENVELOPE_STAMP_CLASS("TransportMessageIdStamp")),
    [STAMP_ERROR] = BYTES(ENVELOPE_STAMP_CLASS("ErrorDetailsStamp")),
    [STAMP_SENT] = BYTES(ENVELOPE_STAMP_CLASS("SentToFailureTransportStamp")),
    [STAMP_DELAY] = BYTES(ENVELOPE_STAMP_CLASS("DelayStamp")),
    [STAMP_REDELIVERY] = BYTES(ENVELOPE_STAMP_CLASS("RedeliveryStamp")),
};

enum stamp_class stamp_class_of(struct bytes name)
{
    enum stamp_class which = 0;

    while (which < STAMP_CLASSES && !bytes_equal(name, STAMP_NAMES[which]))
        which++;
    return which;
}

bool stamp_goes(enum stamp_class which, const struct stamp_failure *failure)
{
    return which == STAMP_SENT && failure->redriven.len > 0;
}

bool stamp_is_due(enum stamp_class which, const struct stamp_failure *failure)
{
    if (failure->redriven.len > 0)
        return which == STAMP_REDELIVERY;
    switch (which) {
    case STAMP_MESSAGE_ID:
        return failure->stream_id.len > 0;
    case STAMP_SENT:
        return failure->receiver.len > 0;
    case STAMP_ERROR:
    case STAMP_DELAY:
    case STAMP_REDELIVERY:
        return true;
    case STAMP_CLASSES:
        break;
    }
    return false;
}

size_t stamp_surplus(enum stamp_class which, const struct stamp_failure *failure, size_t count)
{
    bool limited = which == STAMP_DELAY || which == STAMP_REDELIVERY;

    return limited && failure->receiver.len == 0 && count >= HISTORY_SIZE
               ? count - (HISTORY_SIZE - 1)
               : 0;
}

/* The name of an object's member, behind the members before it. */
static int append_name(struct buf *out, struct bytes name)
{
    if (out->data[out->len - 1] != '{')
        buf_append_char(out, ',');
    if (json_quote_php(out, name) < 0)
        return -ERR_FORMAT;
    buf_append_char(out, ':');
    return 0;
}

/* A copy of the headers object in which `name` is `value`, at the end; empty: in which it is not. Keys are ASCII or
 * PHP's escapes. */
static int set_header(struct buf *out, struct bytes headers, const char *name, struct bytes value,
                      struct arena *arena)
{
    struct json_object object;
    struct bytes key;
    struct bytes raw;
    int more;

    if (json_object_begin(&object, headers, arena) < 0)
        return -ERR_FORMAT;
    buf_append_char(out, '{');
    while ((more = json_object_next(&object, &key, &raw)) > 0) {
        if (bytes_equal_text(key, name))
            continue;
        if (append_name(out, key) < 0)
            return -ERR_FORMAT;
        buf_append(out, raw);
    }
    if (more < 0)
        return -ERR_FORMAT;
    if (value.len > 0 && (append_name(out, bytes_of(name)) < 0 || json_quote_php(out, value) < 0))
        return -ERR_FORMAT;
    buf_append_char(out, '}');
    return 0;
}

/* The same, but for an empty value. */
static int add_header(struct buf *out, struct bytes headers, const char *name, struct bytes value,
                      struct arena *arena)
{
    if (value.len > 0)
        return set_header(out, headers, name, value, arena);
    buf_append(out, headers);
    return 0;
}

static int stamp_php(struct buf *body, const struct envelope *envelope,
                     const struct stamp_failure *failure, struct arena *arena, struct error *err)
{
    struct buf serialized = {0};
    struct bytes text;
    int failed;

    if (envelope_php_text(&text, envelope->body, arena) < 0)
        return error_set(err, ERR_FORMAT, "the body is neither serialized nor base64");
    failed = stamp_php_text(&serialized, text, failure, err);
    if (failed == 0)
        envelope_php_body(body, buf_bytes(&serialized));
    buf_free(&serialized);
    return failed;
}

/* The headers that say which message this is, and which entry. */
static int name_headers(struct buf *headers, struct bytes stamped, const struct envelope *envelope,
                        const struct stamp_failure *failure, struct arena *arena)
{
    bool redriven = failure->redriven.len > 0;
    const char *last = redriven ? ENVELOPE_HEADER_REDRIVEN : ENVELOPE_HEADER_ENTRY;
    struct buf named = {0};
    int failed;

    if (redriven)
        failed = set_header(&named, stamped, ENVELOPE_HEADER_ENTRY, BYTES_NONE, arena);
    else
        failed = add_header(&named, stamped, ENVELOPE_HEADER_ID,
                            envelope->mqtt_id.len == 0 ? failure->identity : BYTES_NONE, arena);
    if (failed == 0)
        failed = add_header(headers, buf_bytes(&named), last,
                            redriven ? failure->redriven : failure->entry, arena);
    buf_free(&named);
    return failed;
}

int stamp_failure(struct buf *body, struct buf *headers, const struct envelope *envelope,
                  const struct stamp_failure *failure, struct error *err)
{
    struct arena arena = {0};
    struct buf stamped = {0};
    int failed = 0;

    buf_clear(body);
    buf_clear(headers);
    switch (envelope->serializer) {
    case ENVELOPE_PHP:
        failed = stamp_php(body, envelope, failure, &arena, err);
        buf_append(&stamped, envelope->headers);
        break;
    case ENVELOPE_JSON:
        failed = stamp_json_headers(&stamped, envelope->headers, failure, err);
        buf_append(body, envelope->body);
        break;
    }
    if (failed == 0 && name_headers(headers, buf_bytes(&stamped), envelope, failure, &arena) < 0)
        failed = error_set(err, ERR_FORMAT, "the headers are no JSON object");
    buf_free(&stamped);
    arena_free(&arena);
    return failed;
}

int stamp_redriven(struct buf *body, struct buf *headers, const struct envelope *envelope,
                   struct bytes failed_id, int64_t now_us, struct error *err)
{
    const struct stamp_failure failure = {.now_us = now_us, .redriven = failed_id};

    return stamp_failure(body, headers, envelope, &failure, err);
}

void stamp_undecodable(struct buf *body, struct buf *headers, const struct envelope_format *format,
                       struct bytes value, const struct stamp_failure *failure)
{
    struct envelope_message message = {.topic = BYTES(UNDECODABLE_TOPIC), .payload = value};
    struct bytes form =
        envelope_fields_is_list(value) ? BYTES(ENVELOPE_RAW_FIELDS) : BYTES(ENVELOPE_RAW_MESSAGE);
    struct envelope_format plain = *format;
    struct envelope_template *template;
    struct arena arena = {0};
    struct buf entry = {0};
    struct buf marked = {0};
    struct envelope envelope;

    plain.redis_serialized = false;
    plain.metadata_headers = false;
    template = envelope_template_new(&plain);
    envelope_encode(template, &message, &entry);

    /* What was just written can be read, or this program is wrong. */
    if (envelope_decode(&envelope, buf_bytes(&entry), &arena, NULL) < 0 ||
        set_header(&marked, envelope.headers, ENVELOPE_HEADER_RAW, form, &arena) < 0)
        abort();
    envelope.headers = buf_bytes(&marked);
    if (stamp_failure(body, headers, &envelope, failure, NULL) < 0)
        abort();

    envelope_template_free(template);
    buf_free(&entry);
    buf_free(&marked);
    arena_free(&arena);
}
