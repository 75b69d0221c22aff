#include "common/wire/base64.h"
#include "common/wire/json.h"

#include "tests/unit/vectors.h"

static int setup(void **state)
{
    static struct arena arena;

    *state = &arena;
    return 0;
}

static int teardown(void **state)
{
    arena_free(*state);
    return 0;
}

static void test_valid_texts_are_accepted(void **state)
{
    static const char *const texts[] = {
        "null",
        " true ",
        "false",
        "0",
        "-0",
        "10",
        "-1.5e+10",
        "1E5",
        "0.0",
        "1e999",
        "123456789012345678901234567890",
        "\"\"",
        "\"a\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\"",
        "\"\\ud83c\\udf21\"",
        "\"\\u0000\"",
        "\"\xC3\xA9\xF0\x9F\x8C\xA1\x7F\"",
        "[]",
        "[ ]",
        "{}",
        "{ }",
        "[1,[2,{\"a\":[]}],\"b\"]",
        "\t{\"a\" : 1 ,\r\n \"b\":{\"a\":null}} ",
    };

    (void)state;
    for (size_t i = 0; i < LENGTH_OF(texts); i++)
        if (!json_is_valid(bytes_of(texts[i])))
            fail_msg("refused: %s", texts[i]);
}

static void test_invalid_texts_are_refused(void **state)
{
    static const char *const texts[] = {
        "",
        " ",
        "nul",
        "nulll",
        "True",
        "01",
        "-",
        "+1",
        ".5",
        "1.",
        "1.e5",
        "1e",
        "1e+",
        "0x10",
        "NaN",
        "Infinity",
        "\"",
        "\"\\\"",
        "\"\\x\"",
        "\"\\u12\"",
        "\"\\u12g4\"",
        "\"\\ud83c\"",
        "\"\\ud83cx\"",
        "\"\\ud83c\\n\"",
        "\"\\ud83c\\u0041\"",
        "\"\\udf21\"",
        "\"a\nb\"",
        "\"\x1F\"",
        "\"\xFF\"",
        "\"\xC3\"",
        "\"\xED\xA0\x80\"",
        "\"\xC0\x80\"",
        "'a'",
        "[",
        "]",
        "[1,]",
        "[,1]",
        "[1 2]",
        "[1}",
        "{",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{a:1}",
        "{1:1}",
        "{\"a\":1 \"b\":2}",
        "{\"a\":1]",
        "1 2",
        "[]]",
        "{}x",
        "\xEF\xBB\xBF{}",
        "/**/1",
        "\f1",
    };

    (void)state;
    for (size_t i = 0; i < LENGTH_OF(texts); i++)
        if (json_is_valid(bytes_of(texts[i])))
            fail_msg("accepted: %s", texts[i]);
    assert_false(json_is_valid((struct bytes){"\"a\0b\"", 5}));
    assert_false(json_is_valid((struct bytes){"1\0", 2}));
    assert_false(json_is_valid(BYTES_NONE));
}

/* Every start of a text is refused, and nothing behind its end is read (the sanitizer sees to that). */
static void test_a_cut_text_is_refused(void **state)
{
    static const char text[] =
        "{\"a\\u00e9\":[1.5e-3,true,null,\"\\ud83c\\udf21\",{}],\"b\":\"c\"}";

    (void)state;
    assert_true(json_is_valid(bytes_of(text)));
    for (size_t len = 0; len < sizeof(text) - 1; len++) {
        char *copy = malloc(len + 1);

        memcpy(copy, text, len);
        copy = realloc(copy, len > 0 ? len : 1);
        assert_false(json_is_valid((struct bytes){copy, len}));
        free(copy);
    }
}

static void test_depth_is_limited_as_php_limits_it(void **state)
{
    struct buf text = {0};

    (void)state;
    for (int depth = JSON_DEPTH_MAX; depth <= JSON_DEPTH_MAX + 1; depth++) {
        buf_clear(&text);
        for (int i = 0; i < depth; i++)
            buf_append_char(&text, '[');
        for (int i = 0; i < depth; i++)
            buf_append_char(&text, ']');
        assert_int_equal(json_is_valid(buf_bytes(&text)), depth == JSON_DEPTH_MAX);
    }
    buf_clear(&text);
    for (int i = 0; i < 1000000; i++)
        buf_append_text(&text, "{\"\":");
    assert_false(json_is_valid(buf_bytes(&text)));
    buf_free(&text);
}

static void test_members_come_in_order_with_raw_values(void **state)
{
    struct json_object object;
    struct bytes key;
    struct bytes value;

    assert_int_equal(
        json_object_begin(&object, BYTES(" { \"a\\/b\" : [1, 2] , \"\":\"\\u0041\",\"a\":1e2}\n"),
                          *state),
        0);
    assert_int_equal(json_object_next(&object, &key, &value), 1);
    assert_text(key, "a/b");
    assert_text(value, "[1, 2]");
    assert_int_equal(json_object_next(&object, &key, &value), 1);
    assert_text(key, "");
    assert_text(value, "\"\\u0041\"");
    assert_int_equal(json_object_next(&object, &key, &value), 1);
    assert_text(key, "a");
    assert_text(value, "1e2");
    assert_int_equal(json_object_next(&object, &key, &value), 0);
}

static void test_string_values_come_unescaped_where_they_are_wanted(void **state)
{
    static const char *const bad[] = {"{\"a\":\"x",          "{\"a\":\"\\",    "{\"a\":\"\\u00\"}",
                                      "{\"a\":\"\\x\"}",     "{\"a\":\"\n\"}", "{\"a\":\"\xff\"}",
                                      "{\"a\":\"\\ud800\"}", "{\"a\":"};
    struct json_object object;
    struct bytes key, value;
    bool is_text;

    assert_int_equal(
        json_object_begin(&object, BYTES("{\"a\":\"1\\/\\u00e9\\\\\", \"b\":[\"\\/\"],\"c\":\"\"}"),
                          *state),
        0);
    assert_int_equal(json_object_next_text(&object, &key, &value, &is_text), 1);
    assert_true(is_text);
    assert_text(value, "1/é\\");
    assert_int_equal(json_object_next_text(&object, &key, &value, &is_text), 1);
    assert_false(is_text);
    assert_text(key, "b");
    assert_text(value, "[\"\\/\"]");
    assert_int_equal(json_object_next_text(&object, &key, &value, &is_text), 1);
    assert_true(is_text && value.len == 0);
    assert_int_equal(json_object_next_text(&object, &key, &value, &is_text), 0);
    for (size_t i = 0; i < LENGTH_OF(bad); i++) {
        assert_int_equal(json_object_begin(&object, bytes_of(bad[i]), *state), 0);
        assert_int_equal(json_object_next_text(&object, &key, &value, &is_text), -ERR_FORMAT);
    }
}

static int count_members(const char *text, struct arena *arena)
{
    struct json_object object;
    struct bytes key;
    struct bytes value;
    int count = 0;
    int more;

    if (json_object_begin(&object, bytes_of(text), arena) < 0)
        return -1;
    while ((more = json_object_next(&object, &key, &value)) > 0)
        count++;
    return more < 0 ? -2 : count;
}

static void test_an_empty_list_counts_as_an_empty_object(void **state)
{
    assert_int_equal(count_members("[]", *state), 0);
    assert_int_equal(count_members(" [ ] ", *state), 0);
    assert_int_equal(count_members("{}", *state), 0);
    assert_int_equal(count_members("[1]", *state), -1);
    assert_int_equal(count_members("[]x", *state), -1);
}

static void test_malformed_json_objects_are_refused(void **state)
{
    assert_int_equal(count_members("", *state), -1);
    assert_int_equal(count_members("1", *state), -1);
    assert_int_equal(count_members("{", *state), -2);
    assert_int_equal(count_members("{\"a\":1", *state), -2);
    assert_int_equal(count_members("{\"a\":1,}", *state), -2);
    assert_int_equal(count_members("{\"a\":1 \"b\":2}", *state), -2);
    assert_int_equal(count_members("{\"a\":[1}", *state), -2);
    assert_int_equal(count_members("{\"a\":1}}", *state), -2);
    assert_int_equal(count_members("{,\"a\":1}", *state), -2);
}

static void test_get_finds_the_last_of_a_name(void **state)
{
    assert_text(json_object_get(BYTES("{\"a\":1,\"b\":2,\"a\":3}"), "a", *state), "3");
    assert_null(json_object_get(BYTES("{\"a\":1}"), "b", *state).data);
    assert_null(json_object_get(BYTES("{\"a\":1,"), "a", *state).data);
    assert_null(json_object_get(BYTES("[1]"), "a", *state).data);
}

static void test_elements_come_in_order(void **state)
{
    struct json_array array;
    struct bytes value;

    (void)state;
    assert_int_equal(json_array_begin(&array, BYTES(" [ {\"a\":[1]} , \"x\"] ")), 0);
    assert_int_equal(json_array_next(&array, &value), 1);
    assert_text(value, "{\"a\":[1]}");
    assert_int_equal(json_array_next(&array, &value), 1);
    assert_text(value, "\"x\"");
    assert_int_equal(json_array_next(&array, &value), 0);

    assert_int_equal(json_array_begin(&array, BYTES("[]")), 0);
    assert_int_equal(json_array_next(&array, &value), 0);
    assert_int_equal(json_array_begin(&array, BYTES("{}")), -ERR_FORMAT);
    assert_int_equal(json_array_begin(&array, BYTES("[1 2]")), 0);
    assert_int_equal(json_array_next(&array, &value), 1);
    assert_int_equal(json_array_next(&array, &value), -ERR_FORMAT);
    assert_int_equal(json_array_begin(&array, BYTES("[]]")), 0);
    assert_int_equal(json_array_next(&array, &value), -ERR_FORMAT);
}

static void test_integers_are_read_exactly(void **state)
{
    static const char *const refused[] = {"",
                                          "-",
                                          "1.0",
                                          "1e3",
                                          "01",
                                          "9223372036854775808",
                                          "-9223372036854775809",
                                          "\"1\"",
                                          "99999999999999999999"};
    int64_t value;

    (void)state;
    assert_int_equal(json_to_i64(BYTES("9223372036854775807"), &value), 0);
    assert_true(value == INT64_MAX);
    assert_int_equal(json_to_i64(BYTES("-9223372036854775808"), &value), 0);
    assert_true(value == INT64_MIN);
    assert_int_equal(json_to_i64(BYTES("0"), &value), 0);
    assert_true(value == 0);
    for (size_t i = 0; i < LENGTH_OF(refused); i++)
        assert_int_equal(json_to_i64(bytes_of(refused[i]), &value), -ERR_FORMAT);
}

static void test_unquote_undoes_every_escape(void **state)
{
    struct bytes text;

    assert_int_equal(json_unquote(&text,
                                  BYTES("\"\\\"\\\\\\/\\b\\f\\n\\r\\tx\\u0041\\u00E9\\u20ac"
                                        "\\ud83c\\udf21\""),
                                  *state),
                     0);
    assert_text(text, "\"\\/\b\f\n\r\txA\xC3\xA9\xE2\x82\xAC\xF0\x9F\x8C\xA1");
    assert_int_equal(json_unquote(&text, BYTES("\"a\\u0000b\""), *state), 0);
    assert_bytes(text, BYTES("a\0b"));
    assert_int_equal(json_unquote(&text, BYTES("\"\""), *state), 0);
    assert_int_equal(text.len, 0);
}

static void test_unquote_without_escapes_points_into_the_text(void **state)
{
    struct bytes raw = BYTES("\"plain\"");
    struct bytes text;

    assert_int_equal(json_unquote(&text, raw, *state), 0);
    assert_ptr_equal(text.data, raw.data + 1);
}

static void test_unquote_refuses_what_is_no_string(void **state)
{
    static const char *const texts[] = {"", "1", "\"", "\"a\"b", "\"a\" ", "\"\\ud800\"", "\"\\"};
    struct bytes text;

    for (size_t i = 0; i < LENGTH_OF(texts); i++)
        assert_int_equal(json_unquote(&text, bytes_of(texts[i]), *state), -ERR_FORMAT);
}

static void test_quote_php_writes_what_json_encode_writes(void **state)
{
    struct buf out = {0};

    (void)state;
    assert_int_equal(json_quote_php(&out, BYTES("a/b\"\\'\b\f\n\r\t\0\x01\x1f\x7f"
                                                "\xC3\xA9\xE2\x82\xAC\xF0\x9F\x8C\xA1")),
                     0);
    assert_text(buf_bytes(&out), "\"a\\/b\\\"\\\\'\\b\\f\\n\\r\\t\\u0000\\u0001\\u001f\x7f"
                                 "\\u00e9\\u20ac\\ud83c\\udf21\"");
    buf_free(&out);
}

static void test_quote_php_appends_nothing_if_the_text_is_not_utf8(void **state)
{
    struct buf out = {0};

    (void)state;
    buf_append_text(&out, "x");
    assert_int_equal(json_quote_php(&out, BYTES("abc\xFF")), -ERR_FORMAT);
    assert_text(buf_bytes(&out), "x");
    buf_free(&out);
}

static void test_quote_escapes_only_what_it_must(void **state)
{
    struct buf out = {0};

    (void)state;
    json_quote(&out, BYTES("a/b\"\\\n\0\xC3\xA9"));
    assert_text(buf_bytes(&out), "\"a/b\\\"\\\\\\n\\u0000\xC3\xA9\"");
    buf_free(&out);
}

static void test_a_long_text_survives_quoting(void **state)
{
    struct buf text = {0};
    struct buf out = {0};
    struct bytes back;

    for (int i = 0; i < 20000; i++)
        buf_append_text(&text, i % 3 != 0 ? "\xF0\x9F\x8C\xA1" : "\x01/");
    assert_int_equal(json_quote_php(&out, buf_bytes(&text)), 0);
    assert_int_equal(json_unquote(&back, buf_bytes(&out), *state), 0);
    assert_bytes(back, buf_bytes(&text));
    buf_clear(&out);
    json_quote(&out, buf_bytes(&text));
    assert_int_equal(json_unquote(&back, buf_bytes(&out), *state), 0);
    assert_bytes(back, buf_bytes(&text));
    buf_free(&text);
    buf_free(&out);
}

static void test_bad_bytes_are_replaced_one_by_one(void **state)
{
    struct buf out = {0};

    (void)state;
    json_make_utf8(&out, BYTES("a\xFF\xC3\xA9\xE2\x82z\xF0\x9F\x8C"));
    assert_text(buf_bytes(&out), "a\xEF\xBF\xBD\xC3\xA9\xEF\xBF\xBD\xEF\xBF\xBDz"
                                 "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD");
    buf_free(&out);
}

static void test_json_in_ascii_has_the_same_values(void **state)
{
    struct buf out = {0};

    (void)state;
    json_to_ascii(&out, BYTES("{\"\xC3\xA9/\":[\"\\n\\u00e9\xE2\x82\xAC\xF0\x9F\x8C\xA1\", 1]}"));
    assert_text(buf_bytes(&out), "{\"\\u00e9/\":[\"\\n\\u00e9\\u20ac\\ud83c\\udf21\", 1]}");
    buf_free(&out);
}

static void test_base64_encodes_and_decodes_known_pairs(void **state)
{
    static const char *const pairs[][2] = {
        {"", ""},
        {"f", "Zg=="},
        {"fo", "Zm8="},
        {"foo", "Zm9v"},
        {"foob", "Zm9vYg=="},
        {"\xFF\xFE\xFD", "//79"},
        {"\xFB\xEF\xBE", "++++"},
    };
    struct bytes data;

    for (size_t i = 0; i < LENGTH_OF(pairs); i++) {
        struct buf out = {0};

        base64_encode(&out, bytes_of(pairs[i][0]));
        assert_text(buf_bytes(&out), pairs[i][1]);
        assert_int_equal(base64_decode(&data, buf_bytes(&out), *state), 0);
        assert_text(data, pairs[i][0]);
        buf_free(&out);
    }
}

static void test_base64_is_as_strict_as_php(void **state)
{
    static const char *const refused[] = {
        "Z", "Zg=", "Zg===", "Zm8==", "Zm9v=", "Z=g=", "Zg==Zg==", "Zm9v*", "=", "Zm9v-_"};
    struct bytes data;

    for (size_t i = 0; i < LENGTH_OF(refused); i++)
        assert_int_equal(base64_decode(&data, bytes_of(refused[i]), *state), -ERR_FORMAT);
    assert_int_equal(base64_decode(&data, BYTES(" Z g\r\n="), *state), -ERR_FORMAT);
    assert_int_equal(base64_decode(&data, BYTES(" Z g\r\n=\t="), *state), 0);
    assert_text(data, "f");
    assert_int_equal(base64_decode(&data, BYTES("Zm8"), *state), 0);
    assert_text(data, "fo");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_valid_texts_are_accepted),
        cmocka_unit_test(test_invalid_texts_are_refused),
        cmocka_unit_test(test_a_cut_text_is_refused),
        cmocka_unit_test(test_depth_is_limited_as_php_limits_it),
        cmocka_unit_test(test_members_come_in_order_with_raw_values),
        cmocka_unit_test(test_string_values_come_unescaped_where_they_are_wanted),
        cmocka_unit_test(test_an_empty_list_counts_as_an_empty_object),
        cmocka_unit_test(test_malformed_json_objects_are_refused),
        cmocka_unit_test(test_get_finds_the_last_of_a_name),
        cmocka_unit_test(test_elements_come_in_order),
        cmocka_unit_test(test_integers_are_read_exactly),
        cmocka_unit_test(test_unquote_undoes_every_escape),
        cmocka_unit_test(test_unquote_without_escapes_points_into_the_text),
        cmocka_unit_test(test_unquote_refuses_what_is_no_string),
        cmocka_unit_test(test_quote_php_writes_what_json_encode_writes),
        cmocka_unit_test(test_quote_php_appends_nothing_if_the_text_is_not_utf8),
        cmocka_unit_test(test_quote_escapes_only_what_it_must),
        cmocka_unit_test(test_a_long_text_survives_quoting),
        cmocka_unit_test(test_bad_bytes_are_replaced_one_by_one),
        cmocka_unit_test(test_json_in_ascii_has_the_same_values),
        cmocka_unit_test(test_base64_encodes_and_decodes_known_pairs),
        cmocka_unit_test(test_base64_is_as_strict_as_php),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
