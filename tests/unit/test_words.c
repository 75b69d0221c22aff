#include "common/base/words.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Ends with NULL, as the words do. */
static void expect(const char *text, const char *const *expected)
{
    struct error err = {0};
    char **words;
    size_t i = 0;

    if (words_split(&words, bytes_of(text), &err) < 0)
        fail_msg("%s: %s", text, err.text);
    for (; expected[i] != NULL && words[i] != NULL; i++)
        assert_string_equal(words[i], expected[i]);
    assert_ptr_equal(words[i], expected[i]);
    words_free(words);
}
#define EXPECT(text, ...) expect(text, (const char *const[]){__VA_ARGS__, NULL})

static void refuse(struct bytes text, const char *why)
{
    struct error err = {0};
    char **words;

    assert_int_equal(words_split(&words, text, &err), -ERR_FORMAT);
    assert_null(words);
    assert_string_equal(err.text, why);
}

static void test_words_end_at_white_space(void **state)
{
    (void)state;
    EXPECT("php", "php");
    EXPECT(" php \t bin/console\n-v ", "php", "bin/console", "-v");
}

static void test_quotes_and_backslashes_are_those_of_a_shell(void **state)
{
    (void)state;
    EXPECT("a 'b c' \"d e\"", "a", "b c", "d e");
    EXPECT("a'b c'd\"e f\"", "ab cde f");
    EXPECT("'' \"\"", "", "");
    EXPECT("'a\\b\"c'", "a\\b\"c");
    EXPECT("\"a\\\"b\\\\c\\$d\\`e\\f'g\"", "a\"b\\c$d`e\\f'g");
    EXPECT("a\\ b \\'c\\\\", "a b", "'c\\");
}

static void test_other_shell_characters_have_no_meaning(void **state)
{
    (void)state;
    EXPECT("$HOME *.c | a>b ; (x) ~ #c `d`", "$HOME", "*.c", "|", "a>b", ";", "(x)", "~", "#c",
           "`d`");
}

static void test_an_unfinished_or_empty_command_is_refused(void **state)
{
    (void)state;
    refuse(BYTES(""), "it names no program");
    refuse(BYTES(" \t"), "it names no program");
    refuse(BYTES("a 'b"), "a ' is not closed");
    refuse(BYTES("a \"b\\\""), "a \" is not closed");
    refuse(BYTES("a b\\"), "nothing stands behind its last backslash");
    refuse(BYTES("a\0b"), "it holds a NUL byte");
    refuse(BYTES("'a\0b'"), "it holds a NUL byte");
}

static size_t distance(const char *a, const char *b)
{
    return words_distance(bytes_of(a), bytes_of(b));
}

static void test_distance_counts_edits_and_swaps(void **state)
{
    (void)state;
    assert_int_equal(distance("", ""), 0);
    assert_int_equal(distance("port", "port"), 0);
    assert_int_equal(distance("PORT", "port"), 0);
    assert_int_equal(distance("", "abc"), 3);
    assert_int_equal(distance("abc", ""), 3);
    assert_int_equal(distance("kitten", "sitting"), 3);
    assert_int_equal(distance("prot", "port"), 1);
    assert_int_equal(distance("tsop", "stop"), 1);
    assert_int_equal(distance("flaw", "lawn"), 2);
}

static void test_distance_is_bounded_for_any_length(void **state)
{
    (void)state;
    char longer[1000];
    memset(longer, 'x', sizeof(longer));
    assert_int_equal(words_distance((struct bytes){longer, sizeof(longer)}, BYTES("")), 63);
}

static const char *nearest_of(const char *name)
{
    static const char *const NAMES[] = {"host", "port", "topics", "tls"};
    struct words_nearest nearest = {.name = bytes_of(name)};

    for (size_t i = 0; i < LENGTH_OF(NAMES); i++)
        words_consider(&nearest, NAMES[i]);
    return nearest.best;
}

static void test_only_a_near_name_is_suggested(void **state)
{
    (void)state;
    assert_string_equal(nearest_of("prot"), "port");
    assert_string_equal(nearest_of("topic"), "topics");
    assert_string_equal(nearest_of("TLS"), "tls");
    assert_null(nearest_of("qos"));
    assert_null(nearest_of("xyzzy"));
    assert_null(nearest_of(""));
    assert_null(nearest_of("x"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_words_end_at_white_space),
        cmocka_unit_test(test_quotes_and_backslashes_are_those_of_a_shell),
        cmocka_unit_test(test_other_shell_characters_have_no_meaning),
        cmocka_unit_test(test_an_unfinished_or_empty_command_is_refused),
        cmocka_unit_test(test_distance_counts_edits_and_swaps),
        cmocka_unit_test(test_distance_is_bounded_for_any_length),
        cmocka_unit_test(test_only_a_near_name_is_suggested),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
