#include "common/wire/envelope.h"

#include "common/wire/json.h"
#include "common/wire/php.h"
#include "tests/unit/vectors.h"

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

static struct envelope_format format_of(enum envelope_serializer serializer)
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

static void encode(struct buf *out, const struct envelope_format *format,
                   const struct envelope_message *message)
{
    struct envelope_template *template = envelope_template_new(format);

    envelope_encode(template, message, out);
    envelope_template_free(template);
}

static void decode(struct envelope *envelope, struct bytes value, struct arena *arena)
{
    struct error err;

    if (envelope_decode(envelope, value, arena, &err) < 0)
        fail_msg("%s: %.*s", err.text, BYTES_ARG(value));
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

/* Bytes that meet every escape of every layer. */
static void odd_bytes(struct buf *out, size_t len, uint32_t seed, bool utf8)
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
            buf_append_text(out, odd[(seed >> 20) % (sizeof(odd) / sizeof(*odd))]);
    }
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

static void test_the_length_in_front_is_right(void **state)
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
    envelope_encode(template, &binary, &out);
    size_t first = out.len;
    envelope_encode(template, &MESSAGE, &out);
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

/* A body as PHP would write it, around the message's properties. */
static void php_body(struct buf *body, struct bytes stamps, struct bytes message)
{
    struct buf text = {0};

    buf_append_text(&text, "O:36:\"Symfony\\Component\\Messenger\\Envelope\":2:{");
    php_write_string(&text, BYTES("\0Symfony\\Component\\Messenger\\Envelope\0stamps"));
    buf_append(&text, stamps);
    php_write_string(&text, BYTES("\0Symfony\\Component\\Messenger\\Envelope\0message"));
    buf_append(&text, message);
    buf_append_char(&text, '}');
    buf_clear(body);
    php_addslashes(body, buf_bytes(&text));
    buf_free(&text);
}

static int decode_message(struct envelope *envelope, struct bytes message, struct arena *arena)
{
    struct buf body = {0};

    php_body(&body, BYTES("a:0:{}"), message);
    int failed = envelope_decode_parts(envelope, arena_copy(arena, buf_bytes(&body)), BYTES("[]"),
                                       arena, NULL);
    buf_free(&body);
    return failed;
}

static void test_properties_of_any_visibility_order_and_company_are_read(void **state)
{
    static const struct bytes messages[] = {
        BYTES("O:1:\"M\":2:{s:5:\"topic\";s:1:\"t\";s:7:\"payload\";s:1:\"p\";}"),
        BYTES("O:1:\"M\":2:{s:7:\"payload\";s:1:\"p\";s:5:\"topic\";s:1:\"t\";}"),
        BYTES("O:1:\"M\":2:{s:8:\"\0*\0topic\";s:1:\"t\";s:10:\"\0*\0payload\";s:1:\"p\";}"),
        BYTES("O:1:\"M\":2:{s:8:\"\0M\0topic\";s:1:\"t\";s:10:\"\0M\0payload\";s:1:\"p\";}"),
        BYTES("O:1:\"M\":5:{s:3:\"qos\";i:1;s:5:\"topic\";s:1:\"t\";s:4:\"when\";O:1:\"D\":1:{s:1:"
              "\"d\";"
              "a:2:{i:0;N;i:1;b:1;}}s:7:\"payload\";s:1:\"p\";s:1:\"x\";r:3;}"),
        BYTES("O:1:\"M\":3:{s:1:\"f\";d:-1.0E+25;s:5:\"topic\";s:1:\"t\";s:7:\"payload\";s:1:\"p\";"
              "}"),
    };
    struct arena arena = {0};
    struct envelope envelope;

    (void)state;
    for (size_t i = 0; i < sizeof(messages) / sizeof(*messages); i++) {
        assert_int_equal(decode_message(&envelope, messages[i], &arena), 0);
        assert_text(envelope.topic, "t");
        assert_text(envelope.payload, "p");
        assert_text(envelope.message_class, "M");
    }
    arena_free(&arena);
}

static void test_messages_without_topic_or_payload_are_refused(void **state)
{
    static const char *const messages[] = {
        "N;",
        "s:1:\"t\";",
        "O:1:\"M\":0:{}",
        "O:1:\"M\":1:{s:5:\"topic\";s:1:\"t\";}",
        "O:1:\"M\":2:{s:5:\"topic\";s:1:\"t\";s:7:\"payload\";i:5;}",
        "O:1:\"M\":2:{s:5:\"topic\";s:1:\"t\";s:7:\"payload\";s:2:\"p\";}",
        "O:1:\"M\":3:{s:5:\"topic\";s:1:\"t\";s:7:\"payload\";s:1:\"p\";}",
        "O:1:\"M\":1:{s:5:\"topic\";s:1:\"t\";s:7:\"payload\";s:1:\"p\";}",
        "O:1:\"M\":2:{s:5:\"topic\";s:1:\"t\";s:7:\"payload\";R:99;}",
        "O:1:\"M\":99999999999999999999:{}",
        "O:1:\"M\":2:{s:18446744073709551615:\"topic\";s:1:\"t\";s:7:\"payload\";s:1:\"p\";}",
    };
    struct arena arena = {0};
    struct envelope envelope;

    (void)state;
    for (size_t i = 0; i < sizeof(messages) / sizeof(*messages); i++)
        assert_int_equal(decode_message(&envelope, bytes_of(messages[i]), &arena), -ERR_FORMAT);
    arena_free(&arena);
}

static void test_unknown_stamps_do_not_matter_and_the_last_redelivery_counts(void **state)
{
    static const char stamps[] =
        "a:3:{s:9:\"App\\Stamp\";a:1:{i:0;O:9:\"App\\Stamp\":1:{s:1:\"a\";E:3:\"A:B\";}}"
        "s:49:\"Symfony\\Component\\Messenger\\Stamp\\RedeliveryStamp\";a:2:{"
        "i:0;O:1:\"R\":1:{s:10:\"retryCount\";i:7;}"
        "i:1;O:1:\"R\":2:{s:1:\"x\";C:1:\"D\":2:{}}}s:13:\"\0R\0retryCount\";i:2;}}"
        "s:1:\"Z\";a:0:{}}";
    struct arena arena = {0};
    struct buf body = {0};
    struct envelope envelope;

    (void)state;
    php_body(&body, (struct bytes){stamps, sizeof(stamps) - 1},
             BYTES("O:1:\"M\":2:{s:5:\"topic\";s:1:\"t\";s:7:\"payload\";s:1:\"p\";}"));
    assert_int_equal(envelope_decode_parts(&envelope, buf_bytes(&body), BYTES_NONE, &arena, NULL),
                     0);
    assert_int_equal(envelope.retry_count, 2);
    buf_free(&body);
    arena_free(&arena);
}

/* Cut anywhere, an entry is refused, as is one with anything behind it. */
static void test_cut_or_continued_entries_are_refused(void **state)
{
    static const char *const serializers[] = {"php", "json"};
    struct arena arena = {0};
    struct buf file = {0};
    struct envelope envelope;
    struct error err;

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct bytes whole = vector_read(&file, "6.4", serializers[i], "fresh-utf8.message");

        for (size_t len = 0; len < whole.len; len++) {
            char *copy = malloc(len > 0 ? len : 1);

            memcpy(copy, whole.data, len);
            assert_int_equal(envelope_decode(&envelope, (struct bytes){copy, len}, &arena, &err),
                             -ERR_FORMAT);
            assert_true(strlen(err.text) > 0);
            free(copy);
        }
        buf_append_char(&file, ' ');
        assert_int_equal(envelope_decode(&envelope, buf_bytes(&file), &arena, &err), -ERR_FORMAT);
    }
    buf_free(&file);
    arena_free(&arena);
}

static void test_hostile_entries_are_refused_with_a_reason(void **state)
{
    static const char *const values[] = {
        "",
        "x",
        "s:",
        "s:5:\"{}\";",
        "s:18446744073709551615:\"{}\";",
        "s:99999999999999999999999:\"{}\";",
        "s:2:\"{}\"",
        "[]",
        "{}",
        "{\"body\":1,\"headers\":[]}",
        "{\"body\":\"\",\"headers\":[]}",
        "{\"body\":\"!!!\",\"headers\":[]}",
        "{\"body\":\"N;\",\"headers\":[]}",
        "{\"body\":\"O:1:\\\"X\\\":0:{}\",\"headers\":[]}",
        "{\"body\":\"{\\\"topic\\\":\\\"t\\\",\\\"payload\\\":\\\"p\\\"}\",\"headers\":[]}",
        "{\"body\":\"{\\\"topic\\\":\\\"t\\\",\\\"payload\\\":1}\",\"headers\":{\"type\":\"M\"}}",
        "{\"body\":\"{\\\"topic\\\":\\\"t\\\"}\",\"headers\":{\"type\":\"M\"}}",
        "{\"body\":\"{\\\"topic\\\":\\\"t\\\",\\\"payload\\\":\\\"p\\\"}\",\"headers\":[1]}",
        "{\"body\":\"{\\\"topic\\\":\\\"t\\\",\\\"payload\\\":\\\"p\\\"}\",\"headers\":"
        "{\"type\":\"M\",\"X-Mqtt-Encoding\":\"base64\"}}",
        "{\"body\":\"{\\\"topic\\\":\\\"t\\\",\\\"payload\\\":\\\"p\\\"}\",\"headers\":"
        "{\"type\":\"M\",\"X-Message-Stamp-Symfony\\\\Component\\\\Messenger\\\\Stamp\\\\"
        "RedeliveryStamp\":\"[{\\\"retryCount\\\":1e99}]\"}}",
    };
    struct arena arena = {0};
    struct envelope envelope;
    struct error err;

    (void)state;
    for (size_t i = 0; i < sizeof(values) / sizeof(*values); i++) {
        err.text[0] = '\0';
        if (envelope_decode(&envelope, bytes_of(values[i]), &arena, &err) != -ERR_FORMAT)
            fail_msg("accepted: %s", values[i]);
        assert_true(strlen(err.text) > 0);
    }
    arena_free(&arena);
}

static void test_a_deep_nest_of_values_is_refused(void **state)
{
    struct arena arena = {0};
    struct buf deep = {0};
    struct envelope envelope;

    (void)state;
    for (int i = 0; i < 100000; i++)
        buf_append_text(&deep, "a:1:{i:0;");
    buf_append_text(&deep, "}");
    assert_int_equal(decode_message(&envelope, buf_bytes(&deep), &arena), -ERR_FORMAT);
    buf_free(&deep);
    arena_free(&arena);
}

static void test_metadata_of_the_wrong_form_counts_as_absent(void **state)
{
    static const char *const times[] = {
        "2026-11-24T10:00:00Z",        "2026-13-24T10:00:00.123456Z", "2026-11-24T24:00:00.123456Z",
        "1969-12-31T23:59:59.999999Z", "2026-11-24 10:00:00.123456Z", "",
    };
    struct arena arena = {0};
    struct buf value = {0};
    struct envelope envelope;

    (void)state;
    for (size_t i = 0; i < sizeof(times) / sizeof(*times); i++) {
        buf_clear(&value);
        buf_printf(
            &value,
            "{\"headers\":{\"type\":\"M\",\"X-Mqtt-Id\":5,\"X-Mqtt-Received-At\":\"%s\"},"
            "\"body\":\"{\\\"payload\\\":\\\"p\\\",\\\"more\\\":[{}],\\\"topic\\\":\\\"t\\\"}\"}",
            times[i]);
        decode(&envelope, buf_bytes(&value), &arena);
        assert_text(envelope.topic, "t");
        assert_int_equal(envelope.mqtt_id.len, 0);
        assert_true(envelope.received_us == 0);
    }
    buf_free(&value);
    arena_free(&arena);
}

static void test_join_puts_body_and_headers_together_again(void **state)
{
    static const char *const serializers[] = {"php", "json"};
    struct arena arena = {0};
    struct buf file = {0};
    struct buf out = {0};
    struct envelope envelope;
    struct error err;

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct bytes whole = vector_read(&file, "7.4", serializers[i], "fresh-utf8.message");

        decode(&envelope, whole, &arena);
        buf_clear(&out);
        assert_int_equal(envelope_join(&out, envelope.body, envelope.headers, true, &err), 0);
        assert_bytes(buf_bytes(&out), whole);
    }
    buf_clear(&out);
    assert_int_equal(envelope_join(&out, BYTES("x"), BYTES("[]"), false, &err), 0);
    assert_text(buf_bytes(&out), "{\"body\":\"x\",\"headers\":[]}");
    assert_int_equal(envelope_join(&out, BYTES("\xFF"), BYTES("[]"), false, &err), -ERR_FORMAT);
    assert_int_equal(envelope_join(&out, BYTES("x"), BYTES("{"), false, &err), -ERR_FORMAT);
    buf_free(&file);
    buf_free(&out);
    arena_free(&arena);
}

static void test_a_large_message_comes_back(void **state)
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
        cmocka_unit_test(test_the_length_in_front_is_right),
        cmocka_unit_test(test_a_template_is_used_again_and_appends),
        cmocka_unit_test(test_json_that_is_not_utf8_says_so_in_its_headers),
        cmocka_unit_test(test_properties_of_any_visibility_order_and_company_are_read),
        cmocka_unit_test(test_messages_without_topic_or_payload_are_refused),
        cmocka_unit_test(test_unknown_stamps_do_not_matter_and_the_last_redelivery_counts),
        cmocka_unit_test(test_cut_or_continued_entries_are_refused),
        cmocka_unit_test(test_hostile_entries_are_refused_with_a_reason),
        cmocka_unit_test(test_a_deep_nest_of_values_is_refused),
        cmocka_unit_test(test_metadata_of_the_wrong_form_counts_as_absent),
        cmocka_unit_test(test_join_puts_body_and_headers_together_again),
        cmocka_unit_test(test_a_large_message_comes_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
