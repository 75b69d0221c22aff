/* Entries from outside, and messages of any bytes in every format. The first byte says which. With bit 7 the rest is an
 * entry's field. Else bits 0-5 are the format, the next byte the topic's length. */
#include "common/wire/envelope.h"
#include "common/wire/json.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
    if (!holds)
        abort();
}

static void require_same(const struct envelope *a, const struct envelope *b)
{
    require(a->serializer == b->serializer);
    require(bytes_equal(a->body, b->body));
    require(bytes_equal(a->headers, b->headers));
    require(bytes_equal(a->topic, b->topic));
    require(bytes_equal(a->payload, b->payload));
    require(bytes_equal(a->mqtt_id, b->mqtt_id));
    require(bytes_equal(a->message_class, b->message_class));
    require(a->received_us == b->received_us);
    require(a->retry_count == b->retry_count);
    require(a->raw == b->raw);
}

/* What can be decoded is the same when it comes back as a row of the failure table. */
static void decode_any(struct bytes value, struct arena *arena)
{
    struct envelope envelope;
    struct envelope again;

    if (envelope_decode(&envelope, value, arena, NULL) < 0)
        return;
    require(envelope.retry_count >= 0);
    require(envelope_decode_parts(&again, envelope.body, envelope.headers, arena, NULL) == 0);
    require_same(&envelope, &again);
}

static void encode_any(uint8_t flags, struct bytes topic, struct bytes payload, struct arena *arena)
{
    struct envelope_format format = {
        .serializer = flags & 1 ? ENVELOPE_JSON : ENVELOPE_PHP,
        .visibility = (enum envelope_visibility)((flags >> 4 & 3) % 3),
        .message_class = BYTES("App\\Message\\MqttMessage"),
        .bus = BYTES("messenger.bus.default"),
        .redis_serialized = (flags & 2) != 0,
        .metadata_headers = (flags & 4) != 0,
    };
    struct envelope_message message = {
        .topic = topic,
        .payload = payload,
        .id = BYTES("0123456789abcdef0123456789abcdef-42"),
        .received_us = INT64_C(1795514400123456),
        .qos = flags & 8 ? 2 : 0,
    };

    /* Kept from run to run, as a program keeps its own. */
    static struct envelope_template *templates[64];
    struct envelope_template *template = templates[flags & 63];
    struct envelope envelope;
    struct buf out = {0};

    if (template == NULL)
        template = templates[flags & 63] = envelope_template_new(&format);
    envelope_encode(template, &message, SIZE_MAX, &out);
    require(bytes_is_utf8(buf_bytes(&out)));
    require(format.redis_serialized || json_is_valid(buf_bytes(&out)));
    require(envelope_decode(&envelope, buf_bytes(&out), arena, NULL) == 0);
    require(envelope.serializer == format.serializer);
    require(bytes_equal(envelope.topic, topic));
    require(bytes_equal(envelope.payload, payload));
    require(bytes_equal(envelope.mqtt_id, format.metadata_headers ? message.id : BYTES_NONE));
    require(bytes_equal(envelope.message_class, format.message_class));
    buf_free(&out);
}

/* Every entry that Redis may hold: what Messenger reads of it is found again. */
static void list_any(struct bytes name, struct bytes value)
{
    const struct bytes words[] = {name, value, BYTES("body"), value};
    struct envelope_fields fields;
    struct buf list = {0};

    envelope_fields_encode(&list, words, 4);
    require(envelope_fields_is_list(buf_bytes(&list)));
    require(envelope_fields_decode(&fields, buf_bytes(&list)) == 0);
    require(bytes_equal(fields.body, value));
    require((fields.message.data != NULL) == bytes_equal_text(name, "message"));
    buf_free(&list);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes input = {(const char *)data, size};
    struct arena arena = {0};

    if (size >= 1 && (data[0] & 0x80) != 0) {
        decode_any(bytes_slice(input, 1, size), &arena);
    } else if (size >= 2) {
        list_any(bytes_slice(input, 2, data[1]), bytes_slice(input, 2 + (size_t)data[1], size));
        encode_any(data[0], bytes_slice(input, 2, data[1]),
                   bytes_slice(input, 2 + (size_t)data[1], size), &arena);
    }
    arena_free(&arena);
    return 0;
}
