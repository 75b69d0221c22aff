#include "common/wire/envelope.h"

#include "common/wire/base64.h"
#include "common/wire/failed.h"
#include "common/wire/json.h"
#include "common/wire/php.h"
#include "common/wire/stamp_form.h"

#include <string.h>

#define DATE_LEN 19 /* 2026-11-24 10:00:00 */

struct conversion {
    const struct envelope_format *format;
    struct arena *arena;
    enum stamp_class which; /* of the open list */
    struct buf list;        /* the stamps of the open list */
    size_t list_len;        /* 0: none is open */
    struct buf stamps;      /* the closed lists: pairs of PHP's map, or headers */
    size_t stamps_len;
    const char *bad; /* the property that can't be converted */
    enum stamp_class bad_stamp;
};

static bool is_offset(struct bytes zone)
{
    uint64_t number;

    return zone.len == 6 && (zone.data[0] == '+' || zone.data[0] == '-') && zone.data[3] == ':' &&
           bytes_to_u64(bytes_slice(zone, 1, 2), &number) &&
           bytes_to_u64(bytes_slice(zone, 4, 2), &number);
}

static bool is_utc(struct bytes zone)
{
    return zone.len == 0 || bytes_equal_text(zone, "Z") || bytes_equal_text(zone, "UTC") ||
           bytes_equal_text(zone, "+00:00");
}

/* True for a name such as Europe/Berlin. PHP unserializes no time whose zone is unknown to PHP. */
static bool is_zone_name(struct bytes zone)
{
    return bytes_only_holds(zone, "/_+-") && memchr(zone.data, '/', zone.len) != NULL;
}

static bool is_date(struct bytes date)
{
    char text[] = "0000-00-00T00:00:00.000000Z";

    if (date.len != DATE_LEN)
        return false;
    memcpy(text, date.data, DATE_LEN);
    if (text[10] == ' ')
        text[10] = 'T';
    return envelope_time(bytes_of(text)) != 0;
}

/* Reads "2026-11-24 10:00:00.123456" or "2026-11-24T10:00:00+00:00". A zone's name may follow
 * behind a space. */
static bool read_time(struct stamp_value *value, struct bytes text)
{
    struct bytes rest = bytes_slice(text, DATE_LEN, text.len);

    value->text = bytes_slice(text, 0, DATE_LEN);
    if (!is_date(value->text))
        return false;
    if (bytes_starts_with(rest, BYTES("."))) {
        size_t len = 1 + bytes_leading_digits(bytes_slice(rest, 1, rest.len));

        value->fraction = bytes_slice(rest, 0, len < 7 ? len : 7);
        rest = bytes_slice(rest, len, rest.len);
    }
    if (bytes_starts_with(rest, BYTES(" ")))
        rest = bytes_slice(rest, 1, rest.len);
    value->zone = is_utc(rest) ? BYTES_NONE : rest;
    value->is_offset = is_offset(value->zone);
    return value->zone.len == 0 || value->is_offset || is_zone_name(rest);
}

/* Reads the stamp's property `name`; false if the stamp has none of that form. */
static bool read_value(struct stamp_value *value, const struct failed_stamp *stamp,
                       const char *name, enum stamp_form form)
{
    size_t i = 0;

    *value = (struct stamp_value){.form = form};
    if (form == STAMP_FORM_NULL)
        return true;
    while (i < stamp->len && !bytes_equal_text(stamp->properties[i].name, name))
        i++;
    if (i == stamp->len)
        return false;
    enum failed_kind kind = stamp->properties[i].kind;
    if (form == STAMP_FORM_CODE)
        value->form = kind == FAILED_NUMBER ? STAMP_FORM_NUMBER : STAMP_FORM_TEXT;
    value->text = stamp->properties[i].value;
    switch (value->form) {
    case STAMP_FORM_TEXT:
        return kind == FAILED_TEXT;
    case STAMP_FORM_NUMBER:
        return kind == FAILED_NUMBER && json_to_i64(value->text, &value->number) == 0;
    case STAMP_FORM_TIME:
        return (kind == FAILED_TEXT || kind == FAILED_TIME) && read_time(value, value->text);
    case STAMP_FORM_CODE:
    case STAMP_FORM_NULL:
        break;
    }
    return false;
}

static void close_list(struct conversion *conversion)
{
    struct buf name = {0};

    if (conversion->list_len == 0)
        return;
    switch (conversion->format->serializer) {
    case ENVELOPE_PHP:
        php_write_string(&conversion->stamps, STAMPS[conversion->which].class);
        buf_printf(&conversion->stamps, "a:%zu:{", conversion->list_len);
        buf_append(&conversion->stamps, buf_bytes(&conversion->list));
        buf_append_char(&conversion->stamps, '}');
        break;
    case ENVELOPE_JSON:
        buf_append(&name, BYTES(ENVELOPE_STAMP_HEADER));
        buf_append(&name, STAMPS[conversion->which].class);
        buf_append_char(&conversion->list, ']');
        json_member_text(&conversion->stamps, buf_bytes(&name), buf_bytes(&conversion->list));
        break;
    }
    buf_free(&name);
    buf_clear(&conversion->list);
    conversion->list_len = 0;
    conversion->stamps_len++;
}

static void convert_stamp(void *context, const struct failed_stamp *stamp)
{
    struct conversion *conversion = context;
    enum stamp_class which = stamp_class_of(stamp->class);
    struct stamp_value values[STAMP_PROPERTIES_MAX];

    if (which == STAMPS_KNOWN)
        return;
    const struct stamp_property *properties = STAMPS[which].properties;
    for (size_t i = 0; i < STAMP_PROPERTIES_MAX && properties[i].name != NULL; i++)
        if (!read_value(&values[i], stamp, properties[i].name, properties[i].form)) {
            conversion->bad = properties[i].name;
            conversion->bad_stamp = which;
            return;
        }
    if (which != conversion->which)
        close_list(conversion);
    conversion->which = which;
    switch (conversion->format->serializer) {
    case ENVELOPE_PHP:
        php_write_int(&conversion->list, (int64_t)conversion->list_len);
        break;
    case ENVELOPE_JSON:
        buf_append_char(&conversion->list, conversion->list_len == 0 ? '[' : ',');
        break;
    }
    conversion->list_len++;
    stamp_write(&conversion->list, conversion->format->serializer, which, values);
}

static bool is_kept_header(struct bytes name)
{
    static const struct bytes prefix = BYTES(ENVELOPE_STAMP_HEADER);

    if (bytes_starts_with(name, prefix))
        return stamp_class_of(bytes_slice(name, prefix.len, name.len)) == STAMPS_KNOWN;
    return !bytes_equal_text(name, "type") && !bytes_equal_text(name, "Content-Type") &&
           !bytes_equal_text(name, ENVELOPE_HEADER_ENCODING) &&
           !bytes_equal_text(name, ENVELOPE_HEADER_TOPIC);
}

static int append_others(struct buf *out, struct bytes headers, struct arena *arena)
{
    struct json_object object;
    struct bytes name;
    struct bytes raw;
    int more;

    if (json_object_begin(&object, headers, arena) < 0)
        return -ERR_FORMAT;
    while ((more = json_object_next(&object, &name, &raw)) > 0) {
        if (!is_kept_header(name))
            continue;
        json_member(out, name);
        buf_append(out, raw);
    }
    return more;
}

static void write_php_body(struct buf *body, const struct conversion *conversion,
                           const struct envelope *envelope)
{
    const struct envelope_format *format = conversion->format;
    struct buf text = {0};

    php_write_object(&text, BYTES(ENVELOPE_CLASS), 2);
    php_write_string(&text, BYTES("\0" ENVELOPE_CLASS "\0stamps"));
    buf_printf(&text, "a:%zu:{", conversion->stamps_len);
    buf_append(&text, buf_bytes(&conversion->stamps));
    buf_append_char(&text, '}');
    php_write_string(&text, BYTES("\0" ENVELOPE_CLASS "\0message"));
    php_write_object(&text, format->message_class, 2);
    envelope_php_key(&text, format->visibility, format->message_class, "topic");
    php_write_string(&text, envelope->topic);
    envelope_php_key(&text, format->visibility, format->message_class, "payload");
    php_write_string(&text, envelope->payload);
    buf_append(&text, BYTES("}}"));
    envelope_php_body(body, buf_bytes(&text));
    buf_free(&text);
}

/* Appends the headers that tell a reader that payload or topic are in base64. */
static void append_encoding(struct buf *headers, const struct envelope *envelope)
{
    struct buf text = {0};

    if (!bytes_is_utf8(envelope->payload))
        json_member_text(headers, BYTES(ENVELOPE_HEADER_ENCODING), BYTES("base64"));
    if (!bytes_is_utf8(envelope->topic)) {
        base64_encode(&text, envelope->topic);
        json_member_text(headers, BYTES(ENVELOPE_HEADER_TOPIC), buf_bytes(&text));
    }
    buf_free(&text);
}

static void write_json_body(struct buf *body, const struct envelope *envelope)
{
    struct buf payload = {0};

    if (bytes_is_utf8(envelope->payload))
        buf_append(&payload, envelope->payload);
    else
        base64_encode(&payload, envelope->payload);
    buf_append(body, BYTES("{\"topic\":"));
    json_quote_php_mended(body, envelope->topic);
    buf_append(body, BYTES(",\"payload\":"));
    json_quote_php_mended(body, buf_bytes(&payload));
    buf_append_char(body, '}');
    buf_free(&payload);
}

/* Writes the headers with their braces. Without a header that is `[]`, PHP's empty list. */
static int write_headers(struct buf *headers, const struct conversion *conversion,
                         const struct envelope *envelope)
{
    bool is_json = conversion->format->serializer == ENVELOPE_JSON;
    struct buf members = {0};

    if (is_json) {
        json_member_text(&members, BYTES("type"), envelope->message_class);
        if (conversion->stamps.len > 0)
            buf_append_char(&members, ',');
        buf_append(&members, buf_bytes(&conversion->stamps));
        json_member_text(&members, BYTES("Content-Type"), BYTES("application/json"));
    }
    int failed = append_others(&members, envelope->headers, conversion->arena);
    if (is_json)
        append_encoding(&members, envelope);
    buf_append_char(headers, members.len > 0 ? '{' : '[');
    buf_append(headers, buf_bytes(&members));
    buf_append_char(headers, members.len > 0 ? '}' : ']');
    buf_free(&members);
    return failed;
}

static void write_body(struct buf *body, const struct conversion *conversion,
                       const struct envelope *envelope)
{
    switch (conversion->format->serializer) {
    case ENVELOPE_PHP:
        write_php_body(body, conversion, envelope);
        break;
    case ENVELOPE_JSON:
        write_json_body(body, envelope);
        break;
    }
}

/* Decodes the result, to be sure that PHP can read it and that the message has not changed. */
static int read_back(struct envelope *converted, const struct envelope *envelope, struct bytes body,
                     struct bytes headers, struct arena *arena, struct error *err)
{
    struct failed failed;

    failed_read(&failed, arena_copy(arena, body), arena_copy(arena, headers), NULL, NULL, arena);
    *converted = failed.envelope;
    if (failed.is_message && failed.is_readable && bytes_equal(converted->topic, envelope->topic) &&
        bytes_equal(converted->payload, envelope->payload))
        return 0;
    return error_set(err, ERR_FORMAT, "it would not be the same message: %s",
                     failed.is_message ? "its headers are not well-formed" : failed.why.text);
}

static int check_message(const struct envelope *envelope, const struct envelope_format *format,
                         struct error *err)
{
    if (!bytes_equal(envelope->message_class, format->message_class))
        return error_set(err, ERR_FORMAT, "it is a %.*s, and only %.*s can be converted",
                         envelope->message_class.len > 60 ? 60 : (int)envelope->message_class.len,
                         envelope->message_class.data, BYTES_ARG(format->message_class));
    if (envelope->properties != 2)
        return error_set(err, ERR_FORMAT, "its message has not only topic and payload");
    return 0;
}

int envelope_convert(struct envelope *converted, const struct envelope *envelope,
                     const struct envelope_format *format, struct arena *arena, struct error *err)
{
    struct conversion conversion = {.format = format, .arena = arena};
    struct buf body = {0}, headers = {0};
    struct failed failed;
    int result;

    if (check_message(envelope, format, err) < 0)
        return -ERR_FORMAT;
    failed_read(&failed, envelope->body, envelope->headers, convert_stamp, &conversion, arena);
    close_list(&conversion);
    write_body(&body, &conversion, envelope);
    if (!failed.is_readable)
        result = error_set(err, ERR_FORMAT, "its stamps are not well-formed");
    else if (conversion.bad != NULL)
        result =
            error_set(err, ERR_FORMAT, "%s of its %s is not as Symfony writes it", conversion.bad,
                      strrchr(STAMPS[conversion.bad_stamp].class.data, '\\') + 1);
    else if (write_headers(&headers, &conversion, envelope) < 0)
        result = error_set(err, ERR_FORMAT, "its headers are no JSON object");
    else
        result = read_back(converted, envelope, buf_bytes(&body), buf_bytes(&headers), arena, err);
    buf_free(&body);
    buf_free(&headers);
    buf_free(&conversion.list);
    buf_free(&conversion.stamps);
    return result;
}
