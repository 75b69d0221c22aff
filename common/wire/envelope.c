#include "common/wire/envelope.h"

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/wire/base64.h"
#include "common/wire/json.h"
#include "common/wire/php.h"

#include <stdlib.h>

const char *envelope_serializer_name(enum envelope_serializer serializer)
{
    return serializer == ENVELOPE_JSON ? "json" : "php";
}

/* The values of the headers that the bridge reads. A value that is not a string counts as
 * absent. */
struct metadata {
    struct bytes type;
    struct bytes id;
    struct bytes received_at;
    struct bytes encoding;
    struct bytes topic;
    struct bytes raw;
    struct bytes redriven;
    struct bytes redeliveries; /* the list in the header of the RedeliveryStamps */
};

static struct bytes *metadata_field(struct metadata *metadata, struct bytes name)
{
    if (bytes_equal_text(name, "type"))
        return &metadata->type;
    if (bytes_equal_text(name, ENVELOPE_STAMP_HEADER ENVELOPE_STAMP_CLASS("RedeliveryStamp")))
        return &metadata->redeliveries;
    if (!bytes_starts_with(name, BYTES("X-Mqtt-")))
        return NULL;
    if (bytes_equal_text(name, ENVELOPE_HEADER_ID))
        return &metadata->id;
    if (bytes_equal_text(name, ENVELOPE_HEADER_RECEIVED_AT))
        return &metadata->received_at;
    if (bytes_equal_text(name, ENVELOPE_HEADER_ENCODING))
        return &metadata->encoding;
    if (bytes_equal_text(name, ENVELOPE_HEADER_TOPIC))
        return &metadata->topic;
    if (bytes_equal_text(name, ENVELOPE_HEADER_RAW))
        return &metadata->raw;
    if (bytes_equal_text(name, ENVELOPE_HEADER_REDRIVEN))
        return &metadata->redriven;
    return NULL;
}

static int read_headers(struct metadata *metadata, struct bytes headers, struct arena *arena)
{
    struct json_object object;
    struct bytes name;
    struct bytes value;
    bool is_text;
    int more;

    if (json_object_begin(&object, headers, arena) < 0)
        return -ERR_FORMAT;
    while ((more = json_object_next_text(&object, &name, &value, &is_text)) > 0) {
        struct bytes *field = metadata_field(metadata, name);

        if (field != NULL)
            *field = is_text ? value : BYTES_NONE;
    }
    return more;
}

/* Returns the number in the `count` digits at text[at], or -1 if other bytes are there. */
static int64_t read_digits(struct bytes text, size_t at, size_t count)
{
    uint64_t value;

    if (!bytes_to_u64(bytes_slice(text, at, count), &value))
        return -1;
    return (int64_t)value;
}

int64_t envelope_time(struct bytes text)
{
    static const char form[] = "0000-00-00T00:00:00.000000Z";

    if (text.len != sizeof(form) - 1)
        return 0;
    for (size_t i = 0; i < text.len; i++)
        if (form[i] == '0' ? text.data[i] < '0' || text.data[i] > '9' : text.data[i] != form[i])
            return 0;
    int64_t year = read_digits(text, 0, 4);
    int64_t month = read_digits(text, 5, 2);
    int64_t day = read_digits(text, 8, 2);
    int64_t hour = read_digits(text, 11, 2);
    int64_t minute = read_digits(text, 14, 2);
    int64_t second = read_digits(text, 17, 2);
    if (year < 1970 || month < 1 || month > 12 || day < 1 || day > 31 || hour > 23 || minute > 59 ||
        second > 60)
        return 0;
    int64_t days = clock_days_of(year, month, day);
    return (((days * 24 + hour) * 60 + minute) * 60 + second) * 1000000 + read_digits(text, 20, 6);
}

/* Reads the retryCount of the last stamp in the list of RedeliveryStamps. */
static int read_json_redeliveries(struct bytes list, int64_t *retry_count, struct arena *arena)
{
    struct json_array array;
    struct bytes stamp = BYTES_NONE;
    struct bytes element;
    int more;

    if (json_array_begin(&array, list) < 0)
        return -ERR_FORMAT;
    while ((more = json_array_next(&array, &element)) > 0)
        stamp = element;
    if (more < 0)
        return -ERR_FORMAT;
    if (stamp.len == 0)
        return 0;
    return json_to_i64(json_object_get(stamp, "retryCount", arena), retry_count);
}

/* Reads topic and payload from the JSON body, and counts the message's properties. */
static int read_json_message(struct envelope *envelope, struct arena *arena, struct error *err)
{
    struct bytes topic = BYTES_NONE, payload = BYTES_NONE;
    struct json_object object;
    struct bytes name;
    struct bytes raw;
    int more = -ERR_FORMAT;

    if (json_object_begin(&object, envelope->body, arena) == 0)
        while ((more = json_object_next(&object, &name, &raw)) > 0) {
            envelope->properties++;
            if (bytes_equal_text(name, "topic"))
                topic = raw;
            else if (bytes_equal_text(name, "payload"))
                payload = raw;
        }
    if (more < 0 || topic.len == 0 || json_unquote(&envelope->topic, topic, arena) < 0)
        return error_set(err, ERR_FORMAT, "the JSON body has no string topic");
    if (payload.len == 0 || json_unquote(&envelope->payload, payload, arena) < 0)
        return error_set(err, ERR_FORMAT, "the JSON body has no string payload");
    return 0;
}

/* Decodes an entry of Symfony's Serializer: the message's properties are in the body, class and
 * stamps in the headers. */
static int decode_json_body(struct envelope *envelope, const struct metadata *metadata,
                            struct arena *arena, struct error *err)
{
    if (metadata->type.len == 0)
        return error_set(err, ERR_FORMAT, "the headers have no type");
    envelope->message_class = metadata->type;
    if (read_json_message(envelope, arena, err) < 0)
        return -ERR_FORMAT;
    if (metadata->redeliveries.len > 0 &&
        read_json_redeliveries(metadata->redeliveries, &envelope->retry_count, arena) < 0)
        return error_set(err, ERR_FORMAT, "the header of the RedeliveryStamps is not well-formed");
    if (bytes_equal_text(metadata->encoding, "base64") &&
        base64_decode(&envelope->payload, envelope->payload, arena) < 0)
        return error_set(err, ERR_FORMAT,
                         "the payload is not the base64 that " ENVELOPE_HEADER_ENCODING " says");
    if (metadata->topic.len > 0 && base64_decode(&envelope->topic, metadata->topic, arena) < 0)
        return error_set(err, ERR_FORMAT, ENVELOPE_HEADER_TOPIC " is no base64");
    return 0;
}

int envelope_php_text(struct bytes *text, struct bytes body, struct arena *arena)
{
    /* A serialized object ends in a brace, which is no character of base64. */
    if (!bytes_ends_with(body, BYTES("}")) && base64_decode(&body, body, arena) < 0)
        return -ERR_FORMAT;
    *text = php_stripslashes(body, arena);
    return 0;
}

void envelope_php_body(struct buf *body, struct bytes text)
{
    struct buf slashed = {0};

    php_addslashes(&slashed, text);
    if (bytes_is_utf8(buf_bytes(&slashed)))
        buf_append(body, buf_bytes(&slashed));
    else
        base64_encode(body, buf_bytes(&slashed));
    buf_free(&slashed);
}

void envelope_php_key(struct buf *out, enum envelope_visibility visibility, struct bytes class,
                      const char *name)
{
    struct buf key = {0};

    switch (visibility) {
    case ENVELOPE_PUBLIC:
        break;
    case ENVELOPE_PROTECTED:
        buf_append(&key, BYTES("\0*\0"));
        break;
    case ENVELOPE_PRIVATE:
        buf_append_char(&key, '\0');
        buf_append(&key, class);
        buf_append_char(&key, '\0');
        break;
    }
    buf_append_text(&key, name);
    php_write_string(out, buf_bytes(&key));
    buf_free(&key);
}

int envelope_php_begin(struct php_reader *reader, size_t *pairs)
{
    struct php_value value;

    if (php_read(reader, &value) < 0 || value.type != PHP_OBJECT ||
        !bytes_equal_text(value.text, ENVELOPE_CLASS))
        return -ERR_FORMAT;
    *pairs = value.count;
    return 0;
}

/* Reads an object and the value of its property `name`, if that value is an int. The reader ends
 * behind the object. */
static int read_int_property(struct php_reader *reader, const char *name, int64_t *number)
{
    struct php_value object;
    struct php_value key;
    struct php_value value;

    if (php_read(reader, &object) < 0)
        return -ERR_FORMAT;
    if (object.type != PHP_OBJECT)
        return php_skip_rest(reader, &object);
    for (size_t i = 0; i < object.count; i++) {
        if (php_read_key(reader, &key) < 0 || php_read(reader, &value) < 0)
            return -ERR_FORMAT;
        if (value.type == PHP_INT && bytes_equal_text(php_property_name(key.text), name))
            *number = value.number;
        else if (php_skip_rest(reader, &value) < 0)
            return -ERR_FORMAT;
    }
    return php_read_end(reader);
}

/* Reads the list of RedeliveryStamps. The last stamp's retryCount counts. */
static int read_redeliveries(struct php_reader *reader, int64_t *retry_count)
{
    struct php_value list;
    struct php_value key;

    if (php_read(reader, &list) < 0 || list.type != PHP_ARRAY)
        return -ERR_FORMAT;
    for (size_t i = 0; i < list.count; i++)
        if (php_read_key(reader, &key) < 0 ||
            read_int_property(reader, "retryCount", retry_count) < 0)
            return -ERR_FORMAT;
    return php_read_end(reader);
}

static int read_stamps(struct php_reader *reader, struct envelope *envelope)
{
    struct php_value stamps;
    struct php_value key;
    int failed;

    if (php_read(reader, &stamps) < 0 || stamps.type != PHP_ARRAY)
        return -ERR_FORMAT;
    for (size_t i = 0; i < stamps.count; i++) {
        if (php_read_key(reader, &key) < 0)
            return -ERR_FORMAT;
        if (bytes_equal_text(key.text, ENVELOPE_STAMP_CLASS("RedeliveryStamp")))
            failed = read_redeliveries(reader, &envelope->retry_count);
        else
            failed = php_skip(reader);
        if (failed < 0)
            return -ERR_FORMAT;
    }
    return php_read_end(reader);
}

/* If the value is a reference (R:), replaces the value by the one that it refers to. */
static bool follow_string(const struct php_reader *reader, struct php_value *value)
{
    struct php_reader target;

    if (value->type == PHP_REFERENCE && php_follow(reader, value, &target, value) < 0)
        return false;
    return value->type == PHP_STRING;
}

/* Reads the properties of the message, whose head php_read has read. Any class will do that has
 * the strings topic and payload. */
static int read_properties(struct php_reader *reader, const struct php_value *object,
                           struct envelope *envelope, struct error *err)
{
    struct php_value topic = {.type = PHP_NULL};
    struct php_value payload = {.type = PHP_NULL};
    struct php_value key;
    struct php_value value;

    envelope->message_class = object->text;
    envelope->properties = object->count;
    for (size_t i = 0; i < object->count; i++) {
        if (php_read_key(reader, &key) < 0 || php_read(reader, &value) < 0 ||
            php_skip_rest(reader, &value) < 0)
            return error_set(err, ERR_FORMAT, "the message is not well-formed");
        if (value.type != PHP_STRING && value.type != PHP_REFERENCE)
            continue;
        struct bytes name = php_property_name(key.text);
        if (bytes_equal_text(name, "topic"))
            topic = value;
        else if (bytes_equal_text(name, "payload"))
            payload = value;
    }
    if (php_read_end(reader) < 0)
        return error_set(err, ERR_FORMAT, "the message is not well-formed");
    bool has_topic = follow_string(reader, &topic);
    if (!has_topic || !follow_string(reader, &payload))
        return error_set(err, ERR_FORMAT, "%.*s has no string %s", BYTES_ARG(object->text),
                         has_topic ? "payload" : "topic");
    envelope->topic = topic.text;
    envelope->payload = payload.text;
    return 0;
}

/* Reads the application's message, whose head php_read has read. PHP writes the message as a
 * reference where a stamp holds the same object. */
static int read_message(struct php_reader *reader, struct php_value *message,
                        struct envelope *envelope, struct error *err)
{
    struct php_reader target;

    if (message->type == PHP_REPEATED || message->type == PHP_REFERENCE) {
        if (php_follow(reader, message, &target, message) < 0)
            return error_set(err, ERR_FORMAT,
                             "the envelope's message is a reference that can't be "
                             "followed");
        reader = &target;
    }
    if (message->type != PHP_OBJECT)
        return error_set(err, ERR_FORMAT, "the envelope's message is no object");
    return read_properties(reader, message, envelope, err);
}

/* Decodes an entry of Symfony's PhpSerializer: the body holds the class, the stamps and the
 * message. */
static int decode_php_body(struct envelope *envelope, struct arena *arena, struct error *err)
{
    struct php_reader reader = {0};
    struct php_reader inside = {0}; /* stands behind the head of the message */
    struct php_value message = {.type = PHP_NULL};
    struct php_value key;
    bool has_message = false;
    size_t pairs;

    if (envelope_php_text(&reader.text, envelope->body, arena) < 0)
        return error_set(err, ERR_FORMAT, "the body is neither serialized nor base64");
    if (envelope_php_begin(&reader, &pairs) < 0)
        return error_set(err, ERR_FORMAT, "the body is no serialized " ENVELOPE_CLASS);
    for (size_t i = 0; i < pairs; i++) {
        if (php_read_key(&reader, &key) < 0)
            return error_set(err, ERR_FORMAT, "the envelope is not well-formed");
        struct bytes name = php_property_name(key.text);
        if (bytes_equal_text(name, "message")) {
            has_message = php_read(&reader, &message) == 0;
            inside = reader;
            if (!has_message || php_skip_rest(&reader, &message) < 0)
                return error_set(err, ERR_FORMAT, "the message is not well-formed");
        } else if (bytes_equal_text(name, "stamps")) {
            if (read_stamps(&reader, envelope) < 0)
                return error_set(err, ERR_FORMAT, "the envelope's stamps are not well-formed");
        } else if (php_skip(&reader) < 0) {
            return error_set(err, ERR_FORMAT, "the envelope is not well-formed");
        }
    }
    if (php_read_end(&reader) < 0 || !php_at_end(&reader))
        return error_set(err, ERR_FORMAT, "the envelope does not end where it should");
    if (!has_message)
        return error_set(err, ERR_FORMAT, "the envelope has no message");
    return read_message(&inside, &message, envelope, err);
}

int envelope_decode_parts(struct envelope *envelope, struct bytes body, struct bytes headers,
                          struct arena *arena, struct error *err)
{
    struct metadata metadata = {0};
    int failed;

    if (headers.len == 0)
        headers = BYTES("[]");
    *envelope = (struct envelope){.body = body, .headers = headers};
    if (read_headers(&metadata, headers, arena) < 0)
        return error_set(err, ERR_FORMAT, "the headers are no JSON object");
    if (bytes_starts_with(body, BYTES("{"))) {
        envelope->serializer = ENVELOPE_JSON;
        failed = decode_json_body(envelope, &metadata, arena, err);
    } else {
        envelope->serializer = ENVELOPE_PHP;
        failed = decode_php_body(envelope, arena, err);
    }
    if (failed < 0)
        return -ERR_FORMAT;
    if (envelope->retry_count < 0)
        envelope->retry_count = 0;
    envelope->mqtt_id = metadata.id;
    envelope->received_us = envelope_time(metadata.received_at);
    envelope->raw_fields = bytes_equal_text(metadata.raw, ENVELOPE_RAW_FIELDS);
    envelope->raw = envelope->raw_fields || bytes_equal_text(metadata.raw, ENVELOPE_RAW_MESSAGE);
    envelope->redriven = metadata.redriven.len > 0;
    return 0;
}

/* Removes the `s:<length>:"` and `";` that php-redis may have put around the value. */
static int unwrap(struct bytes *json, struct bytes value)
{
    struct php_reader reader = {.text = value};
    struct php_value string;

    *json = value;
    if (!bytes_starts_with(value, BYTES("s:")))
        return 0;
    if (php_read(&reader, &string) < 0 || !php_at_end(&reader))
        return -ERR_FORMAT;
    *json = string.text;
    return 0;
}

/* Finds the string `body`, unescaped, and the raw `headers`. *headers is unchanged if the entry
 * has no headers. */
static int split(struct bytes json, struct bytes *body, struct bytes *headers, struct arena *arena,
                 struct error *err)
{
    bool is_text, has_body = false;
    struct json_object object;
    struct bytes name, value;
    int more;

    if (json_object_begin(&object, json, arena) < 0)
        return error_set(err, ERR_FORMAT, "the entry is no JSON object");
    while ((more = json_object_next_text(&object, &name, &value, &is_text)) > 0)
        if (bytes_equal_text(name, "body")) {
            *body = value;
            has_body = is_text;
        } else if (bytes_equal_text(name, "headers")) {
            *headers = is_text ? BYTES("\"\"") : value; /* a string is no object */
        }
    if (more < 0)
        return error_set(err, ERR_FORMAT, "the entry is not well-formed JSON");
    return has_body ? 0 : error_set(err, ERR_FORMAT, "the entry has no string body");
}

static int decode_message(struct envelope *envelope, struct bytes value, struct arena *arena,
                          struct error *err)
{
    struct bytes json, body = BYTES_NONE, headers = BYTES_NONE;

    if (unwrap(&json, value) < 0)
        return error_set(err, ERR_FORMAT, "the entry is not the serialized string it begins as");
    if (split(json, &body, &headers, arena, err) < 0)
        return -ERR_FORMAT;
    return envelope_decode_parts(envelope, body, headers, arena, err);
}

/* Decodes an entry with separate fields for body and headers, as Symfony 8.2 does. php-redis may
 * have wrapped both fields. */
static int decode_body(struct envelope *envelope, const struct envelope_fields *fields,
                       struct arena *arena, struct error *err)
{
    struct bytes body, headers;

    if (unwrap(&body, fields->body) < 0 || unwrap(&headers, fields->headers) < 0)
        return error_set(err, ERR_FORMAT,
                         "body or headers is not the serialized string it begins as");
    return envelope_decode_parts(envelope, body, headers, arena, err);
}

int envelope_decode(struct envelope *envelope, struct bytes value, struct arena *arena,
                    struct error *err)
{
    struct envelope_fields fields;

    if (!envelope_fields_is_list(value))
        return decode_message(envelope, value, arena, err);
    if (envelope_fields_decode(&fields, value) < 0)
        return error_set(err, ERR_FORMAT, "the entry is not the list of fields it begins as");
    if (fields.message.data != NULL)
        return decode_message(envelope, fields.message, arena, err);
    if (fields.body.data != NULL)
        return decode_body(envelope, &fields, arena, err);
    return error_set(err, ERR_FORMAT, "the entry has neither a field message nor a field body");
}

int envelope_join(struct buf *value, struct bytes body, struct bytes headers, bool redis_serialized,
                  struct error *err)
{
    struct buf json = {0};
    int failed = 0;

    if (headers.len == 0)
        headers = BYTES("[]");
    buf_append(&json, BYTES("{\"body\":"));
    if (json_quote_php(&json, body) < 0)
        failed = error_set(err, ERR_FORMAT, "the body is not UTF-8");
    else if (!json_is_valid(headers))
        failed = error_set(err, ERR_FORMAT, "the headers are no JSON");
    buf_append(&json, BYTES(",\"headers\":"));
    buf_append(&json, headers);
    buf_append_char(&json, '}');
    if (failed == 0 && redis_serialized)
        php_write_string(value, buf_bytes(&json));
    else if (failed == 0)
        buf_append(value, buf_bytes(&json));
    buf_free(&json);
    return failed;
}

bool envelope_fields_is_list(struct bytes value)
{
    return bytes_starts_with(value, BYTES("a:"));
}

void envelope_fields_encode(struct buf *out, const struct bytes *words, size_t len)
{
    buf_append(out, BYTES("a:"));
    buf_append_u64(out, len);
    buf_append(out, BYTES(":{"));
    for (size_t i = 0; i < len; i++) {
        php_write_int(out, (int64_t)i);
        php_write_string(out, words[i]);
    }
    buf_append_char(out, '}');
}

static int read_word(struct php_reader *reader, struct bytes *word)
{
    struct php_value key, value;

    if (php_read_key(reader, &key) < 0 || php_read(reader, &value) < 0 || value.type != PHP_STRING)
        return -ERR_FORMAT;
    *word = value.text;
    return 0;
}

static void take(struct envelope_fields *fields, struct bytes name, struct bytes value)
{
    if (bytes_equal_text(name, "message"))
        fields->message = value;
    else if (bytes_equal_text(name, "body"))
        fields->body = value;
    else if (bytes_equal_text(name, "headers"))
        fields->headers = value;
}

int envelope_fields_words(struct bytes **words, size_t *len, struct bytes value)
{
    struct php_reader reader = {.text = value};
    struct php_value list;

    *words = NULL;
    *len = 0;
    if (php_read(&reader, &list) < 0 || list.type != PHP_ARRAY || list.count % 2 != 0)
        return -ERR_FORMAT;
    for (size_t i = 0; i < list.count; i++) {
        if ((i & (i - 1)) == 0) /* grows step by step, since the count may be forged */
            *words = xrealloc(*words, (2 * i + 1) * sizeof(**words));
        if (read_word(&reader, &(*words)[i]) < 0)
            goto malformed;
        *len = i + 1;
    }
    if (php_read_end(&reader) == 0 && php_at_end(&reader))
        return 0;
malformed:
    free(*words);
    *words = NULL;
    *len = 0;
    return -ERR_FORMAT;
}

int envelope_fields_decode(struct envelope_fields *fields, struct bytes value)
{
    struct bytes *words;
    size_t len;

    *fields = (struct envelope_fields){0};
    if (envelope_fields_words(&words, &len, value) < 0)
        return -ERR_FORMAT;
    for (size_t i = 0; i < len; i += 2)
        take(fields, words[i], words[i + 1]);
    free(words);
    return 0;
}
