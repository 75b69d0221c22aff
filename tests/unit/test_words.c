#include "common/base/words.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
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

static void test_nothing_else_has_a_meaning(void **state)
{
    (void)state;
    EXPECT("$HOME *.c | a>b ; (x) ~ #c `d`", "$HOME", "*.c", "|", "a>b", ";", "(x)", "~", "#c",
           "`d`");
}

static void test_what_has_no_end_is_refused(void **state)
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_words_end_at_white_space),
        cmocka_unit_test(test_quotes_and_backslashes_are_those_of_a_shell),
        cmocka_unit_test(test_nothing_else_has_a_meaning),
        cmocka_unit_test(test_what_has_no_end_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
