#include "common/wire/failed.h"

#include "common/wire/envelope.h"
#include "common/wire/json.h"
#include "common/wire/php.h"

#include <string.h>

static const struct bytes NESTED = BYTES("\xE2\x80\xA6");

struct reading {
    struct failed *failed;
    failed_visit *visit;
    void *context;
    struct arena *arena;
};

static struct bytes property_of(const struct failed_stamp *stamp, const char *name)
{
    for (size_t i = 0; i < stamp->len; i++)
        if (bytes_equal_text(stamp->properties[i].name, name))
            return stamp->properties[i].value;
    return BYTES_NONE;
}

static void add_property(struct failed_stamp *stamp, struct bytes name, enum failed_kind kind,
                         struct bytes value)
{
    if (stamp->len == FAILED_PROPERTIES_MAX)
        return;
    stamp->properties[stamp->len].name = name;
    stamp->properties[stamp->len].kind = kind;
    stamp->properties[stamp->len++].value = value;
}

static void take_stamp(struct reading *reading, const struct failed_stamp *stamp)
{
    struct failed *failed = reading->failed;

    if (bytes_equal_text(stamp->class, ENVELOPE_STAMP_CLASS("ErrorDetailsStamp"))) {
        failed->error_class = property_of(stamp, "exceptionClass");
        failed->error = property_of(stamp, "exceptionMessage");
    } else if (bytes_equal_text(stamp->class,
                                ENVELOPE_STAMP_CLASS("SentToFailureTransportStamp"))) {
        failed->transport = property_of(stamp, "originalReceiverName");
    }
    if (reading->visit != NULL)
        reading->visit(reading->context, stamp);
}

static struct bytes join_words(struct bytes left, struct bytes right, struct arena *arena)
{
    char *text = arena_alloc(arena, left.len + 1 + right.len);

    memcpy(text, left.data, left.len);
    text[left.len] = ' ';
    memcpy(text + left.len + 1, right.data, right.len);
    return (struct bytes){text, left.len + 1 + right.len};
}

static struct bytes header_of(struct bytes headers, const char *name, struct arena *arena)
{
    struct bytes text;
    struct bytes raw = json_object_get(headers, name, arena);

    return raw.len > 0 && json_unquote(&text, raw, arena) == 0 ? text : BYTES_NONE;
}

/* Reads an object or array inside a property. Of a DateTimeImmutable the date and zone become
 * *text. The reader ends behind the value. */
static int read_nested(struct php_reader *reader, const struct php_value *outer,
                       enum failed_kind *kind, struct bytes *text, struct arena *arena)
{
    struct bytes zone = BYTES_NONE;
    struct php_value key;
    struct php_value inner;

    *text = NESTED;
    if (outer->type != PHP_OBJECT)
        return php_skip_rest(reader, outer);
    for (size_t i = 0; i < outer->count; i++) {
        if (php_read_key(reader, &key) < 0 || php_read(reader, &inner) < 0 ||
            php_skip_rest(reader, &inner) < 0)
            return -ERR_FORMAT;
        if (inner.type == PHP_STRING && bytes_equal_text(key.text, "date")) {
            *kind = FAILED_TIME;
            *text = inner.text;
        } else if (inner.type == PHP_STRING && bytes_equal_text(key.text, "timezone")) {
            zone = inner.text;
        }
    }
    if (*kind == FAILED_TIME && zone.len > 0 && !bytes_equal_text(zone, "UTC"))
        *text = join_words(*text, zone, arena);
    return php_read_end(reader);
}

static int read_php_value(struct php_reader *reader, enum failed_kind *kind, struct bytes *text,
                          struct arena *arena)
{
    size_t start = reader->at;
    struct php_value value;

    *kind = FAILED_OTHER;
    if (php_read(reader, &value) < 0)
        return -ERR_FORMAT;
    switch (value.type) {
    case PHP_STRING:
        *kind = FAILED_TEXT;
        *text = value.text;
        return 0;
    case PHP_ENUM:
        *text = value.text;
        return 0;
    case PHP_NULL:
        *text = BYTES("null");
        return 0;
    case PHP_BOOL:
        *text = value.number != 0 ? BYTES("true") : BYTES("false");
        return 0;
    case PHP_INT:
    case PHP_FLOAT: /* the number of "i:5;" */
        *kind = value.type == PHP_INT ? FAILED_NUMBER : FAILED_OTHER;
        *text = bytes_slice(reader->text, start + 2, reader->at - start - 3);
        return 0;
    case PHP_ARRAY:
    case PHP_OBJECT:
        return read_nested(reader, &value, kind, text, arena);
    case PHP_CUSTOM:
    case PHP_REPEATED:
    case PHP_REFERENCE:
        break;
    }
    *text = NESTED;
    return 0;
}

static int read_php_stamp(struct reading *reading, struct php_reader *reader, struct bytes class)
{
    struct failed_stamp stamp = {.class = class};
    struct php_value object;
    struct php_value key;
    enum failed_kind kind;
    struct bytes text;

    if (php_read(reader, &object) < 0)
        return -ERR_FORMAT;
    if (object.type != PHP_OBJECT) {
        if (php_skip_rest(reader, &object) < 0)
            return -ERR_FORMAT;
        take_stamp(reading, &stamp);
        return 0;
    }
    for (size_t i = 0; i < object.count; i++) {
        if (php_read_key(reader, &key) < 0 ||
            read_php_value(reader, &kind, &text, reading->arena) < 0)
            return -ERR_FORMAT;
        add_property(&stamp, php_property_name(key.text), kind, text);
    }
    take_stamp(reading, &stamp);
    return php_read_end(reader);
}

static int read_php_stamps(struct reading *reading, struct php_reader *reader)
{
    struct php_value classes;
    struct php_value list;
    struct php_value class;
    struct php_value key;

    if (php_read(reader, &classes) < 0 || classes.type != PHP_ARRAY)
        return -ERR_FORMAT;
    for (size_t i = 0; i < classes.count; i++) {
        if (php_read_key(reader, &class) < 0 || php_read(reader, &list) < 0 ||
            list.type != PHP_ARRAY)
            return -ERR_FORMAT;
        for (size_t j = 0; j < list.count; j++)
            if (php_read_key(reader, &key) < 0 || read_php_stamp(reading, reader, class.text) < 0)
                return -ERR_FORMAT;
        if (php_read_end(reader) < 0)
            return -ERR_FORMAT;
    }
    return php_read_end(reader);
}

static int read_php(struct reading *reading)
{
    struct php_value message;
    struct php_value key;
    struct bytes text;
    size_t pairs;

    if (envelope_php_text(&text, reading->failed->envelope.body, reading->arena) < 0)
        return -ERR_FORMAT;
    struct php_reader reader = {.text = text};
    if (envelope_php_begin(&reader, &pairs) < 0)
        return -ERR_FORMAT;
    for (size_t i = 0; i < pairs; i++) {
        if (php_read_key(&reader, &key) < 0)
            return -ERR_FORMAT;
        struct bytes name = php_property_name(key.text);
        if (bytes_equal_text(name, "stamps")) {
            if (read_php_stamps(reading, &reader) < 0)
                return -ERR_FORMAT;
            continue;
        }
        if (php_read(&reader, &message) < 0 || php_skip_rest(&reader, &message) < 0)
            return -ERR_FORMAT;
        if (bytes_equal_text(name, "message") && message.type == PHP_OBJECT)
            reading->failed->class = message.text;
    }
    return php_read_end(&reader);
}

static struct bytes json_text(struct bytes raw, enum failed_kind *kind, struct arena *arena)
{
    struct bytes text;
    int64_t number;

    *kind = FAILED_OTHER;
    if (bytes_starts_with(raw, BYTES("\""))) {
        if (json_unquote(&text, raw, arena) < 0)
            return NESTED;
        *kind = FAILED_TEXT;
        return text;
    }
    if (bytes_starts_with(raw, BYTES("{")) || bytes_starts_with(raw, BYTES("[")))
        return NESTED;
    if (json_to_i64(raw, &number) == 0)
        *kind = FAILED_NUMBER;
    return raw;
}

/* Reads the header of one stamp class: a string that holds a JSON list. */
static int read_json_stamps(struct reading *reading, struct bytes class, struct bytes raw)
{
    struct json_array array;
    struct json_object object;
    struct bytes list;
    struct bytes element;
    struct bytes name;
    struct bytes value;
    int more;

    if (json_unquote(&list, raw, reading->arena) < 0 || json_array_begin(&array, list) < 0)
        return -ERR_FORMAT;
    while ((more = json_array_next(&array, &element)) > 0) {
        struct failed_stamp stamp = {.class = class};
        enum failed_kind kind;
        int members;

        if (json_object_begin(&object, element, reading->arena) < 0)
            return -ERR_FORMAT;
        while ((members = json_object_next(&object, &name, &value)) > 0) {
            struct bytes text = json_text(value, &kind, reading->arena);

            add_property(&stamp, name, kind, text);
        }
        if (members < 0)
            return -ERR_FORMAT;
        take_stamp(reading, &stamp);
    }
    return more;
}

static int read_stamp_headers(struct reading *reading)
{
    static const struct bytes prefix = BYTES(ENVELOPE_STAMP_HEADER);
    struct json_object object;
    struct bytes name;
    struct bytes raw;
    int more;

    if (json_object_begin(&object, reading->failed->envelope.headers, reading->arena) < 0)
        return -ERR_FORMAT;
    while ((more = json_object_next(&object, &name, &raw)) > 0)
        if (bytes_starts_with(name, prefix) &&
            read_json_stamps(reading, bytes_slice(name, prefix.len, name.len), raw) < 0)
            return -ERR_FORMAT;
    return more;
}

static int read_json(struct reading *reading)
{
    struct failed *failed = reading->failed;

    if (!json_is_valid(failed->envelope.body) || read_stamp_headers(reading) < 0)
        return -ERR_FORMAT;
    failed->class = header_of(failed->envelope.headers, "type", reading->arena);
    return 0;
}

void failed_read(struct failed *failed, struct bytes body, struct bytes headers,
                 failed_visit *visit, void *context, struct arena *arena)
{
    struct reading reading = {failed, visit, context, arena};

    *failed = (struct failed){0};
    failed->is_message =
        envelope_decode_parts(&failed->envelope, body, headers, arena, &failed->why) == 0;
    failed->envelope.serializer =
        bytes_starts_with(body, BYTES("{")) ? ENVELOPE_JSON : ENVELOPE_PHP;
    failed->entry = header_of(failed->envelope.headers, ENVELOPE_HEADER_ENTRY, arena);
    if (failed->envelope.serializer == ENVELOPE_JSON) {
        failed->is_readable = read_json(&reading) == 0;
    } else {
        failed->is_readable = read_php(&reading) == 0;
        read_stamp_headers(&reading); /* stamps that envelope_convert left in the headers */
    }
}

/* Returns when the entry "<ms>-<sequence>-<hash>" was added; 0 if the name has another form. */
static int64_t added_us(struct bytes name)
{
    struct bytes part;
    struct bytes rest;
    uint64_t ms;
    uint64_t sequence;

    if (!bytes_split(name, '-', &part, &rest) || !bytes_to_u64(part, &ms) ||
        ms > INT64_MAX / 1000 - 1)
        return 0;
    if (!bytes_split(rest, '-', &part, &rest) || !bytes_to_u64(part, &sequence))
        return 0;
    return (int64_t)ms * 1000 + (int64_t)(sequence < 999 ? sequence : 999);
}

struct bytes failed_reason(const struct failed *failed)
{
    if (failed->error.len > 0)
        return failed->error;
    if (!failed->is_readable)
        return bytes_of(failed->why.text);
    return failed->error_class.len > 0 ? failed->error_class : BYTES("no error was kept");
}

int64_t failed_came_us(struct bytes headers, struct arena *arena)
{
    int64_t us = envelope_time(header_of(headers, ENVELOPE_HEADER_RECEIVED_AT, arena));

    if (us <= 0) /* the identity is the name of the entry that failed first */
        us = added_us(header_of(headers, ENVELOPE_HEADER_ID, arena));
    return us > 0 ? us : added_us(header_of(headers, ENVELOPE_HEADER_ENTRY, arena));
}
