/* What others wrote: any shape that PHP may give it is read, anything else is refused with a reason. */
#include "tests/unit/envelope_case.h"

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
    for (size_t i = 0; i < LENGTH_OF(messages); i++) {
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
    for (size_t i = 0; i < LENGTH_OF(messages); i++)
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
    for (size_t i = 0; i < LENGTH_OF(values); i++) {
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
    for (size_t i = 0; i < LENGTH_OF(times); i++) {
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

/* A stamp that PHP wrote before it holds the message itself, or shares its strings. */
static void test_a_message_that_php_wrote_as_a_reference_is_read_where_it_stands(void **state)
{
    struct arena arena = {0};
    struct buf file = {0};
    struct envelope envelope;

    (void)state;
    decode(&envelope, vector_read(&file, "5.4", "php", "referenced.message"), &arena);
    assert_text(envelope.topic, "site \xC3\xA9/1");
    assert_text(envelope.payload, "{\"temp\":\"21.5\\\"'\"}");
    assert_text(envelope.message_class, "App\\Message\\MqttMessage");
    assert_int_equal(envelope.retry_count, 2);
    decode(&envelope, vector_read(&file, "5.4", "php", "referenced-strings.message"), &arena);
    assert_text(envelope.topic, "site \xC3\xA9/1");
    assert_text(envelope.payload, "{\"temp\":21.5}");
    buf_free(&file);
    arena_free(&arena);
}

#define MESSAGE "O:1:\"M\":2:{s:5:\"topic\";s:1:\"t\";s:7:\"payload\";s:1:\"p\";}"

/* 1 envelope, 2 stamps, 3 the stamp, 4 what it holds. */
static int decode_referring(const char *stamps, const char *message)
{
    struct arena arena = {0};
    struct buf body = {0};
    struct envelope envelope;

    php_body(&body, bytes_of(stamps), bytes_of(message));
    int failed = envelope_decode_parts(&envelope, buf_bytes(&body), BYTES_NONE, &arena, NULL);
    buf_free(&body);
    arena_free(&arena);
    return failed;
}

static void test_a_reference_is_followed_one_step_to_a_value_that_php_would_name(void **state)
{
    static const char stamps[] = "a:1:{s:1:\"S\";O:1:\"S\":1:{s:1:\"m\";" MESSAGE "}}";
    static const char repeated[] = "a:2:{s:1:\"S\";" MESSAGE "s:1:\"T\";r:3;}";
    static const char custom[] = "a:2:{s:1:\"C\";C:1:\"C\":0:{}s:1:\"S\";" MESSAGE "}";
    static const char same_string[] = "O:1:\"M\":2:{s:5:\"topic\";s:1:\"t\";s:7:\"payload\";R:5;}";

    (void)state;
    assert_int_equal(decode_referring(stamps, "r:4;"), 0);
    assert_int_equal(decode_referring(stamps, "R:4;"), 0);
    assert_int_equal(decode_referring(repeated, "r:3;"), 0);
    assert_int_equal(decode_referring("a:1:{s:1:\"S\";N;}", same_string), 0);
    /* The envelope; an array; an object that is no message; a string; what is not there; a reference. */
    assert_int_equal(decode_referring(stamps, "r:1;"), -ERR_FORMAT);
    assert_int_equal(decode_referring(stamps, "r:2;"), -ERR_FORMAT);
    assert_int_equal(decode_referring(stamps, "r:3;"), -ERR_FORMAT);
    assert_int_equal(decode_referring(stamps, "r:5;"), -ERR_FORMAT);
    assert_int_equal(decode_referring(stamps, "r:7;"), -ERR_FORMAT);
    assert_int_equal(decode_referring(stamps, "r:0;"), -ERR_FORMAT);
    assert_int_equal(decode_referring(repeated, "r:6;"), -ERR_FORMAT);
    assert_int_equal(decode_referring(custom, "r:4;"), -ERR_FORMAT); /* it counts by itself */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_properties_of_any_visibility_order_and_company_are_read),
        cmocka_unit_test(test_messages_without_topic_or_payload_are_refused),
        cmocka_unit_test(test_unknown_stamps_do_not_matter_and_the_last_redelivery_counts),
        cmocka_unit_test(test_a_message_that_php_wrote_as_a_reference_is_read_where_it_stands),
        cmocka_unit_test(test_a_reference_is_followed_one_step_to_a_value_that_php_would_name),
        cmocka_unit_test(test_cut_or_continued_entries_are_refused),
        cmocka_unit_test(test_hostile_entries_are_refused_with_a_reason),
        cmocka_unit_test(test_a_deep_nest_of_values_is_refused),
        cmocka_unit_test(test_metadata_of_the_wrong_form_counts_as_absent),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
