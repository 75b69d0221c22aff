#include "tests/unit/envelope_case.h"

static const char *const VERSIONS[] = {"5.4", "6.4", "7.4"};

/* The messages that the vectors hold. */
struct fresh {
    const char *file;
    struct bytes topic;
    struct bytes payload;
};

static const struct fresh FRESH[] = {
    {"fresh-ascii.message", BYTES("sensors/room1/temp"), BYTES("{\"temp\":21.5}")},
    {"fresh-empty.message", BYTES("sensors/room1/temp"), BYTES("")},
    {"fresh-utf8.message", BYTES("maison/été/°C"),
     BYTES("été 🌡 \"quoted\" back\\slash 'single' /slash\n\ttab")},
    {"fresh-binary.message", BYTES("sensors/room1/raw"), BYTES("\0\xFF\xFE\"\\'/bin")},
};

#define FRESH_LEN      4
#define FRESH_JSON_LEN 3 /* Symfony's Serializer refuses the last */

/* Encoded with a limit, the value is appended whole or not at all. */
static void assert_limited(const struct envelope_format *format,
                           const struct envelope_message *message, struct bytes value)
{
    struct envelope_template *template = envelope_template_new(format);
    struct buf out = {0};

    assert_int_equal(envelope_encode(template, message, value.len - 1, &out), value.len);
    assert_int_equal(out.len, 0);
    assert_in_range(envelope_encode(template, message, 1, &out), 2, value.len);
    assert_int_equal(out.len, 0);
    assert_int_equal(envelope_encode(template, message, value.len, &out), value.len);
    assert_bytes(buf_bytes(&out), value);
    buf_free(&out);
    envelope_template_free(template);
}

static void test_every_fresh_vector_decodes(void **state)
{
    struct arena arena = {0};
    struct buf file = {0};
    struct envelope envelope;

    (void)state;
    for (size_t v = 0; v < 3; v++) {
        for (size_t i = 0; i < FRESH_LEN + FRESH_JSON_LEN; i++) {
            bool php = i < FRESH_LEN;
            const struct fresh *fresh = &FRESH[php ? i : i - FRESH_LEN];

            decode(&envelope, vector_read(&file, VERSIONS[v], php ? "php" : "json", fresh->file),
                   &arena);
            assert_int_equal(envelope.serializer, php ? ENVELOPE_PHP : ENVELOPE_JSON);
            assert_bytes(envelope.topic, fresh->topic);
            assert_bytes(envelope.payload, fresh->payload);
            assert_text(envelope.message_class, "App\\Message\\MqttMessage");
            assert_int_equal(envelope.retry_count, 0);
            assert_int_equal(envelope.mqtt_id.len, 0);
            assert_false(envelope.raw);
        }
    }
    buf_free(&file);
    arena_free(&arena);
}

static void test_fresh_messages_are_written_as_symfony_writes_them(void **state)
{
    struct buf file = {0};
    struct buf out = {0};

    (void)state;
    for (size_t v = 0; v < 3; v++) {
        for (size_t i = 0; i < FRESH_LEN + FRESH_JSON_LEN; i++) {
            bool php = i < FRESH_LEN;
            const struct fresh *fresh = &FRESH[php ? i : i - FRESH_LEN];
            struct envelope_format format = format_of(php ? ENVELOPE_PHP : ENVELOPE_JSON);
            struct envelope_message message = {.topic = fresh->topic, .payload = fresh->payload};

            buf_clear(&out);
            encode(&out, &format, &message);
            assert_limited(&format, &message, buf_bytes(&out));
            assert_bytes(buf_bytes(&out),
                         vector_read(&file, VERSIONS[v], php ? "php" : "json", fresh->file));
        }
    }
    buf_free(&out);
    buf_free(&file);
}

/* The delayed members and the failed rows. */
static void test_every_stamped_vector_decodes(void **state)
{
    static const char *const rows[] = {"failed-after-retries", "failed-unrecoverable"};
    static const char *const serializers[] = {"php", "json"};
    struct arena arena = {0};
    struct buf body = {0};
    struct buf headers = {0};
    struct envelope envelope;
    struct error err;
    char name[64];

    (void)state;
    for (size_t i = 0; i < 6; i++) {
        const char *version = VERSIONS[i / 2];
        const char *serializer = serializers[i % 2];

        decode(&envelope, vector_read(&body, version, serializer, "retry-1.delayed"), &arena);
        assert_int_equal(envelope.retry_count, 1);
        assert_bytes(envelope.topic, FRESH[0].topic);
        assert_bytes(envelope.payload, FRESH[0].payload);
        for (size_t row = 0; row < 2; row++) {
            snprintf(name, sizeof(name), "%s.body", rows[row]);
            vector_read(&body, version, serializer, name);
            snprintf(name, sizeof(name), "%s.headers", rows[row]);
            vector_read(&headers, version, serializer, name);
            assert_int_equal(envelope_decode_parts(&envelope, buf_bytes(&body), buf_bytes(&headers),
                                                   &arena, &err),
                             0);
            assert_bytes(envelope.body, buf_bytes(&body));
            assert_bytes(envelope.headers, buf_bytes(&headers));
            assert_bytes(envelope.topic, FRESH[0].topic);
            assert_bytes(envelope.payload, FRESH[0].payload);
            assert_int_equal(envelope.retry_count, 0);
        }
    }
    buf_free(&body);
    buf_free(&headers);
    arena_free(&arena);
}

static void test_metadata_headers_under_the_php_serializer(void **state)
{
    struct envelope_format format = format_of(ENVELOPE_PHP);
    struct buf plain = {0};
    struct buf out = {0};

    (void)state;
    format.redis_serialized = false;
    encode(&plain, &format, &MESSAGE);
    format.metadata_headers = true;
    encode(&out, &format, &MESSAGE);
    /* Only the headers differ. */
    plain.len -= strlen("[]}");
    buf_append_text(&plain, "{\"X-Mqtt-Id\":\"0123456789abcdef0123456789abcdef-42\","
                            "\"X-Mqtt-Received-At\":\"2026-11-24T10:00:00.123456Z\","
                            "\"X-Mqtt-Qos\":\"1\",\"X-Mqtt-Retain\":\"0\"}}");
    assert_bytes(buf_bytes(&out), buf_bytes(&plain));
    buf_free(&out);
    buf_free(&plain);
}

static void test_metadata_headers_stand_behind_those_of_the_json_serializer(void **state)
{
    struct envelope_format format = format_of(ENVELOPE_JSON);
    struct envelope_message message = MESSAGE;
    struct buf out = {0};

    (void)state;
    format.redis_serialized = false;
    format.metadata_headers = true;
    message.retained = true;
    message.qos = 2;
    encode(&out, &format, &message);
    assert_true(bytes_ends_with(buf_bytes(&out),
                                BYTES(",\"Content-Type\":\"application\\/json\","
                                      "\"X-Mqtt-Id\":\"0123456789abcdef0123456789abcdef-42\","
                                      "\"X-Mqtt-Received-At\":\"2026-11-24T10:00:00.123456Z\","
                                      "\"X-Mqtt-Qos\":\"2\",\"X-Mqtt-Retain\":\"1\"}}")));
    buf_free(&out);
}

static void test_any_bytes_come_back_in_every_format(void **state)
{
    struct arena arena = {0};
    struct buf topic = {0};
    struct buf payload = {0};
    struct buf out = {0};
    struct envelope envelope;

    (void)state;
    for (uint32_t i = 0; i < 2000; i++) {
        struct envelope_format format = format_of(i & 1 ? ENVELOPE_JSON : ENVELOPE_PHP);
        struct envelope_message message = MESSAGE;

        format.redis_serialized = (i & 2) != 0;
        format.metadata_headers = (i & 4) != 0;
        format.visibility = (enum envelope_visibility)(i / 8 % 3);
        buf_clear(&topic);
        buf_clear(&payload);
        buf_clear(&out);
        odd_bytes(&topic, i % 17, i, i % 5 != 0);
        odd_bytes(&payload, i % 301, i * 31, i % 3 != 0);
        message.topic = buf_bytes(&topic);
        message.payload = buf_bytes(&payload);
        encode(&out, &format, &message);
        assert_limited(&format, &message, buf_bytes(&out));

        decode(&envelope, buf_bytes(&out), &arena);
        assert_int_equal(envelope.serializer, format.serializer);
        assert_bytes(envelope.topic, message.topic);
        assert_bytes(envelope.payload, message.payload);
        assert_bytes(envelope.mqtt_id, format.metadata_headers ? message.id : BYTES_NONE);
        assert_true(envelope.received_us ==
                    (format.metadata_headers ? message.received_us : INT64_C(0)));
        arena_clear(&arena);
    }
    buf_free(&topic);
    buf_free(&payload);
    buf_free(&out);
    arena_free(&arena);
}

/* What grows most under each escaping, alone and behind bytes that are no UTF-8. */
static void test_a_value_beyond_the_limit_is_not_appended(void **state)
{
    static const struct bytes units[] = {
        BYTES("\x01"), BYTES("\0"), BYTES("\xFF"), BYTES("\xC2\x80"), BYTES("\xF0\x9F\x8C\xA1"),
        BYTES("\\"),   BYTES("\""), BYTES("/"),    BYTES("'"),        BYTES("\xFF\xFF\xFF/\0\"")};
    struct buf text = {0};
    struct buf out = {0};

    (void)state;
    for (uint32_t i = 0; i < 24; i++) {
        struct envelope_format format = format_of(i & 1 ? ENVELOPE_JSON : ENVELOPE_PHP);

        format.redis_serialized = (i & 2) != 0;
        format.metadata_headers = (i & 4) != 0;
        format.visibility = (enum envelope_visibility)(i / 8);
        for (size_t unit = 0; unit < LENGTH_OF(units); unit++) {
            struct envelope_message message = MESSAGE;

            buf_clear(&text);
            for (size_t times = 0; times < 3000; times++)
                buf_append(&text, units[unit]);
            message.payload = buf_bytes(&text);
            buf_clear(&out);
            encode(&out, &format, &message);
            assert_limited(&format, &message, buf_bytes(&out));
            message.topic = buf_bytes(&text);
            buf_clear(&out);
            encode(&out, &format, &message);
            assert_limited(&format, &message, buf_bytes(&out));
        }
    }
    buf_free(&text);
    buf_free(&out);
}

static void test_the_length_in_front_of_a_serialized_envelope_is_right(void **state)
{
    struct envelope_format format = format_of(ENVELOPE_PHP);
    struct buf wrapped = {0};
    struct buf bare = {0};
    struct buf again = {0};

    (void)state;
    for (size_t i = 0; i < FRESH_LEN; i++) {
        struct envelope_message message = {.topic = FRESH[i].topic, .payload = FRESH[i].payload};

        buf_clear(&wrapped);
        buf_clear(&bare);
        buf_clear(&again);
        format.redis_serialized = true;
        encode(&wrapped, &format, &message);
        format.redis_serialized = false;
        encode(&bare, &format, &message);
        php_write_string(&again, buf_bytes(&bare));
        assert_bytes(buf_bytes(&wrapped), buf_bytes(&again));
        assert_true(json_is_valid(buf_bytes(&bare)));
    }
    buf_free(&wrapped);
    buf_free(&bare);
    buf_free(&again);
}

static void test_a_template_is_used_again_and_appends(void **state)
{
    struct envelope_format format = format_of(ENVELOPE_JSON);
    struct envelope_template *template;
    struct envelope_message binary = {.topic = BYTES("\xFF"), .payload = BYTES("\xFE")};
    struct buf once = {0};
    struct buf out = {0};

    (void)state;
    format.metadata_headers = true;
    encode(&once, &format, &MESSAGE);
    template = envelope_template_new(&format);
    envelope_encode(template, &binary, SIZE_MAX, &out);
    size_t first = out.len;
    envelope_encode(template, &MESSAGE, SIZE_MAX, &out);
    assert_bytes(bytes_slice(buf_bytes(&out), first, out.len), buf_bytes(&once));
    envelope_template_free(template);
    buf_free(&once);
    buf_free(&out);
}

static void test_json_that_is_not_utf8_says_so_in_its_headers(void **state)
{
    struct envelope_format format = format_of(ENVELOPE_JSON);
    struct envelope_message message = {.topic = BYTES("a/\xFF"), .payload = BYTES("\xFF\xFE\xFD")};
    struct buf out = {0};

    (void)state;
    format.redis_serialized = false;
    encode(&out, &format, &message);
    assert_true(
        bytes_starts_with(buf_bytes(&out), BYTES("{\"body\":\"{\\\"topic\\\":\\\"a\\\\\\/"
                                                 "\\\\ufffd\\\",\\\"payload\\\":\\\"\\\\\\/\\\\\\/"
                                                 "79\\\"}\",\"headers\":{")));
    assert_true(bytes_ends_with(
        buf_bytes(&out), BYTES(",\"Content-Type\":\"application\\/json\",\"X-Mqtt-Encoding\":"
                               "\"base64\",\"X-Mqtt-Topic\":\"YS\\/\\/\"}}")));
    buf_free(&out);
}

static void test_a_payload_of_1_mib_reads_back(void **state)
{
    struct envelope_format format = format_of(ENVELOPE_PHP);
    struct envelope_message message = MESSAGE;
    struct arena arena = {0};
    struct buf payload = {0};
    struct buf out = {0};
    struct envelope envelope;

    (void)state;
    odd_bytes(&payload, 1 << 20, 1, true);
    message.payload = buf_bytes(&payload);
    encode(&out, &format, &message);
    decode(&envelope, buf_bytes(&out), &arena);
    assert_bytes(envelope.payload, message.payload);
    buf_free(&payload);
    buf_free(&out);
    arena_free(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_fresh_vector_decodes),
        cmocka_unit_test(test_fresh_messages_are_written_as_symfony_writes_them),
        cmocka_unit_test(test_every_stamped_vector_decodes),
        cmocka_unit_test(test_metadata_headers_under_the_php_serializer),
        cmocka_unit_test(test_metadata_headers_stand_behind_those_of_the_json_serializer),
        cmocka_unit_test(test_any_bytes_come_back_in_every_format),
        cmocka_unit_test(test_a_value_beyond_the_limit_is_not_appended),
        cmocka_unit_test(test_the_length_in_front_of_a_serialized_envelope_is_right),
        cmocka_unit_test(test_a_template_is_used_again_and_appends),
        cmocka_unit_test(test_json_that_is_not_utf8_says_so_in_its_headers),
        cmocka_unit_test(test_a_payload_of_1_mib_reads_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
