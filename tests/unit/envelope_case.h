/* Envelopes for the tests of their codec: a format, a message, both ways. */
#ifndef TESTS_UNIT_ENVELOPE_CASE_H
#define TESTS_UNIT_ENVELOPE_CASE_H

#include "common/wire/envelope.h"

#include "common/wire/json.h"
#include "common/wire/php.h"
#include "tests/unit/vectors.h"

static inline struct envelope_format format_of(enum envelope_serializer serializer)
{
    return (struct envelope_format){
        .serializer = serializer,
        .visibility = ENVELOPE_PUBLIC,
        .message_class = BYTES("App\\Message\\MqttMessage"),
        .bus = BYTES("messenger.bus.default"),
        .redis_serialized = true,
    };
}

static const struct envelope_message MESSAGE = {
    .topic = BYTES("sensors/room1/temp"),
    .payload = BYTES("{\"temp\":21.5}"),
    .id = BYTES("0123456789abcdef0123456789abcdef-42"),
    .received_us = INT64_C(1795514400123456),
    .qos = 1,
};

static inline void encode(struct buf *out, const struct envelope_format *format,
                          const struct envelope_message *message)
{
    struct envelope_template *template = envelope_template_new(format);

    envelope_encode(template, message, SIZE_MAX, out);
    envelope_template_free(template);
}

static inline void decode(struct envelope *envelope, struct bytes value, struct arena *arena)
{
    struct error err;

    if (envelope_decode(envelope, value, arena, &err) < 0)
        fail_msg("%s: %.*s", err.text, BYTES_ARG(value));
}

/* Bytes that meet every escape of every layer. */
static inline void odd_bytes(struct buf *out, size_t len, uint32_t seed, bool utf8)
{
    static const char *const odd[] = {
        "\"", "\\", "'", "/", "\n", "\x01", "\x7f", "a", "é", "€", "🌡",
    };

    for (size_t i = 0; i < len; i++) {
        seed = seed * 1664525 + 1013904223;
        if (seed >> 28 == 0)
            buf_append_char(out, '\0');
        else if (seed >> 28 == 1 && !utf8)
            buf_append_char(out, (char)(seed >> 16));
        else
            buf_append_text(out, odd[(seed >> 20) % LENGTH_OF(odd)]);
    }
}

#endif
