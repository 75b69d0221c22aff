/* Envelopes from outside, stamped. Input: body, a NUL byte, headers. What can be stamped is the same
 * message afterwards, and can be stamped again. Without a NUL: an entry that can't be decoded. */
#include "common/wire/stamp.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
    if (!holds)
        abort();
}

static const struct stamp_failure FAILURE = {
    .exception_class = BYTES("RuntimeException"),
    .exception_code = -3,
    .exception_message = BYTES("no \"answer\" \xC3\xA9/'"),
    .stream_id = BYTES("1-1"),
    .delay_ms = 1000,
    .retry_count = 7,
    .now_us = INT64_C(1795514400123456),
    .receiver = BYTES("async"),
    .entry = BYTES("1-1"),
};

/* Stamps; false if that can't be done. *stamped is what the result decodes to, in the arena. */
static bool stamp(const struct envelope *envelope, struct envelope *stamped, struct arena *arena)
{
    struct buf body = {0};
    struct buf headers = {0};
    int failed = stamp_failure(&body, &headers, envelope, &FAILURE, NULL);

    if (failed == 0)
        require(envelope_decode_parts(stamped, arena_copy(arena, buf_bytes(&body)),
                                      arena_copy(arena, buf_bytes(&headers)), arena, NULL) == 0);
    buf_free(&body);
    buf_free(&headers);
    return failed == 0;
}

static void stamp_any(struct bytes body, struct bytes headers, struct arena *arena)
{
    struct envelope envelope;
    struct envelope once;
    struct envelope twice;

    if (envelope_decode_parts(&envelope, body, headers, arena, NULL) < 0 ||
        !stamp(&envelope, &once, arena))
        return;
    require(once.serializer == envelope.serializer);
    require(bytes_equal(once.topic, envelope.topic));
    require(bytes_equal(once.payload, envelope.payload));
    require(bytes_equal(once.message_class, envelope.message_class));
    require(bytes_equal(once.mqtt_id, envelope.mqtt_id));
    require(once.received_us == envelope.received_us);
    require(once.raw == envelope.raw);
    require(once.retry_count == FAILURE.retry_count);
    if (stamp(&once, &twice, arena)) {
        require(bytes_equal(twice.payload, envelope.payload));
        require(twice.retry_count == FAILURE.retry_count);
    }
}

static void stamp_raw(struct bytes value, enum envelope_serializer serializer, struct arena *arena)
{
    struct envelope_format format = {
        .serializer = serializer,
        .message_class = BYTES("App\\Message\\MqttMessage"),
        .bus = BYTES("messenger.bus.default"),
    };
    struct envelope envelope;
    struct buf body = {0};
    struct buf headers = {0};

    stamp_undecodable(&body, &headers, &format, value, &FAILURE);
    require(envelope_decode_parts(&envelope, buf_bytes(&body), buf_bytes(&headers), arena, NULL) ==
            0);
    require(envelope.raw);
    require(bytes_equal(envelope.payload, value));
    buf_free(&body);
    buf_free(&headers);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes input = {(const char *)data, size};
    struct arena arena = {0};
    struct bytes body;
    struct bytes headers;

    if (bytes_split(input, '\0', &body, &headers))
        stamp_any(body, headers, &arena);
    else
        stamp_raw(input, size % 2 == 0 ? ENVELOPE_PHP : ENVELOPE_JSON, &arena);
    arena_free(&arena);
    return 0;
}
