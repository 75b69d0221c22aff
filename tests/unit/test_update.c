#include "common/wire/update.h"

#include "common/wire/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void expect(struct buf *out, const char *text)
{
    assert_string_equal(buf_text(out), text);
    buf_free(out);
}

static void expect_document(struct bytes topic, struct bytes payload, const char *text)
{
    struct buf out = {0};

    update_document(&out, BYTES("urn:x:1"), topic, payload, 0);
    assert_true(json_is_valid(buf_bytes(&out)));
    expect(&out, text);
}

static void test_a_document_has_identity_topic_payload_and_time(void **state)
{
    struct buf out = {0};

    (void)state;
    update_document(&out, BYTES("0a-7"), BYTES("sensors/room1/temp"), BYTES("{\"temp\":21.5}"),
                    INT64_C(1795514400123456));
    expect(&out, "{\"id\":\"0a-7\",\"topic\":\"sensors/room1/temp\",\"payload\":{\"temp\":21.5},"
                 "\"receivedAt\":\"2026-11-24T10:00:00.123456Z\"}");
}

static void test_json_payloads_keep_their_bytes(void **state)
{
    (void)state;
    expect_document(BYTES("t"), BYTES("1.50e+2"),
                    "{\"id\":\"urn:x:1\",\"topic\":\"t\",\"payload\":1.50e+2}");
    expect_document(BYTES("t"), BYTES("{ \"a\\/b\" : [ ] , \"a\\/b\" : 12345678901234567890 }"),
                    "{\"id\":\"urn:x:1\",\"topic\":\"t\",\"payload\":"
                    "{ \"a\\/b\" : [ ] , \"a\\/b\" : 12345678901234567890 }}");
    expect_document(BYTES("t"), BYTES("\"\\u0000\""),
                    "{\"id\":\"urn:x:1\",\"topic\":\"t\",\"payload\":\"\\u0000\"}");
}

static void test_line_breaks_of_json_payloads_become_spaces(void **state)
{
    (void)state;
    expect_document(BYTES("t"), BYTES("{\r\n\"a\":\n1}\n"),
                    "{\"id\":\"urn:x:1\",\"topic\":\"t\",\"payload\":{  \"a\": 1} }");
}

static void test_text_that_is_no_json_becomes_a_string(void **state)
{
    (void)state;
    expect_document(BYTES("t"), BYTES(""), "{\"id\":\"urn:x:1\",\"topic\":\"t\",\"payload\":\"\"}");
    expect_document(BYTES("t"), BYTES("on"),
                    "{\"id\":\"urn:x:1\",\"topic\":\"t\",\"payload\":\"on\"}");
    expect_document(BYTES("t"), BYTES("{\"a\":01}"),
                    "{\"id\":\"urn:x:1\",\"topic\":\"t\",\"payload\":\"{\\\"a\\\":01}\"}");
    expect_document(BYTES("t"), BYTES("NaN\r\né"),
                    "{\"id\":\"urn:x:1\",\"topic\":\"t\",\"payload\":\"NaN\\r\\né\"}");
}

static void test_bytes_that_are_no_text_become_base64(void **state)
{
    (void)state;
    expect_document(
        BYTES("t"), BYTES("\x00\xFF\xFE"),
        "{\"id\":\"urn:x:1\",\"topic\":\"t\",\"payload\":\"AP/+\",\"encoding\":\"base64\"}");
}

static void test_bytes_of_a_topic_that_are_not_utf8_become_replacement_characters(void **state)
{
    (void)state;
    expect_document(BYTES("a\xFF/\xC3\xA9\xE2\x82"), BYTES("1"),
                    "{\"id\":\"urn:x:1\",\"topic\":\"a\xEF\xBF\xBD/é\xEF\xBF\xBD\xEF\xBF\xBD\","
                    "\"payload\":1}");
}

/* As seen on Symfony's wire. */
static void test_a_form_is_what_php_sends(void **state)
{
    const struct update update = {
        .topic = BYTES("sensors/salle \xC3\xA9t\xC3\xA9/temp~x"),
        .data = BYTES("{\"a\":\"b c\",\"t\":1.5}"),
    };
    struct buf out = {0};

    (void)state;
    update_form(&out, &update);
    expect(&out, "topic=sensors%2Fsalle+%C3%A9t%C3%A9%2Ftemp%7Ex&data="
                 "%7B%22a%22%3A%22b+c%22%2C%22t%22%3A1.5%7D");
}

static void test_a_form_has_symfonys_field_order(void **state)
{
    const struct update update = {
        .topic = BYTES("t"),
        .private_update = true,
        .id = BYTES("urn:x:1"),
        .type = BYTES("reading"),
        .retry = BYTES("500"),
    };
    struct buf out = {0};

    (void)state;
    update_form(&out, &update);
    expect(&out, "topic=t&data=&private=on&id=urn%3Ax%3A1&type=reading&retry=500");
}

static void test_urlencode_keeps_letters_digits_and_three_marks(void **state)
{
    struct buf out = {0};

    (void)state;
    for (int byte = 0; byte < 256; byte++) {
        char c = (char)byte;
        char expected[4] = {c, '\0'};

        if (c == ' ')
            expected[0] = '+';
        else if (c == '\0' || strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                     "0123456789-_.",
                                     c) == NULL)
            snprintf(expected, sizeof(expected), "%%%02X", byte);
        buf_clear(&out);
        update_urlencode(&out, (struct bytes){&c, 1});
        assert_string_equal(buf_text(&out), expected);
    }
    buf_clear(&out);
    update_urlencode(&out, BYTES_NONE);
    assert_int_equal(out.len, 0);
    buf_free(&out);
}

static void test_a_topic_as_uri_keeps_unreserved_and_slashes(void **state)
{
    struct buf out = {0};

    (void)state;
    update_encode_topic(&out, BYTES("a b/{c}:d@e/\xC3\xA9/-_.~+#\"%"));
    expect(&out, "a%20b/%7Bc%7D%3Ad%40e/%C3%A9/-_.~%2B%23%22%25");
    update_encode_topic(&out, BYTES_NONE);
    assert_int_equal(out.len, 0);
    buf_free(&out);
}

static void test_an_update_that_the_hub_would_refuse_fails_its_check(void **state)
{
    struct update good = {.topic = BYTES("t"), .id = BYTES("urn:x:1"), .retry = BYTES("10")};
    struct update update = good;
    struct error err;

    (void)state;
    assert_int_equal(update_check(&update, &err), 0);
    update.topic = BYTES_NONE;
    assert_int_equal(update_check(&update, &err), -ERR_REFUSED);
    update.topic = BYTES("x/.well-known/mercure/y");
    assert_int_equal(update_check(&update, &err), -ERR_REFUSED);
    assert_non_null(strstr(err.text, "/.well-known/mercure"));
    update = good;
    update.id = BYTES("a\nb");
    assert_int_equal(update_check(&update, &err), -ERR_REFUSED);
    update.id = BYTES("a\0b");
    assert_int_equal(update_check(&update, &err), -ERR_REFUSED);
    update.id = BYTES("#a");
    assert_int_equal(update_check(&update, &err), -ERR_REFUSED);
    update = good;
    update.type = BYTES("a\rb");
    assert_int_equal(update_check(&update, &err), -ERR_REFUSED);
    update = good;
    update.retry = BYTES("1s");
    assert_int_equal(update_check(&update, &err), -ERR_REFUSED);
}

/* The form of `unit` again and again, then of `x`, up to len bytes. */
static void fill(struct update *update, struct buf *data, const char *unit, size_t len)
{
    struct buf form = {0};

    buf_clear(data);
    while (data->len < len / 4)
        buf_append_text(data, unit);
    update->data = buf_bytes(data);
    update_form(&form, update);
    assert_true(form.len < len);
    memset(buf_reserve(data, len - form.len), 'x', len - form.len);
    data->len += len - form.len;
    update->data = buf_bytes(data);
    buf_clear(&form);
    update_form(&form, update);
    assert_int_equal(form.len, len);
    buf_free(&form);
}

static void test_a_length_over_the_hubs_limit_is_counted_without_a_form(void **state)
{
    static const char *const units[] = {"a", " ", "\"", "a b~/\"\n\xFF"};
    struct update update = {.topic = BYTES("a/b c"), .id = BYTES("urn:x"), .private_update = true};
    struct buf data = {0};
    struct error err;

    (void)state;
    for (size_t i = 0; i < LENGTH_OF(units); i++) {
        fill(&update, &data, units[i], 10 * 1024 * 1024 - 1);
        assert_int_equal(update_check(&update, &err), 0);
        fill(&update, &data, units[i], 10 * 1024 * 1024);
        assert_int_equal(update_check(&update, &err), -ERR_REFUSED);
        assert_non_null(strstr(err.text, "10485760 bytes"));
    }
    buf_free(&data);
}

static void test_a_payload_beyond_the_form_limit_is_refused_by_its_size(void **state)
{
    struct bytes topic = BYTES("a/b");
    struct bytes payload = {"", 10 * 1024 * 1024 - 1 - topic.len};
    struct error err;

    (void)state;
    assert_int_equal(update_check_size(topic, payload, &err), 0);
    payload.len++;
    assert_int_equal(update_check_size(topic, payload, &err), -ERR_REFUSED);
    assert_non_null(strstr(err.text, "10485760 bytes"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_document_has_identity_topic_payload_and_time),
        cmocka_unit_test(test_json_payloads_keep_their_bytes),
        cmocka_unit_test(test_line_breaks_of_json_payloads_become_spaces),
        cmocka_unit_test(test_text_that_is_no_json_becomes_a_string),
        cmocka_unit_test(test_bytes_that_are_no_text_become_base64),
        cmocka_unit_test(test_bytes_of_a_topic_that_are_not_utf8_become_replacement_characters),
        cmocka_unit_test(test_a_form_is_what_php_sends),
        cmocka_unit_test(test_a_form_has_symfonys_field_order),
        cmocka_unit_test(test_urlencode_keeps_letters_digits_and_three_marks),
        cmocka_unit_test(test_a_topic_as_uri_keeps_unreserved_and_slashes),
        cmocka_unit_test(test_an_update_that_the_hub_would_refuse_fails_its_check),
        cmocka_unit_test(test_a_length_over_the_hubs_limit_is_counted_without_a_form),
        cmocka_unit_test(test_a_payload_beyond_the_form_limit_is_refused_by_its_size),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
