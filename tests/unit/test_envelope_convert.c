/* A message under the other serializer, and back. */
#include "common/wire/envelope.h"

#include "common/wire/failed.h"
#include "tests/unit/envelope_case.h"

#define STAMP(name) "X-Message-Stamp-Symfony\\\\Component\\\\Messenger\\\\Stamp\\\\" name
#define TYPE        "{\"type\":\"App\\\\Message\\\\MqttMessage\""
#define BODY        "{\"topic\":\"a\",\"payload\":\"b\"}"

static const char *const VERSIONS[] = {"5.4", "6.4", "7.4"};

static struct envelope_format of(enum envelope_serializer serializer)
{
    struct envelope_format format = format_of(serializer);

    format.redis_serialized = false;
    return format;
}

static struct envelope decode_row(struct bytes body, struct bytes headers, struct arena *arena)
{
    struct envelope envelope;
    struct error err;

    if (envelope_decode_parts(&envelope, arena_copy(arena, body), arena_copy(arena, headers), arena,
                              &err) < 0)
        fail_msg("%s", err.text);
    return envelope;
}

static struct envelope read_row(const char *version, const char *serializer, struct arena *arena)
{
    struct buf body = {0}, headers = {0};

    vector_read(&body, version, serializer, "failed-after-retries.body");
    vector_read(&headers, version, serializer, "failed-after-retries.headers");
    struct envelope envelope = decode_row(buf_bytes(&body), buf_bytes(&headers), arena);
    buf_free(&body);
    buf_free(&headers);
    return envelope;
}

static struct envelope convert(const struct envelope *envelope, enum envelope_serializer serializer,
                               struct arena *arena)
{
    const struct envelope_format format = of(serializer);
    struct envelope converted;
    struct error err;

    if (envelope_convert(&converted, envelope, &format, arena, &err) < 0)
        fail_msg("%s", err.text);
    assert_int_equal(converted.serializer, serializer);
    return converted;
}

static void assert_refused(const struct envelope *envelope, enum envelope_serializer serializer,
                           const char *why, struct arena *arena)
{
    const struct envelope_format format = of(serializer);
    struct envelope converted;
    struct error err;

    assert_int_equal(envelope_convert(&converted, envelope, &format, arena, &err), -ERR_FORMAT);
    assert_string_equal(err.text, why);
}

static bool holds(struct bytes text, const char *word)
{
    return memmem(text.data, text.len, word, strlen(word)) != NULL;
}

static void assert_holds(struct bytes text, const char *word)
{
    if (!holds(text, word))
        fail_msg("%s is not in %.*s", word, BYTES_ARG(text));
}

static void test_a_json_row_of_symfony_comes_back_to_the_byte(void **state)
{
    (void)state;
    for (size_t i = 1; i < 3; i++) { /* 5.4 has properties in its RedeliveryStamp that 6.4 lacks */
        struct arena arena = {0};
        struct envelope row = read_row(VERSIONS[i], "json", &arena);
        struct envelope php = convert(&row, ENVELOPE_PHP, &arena);
        struct envelope json = convert(&php, ENVELOPE_JSON, &arena);

        assert_text(php.headers, "[]");
        assert_bytes(json.body, row.body);
        assert_bytes(json.headers, row.headers);
        arena_free(&arena);
    }
}

/* JSON has no fractions of a second. */
static void clear_fractions(struct buf *body)
{
    static const char date[] = "2026-11-24 09:56:";
    char *at = body->data;

    while ((at = memmem(at, (size_t)(body->data + body->len - at), date, strlen(date))) != NULL) {
        memcpy(at + 20, "000000", 6);
        at += 26;
    }
}

static void test_a_php_row_of_symfony_comes_back_but_for_fractions_of_seconds(void **state)
{
    struct buf expected = {0};
    struct arena arena = {0};
    struct envelope row = read_row("6.4", "php", &arena);
    struct envelope json = convert(&row, ENVELOPE_JSON, &arena);
    struct envelope php = convert(&json, ENVELOPE_PHP, &arena);

    (void)state;
    vector_read(&expected, "6.4", "php", "failed-after-retries.body");
    clear_fractions(&expected);
    assert_bytes(php.body, buf_bytes(&expected));
    assert_text(php.headers, "[]");
    buf_free(&expected);
    arena_free(&arena);
}

static void count_stamps(void *context, const struct failed_stamp *stamp)
{
    *(size_t *)context += stamp->len > 0;
}

static void test_rows_of_every_symfony_tell_the_same_both_ways(void **state)
{
    (void)state;
    for (size_t i = 0; i < 6; i++) {
        bool from_json = i % 2 == 1;
        struct arena arena = {0};
        struct envelope row = read_row(VERSIONS[i / 2], from_json ? "json" : "php", &arena);
        struct envelope converted = convert(&row, from_json ? ENVELOPE_PHP : ENVELOPE_JSON, &arena);
        size_t before = 0, after = 0;
        struct failed failed;

        failed_read(&failed, row.body, row.headers, count_stamps, &before, &arena);
        failed_read(&failed, converted.body, converted.headers, count_stamps, &after, &arena);
        assert_int_equal(after, before);
        assert_text(failed.error, "The hub answered 503");
        assert_text(failed.error_class, "RuntimeException");
        assert_text(failed.transport, "async");
        assert_text(failed.class, "App\\Message\\MqttMessage");
        assert_text(converted.payload, "{\"temp\":21.5}");
        assert_int_equal(converted.retry_count, row.retry_count);
        arena_free(&arena);
    }
}

static void encode_row(struct envelope *envelope, const struct envelope_format *format,
                       const struct envelope_message *message, struct arena *arena)
{
    struct buf value = {0};

    encode(&value, format, message);
    decode(envelope, arena_copy(arena, buf_bytes(&value)), arena);
    buf_free(&value);
}

static void test_any_message_is_as_it_is_written_with_that_serializer(void **state)
{
    static const struct bytes payloads[] = {BYTES(""), BYTES("\"'\\/"),
                                            BYTES("{\"a\":{\"b\":[1]}}"), BYTES("\xF0\x9F\x8C\xA1"),
                                            BYTES("\xFF\0\x01")};
    struct buf odd = {0};

    (void)state;
    for (int i = 0; i < 256; i++)
        buf_append_char(&odd, (char)i);
    for (size_t i = 0; i < 3 * 2 * 6; i++) {
        struct envelope_format php = of(ENVELOPE_PHP), json = of(ENVELOPE_JSON);
        struct envelope_message message = MESSAGE;
        struct arena arena = {0};
        struct envelope as_php, as_json, converted;
        struct error err;

        php.visibility = (enum envelope_visibility)(i % 3);
        php.metadata_headers = json.metadata_headers = i / 3 % 2 == 0;
        message.payload = i / 6 < 5 ? payloads[i / 6] : buf_bytes(&odd);
        message.topic = i % 2 == 0 ? BYTES("gr\xC3\xBC\xC3\x9F/x") : BYTES("bad \xC3/x");
        encode_row(&as_php, &php, &message, &arena);
        encode_row(&as_json, &json, &message, &arena);
        assert_int_equal(envelope_convert(&converted, &as_php, &json, &arena, &err), 0);
        assert_bytes(converted.body, as_json.body);
        assert_bytes(converted.headers, as_json.headers);
        assert_int_equal(envelope_convert(&converted, &as_json, &php, &arena, &err), 0);
        assert_bytes(converted.body, as_php.body);
        assert_bytes(converted.headers, as_php.headers);
        arena_free(&arena);
    }
    buf_free(&odd);
}

static void test_an_unknown_stamp_of_json_waits_in_the_headers(void **state)
{
    struct arena arena = {0};
    struct envelope row =
        decode_row(BYTES(BODY),
                   BYTES(TYPE ",\"X-Message-Stamp-App\\\\Trace\":\"[{\\\"trace\\\":\\\"t\\\"}]\","
                              "\"Content-Type\":\"application\\/json\",\"X-Mqtt-Id\":\"7-1\"}"),
                   &arena);
    struct envelope php = convert(&row, ENVELOPE_PHP, &arena);
    struct envelope json = convert(&php, ENVELOPE_JSON, &arena);
    size_t stamps = 0;
    struct failed failed;

    (void)state;
    assert_text(php.headers,
                "{\"X-Message-Stamp-App\\\\Trace\":\"[{\\\"trace\\\":\\\"t\\\"}]\",\"X-Mqtt-"
                "Id\":\"7-1\"}");
    assert_false(holds(php.body, "Trace"));
    failed_read(&failed, php.body, php.headers, count_stamps, &stamps, &arena);
    assert_int_equal(stamps, 1); /* it is shown */
    assert_holds(json.headers, "\"X-Message-Stamp-App\\\\Trace\":\"[{\\\"trace\\\":\\\"t\\\"}]\"");
    arena_free(&arena);
}

/* A serialized envelope around these stamps and this message. */
static struct envelope php_row(const char *stamps, const char *message, struct arena *arena)
{
    struct buf text = {0}, body = {0};

    php_write_object(&text, BYTES(ENVELOPE_CLASS), 2);
    php_write_string(&text, BYTES("\0" ENVELOPE_CLASS "\0stamps"));
    buf_append_text(&text, stamps);
    php_write_string(&text, BYTES("\0" ENVELOPE_CLASS "\0message"));
    buf_append_text(&text, message);
    buf_append_char(&text, '}');
    php_addslashes(&body, buf_bytes(&text));
    struct envelope envelope = decode_row(buf_bytes(&body), BYTES("[]"), arena);
    buf_free(&text);
    buf_free(&body);
    return envelope;
}

#define MQTT                                                                                       \
    "O:23:\"App\\Message\\MqttMessage\":2:{s:5:\"topic\";s:1:\"a\";s:7:\"payload\";s:1:\"b\";}"
#define PHP_STAMP(length, name, properties)                                                        \
    "s:" length ":\"" ENVELOPE_STAMP_CLASS(name) "\";a:1:{i:0;O:" length                           \
                                                 ":\"" ENVELOPE_STAMP_CLASS(name) "\":" properties \
                                                                                  "}"
#define ERROR_STAMP(code, flatten)                                                                 \
    PHP_STAMP("51", "ErrorDetailsStamp",                                                           \
              "4:{s:14:\"exceptionClass\";s:1:\"E\";s:13:\"exceptionCode\";" code                  \
              "s:16:\"exceptionMessage\";s:1:\"m\";s:16:\"flattenException\";" flatten "}")
#define REDELIVERY_STAMP(date, type, zone)                                                         \
    PHP_STAMP("49", "RedeliveryStamp",                                                             \
              "2:{s:10:\"retryCount\";i:2;s:13:\"redeliveredAt\";O:17:\"DateTimeImmutable\":3:{"   \
              "s:4:\"date\";" date "s:13:\"timezone_type\";i:" type ";s:8:\"timezone\";" zone      \
              "}}")

static void test_stamps_of_the_application_and_traces_are_left_out_for_json(void **state)
{
    struct arena arena = {0};
    struct envelope row = php_row(
        "a:4:{s:5:\"App\\S\";a:1:{i:0;O:5:\"App\\S\":1:{s:1:\"o\";" MQTT
        "}}" ERROR_STAMP("s:5:\"23505\";", "O:1:\"F\":1:{s:5:\"trace\";a:1:{i:0;O:1:\"G\":0:{}}}")
            PHP_STAMP("44", "DelayStamp", "1:{s:5:\"delay\";i:-3;}")
                PHP_STAMP("46", "HandledStamp",
                          "2:{s:6:\"result\";a:0:{}s:11:\"handlerName\";s:3:\"H::\";}") "}",
        "r:5;", &arena);
    struct envelope json = convert(&row, ENVELOPE_JSON, &arena);

    (void)state;
    assert_text(json.body, BODY);
    assert_text(
        json.headers,
        TYPE ",\"" STAMP("ErrorDetailsStamp") "\":\"[{\\\"exceptionClass\\\":\\\"E\\\","
                                              "\\\"exceptionCode\\\":\\\"23505\\\","
                                              "\\\"exceptionMessage\\\":\\\"m\\\","
                                              "\\\"flattenException\\\":null}]\",\"" STAMP(
                                                  "DelayStamp") "\":\"[{\\\"delay\\\":-3}]\","
                                                                "\"" STAMP("HandledStamp") "\":\"[{"
                                                                                           "\\\"res"
                                                                                           "ult\\\""
                                                                                           ":null,"
                                                                                           "\\\"han"
                                                                                           "dlerNam"
                                                                                           "e\\\":"
                                                                                           "\\\"H::"
                                                                                           "\\\"}]"
                                                                                           "\","
                                                                                           "\"Conte"
                                                                                           "nt-"
                                                                                           "Type\":"
                                                                                           "\"appli"
                                                                                           "cation"
                                                                                           "\\/"
                                                                                           "json\""
                                                                                           "}");
    arena_free(&arena);
}

#define DATE "s:26:\"2026-11-24 10:00:00.123456\";"

static void test_times_keep_their_zone(void **state)
{
    static const struct {
        const char *stamps;
        const char *json;
        const char *php; /* once back */
    } cases[] = {
        {"a:1:{" REDELIVERY_STAMP(DATE, "3", "s:3:\"UTC\";") "}", "2026-11-24T10:00:00+00:00",
         "i:3;s:8:\"timezone\";s:3:\"UTC\";"},
        {"a:1:{" REDELIVERY_STAMP(DATE, "1", "s:6:\"+00:00\";") "}", "2026-11-24T10:00:00+00:00",
         "i:3;s:8:\"timezone\";s:3:\"UTC\";"},
        {"a:1:{" REDELIVERY_STAMP(DATE, "1", "s:6:\"-03:30\";") "}", "2026-11-24T10:00:00-03:30",
         "i:1;s:8:\"timezone\";s:6:\"-03:30\";"},
        {"a:1:{" REDELIVERY_STAMP(DATE, "3", "s:13:\"Europe/Berlin\";") "}",
         "2026-11-24T10:00:00 Europe\\\\\\/Berlin", "i:3;s:8:\"timezone\";s:13:\"Europe/Berlin\";"},
    };

    (void)state;
    for (size_t i = 0; i < LENGTH_OF(cases); i++) {
        struct arena arena = {0};
        struct envelope row = php_row(cases[i].stamps, MQTT, &arena);
        struct envelope json = convert(&row, ENVELOPE_JSON, &arena);
        struct envelope php = convert(&json, ENVELOPE_PHP, &arena);

        assert_holds(json.headers, cases[i].json);
        assert_holds(php_stripslashes(php.body, &arena), cases[i].php);
        arena_free(&arena);
    }
}

static void test_a_conversion_that_would_lose_data_is_refused(void **state)
{
    static const struct {
        const char *stamps;
        const char *message;
        const char *why;
    } cases[] = {
        {"a:0:{}", "O:5:\"App\\M\":2:{s:5:\"topic\";s:1:\"a\";s:7:\"payload\";s:1:\"b\";}",
         "it is a App\\M, and only App\\Message\\MqttMessage can be converted"},
        {"a:0:{}",
         "O:23:\"App\\Message\\MqttMessage\":3:{s:5:\"topic\";s:1:\"a\";s:7:\"payload\";s:1:\"b\";"
         "s:1:\"c\";i:1;}",
         "its message has not only topic and payload"},
        {"a:1:{" REDELIVERY_STAMP(DATE, "2", "s:4:\"CEST\";") "}", MQTT,
         "redeliveredAt of its RedeliveryStamp is not as Symfony writes it"},
        {"a:1:{" REDELIVERY_STAMP("s:26:\"2026-13-24 10:00:00.123456\";", "3", "s:3:\"UTC\";") "}",
         MQTT, "redeliveredAt of its RedeliveryStamp is not as Symfony writes it"},
        {"a:1:{" ERROR_STAMP("d:1;", "N;") "}", MQTT,
         "exceptionCode of its ErrorDetailsStamp is not as Symfony writes it"},
        {"a:1:{" PHP_STAMP("44", "DelayStamp", "0:{}") "}", MQTT,
         "delay of its DelayStamp is not as Symfony writes it"},
    };

    (void)state;
    for (size_t i = 0; i < LENGTH_OF(cases); i++) {
        struct arena arena = {0};
        struct envelope row = php_row(cases[i].stamps, cases[i].message, &arena);

        assert_refused(&row, ENVELOPE_JSON, cases[i].why, &arena);
        arena_free(&arena);
    }
}

static void test_json_that_php_would_not_read_is_refused(void **state)
{
    static const struct {
        const char *body;
        const char *more;
        const char *why;
    } cases[] = {
        {"{\"topic\":\"a\",\"payload\":\"b\",\"qos\":1}", "",
         "its message has not only topic and payload"},
        {BODY, ",\"" STAMP("DelayStamp") "\":\"[{\\\"delay\\\":\\\"1\\\"}]\"",
         "delay of its DelayStamp is not as Symfony writes it"},
        {BODY,
         ",\"" STAMP("RedeliveryStamp") "\":\"[{\\\"retryCount\\\":1,\\\"redeliveredAt\\\":\\\"24."
                                        "11.2026\\\"}]\"",
         "redeliveredAt of its RedeliveryStamp is not as Symfony writes it"},
        {BODY, ",\"X-Message-Stamp-App\\\\S\":\"garbage\"", "its stamps are not well-formed"},
    };

    (void)state;
    for (size_t i = 0; i < LENGTH_OF(cases); i++) {
        struct arena arena = {0};
        struct buf headers = {0};

        buf_printf(&headers, "%s%s}", TYPE, cases[i].more);
        struct envelope row = decode_row(bytes_of(cases[i].body), buf_bytes(&headers), &arena);
        assert_refused(&row, ENVELOPE_PHP, cases[i].why, &arena);
        buf_free(&headers);
        arena_free(&arena);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_json_row_of_symfony_comes_back_to_the_byte),
        cmocka_unit_test(test_a_php_row_of_symfony_comes_back_but_for_fractions_of_seconds),
        cmocka_unit_test(test_rows_of_every_symfony_tell_the_same_both_ways),
        cmocka_unit_test(test_any_message_is_as_it_is_written_with_that_serializer),
        cmocka_unit_test(test_an_unknown_stamp_of_json_waits_in_the_headers),
        cmocka_unit_test(test_stamps_of_the_application_and_traces_are_left_out_for_json),
        cmocka_unit_test(test_times_keep_their_zone),
        cmocka_unit_test(test_a_conversion_that_would_lose_data_is_refused),
        cmocka_unit_test(test_json_that_php_would_not_read_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
