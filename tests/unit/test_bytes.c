#include "common/base/arena.h"
#include "common/base/buf.h"
#include "common/base/bytes.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
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

static void expect_address(const char *text, const char *host, const char *port)
{
    struct bytes host_part, port_part;

    assert_true(bytes_split_port(bytes_of(text), &host_part, &port_part));
    assert_true(bytes_equal_text(host_part, host));
    assert_int_equal(port_part.data != NULL, port != NULL);
    assert_true(bytes_equal(port_part, bytes_of(port)));
}

static void test_an_address_is_split_into_host_and_port(void **state)
{
    (void)state;
    expect_address("localhost:9080", "localhost", "9080");
    expect_address("localhost", "localhost", NULL);
    expect_address("localhost:", "localhost", "");
    expect_address(":9080", "", "9080");
    expect_address("[::1]:9080", "::1", "9080");
    expect_address("[fe80::1%eth0]", "fe80::1%eth0", NULL);
}

static void test_an_ipv6_address_without_its_brackets_is_not_split(void **state)
{
    static const char *const BAD[] = {"::1",   "fe80::1", "::1:80",  "a:1:2", "[::1", "[::1:80",
                                      "[]:80", "[]",      "[::1]80", "]:5",   "a]:5", "[[::1]]:1"};
    struct bytes host, port;

    (void)state;
    for (size_t i = 0; i < LENGTH_OF(BAD); i++)
        assert_false(bytes_split_port(bytes_of(BAD[i]), &host, &port));
}

static void test_an_ip_address_is_read_with_its_length(void **state)
{
    static const unsigned char V4[] = {10, 0, 0, 1};
    static const unsigned char V6[BYTES_IP_SIZE] = {[0] = 0xfe, [1] = 0x80, [15] = 1};
    static const char *const BAD[] = {"", "10.0.0", "10.0.0.1 ", "[::1]", "localhost", "1:2"};
    unsigned char ip[BYTES_IP_SIZE];

    (void)state;
    assert_int_equal(bytes_to_ip(BYTES("10.0.0.1"), ip), sizeof(V4));
    assert_memory_equal(ip, V4, sizeof(V4));
    assert_int_equal(bytes_to_ip(BYTES("fe80::1"), ip), sizeof(V6));
    assert_memory_equal(ip, V6, sizeof(V6));
    for (size_t i = 0; i < LENGTH_OF(BAD); i++)
        assert_int_equal(bytes_to_ip(bytes_of(BAD[i]), ip), 0);
    assert_int_equal(bytes_to_ip(BYTES("10.0.0.1\0x"), ip), 0);
}

static void test_a_port_is_a_number_from_1_to_65535(void **state)
{
    static const char *const BAD[] = {"", "0", "65536", "-1", " 80", "http"};
    uint16_t port = 0;

    (void)state;
    assert_true(bytes_to_port(BYTES("65535"), &port));
    assert_int_equal(port, 65535);
    for (size_t i = 0; i < LENGTH_OF(BAD); i++)
        assert_false(bytes_to_port(bytes_of(BAD[i]), &port));
}

static void test_the_hash_is_fnv_1a(void **state)
{
    (void)state;
    assert_true(bytes_hash(BYTES("")) == UINT64_C(0xcbf29ce484222325));
    assert_true(bytes_hash(BYTES("a")) == UINT64_C(0xaf63dc4c8601ec8c));
    assert_true(bytes_hash(BYTES("foobar")) == UINT64_C(0x85944171f73967e8));
}

static void expect_printable(struct bytes text, size_t size, const char *expected)
{
    char out[64];

    bytes_to_printable(text, out, size);
    assert_string_equal(out, expected);
}

static void test_printable_text_has_no_control_characters(void **state)
{
    (void)state;
    expect_printable(BYTES("plain \xC3\xA9 \xE2\x82\xAC"), 64, "plain \xC3\xA9 \xE2\x82\xAC");
    expect_printable(BYTES("a\tb\r\nc"), 64, "a b  c");
    expect_printable(BYTES("\x1B]0;title\x07"), 64, "?]0;title?");
    expect_printable(BYTES("\x7F\0x"), 64, "??x");
    expect_printable(BYTES("\xC2\x9B"
                           "31m \xC2\xA0"),
                     64, "?31m \xC2\xA0");
    expect_printable(BYTES("\x9B"
                           "31m\xFF\xC0\x80"),
                     64, "?31m???");
    expect_printable(BYTES(""), 64, "");
}

static void test_printable_text_is_cut_between_characters(void **state)
{
    (void)state;
    expect_printable(BYTES("ab\xE2\x82\xAC"), 5, "ab");
    expect_printable(BYTES("ab\xE2\x82\xAC"), 6, "ab\xE2\x82\xAC");
    expect_printable(BYTES("ab\xE2\x82"), 64, "ab??");
    expect_printable(BYTES("abc"), 1, "");
}

/* RFC 3720, appendix B.4, and the check value of every CRC catalogue. */
static void test_crc32c_of_known_vectors(void **state)
{
    unsigned char bytes[32];

    (void)state;
    assert_int_equal(bytes_crc32c(0, "123456789", 9), 0xE3069283);
    assert_int_equal(bytes_crc32c(0, "", 0), 0);
    memset(bytes, 0, sizeof(bytes));
    assert_int_equal(bytes_crc32c(0, bytes, sizeof(bytes)), 0x8A9136AA);
    memset(bytes, 0xFF, sizeof(bytes));
    assert_int_equal(bytes_crc32c(0, bytes, sizeof(bytes)), 0x62A8AB43);
    for (unsigned i = 0; i < sizeof(bytes); i++)
        bytes[i] = (unsigned char)i;
    assert_int_equal(bytes_crc32c(0, bytes, sizeof(bytes)), 0x46DD794E);
    for (unsigned i = 0; i < sizeof(bytes); i++)
        bytes[i] = (unsigned char)(31 - i);
    assert_int_equal(bytes_crc32c(0, bytes, sizeof(bytes)), 0x113FDB5C);
}

static void test_crc32c_continues_from_an_earlier_result(void **state)
{
    (void)state;
    for (size_t at = 0; at <= 9; at++)
        assert_int_equal(bytes_crc32c(bytes_crc32c(0, "123456789", at), "123456789" + at, 9 - at),
                         0xE3069283);
}

static void test_crc32c_by_table_agrees_with_the_cpu_instruction(void **state)
{
    unsigned char bytes[300];

    (void)state;
    srand(1);
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (unsigned char)rand();
    for (size_t from = 0; from < 9; from++)
        for (size_t len = 0; len <= sizeof(bytes) - from; len++)
            assert_int_equal(bytes_crc32c((uint32_t)len, bytes + from, len),
                             bytes_crc32c_portable((uint32_t)len, bytes + from, len));
}

static void test_only_holds_allows_letters_digits_and_those_named(void **state)
{
    (void)state;
    assert_true(bytes_only_holds(BYTES("azAZ09"), ""));
    assert_true(bytes_only_holds(BYTES("a.b-c"), "-."));
    assert_true(bytes_only_holds(BYTES_NONE, ""));
    assert_false(bytes_only_holds(BYTES("a b"), "-."));
    assert_false(bytes_only_holds(BYTES("a\0b"), "-."));
    assert_false(bytes_only_holds(BYTES("\xC3\xA4"), "-."));
    assert_int_equal(bytes_leading_digits(BYTES("12a3")), 2);
    assert_int_equal(bytes_leading_digits(BYTES_NONE), 0);
}

static void test_texts_are_equal_without_case(void **state)
{
    (void)state;
    assert_true(bytes_equal_caseless(BYTES("ReDis"), "redis"));
    assert_true(bytes_equal_caseless(BYTES_NONE, ""));
    assert_false(bytes_equal_caseless(BYTES("redis"), "rediss"));
    assert_false(bytes_equal_caseless(BYTES("rediss"), "redis"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_hash_is_fnv_1a),
        cmocka_unit_test(test_an_address_is_split_into_host_and_port),
        cmocka_unit_test(test_an_ipv6_address_without_its_brackets_is_not_split),
        cmocka_unit_test(test_an_ip_address_is_read_with_its_length),
        cmocka_unit_test(test_a_port_is_a_number_from_1_to_65535),
        cmocka_unit_test(test_a_slice_is_clamped_to_the_whole),
        cmocka_unit_test(test_split_gives_head_and_tail),
        cmocka_unit_test(test_a_number_is_digits_only_and_must_fit),
        cmocka_unit_test(test_a_hex_digit_has_its_value_in_either_case),
        cmocka_unit_test(test_utf8_is_rfc_3629s),
        cmocka_unit_test(test_a_buffer_grows_and_keeps_what_it_has),
        cmocka_unit_test(test_an_arena_keeps_every_copy_until_it_is_cleared),
        cmocka_unit_test(test_printable_text_has_no_control_characters),
        cmocka_unit_test(test_printable_text_is_cut_between_characters),
        cmocka_unit_test(test_only_holds_allows_letters_digits_and_those_named),
        cmocka_unit_test(test_texts_are_equal_without_case),
        cmocka_unit_test(test_crc32c_of_known_vectors),
        cmocka_unit_test(test_crc32c_continues_from_an_earlier_result),
        cmocka_unit_test(test_crc32c_by_table_agrees_with_the_cpu_instruction),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
