#include "common/wire/envelope_php.h"

#include "common/wire/envelope_names.h"
#include "common/wire/json.h"

int envelope_php_text(struct bytes *text, struct bytes body, struct arena *arena)
{
    /* A serialized object ends in a brace, which base64 doesn't know. */
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

/* An object: the value of its property of that name, if that is an int. The reader ends behind it. */
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

/* The list of RedeliveryStamps: the last one counts. */
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

/* A string that an object's property has by reference (R:) is read where it stands. */
static bool follow_string(const struct php_reader *reader, struct php_value *value)
{
    struct php_reader target;

    if (value->type == PHP_REFERENCE && php_follow(reader, value, &target, value) < 0)
        return false;
    return value->type == PHP_STRING;
}

/* What php_read has begun: any class with a topic and a payload, both strings. */
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

/* The application's message, *message being what php_read has begun. PHP writes it as a reference where a stamp
 * holds the same object. */
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

int envelope_php_decode(struct envelope *envelope, struct bytes text, struct error *err)
{
    struct php_reader reader = {.text = text};
    struct php_reader inside = {.text = text}; /* behind the head of the message */
    struct php_value message = {.type = PHP_NULL};
    struct php_value key;
    bool has_message = false;
    size_t pairs;

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
