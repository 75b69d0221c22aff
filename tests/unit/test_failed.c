#include "common/wire/failed.h"

#include "common/wire/envelope.h"
#include "common/wire/stamp.h"
#include "tests/unit/vectors.h"

static const char *const VERSIONS[] = {"5.4", "6.4", "7.4"};
static const char *const SERIALIZERS[] = {"php", "json"};

/* What the stamps said, one behind the other. */
struct seen {
    struct buf text;
    size_t redeliveries;
};

static void see(void *context, const struct failed_stamp *stamp)
{
    struct seen *seen = context;

    seen->redeliveries += bytes_equal_text(stamp->class, ENVELOPE_STAMP_CLASS("RedeliveryStamp"));
    for (size_t i = 0; i < stamp->len; i++)
        buf_printf(&seen->text, "%.*s=%.*s;", BYTES_ARG(stamp->properties[i].name),
                   BYTES_ARG(stamp->properties[i].value));
}

static void assert_said(struct seen *seen, const char *text)
{
    if (strstr(buf_text(&seen->text), text) == NULL)
        fail_msg("%s is not in %s", text, buf_text(&seen->text));
}

static void test_rows_of_every_symfony_tell_their_error_and_history(void **state)
{
    (void)state;
    for (size_t i = 0; i < 6; i++) {
        const char *version = VERSIONS[i / 2], *serializer = SERIALIZERS[i % 2];
        struct buf body = {0}, headers = {0};
        struct arena arena = {0};
        struct seen seen = {0};
        struct failed failed;

        vector_read(&body, version, serializer, "failed-after-retries.body");
        vector_read(&headers, version, serializer, "failed-after-retries.headers");
        failed_read(&failed, buf_bytes(&body), buf_bytes(&headers), see, &seen, &arena);
        assert_true(failed.is_message);
        assert_true(failed.is_readable);
        assert_text(failed.envelope.topic, "sensors/room1/temp");
        assert_text(failed.class, "App\\Message\\MqttMessage");
        assert_text(failed.error, "The hub answered 503");
        assert_text(failed.error_class, "RuntimeException");
        assert_text(failed.transport, "async");
        assert_int_equal(seen.redeliveries, 4);
        assert_said(&seen, "busName=messenger.bus.default;");
        assert_said(&seen, "redeliveredAt=2026-11-24");
        assert_said(&seen, "retryCount=3;");
        buf_free(&seen.text);
        buf_free(&body);
        buf_free(&headers);
        arena_free(&arena);
    }
}

/* As failed_read has it, for texts that are not kept. */
static struct failed read_texts(const char *body, const char *headers, struct arena *arena)
{
    struct failed failed;

    failed_read(&failed, bytes_of(body), bytes_of(headers), NULL, NULL, arena);
    return failed;
}

static void test_a_message_of_another_class_has_no_topic_and_is_readable(void **state)
{
    struct arena arena = {0};
    struct failed failed;

    (void)state;
    failed = read_texts("{\"to\":\"a@b.c\"}",
                        "{\"type\":\"App\\\\SendMail\",\"X-Message-Stamp-Symfony\\\\Component\\\\"
                        "Messenger\\\\Stamp\\\\SentToFailureTransportStamp\":"
                        "\"[{\\\"originalReceiverName\\\":\\\"mail\\\"}]\"}",
                        &arena);
    assert_false(failed.is_message);
    assert_true(failed.is_readable);
    assert_text(failed.class, "App\\SendMail");
    assert_text(failed.transport, "mail");

    failed = read_texts("O:36:\"Symfony\\Component\\Messenger\\Envelope\":2:{"
                        "s:44:\"-Symfony\\Component\\Messenger\\Envelope-stamps\";a:0:{}"
                        "s:45:\"-Symfony\\Component\\Messenger\\Envelope-message\";i:1;}",
                        "[]", &arena);
    assert_false(failed.is_message);
    arena_free(&arena);
}

static void test_an_unreadable_failure_says_why(void **state)
{
    static const char *const bodies[] = {"", "x", "{", "{}", "O:1:\"A\":0:{}", "=="};
    struct arena arena = {0};

    (void)state;
    for (size_t i = 0; i < LENGTH_OF(bodies); i++) {
        struct failed failed = read_texts(bodies[i], "[]", &arena);

        assert_false(failed.is_message);
        assert_true(failed.why.text[0] != '\0');
    }
    assert_false(read_texts("{}", "no JSON", &arena).is_readable);
    arena_free(&arena);
}

static void test_a_failure_has_a_reason_whatever_was_kept_of_it(void **state)
{
    struct failed failed = {.error = BYTES("503"), .error_class = BYTES("RuntimeException")};

    (void)state;
    error_set(&failed.why, ERR_FORMAT, "the body is cut off");
    assert_text(failed_reason(&failed), "503");
    failed.error = BYTES_NONE;
    assert_text(failed_reason(&failed), "the body is cut off");
    failed.is_readable = true;
    assert_text(failed_reason(&failed), "RuntimeException");
    failed.error_class = BYTES_NONE;
    assert_text(failed_reason(&failed), "no error was kept");
}

static void test_messages_are_ordered_by_when_they_came(void **state)
{
    struct arena arena = {0};

    (void)state;
    assert_int_equal(failed_came_us(BYTES("{\"X-Mqtt-Received-At\":\"1970-01-02T00:00:00.000005Z\","
                                          "\"X-Mqtt-Entry\":\"9-9-00000000\"}"),
                                    &arena),
                     INT64_C(86400000005));
    assert_int_equal(failed_came_us(BYTES("{\"X-Mqtt-Entry\":\"5-7-0a0b0c0d\"}"), &arena), 5007);
    assert_int_equal(failed_came_us(BYTES("{\"X-Mqtt-Entry\":\"x\"}"), &arena), 0);
    assert_int_equal(
        failed_came_us(BYTES("{\"X-Mqtt-Id\":\"3-0-0a0b0c0d\",\"X-Mqtt-Entry\":\"5-7-0a0b0c0d\"}"),
                       &arena),
        3000);
    assert_int_equal(failed_came_us(BYTES("[]"), &arena), 0);
    assert_int_equal(failed_came_us(BYTES("no JSON"), &arena), 0);
    arena_free(&arena);
}

static void test_a_message_that_goes_back_is_handled_anew(void **state)
{
    (void)state;
    for (size_t i = 0; i < 6; i++) {
        const char *version = VERSIONS[i / 2], *serializer = SERIALIZERS[i % 2];
        struct buf body = {0}, headers = {0}, new_body = {0}, new_headers = {0}, value = {0};
        struct arena arena = {0};
        struct failed failed, sent;
        struct envelope envelope;
        struct error err;

        vector_read(&body, version, serializer, "failed-after-retries.body");
        vector_read(&headers, version, serializer, "failed-after-retries.headers");
        failed_read(&failed, buf_bytes(&body), buf_bytes(&headers), NULL, NULL, &arena);
        assert_int_equal(
            stamp_redriven(&new_body, &new_headers, &failed.envelope, BYTES("7"), 1, &err), 0);
        failed_read(&sent, buf_bytes(&new_body), buf_bytes(&new_headers), NULL, NULL, &arena);
        assert_true(sent.is_readable);
        assert_int_equal(sent.transport.len, 0);
        assert_text(sent.error, "The hub answered 503");
        assert_int_equal(
            envelope_join(&value, buf_bytes(&new_body), buf_bytes(&new_headers), true, &err), 0);
        assert_int_equal(envelope_decode(&envelope, buf_bytes(&value), &arena, &err), 0);
        assert_true(envelope.redriven);
        assert_int_equal(envelope.retry_count, 0);
        assert_text(envelope.payload, "{\"temp\":21.5}");
        buf_free(&body);
        buf_free(&headers);
        buf_free(&new_body);
        buf_free(&new_headers);
        buf_free(&value);
        arena_free(&arena);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows_of_every_symfony_tell_their_error_and_history),
        cmocka_unit_test(test_a_message_of_another_class_has_no_topic_and_is_readable),
        cmocka_unit_test(test_an_unreadable_failure_says_why),
        cmocka_unit_test(test_a_failure_has_a_reason_whatever_was_kept_of_it),
        cmocka_unit_test(test_messages_are_ordered_by_when_they_came),
        cmocka_unit_test(test_a_message_that_goes_back_is_handled_anew),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
