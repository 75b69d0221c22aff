#include "common/wire/php.h"

#include "tests/unit/vectors.h"

static bool is_whole_value(struct bytes text)
{
    struct php_reader reader = {.text = text};

    return php_skip(&reader) == 0 && php_at_end(&reader);
}

static void test_every_kind_of_value_is_read(void **state)
{
    static const struct bytes texts[] = {
        BYTES("N;"),
        BYTES("b:0;"),
        BYTES("b:1;"),
        BYTES("i:0;"),
        BYTES("i:-9223372036854775808;"),
        BYTES("i:9223372036854775807;"),
        BYTES("d:0.1;"),
        BYTES("d:-1.0E+25;"),
        BYTES("d:INF;"),
        BYTES("d:-INF;"),
        BYTES("d:NAN;"),
        BYTES("s:0:\"\";"),
        BYTES("s:5:\"\";}\0\xFF\";"),
        BYTES("a:0:{}"),
        BYTES("a:2:{i:0;i:5;s:1:\"k\";a:1:{i:-1;N;}}"),
        BYTES("O:8:\"stdClass\":0:{}"),
        BYTES("O:3:\"A\\B\":2:{s:4:\"\0*\0a\";N;s:6:\"\0A\\B\0b\";O:1:\"C\":0:{}}"),
        BYTES("E:11:\"Suit:Hearts\";"),
        BYTES("C:1:\"D\":5:{}{};:}"),
        BYTES("a:2:{i:0;O:1:\"A\":0:{}i:1;r:2;}"),
        BYTES("a:2:{i:0;i:5;i:1;R:2;}"),
    };

    (void)state;
    for (size_t i = 0; i < LENGTH_OF(texts); i++)
        if (!is_whole_value(texts[i]))
            fail_msg("refused: %s", texts[i].data);
}

static void test_malformed_values_are_refused(void **state)
{
    static const char *const texts[] = {
        "",
        "N",
        "n;",
        "b:2;",
        "b:;",
        "i:;",
        "i:-;",
        "i:1",
        "i:1.5;",
        "i:9223372036854775808;",
        "i:-9223372036854775809;",
        "i:99999999999999999999;",
        "d:;",
        "d:0x1p3;",
        "s:1:\"\";",
        "s:2:\"a\";",
        "s:-1:\"a\";",
        "s:1:a;",
        "s:1:\"a\"",
        "s:18446744073709551615:\"a\";",
        "s:18446744073709551616:\"a\";",
        "S:1:\"a\";",
        "a:1:{}",
        "a:0:{i:0;N;}",
        "a:1:{i:0;N;",
        "a:1:{N;N;}",
        "a:1:{d:0.5;N;}",
        "a:1:{b:1;N;}",
        "a:-1:{}",
        "a:18446744073709551615:{}",
        "a:0:{};",
        "O:1:\"A\":0:{",
        "O:1:\"A\":1:{s:1:\"a\";}",
        "O:0:\"\":0:{}",
        "O:2:\"A\":0:{}",
        "C:1:\"D\":3:{}",
        "C:1:\"D\":18446744073709551615:{}",
        "E:1:\"A\"",
        "r:1;",
        "r:0;",
        "R:1;",
        "a:1:{i:0;r:2;}",
        "a:1:{i:0;R:2;}",
        "i:1;i:2;",
        "x:1;",
    };

    (void)state;
    for (size_t i = 0; i < LENGTH_OF(texts); i++)
        if (is_whole_value(bytes_of(texts[i])))
            fail_msg("accepted: %s", texts[i]);
}

static void test_a_cut_value_is_refused(void **state)
{
    static const char text[] =
        "a:3:{i:0;O:1:\"A\":1:{s:1:\"a\";d:0.5;}i:1;C:1:\"D\":1:{x}i:2;E:3:\"B:C\";}";

    (void)state;
    assert_true(is_whole_value(bytes_of(text)));
    for (size_t len = 0; len < sizeof(text) - 1; len++) {
        char *copy = malloc(len > 0 ? len : 1);

        memcpy(copy, text, len);
        assert_false(is_whole_value((struct bytes){copy, len}));
        free(copy);
    }
}

static void test_depth_is_limited(void **state)
{
    struct buf text = {0};

    (void)state;
    for (int depth = PHP_DEPTH_MAX; depth <= PHP_DEPTH_MAX + 1; depth++) {
        buf_clear(&text);
        for (int i = 0; i < depth; i++)
            buf_append_text(&text, "a:1:{i:0;");
        buf_append_text(&text, "N;");
        for (int i = 0; i < depth; i++)
            buf_append_char(&text, '}');
        assert_int_equal(is_whole_value(buf_bytes(&text)), depth == PHP_DEPTH_MAX);
    }
    buf_free(&text);
}

/* serialize([$o = new A, [1, $o], &$x, &$x, $o]), as PHP numbers it: the outer array is 1. */
static void test_values_are_numbered_as_php_numbers_them_for_references(void **state)
{
    struct php_references references = {0};
    struct php_reader reader = {
        .text = BYTES("a:6:{i:0;O:1:\"A\":0:{}i:1;a:2:{i:0;i:1;i:1;r:2;}s:1:\"k\";i:7;i:3;R:6;"
                      "i:4;r:2;i:5;N;}"),
        .references = &references,
    };

    (void)state;
    assert_int_equal(php_skip(&reader), 0);
    /* array, A, list, 1, r:, 7, (R: is none), r:, N */
    assert_int_equal(reader.values, 8);
    assert_int_equal(references.len, 3);
    assert_int_equal(references.list[0].number, 2);
    assert_int_equal(references.list[1].number, 6);
    assert_int_equal(references.list[2].number, 2);
    assert_int_equal(reader.text.data[references.list[1].at], '6');
    assert_int_equal(references.list[1].len, 1);
    php_references_free(&references);
}

static void test_a_class_with_its_own_serialization_is_noted(void **state)
{
    struct php_reader plain = {.text = BYTES("C:1:\"D\":2:{ab}")};
    struct php_reader nested = {.text = BYTES("C:1:\"D\":4:{r:1;}")};

    (void)state;
    assert_int_equal(php_skip(&plain), 0);
    assert_true(plain.custom);
    assert_false(plain.custom_references);
    assert_int_equal(php_skip(&nested), 0);
    assert_true(nested.custom_references);
}

static void test_a_property_is_known_by_its_bare_name(void **state)
{
    (void)state;
    assert_text(php_property_name(BYTES("topic")), "topic");
    assert_text(php_property_name(BYTES("\0*\0topic")), "topic");
    assert_text(php_property_name(BYTES("\0App\\M\0topic")), "topic");
    assert_text(php_property_name(BYTES("\0App\\M\0")), "");
    assert_int_equal(php_property_name(BYTES_NONE).len, 0);
}

static void test_slashes_are_added_and_stripped_as_php_does(void **state)
{
    struct bytes text = BYTES("a'b\"c\\d\0e0\n\xFF");
    struct arena arena = {0};
    struct buf slashed = {0};

    (void)state;
    php_addslashes(&slashed, text);
    assert_bytes(buf_bytes(&slashed), BYTES("a\\'b\\\"c\\\\d\\0e0\n\xFF"));
    assert_bytes(php_stripslashes(buf_bytes(&slashed), &arena), text);
    assert_bytes(php_stripslashes(BYTES("\\a\\\\\\0\\"), &arena), BYTES("a\\\0"));
    struct bytes plain = BYTES("plain");
    assert_ptr_equal(php_stripslashes(plain, &arena).data, plain.data);
    buf_free(&slashed);
    arena_free(&arena);
}

static void test_written_php_values_read_back(void **state)
{
    static const int64_t numbers[] = {0, 1, -1, INT64_MAX, INT64_MIN};
    struct buf out = {0};
    struct php_value value;

    (void)state;
    for (size_t i = 0; i < LENGTH_OF(numbers); i++) {
        buf_clear(&out);
        php_write_int(&out, numbers[i]);
        struct php_reader reader = {.text = buf_bytes(&out)};
        assert_int_equal(php_read(&reader, &value), 0);
        assert_true(value.type == PHP_INT && value.number == numbers[i]);
    }
    buf_clear(&out);
    php_write_object(&out, BYTES("A\\B"), 1);
    php_write_string(&out, BYTES("k\0"));
    php_write_string(&out, BYTES("\"};"));
    buf_append_char(&out, '}');
    assert_bytes(buf_bytes(&out), BYTES("O:3:\"A\\B\":1:{s:2:\"k\0\";s:3:\"\"};\";}"));
    assert_true(is_whole_value(buf_bytes(&out)));
    buf_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_kind_of_value_is_read),
        cmocka_unit_test(test_malformed_values_are_refused),
        cmocka_unit_test(test_a_cut_value_is_refused),
        cmocka_unit_test(test_depth_is_limited),
        cmocka_unit_test(test_values_are_numbered_as_php_numbers_them_for_references),
        cmocka_unit_test(test_a_class_with_its_own_serialization_is_noted),
        cmocka_unit_test(test_a_property_is_known_by_its_bare_name),
        cmocka_unit_test(test_slashes_are_added_and_stripped_as_php_does),
        cmocka_unit_test(test_written_php_values_read_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
