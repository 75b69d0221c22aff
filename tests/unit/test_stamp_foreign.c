/* What others wrote and stamped stays as it was, but for PHP's references to values behind an insertion. */
#include "tests/unit/stamp_case.h"

/* The serialized text of an envelope around these stamps and this message, as a body. */
static void set_body(struct subject *subject, const char *stamps, const char *message)
{
    struct buf text = {0};

    php_write_object(&text, BYTES("Symfony\\Component\\Messenger\\Envelope"), 2);
    php_write_string(&text, BYTES("\0Symfony\\Component\\Messenger\\Envelope\0stamps"));
    buf_append_text(&text, stamps);
    php_write_string(&text, BYTES("\0Symfony\\Component\\Messenger\\Envelope\0message"));
    buf_append_text(&text, message);
    buf_append_char(&text, '}');
    buf_clear(&subject->body);
    php_addslashes(&subject->body, buf_bytes(&text));
    buf_clear(&subject->headers);
    buf_append_text(&subject->headers, "[]");
    buf_free(&text);
    subject_decode(subject);
}

#define DELAY                                                                                      \
    "s:44:\"Symfony\\Component\\Messenger\\Stamp\\DelayStamp\";a:1:{i:4;O:1:\"D\":1:{s:1:\"d\";i:" \
    "5;}}"
#define MESSAGE_ID                                                                                 \
    "s:57:\"Symfony\\Component\\Messenger\\Stamp\\TransportMessageIdStamp\";a:1:{i:0;O:1:\"T\":1:" \
    "{"                                                                                            \
    "s:2:\"id\";s:3:\"0-1\";}}"
#define OURS "s:5:\"App\\S\";a:1:{i:0;O:5:\"App\\S\":1:{s:1:\"o\";O:1:\"X\":0:{}}}"

static void assert_has(const struct subject *subject, const char *word)
{
    struct arena arena = {0};
    struct bytes text = php_stripslashes(buf_bytes(&subject->body), &arena);

    if (memmem(text.data, text.len, word, strlen(word)) == NULL)
        fail_msg("%s is not in %.*s", word, BYTES_ARG(text));
    arena_free(&arena);
}

static void test_references_go_on_naming_the_same_values(void **state)
{
    struct stamp_failure failure = REFUSED;
    struct subject subject = {0};

    (void)state;
    /* 1 envelope, 2 stamps, 3 list, 4 DelayStamp, 5 its int, 6 list, 7 App\S, 8 X, 9 message, 10, 11 */
    failure.stream_id = BYTES_NONE;
    set_body(&subject, "a:2:{" DELAY OURS "}",
             "O:1:\"M\":7:{s:5:\"topic\";s:1:\"t\";s:7:\"payload\";s:1:\"p\";s:1:\"a\";r:4;"
             "s:1:\"b\";r:7;s:1:\"c\";r:9;s:1:\"d\";R:10;s:1:\"e\";r:8;}");
    subject_stamp(&subject, &failure);
    /* A DelayStamp of 2 values behind 5, lists of 6 and 7 values behind 8. */
    assert_has(&subject,
               "s:1:\"a\";r:4;s:1:\"b\";r:9;s:1:\"c\";r:24;s:1:\"d\";R:25;s:1:\"e\";r:10;}}");
    assert_has(&subject, "a:2:{i:4;O:1:\"D\":1:{s:1:\"d\";i:5;}i:5;O:44:");
    assert_has(&subject, "a:4:{s:44:");
    subject_free(&subject);
}

static void test_references_follow_when_the_message_id_is_replaced(void **state)
{
    struct subject subject = {0};

    (void)state;
    /* 1 envelope, 2 stamps, 3 list, 4 message id, 5 its string, 6 list, 7 App\S, 8 X, 9 message */
    set_body(&subject, "a:2:{" MESSAGE_ID OURS "}",
             "O:1:\"M\":4:{s:5:\"topic\";s:1:\"t\";s:7:\"payload\";s:1:\"p\";s:1:\"b\";r:7;"
             "s:1:\"c\";r:9;}");
    subject_stamp(&subject, &REFUSED);
    /* 3 values fewer behind 2; behind 8 there are lists of 3, 6, 3 and 7 values. */
    assert_has(&subject, "s:1:\"b\";r:4;s:1:\"c\";r:25;}}");
    assert_has(&subject, "a:5:{" OURS "s:57:");
    subject_free(&subject);
}

#define DELAYS(names)                                                                              \
    "s:44:\"Symfony\\Component\\Messenger\\Stamp\\DelayStamp\";a:11:{i:0;O:1:\"F\":0:{}" names     \
    "i:3;O:1:\"D\":0:{}i:4;O:1:\"D\":0:{}i:5;O:1:\"D\":0:{}i:6;O:1:\"D\":0:{}i:7;O:1:\"D\":0:{}"   \
    "i:8;O:1:\"D\":0:{}i:9;O:1:\"D\":0:{}i:10;O:1:\"L\":0:{}}"

static void test_surplus_stamps_go_unless_something_refers_to_them(void **state)
{
    struct stamp_failure failure = REFUSED;
    struct subject subject = {0};

    (void)state;
    failure.stream_id = BYTES_NONE;
    /* 1 envelope, 2 stamps, 3 list, 4 the first, 5 and 6 surplus, 7 ... 14 kept, 15 list, 16 App\S */
    set_body(&subject, "a:2:{" DELAYS("i:1;O:1:\"G\":0:{}i:2;O:1:\"G\":0:{}") OURS "}",
             "O:1:\"M\":4:{s:5:\"topic\";s:1:\"t\";s:7:\"payload\";s:1:\"p\";s:1:\"a\";r:4;"
             "s:1:\"b\";r:16;}");
    subject_stamp(&subject, &failure);
    assert_has(&subject, "a:10:{i:0;O:1:\"F\":0:{}i:3;O:1:\"D\"");
    assert_has(&subject, "i:10;O:1:\"L\":0:{}i:11;O:44:");
    assert_has(&subject, "s:1:\"a\";r:4;s:1:\"b\";r:16;}}"); /* two fewer, two more */

    set_body(&subject, "a:2:{" DELAYS("i:1;O:1:\"G\":0:{}i:2;O:1:\"G\":0:{}") OURS "}",
             "O:1:\"M\":3:{s:5:\"topic\";s:1:\"t\";s:7:\"payload\";s:1:\"p\";s:1:\"a\";r:6;}");
    subject_stamp(&subject, &failure);
    assert_has(&subject, "a:12:{i:0;O:1:\"F\":0:{}i:1;O:1:\"G\"");
    assert_has(&subject, "s:1:\"a\";r:6;}}");
    subject_free(&subject);
}

static void test_stamps_nested_as_deep_as_php_reads_them_are_kept(void **state)
{
    struct subject subject = {0};
    struct buf stamps = {0};

    (void)state;
    buf_append_text(&stamps, "a:1:{s:5:\"App\\S\";");
    for (int depth = 0; depth < 4000; depth++)
        buf_append_text(&stamps, "a:1:{i:0;");
    buf_append_text(&stamps, "N;");
    for (int depth = 0; depth < 4001; depth++)
        buf_append_char(&stamps, '}');
    set_body(&subject, buf_text(&stamps),
             "O:1:\"M\":2:{s:5:\"topic\";s:1:\"t\";s:7:\"payload\";s:1:\"p\";}");
    subject_stamp(&subject, &REFUSED);
    assert_int_equal(occurrences(&subject.body, "a:1:{i:0;a:1:{i:0;"), 3999);
    subject_free(&subject);
    buf_free(&stamps);
}

static int stamp_of(const char *stamps, const char *message)
{
    struct subject subject = {0};
    struct buf body = {0};
    struct buf headers = {0};
    struct error err;

    set_body(&subject, stamps, message);
    int failed = stamp_failure(&body, &headers, &subject.envelope, &REFUSED, &err);
    subject_free(&subject);
    buf_free(&body);
    buf_free(&headers);
    return failed;
}

static void test_a_message_that_a_stamp_holds_too_stays_the_same_one(void **state)
{
    static const char *const names[] = {"referenced.message", "referenced-strings.message"};

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct subject subject = {0};

        subject_read(&subject, "5.4", "php", names[i]);
        struct bytes payload = arena_copy(&subject.arena, subject.envelope.payload);
        for (int64_t retry = 1; retry < 20; retry++) {
            struct stamp_failure failure = REFUSED;

            failure.retry_count = retry;
            subject_stamp(&subject, &failure);
            assert_text(subject.envelope.topic, "site \xC3\xA9/1");
            assert_bytes(subject.envelope.payload, payload);
            assert_int_equal(subject.envelope.retry_count, retry);
        }
        subject_free(&subject);
    }
}

static void test_an_envelope_that_stamping_would_corrupt_is_refused(void **state)
{
    static const char plain[] = "O:1:\"M\":2:{s:5:\"topic\";s:1:\"t\";s:7:\"payload\";s:1:\"p\";}";
    static const char repeats[] = "O:1:\"M\":3:{s:5:\"topic\";s:1:\"t\";s:7:\"payload\";s:1:\"p\";"
                                  "s:1:\"r\";r:4;}";
    static const char custom[] = "a:1:{s:1:\"S\";a:1:{i:0;C:1:\"C\":4:{i:1;}}}";
    static const char nested[] = "a:1:{s:1:\"S\";a:1:{i:0;C:1:\"C\":4:{r:1;}}}";
    static const char full[] = "a:1:{s:44:\"Symfony\\Component\\Messenger\\Stamp\\DelayStamp\";"
                               "a:1:{i:9223372036854775807;N;}}";

    (void)state;
    assert_int_equal(stamp_of("a:1:{" OURS "}", repeats), 0);
    assert_int_equal(stamp_of("a:1:{" MESSAGE_ID "}", repeats), -ERR_FORMAT);
    assert_int_equal(stamp_of(custom, plain), 0);
    assert_int_equal(stamp_of(custom, repeats), -ERR_FORMAT);
    assert_int_equal(stamp_of(nested, plain), -ERR_FORMAT);
    assert_int_equal(stamp_of(full, plain), -ERR_FORMAT);
}

static void test_foreign_headers_stay_byte_for_byte(void **state)
{
    struct subject subject = {0};

    (void)state;
    buf_append_text(&subject.body, "{\"topic\":\"t\",\"payload\":\"p\"}");
    buf_append_text(
        &subject.headers,
        "{ \"X-Message-Stamp-App\\\\S\" : \"[{\\\"a\\\":1.50, \\\"b\\\":\\\"\\\\u00e9\\\"}]\" ,"
        "\"type\":\"M\",\"Content-Type\":\"application/json\",\"n\":[1, 2.0]}");
    subject_decode(&subject);
    subject_stamp(&subject, &REFUSED);
    assert_true(bytes_starts_with(
        buf_bytes(&subject.headers),
        BYTES("{\"X-Message-Stamp-App\\\\S\":\"[{\\\"a\\\":1.50, \\\"b\\\":\\\"\\\\u00e9\\\"}]\","
              "\"X-Message-Stamp-Symfony\\\\Component\\\\Messenger\\\\Stamp\\\\"
              "TransportMessageIdStamp\":")));
    assert_true(bytes_ends_with(
        buf_bytes(&subject.headers),
        BYTES(",\"type\":\"M\",\"Content-Type\":\"application/json\",\"n\":[1, 2.0]}")));
    subject_free(&subject);
}

static void test_an_undecodable_entry_is_kept_whole_and_marked(void **state)
{
    static const struct bytes values[] = {BYTES("not an envelope"), BYTES("\xFF\0\xFE"), BYTES_NONE,
                                          BYTES("a:2:{i:0;s:1:\"k\";i:1;s:1:\"\0\";}")};

    (void)state;
    for (size_t i = 0; i < 8; i++) {
        struct envelope_format format = {
            .serializer = i % 2 == 0 ? ENVELOPE_PHP : ENVELOPE_JSON,
            .visibility = ENVELOPE_PRIVATE,
            .message_class = BYTES("App\\Message\\MqttMessage"),
            .bus = BYTES("messenger.bus.default"),
            .redis_serialized = true,
            .metadata_headers = true,
        };
        struct stamp_failure failure = REFUSED;
        struct subject subject = {0};

        failure.exception_message = BYTES("bad byte \xFF");
        failure.receiver = BYTES("async");
        failure.entry = BYTES("5-0");
        stamp_undecodable(&subject.body, &subject.headers, &format, values[i / 2], &failure);
        subject_decode(&subject);
        assert_true(subject.envelope.raw);
        assert_int_equal(subject.envelope.raw_fields, i / 2 == 3);
        assert_text(subject.envelope.topic, "$undecodable");
        assert_bytes(subject.envelope.payload, values[i / 2]);
        assert_int_equal(subject.envelope.mqtt_id.len, 0);
        assert_int_equal(occurrences(&subject.headers, "\"X-Mqtt-Entry\":\"5-0\""), 1);
        assert_true(bytes_is_utf8(buf_bytes(&subject.body)));
        assert_true(bytes_is_utf8(buf_bytes(&subject.headers)));
        subject_free(&subject);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_references_go_on_naming_the_same_values),
        cmocka_unit_test(test_surplus_stamps_go_unless_something_refers_to_them),
        cmocka_unit_test(test_stamps_nested_as_deep_as_php_reads_them_are_kept),
        cmocka_unit_test(test_references_follow_when_the_message_id_is_replaced),
        cmocka_unit_test(test_a_message_that_a_stamp_holds_too_stays_the_same_one),
        cmocka_unit_test(test_an_envelope_that_stamping_would_corrupt_is_refused),
        cmocka_unit_test(test_foreign_headers_stay_byte_for_byte),
        cmocka_unit_test(test_an_undecodable_entry_is_kept_whole_and_marked),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
