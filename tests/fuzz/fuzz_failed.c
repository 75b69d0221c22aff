/* Rows of the failure transport from anybody. Input: body, a NUL byte, headers. What can be read and sent again is the
 * same message in the stream, counted anew. It can fail and be sent again, with the other serializer as well. Without a
 * NUL: a point in time as an operator writes it. */
#include "common/base/clock.h"
#include "common/wire/envelope.h"
#include "common/wire/failed.h"
#include "common/wire/stamp.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
    if (!holds)
        abort();
}

static void touch(void *context, const struct failed_stamp *stamp)
{
    size_t *sum = context;

    *sum += stamp->class.len + stamp->len;
    for (size_t i = 0; i < stamp->len; i++)
        for (size_t j = 0; j < stamp->properties[i].value.len; j++)
            *sum += (unsigned char)stamp->properties[i].value.data[j];
}

static void send_again(const struct failed *failed, struct arena *arena)
{
    struct buf body = {0}, headers = {0}, value = {0};
    struct envelope envelope;
    struct failed sent;

    if (stamp_redriven(&body, &headers, &failed->envelope, BYTES("7"), 1, NULL) == 0) {
        failed_read(&sent, buf_bytes(&body), buf_bytes(&headers), NULL, NULL, arena);
        require(sent.is_readable && sent.transport.len == 0);
        require(sent.is_message || !failed->is_message); /* a count that was missing is there now */
        if (failed->is_message &&
            envelope_join(&value, buf_bytes(&body), buf_bytes(&headers), true, NULL) == 0) {
            require(envelope_decode(&envelope, buf_bytes(&value), arena, NULL) == 0);
            require(bytes_equal(envelope.topic, failed->envelope.topic));
            require(bytes_equal(envelope.payload, failed->envelope.payload));
            require(envelope.retry_count == 0 && envelope.redriven);
        }
    }
    buf_free(&body);
    buf_free(&headers);
    buf_free(&value);
}

static enum envelope_serializer other(enum envelope_serializer serializer)
{
    return serializer == ENVELOPE_JSON ? ENVELOPE_PHP : ENVELOPE_JSON;
}

/* What can be written with the other serializer is the same message, and can be written with its own again. */
static void convert(const struct envelope *envelope, struct arena *arena)
{
    struct envelope_format format = {.serializer = other(envelope->serializer),
                                     .message_class = BYTES("App\\Message\\MqttMessage")};
    struct envelope converted, back;

    if (envelope_convert(&converted, envelope, &format, arena, NULL) < 0)
        return;
    require(converted.serializer == format.serializer);
    require(bytes_equal(converted.mqtt_id, envelope->mqtt_id));
    format.serializer = envelope->serializer;
    require(envelope_convert(&back, &converted, &format, arena, NULL) == 0);
    require(bytes_equal(back.topic, envelope->topic));
    require(bytes_equal(back.payload, envelope->payload));
    require(back.retry_count == converted.retry_count);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes input = {(const char *)data, size};
    struct arena arena = {0};
    struct failed failed;
    struct bytes body;
    struct bytes headers;
    size_t sum = 0;
    int64_t us;

    if (!bytes_split(input, '\0', &body, &headers)) {
        if (clock_parse(input, INT64_C(1795514400000000), &us, NULL) == 0)
            require(us > 0);
        return 0;
    }
    failed_read(&failed, body, headers, touch, &sum, &arena);
    (void)failed_came_us(failed.envelope.headers, &arena);
    if (failed.is_message)
        convert(&failed.envelope, &arena);
    if (failed.is_readable)
        send_again(&failed, &arena);
    arena_free(&arena);
    return 0;
}
