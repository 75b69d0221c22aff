#include "common/wire/stamp.h"

#include "common/base/clock.h"
#include "common/wire/envelope.h"
#include "common/wire/json.h"

#include <stdlib.h>

#define HISTORY_SIZE      10 /* Symfony's default */
#define UNDECODABLE_TOPIC "$undecodable"

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
    case STAMP_HANDLED:
    case STAMPS_KNOWN:
        break;
    }
    return false;
}

static struct stamp_value value_of_text(struct bytes text)
{
    return (struct stamp_value){.form = STAMP_FORM_TEXT, .text = text};
}

static struct stamp_value value_of_number(int64_t number)
{
    return (struct stamp_value){.form = STAMP_FORM_NUMBER, .number = number};
}

void stamp_write_failure(struct buf *out, enum envelope_serializer serializer,
                         enum stamp_class which, const struct stamp_failure *failure)
{
    struct stamp_value values[STAMP_PROPERTIES_MAX] = {{0}};
    char date[CLOCK_TEXT_SIZE];

    switch (which) {
    case STAMP_MESSAGE_ID:
        values[0] = value_of_text(failure->stream_id);
        break;
    case STAMP_ERROR:
        values[0] = value_of_text(failure->exception_class);
        values[1] = value_of_number(failure->exception_code);
        values[2] = value_of_text(failure->exception_message);
        values[3].form = STAMP_FORM_NULL;
        break;
    case STAMP_SENT:
        values[0] = value_of_text(failure->receiver);
        break;
    case STAMP_DELAY:
        values[0] = value_of_number(failure->delay_ms);
        break;
    case STAMP_REDELIVERY:
        clock_format_us(failure->now_us, date);
        values[0] = value_of_number(failure->retry_count);
        values[1] = (struct stamp_value){.form = STAMP_FORM_TIME,
                                         .text = bytes_slice(bytes_of(date), 0, 19),
                                         .fraction = bytes_slice(bytes_of(date), 19, 7)};
        break;
    case STAMP_CLASSES:
    case STAMP_HANDLED:
    case STAMPS_KNOWN:
        abort();
    }
    stamp_write(out, serializer, which, values);
}

size_t stamp_surplus(enum stamp_class which, const struct stamp_failure *failure, size_t count)
{
    bool limited = which == STAMP_DELAY || which == STAMP_REDELIVERY;

    return limited && failure->receiver.len == 0 && count >= HISTORY_SIZE
               ? count - (HISTORY_SIZE - 1)
               : 0;
}

/* Copies the headers object and sets `name` to `value` at the end. An empty value removes the
 * header. Keys are ASCII or PHP's escapes. */
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
        json_member(out, key);
        buf_append(out, raw);
    }
    if (more < 0)
        return -ERR_FORMAT;
    if (value.len > 0) {
        json_member(out, bytes_of(name));
        if (json_quote_php(out, value) < 0)
            return -ERR_FORMAT;
    }
    buf_append_char(out, '}');
    return 0;
}

/* Copies the headers object and sets `name` to `value`, unless the value is empty. */
static int add_header(struct buf *out, struct bytes headers, const char *name, struct bytes value,
                      struct arena *arena)
{
    if (value.len > 0)
        return set_header(out, headers, name, value, arena);
    buf_append(out, headers);
    return 0;
}

static bool member_is(struct bytes object, const char *name, struct bytes value,
                      struct arena *arena)
{
    struct buf mended = {0};
    struct bytes text;

    json_make_utf8(&mended, value);
    bool same = json_unquote(&text, json_object_get(object, name, arena), arena) == 0 &&
                bytes_equal(text, buf_bytes(&mended));
    buf_free(&mended);
    return same;
}

static bool is_same_error(struct bytes stamp, const struct stamp_failure *failure,
                          struct arena *arena)
{
    int64_t code;

    return member_is(stamp, "exceptionClass", failure->exception_class, arena) &&
           member_is(stamp, "exceptionMessage", failure->exception_message, arena) &&
           json_to_i64(json_object_get(stamp, "exceptionCode", arena), &code) == 0 &&
           code == failure->exception_code;
}

static int find_elements(struct bytes list, size_t *count, struct bytes *first, struct bytes *last)
{
    struct json_array array;
    struct bytes element;
    int more;

    if (json_array_begin(&array, list) < 0)
        return -ERR_FORMAT;
    while ((more = json_array_next(&array, &element)) > 0) {
        *last = element;
        if ((*count)++ == 0)
            *first = element;
    }
    return more;
}

/* Returns the end of the element that is `surplus` positions behind the first. The caller has
 * checked the list. */
static size_t surplus_end(struct bytes list, size_t surplus)
{
    struct json_array array;
    struct bytes element = BYTES_NONE;

    if (json_array_begin(&array, list) < 0)
        abort();
    for (size_t i = 0; i <= surplus; i++)
        if (json_array_next(&array, &element) <= 0)
            abort();
    return (size_t)(element.data + element.len - list.data);
}

/* Writes a header's value with one more stamp. `raw` is a JSON string that holds a list. */
static int extend_list(struct buf *out, struct bytes raw, enum stamp_class which,
                       const struct stamp_failure *failure, struct arena *arena)
{
    struct bytes first = BYTES_NONE;
    struct bytes last = BYTES_NONE;
    struct bytes list;
    struct buf longer = {0};
    size_t count = 0;

    if (json_unquote(&list, raw, arena) < 0 || find_elements(list, &count, &first, &last) < 0)
        return -ERR_FORMAT;
    if (which == STAMP_ERROR && last.len > 0 && is_same_error(last, failure, arena)) {
        buf_append(out, raw);
        return 0;
    }
    /* The old text is copied up to the last element's end, so that the old stamps stay
     * unchanged. */
    if (last.len > 0) {
        size_t end = (size_t)(last.data + last.len - list.data);
        size_t skipped = surplus_end(list, stamp_surplus(which, failure, count));

        buf_append(&longer, bytes_slice(list, 0, (size_t)(first.data + first.len - list.data)));
        buf_append(&longer, bytes_slice(list, skipped, end - skipped));
        buf_append_char(&longer, ',');
    } else {
        buf_append_char(&longer, '[');
    }
    stamp_write_failure(&longer, ENVELOPE_JSON, which, failure);
    buf_append_char(&longer, ']');
    json_quote_php_mended(out, buf_bytes(&longer));
    buf_free(&longer);
    return 0;
}

/* Returns the stamp class of a header; STAMPS_KNOWN for any other header or class. */
static enum stamp_class header_class(struct bytes key)
{
    static const struct bytes prefix = BYTES(ENVELOPE_STAMP_HEADER);

    if (!bytes_starts_with(key, prefix))
        return STAMPS_KNOWN;
    return stamp_class_of(bytes_slice(key, prefix.len, key.len));
}

/* Appends headers for the due stamps whose classes the message does not have yet. */
static void append_new(struct buf *out, const bool present[STAMP_CLASSES],
                       const struct stamp_failure *failure)
{
    struct buf text = {0};

    for (enum stamp_class which = 0; which < STAMP_CLASSES; which++) {
        if (present[which] || !stamp_is_due(which, failure))
            continue;
        buf_clear(&text);
        buf_append(&text, BYTES(ENVELOPE_STAMP_HEADER));
        buf_append(&text, STAMPS[which].class);
        json_member(out, buf_bytes(&text));
        buf_clear(&text);
        buf_append_char(&text, '[');
        stamp_write_failure(&text, ENVELOPE_JSON, which, failure);
        buf_append_char(&text, ']');
        json_quote_php_mended(out, buf_bytes(&text));
    }
    buf_free(&text);
}

/* Finds the present classes, and the member behind which new headers go: the last stamp, else
 * the type. */
static int survey(struct bytes headers, bool present[STAMP_CLASSES], size_t *position,
                  struct arena *arena)
{
    struct json_object object;
    struct bytes key;
    struct bytes raw;
    size_t index = 0;
    int more;

    *position = 0;
    if (json_object_begin(&object, headers, arena) < 0)
        return -ERR_FORMAT;
    while ((more = json_object_next(&object, &key, &raw)) > 0) {
        enum stamp_class which = header_class(key);

        index++;
        if (which < STAMP_CLASSES)
            present[which] = true;
        if (bytes_starts_with(key, BYTES(ENVELOPE_STAMP_HEADER)) ||
            (*position == 0 && bytes_equal_text(key, "type")))
            *position = index;
    }
    return more;
}

/* Writes the headers object with the failure's stamps added. */
static int stamp_json(struct buf *out, struct bytes headers, const struct stamp_failure *failure,
                      struct error *err)
{
    struct arena arena = {0};
    struct json_object object;
    struct bytes key;
    struct bytes raw;
    bool present[STAMP_CLASSES] = {false};
    size_t position;
    size_t index = 0;
    int more = -ERR_FORMAT;

    if (survey(headers, present, &position, &arena) < 0 ||
        json_object_begin(&object, headers, &arena) < 0)
        goto done;
    /* The old message id is removed, and a new one added at the end. */
    present[STAMP_MESSAGE_ID] = false;
    buf_append_char(out, '{');
    if (position == 0)
        append_new(out, present, failure);
    while ((more = json_object_next(&object, &key, &raw)) > 0) {
        enum stamp_class which = header_class(key);
        bool due = which < STAMP_CLASSES && stamp_is_due(which, failure);
        bool goes = which < STAMP_CLASSES && stamp_goes(which, failure);

        if (!goes && (!due || which != STAMP_MESSAGE_ID))
            json_member(out, key);
        if (!due) {
            buf_append(out, goes ? BYTES_NONE : raw);
        } else if (which != STAMP_MESSAGE_ID && extend_list(out, raw, which, failure, &arena) < 0) {
            more = -ERR_FORMAT;
            break;
        }
        if (++index == position)
            append_new(out, present, failure);
    }
    buf_append_char(out, '}');

done:
    arena_free(&arena);
    if (more < 0)
        return error_set(err, ERR_FORMAT, "the stamps in the headers are not well-formed");
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

/* Sets the headers that identify the message and the failed entry. A redriven message names the
 * failed message's id instead of the entry. */
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
        failed = stamp_json(&stamped, envelope->headers, failure, err);
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
    envelope_encode(template, &message, SIZE_MAX, &entry);

    /* The envelope was encoded a few lines above: a failure to decode it is a bug. */
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
