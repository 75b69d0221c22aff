#include "common/base/arena.h"
#include "common/base/buf.h"
#include "common/base/bytes.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static void test_a_slice_is_clamped_to_the_whole(void **state)
{
    struct bytes whole = BYTES("abcdef");

    (void)state;
    assert_true(bytes_equal_text(bytes_slice(whole, 2, 3), "cde"));
    assert_true(bytes_equal_text(bytes_slice(whole, 4, 100), "ef"));
    assert_int_equal(bytes_slice(whole, 100, 1).len, 0);
    assert_int_equal(bytes_slice(BYTES_NONE, 0, 1).len, 0);
}

static void test_split_gives_head_and_tail(void **state)
{
    struct bytes head, tail;

    (void)state;
    assert_true(bytes_split(BYTES("a:b:c"), ':', &head, &tail));
    assert_true(bytes_equal_text(head, "a"));
    assert_true(bytes_equal_text(tail, "b:c"));
    assert_false(bytes_split(BYTES("abc"), ':', &head, &tail));
    assert_true(bytes_equal_text(head, "abc"));
    assert_int_equal(tail.len, 0);
    assert_false(bytes_split(BYTES_NONE, ':', &head, &tail));
}

static void test_a_number_is_digits_only_and_must_fit(void **state)
{
    uint64_t value = 7;

    (void)state;
    assert_true(bytes_to_u64(BYTES("18446744073709551615"), &value));
    assert_true(value == UINT64_MAX);
    assert_false(bytes_to_u64(BYTES("18446744073709551616"), &value));
    assert_false(bytes_to_u64(BYTES(""), &value));
    assert_false(bytes_to_u64(BYTES("-1"), &value));
    assert_false(bytes_to_u64(BYTES("1 "), &value));
}

static void test_utf8_is_rfc_3629s(void **state)
{
    (void)state;
    assert_true(bytes_is_utf8(BYTES("")));
    assert_true(bytes_is_utf8(BYTES("plain ASCII, longer than a machine word")));
    assert_true(bytes_is_utf8(BYTES("\xc3\xa9\xe2\x82\xac\xf0\x9f\x8c\xa1")));
    assert_true(bytes_is_utf8(BYTES("\xf4\x8f\xbf\xbf")));
    assert_false(bytes_is_utf8(BYTES("\xc0\x80")));         /* overlong */
    assert_false(bytes_is_utf8(BYTES("\xe0\x9f\xbf")));     /* overlong */
    assert_false(bytes_is_utf8(BYTES("\xed\xa0\x80")));     /* surrogate */
    assert_false(bytes_is_utf8(BYTES("\xf4\x90\x80\x80"))); /* above U+10FFFF */
    assert_false(bytes_is_utf8(BYTES("\x80")));
    assert_false(bytes_is_utf8(BYTES("12345678\xc3"))); /* cut off */
}

static void test_a_buffer_grows_and_keeps_what_it_has(void **state)
{
    struct buf buf = {0};

    (void)state;
    for (int i = 0; i < 1000; i++)
        buf_printf(&buf, "%d,", i);
    buf_append_u64(&buf, UINT64_MAX);
    assert_true(bytes_ends_with(buf_bytes(&buf), BYTES("998,999,18446744073709551615")));
    assert_int_equal(strlen(buf_text(&buf)), buf.len);
    buf_clear(&buf);
    assert_int_equal(buf.len, 0);
    buf_free(&buf);
}

static void test_an_arena_keeps_every_copy_until_it_is_cleared(void **state)
{
    struct arena arena = {0};
    struct bytes copies[300];

    (void)state;
    for (size_t i = 0; i < 300; i++) {
        char text[1000];

        memset(text, (int)('a' + i % 26), sizeof(text));
        copies[i] = arena_copy(&arena, (struct bytes){text, sizeof(text)});
    }
    for (size_t i = 0; i < 300; i++) {
        assert_int_equal(copies[i].data[0], 'a' + i % 26);
        assert_int_equal(copies[i].data[999], 'a' + i % 26);
    }
    arena_alloc(&arena, 1024 * 1024);
    arena_clear(&arena);
    arena_free(&arena);
}

static void test_a_hex_digit_has_its_value_in_either_case(void **state)
{
    static const char digits[] = "0123456789abcdef", capitals[] = "0123456789ABCDEF";

    (void)state;
    for (int i = 0; i < 16; i++) {
        assert_int_equal(bytes_hex_digit(digits[i]), i);
        assert_int_equal(bytes_hex_digit(capitals[i]), i);
    }
    for (const char *other = "g/:@G`\xC3"; *other != '\0'; other++)
        assert_int_equal(bytes_hex_digit(*other), -1);
    assert_int_equal(bytes_hex_digit('\0'), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_slice_is_clamped_to_the_whole),
        cmocka_unit_test(test_split_gives_head_and_tail),
        cmocka_unit_test(test_a_number_is_digits_only_and_must_fit),
        cmocka_unit_test(test_a_hex_digit_has_its_value_in_either_case),
        cmocka_unit_test(test_utf8_is_rfc_3629s),
        cmocka_unit_test(test_a_buffer_grows_and_keeps_what_it_has),
        cmocka_unit_test(test_an_arena_keeps_every_copy_until_it_is_cleared),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
