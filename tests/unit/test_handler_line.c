#include "common/wire/handler_line.h"

#include "common/base/alloc.h"
#include "common/wire/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct arena arena;
static struct handler_line line;
static struct error err;
static char *copy;

static int read_line(const char *text)
{
    copy = xstrdup(text);
    err.text[0] = '\0';
    return handler_line_read(&line, copy, strlen(copy), &arena, &err);
}

static void done(void)
{
    handler_line_free(&line);
    arena_free(&arena);
    free(copy);
}

static void expect_bytes(struct bytes found, const char *expected)
{
    if (!bytes_equal_text(found, expected))
        fail_msg("`%.*s` instead of `%s`", BYTES_ARG(found), expected);
}

static void expect_line(const struct handler_message *message, const char *expected)
{
    struct buf out = {0};

    handler_line_write(&out, message, &arena);
    assert_string_equal(buf_text(&out), expected);
    out.len--;
    assert_true(json_is_valid(buf_bytes(&out)));
    buf_free(&out);
    arena_free(&arena);
}

static void test_a_message_is_one_line_with_what_is_known_of_it(void **state)
{
    const struct handler_message full = {
        .id = BYTES("ab-1"),
        .topic = BYTES("plant/1"),
        .payload = BYTES("{\"a\":\r\n1}"),
        .received_us = INT64_C(1795514400123456),
        .headers = BYTES("{\"X-Mqtt-Qos\":\"2\",\n\"X-Mqtt-Retain\":\"1\"}"),
        .attempt = 3};
    const struct handler_message bare = {.id = BYTES("1"),
                                         .topic = BYTES("t"),
                                         .payload = BYTES("\xff"),
                                         .headers = BYTES("[]"),
                                         .attempt = 1};

    (void)state;
    expect_line(&full,
                "{\"id\":\"ab-1\",\"topic\":\"plant/1\",\"payload\":{\"a\":  1},"
                "\"receivedAt\":\"2026-11-24T10:00:00.123456Z\",\"qos\":2,\"retained\":true,"
                "\"headers\":{\"X-Mqtt-Qos\":\"2\", \"X-Mqtt-Retain\":\"1\"},\"attempt\":3}\n");
    expect_line(&bare, "{\"id\":\"1\",\"topic\":\"t\",\"payload\":\"/w==\",\"encoding\":\"base64\","
                       "\"retained\":false,\"headers\":{},\"attempt\":1}\n");
}

static void test_the_payload_is_its_very_bytes_where_text_is_asked_for(void **state)
{
    const struct handler_message message = {.id = BYTES("1"),
                                            .topic = BYTES("t"),
                                            .payload = BYTES("{\"a\":\n1}"),
                                            .as_text = true,
                                            .headers = BYTES("[]"),
                                            .attempt = 1};

    (void)state;
    expect_line(&message, "{\"id\":\"1\",\"topic\":\"t\",\"payload\":\"{\\\"a\\\":\\n1}\","
                          "\"retained\":false,\"headers\":{},\"attempt\":1}\n");
}

static void test_a_handler_says_that_it_is_ready(void **state)
{
    (void)state;
    assert_int_equal(read_line(" {\"ready\":true} "), 0);
    assert_int_equal(line.kind, HANDLER_READY);
    assert_false(line.wants_text);
    done();
    assert_int_equal(read_line("{\"ready\":true,\"payload\":\"text\"}"), 0);
    assert_true(line.wants_text);
    done();
}

static void test_the_updates_of_an_answer_are_read_with_all_fields(void **state)
{
    (void)state;
    assert_int_equal(
        read_line(
            "{\"updates\":[{\"topic\":\"a\\/b\",\"data\":\"x\\ny\",\"private\":false,\"type\":"
            "\"t\",\"retry\":30,\"id\":\"urn:x\"},{\"topics\":[\"a\",\"b\"],\"data\":{\"k\":\r1}}],"
            "\"id\":\"ab-1\"}"),
        0);
    assert_int_equal(line.kind, HANDLER_UPDATES);
    expect_bytes(line.id, "ab-1");
    assert_int_equal(line.updates_len, 2);
    assert_int_equal(line.updates[0].topics_len, 1);
    expect_bytes(line.updates[0].topics[0], "a/b");
    expect_bytes(line.updates[0].data, "x\ny");
    assert_true(line.updates[0].has_private && !line.updates[0].is_private);
    expect_bytes(line.updates[0].type, "t");
    expect_bytes(line.updates[0].retry, "30");
    expect_bytes(line.updates[0].id, "urn:x");
    assert_int_equal(line.updates[1].topics_len, 2);
    expect_bytes(line.updates[1].topics[1], "b");
    expect_bytes(line.updates[1].data, "{\"k\": 1}");
    assert_false(line.updates[1].has_private);
    done();
    assert_int_equal(read_line("{\"id\":\"1\",\"updates\":[]}"), 0);
    assert_int_equal(line.updates_len, 0);
    done();
}

static void test_an_error_may_be_retried_unless_it_says_otherwise(void **state)
{
    (void)state;
    assert_int_equal(read_line("{\"id\":\"1\",\"error\":\"no\"}"), 0);
    assert_int_equal(line.kind, HANDLER_ERROR);
    expect_bytes(line.error, "no");
    assert_true(line.retry);
    done();
    assert_int_equal(read_line("{\"id\":\"1\",\"error\":\"\",\"retry\":false}"), 0);
    assert_false(line.retry);
    done();
}

static void test_faults_of_a_handlers_line_are_named_with_the_message_id(void **state)
{
    static const struct {
        const char *text;
        const char *id; /* "": it can't be told */
        const char *why;
    } rows[] = {
        {"", "", "it is no JSON object"},
        {"[]", "", "it is no JSON object"},
        {"{\"id\":\"1\",\"updates\":[]", "", "it is no JSON object"},
        {"{\"updates\":[]}", "", "it has no `id`"},
        {"{\"id\":1,\"updates\":[]}", "", "`id` must be a string"},
        {"{\"ready\":1}", "", "it has no `id`"},
        {"{\"ready\":true,\"payload\":\"other\"}", "", "`payload` must be \"text\" or \"json\""},
        {"{\"id\":\"1\"}", "1", "it must have either `updates` or `error`"},
        {"{\"id\":\"1\",\"updates\":[],\"error\":\"\"}", "1",
         "it must have either `updates` or `error`"},
        {"{\"id\":\"1\",\"ready\":true,\"updates\":[]}", "1",
         "it must have either `updates` or `error`"},
        {"{\"id\":\"1\",\"updates\":[],\"more\":1}", "1", "it has an unknown member `more`"},
        {"{\"id\":\"1\",\"updates\":{}}", "1", "`updates` must be a list"},
        {"{\"id\":\"1\",\"updates\":[1]}", "1", "`updates` must be a list of objects"},
        {"{\"id\":\"1\",\"updates\":[{}]}", "1", "`data` must be given in each update"},
        {"{\"id\":\"1\",\"updates\":[],\"retry\":true}", "1",
         "`retry` must be left out where there are updates"},
        {"{\"id\":\"1\",\"updates\":[{\"data\":1,\"topic\":[]}]}", "1",
         "`topic` must be a string or a list of strings, one at the least"},
        {"{\"id\":\"1\",\"updates\":[{\"data\":1,\"topic\":[1]}]}", "1",
         "`topic` must be a string or a list of strings"},
        {"{\"id\":\"1\",\"updates\":[{\"data\":1,\"topic\":null}]}", "1",
         "`topic` must be a string or a list of strings"},
        {"{\"id\":\"1\",\"updates\":[{\"data\":1,\"private\":1}]}", "1",
         "`private` must be true or false"},
        {"{\"id\":\"1\",\"updates\":[{\"data\":1,\"retry\":-1}]}", "1",
         "`retry` must be a number of milliseconds"},
        {"{\"id\":\"1\",\"updates\":[{\"data\":1,\"privat\":true}]}", "1",
         "an update has an unknown member `privat`"},
        {"{\"id\":\"1\",\"error\":null}", "1", "`error` must be a string"},
        {"{\"id\":\"1\",\"error\":\"\",\"retry\":0}", "1", "`retry` must be true or false"},
    };

    (void)state;
    for (size_t i = 0; i < LENGTH_OF(rows); i++) {
        assert_int_equal(read_line(rows[i].text), -ERR_FORMAT);
        assert_string_equal(err.text, rows[i].why);
        expect_bytes(line.id, rows[i].id);
        done();
    }
}

/* `before`, so many lists within each other, `behind`. */
static char *nest(const char *before, int depth, const char *behind)
{
    struct buf text = {0};

    buf_append_text(&text, before);
    for (int i = 0; i < depth; i++)
        buf_append_char(&text, '[');
    for (int i = 0; i < depth; i++)
        buf_append_char(&text, ']');
    buf_append_text(&text, behind);
    char *copied = xstrdup(buf_text(&text));
    buf_free(&text);
    return copied;
}

static void test_an_answer_may_hold_any_payload_that_was_given(void **state)
{
    char *payload = nest("", JSON_DEPTH_MAX, "");
    char *answer =
        nest("{\"id\":\"1\",\"updates\":[{\"data\":{\"payload\":", JSON_DEPTH_MAX, "}}]}");

    (void)state;
    assert_true(json_is_valid(bytes_of(payload)));
    assert_int_equal(read_line(answer), 0);
    assert_int_equal(line.updates[0].data.len, strlen("{\"payload\":}") + strlen(payload));
    done();
    free(answer);
    free(payload);
}

/* Result of a line with so many updates. */
static int read_updates(int count)
{
    struct buf text = {0};

    buf_append_text(&text, "{\"id\":\"1\",\"updates\":[{\"data\":0}");
    for (int i = 1; i < count; i++)
        buf_append_text(&text, ",{\"data\":0}");
    buf_append_text(&text, "]}");
    int result = read_line(buf_text(&text));
    buf_free(&text);
    return result;
}

static void test_an_answer_has_no_more_updates_than_the_limit(void **state)
{
    (void)state;
    assert_int_equal(read_updates(HANDLER_UPDATES_MAX), 0);
    assert_int_equal(line.updates_len, HANDLER_UPDATES_MAX);
    done();
    assert_int_equal(read_updates(HANDLER_UPDATES_MAX + 1), -ERR_FORMAT);
    expect_bytes(line.id, "1");
    assert_string_equal(err.text, "`updates` must be no more than 10000");
    done();
}

static void test_an_answer_that_is_nested_too_deep_is_its_message_s_fault(void **state)
{
    static const struct {
        const char *before;
        const char *behind;
        const char *id;
    } rows[] = {
        {"{\"id\":\"1\",\"updates\":[{\"data\":", "}]}", "1"},
        {"{\"updates\":[{\"data\":", "}],\"id\":\"1\"}", ""},
        {"{\"ready\":true,\"payload\":", "}", ""},
    };

    (void)state;
    for (size_t i = 0; i < LENGTH_OF(rows); i++) {
        char *answer = nest(rows[i].before, HANDLER_DEPTH_MAX + 1, rows[i].behind);

        assert_int_equal(read_line(answer), -ERR_FORMAT);
        assert_string_equal(err.text, "it is nested deeper than 1024 lists and objects");
        expect_bytes(line.id, rows[i].id);
        done();
        free(answer);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_message_is_one_line_with_what_is_known_of_it),
        cmocka_unit_test(test_the_payload_is_its_very_bytes_where_text_is_asked_for),
        cmocka_unit_test(test_a_handler_says_that_it_is_ready),
        cmocka_unit_test(test_the_updates_of_an_answer_are_read_with_all_fields),
        cmocka_unit_test(test_an_error_may_be_retried_unless_it_says_otherwise),
        cmocka_unit_test(test_faults_of_a_handlers_line_are_named_with_the_message_id),
        cmocka_unit_test(test_an_answer_may_hold_any_payload_that_was_given),
        cmocka_unit_test(test_an_answer_has_no_more_updates_than_the_limit),
        cmocka_unit_test(test_an_answer_that_is_nested_too_deep_is_its_message_s_fault),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
