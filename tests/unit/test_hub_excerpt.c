#include "common/client/hub_excerpt.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static void expect(const char *body, const char *token, const char *expected)
{
    struct hub_excerpt excerpt = {0};
    char text[64] = "answer";

    /* In two chunks, as a network has it. */
    hub_excerpt_add(&excerpt, bytes_slice(bytes_of(body), 0, 5));
    hub_excerpt_add(&excerpt, bytes_slice(bytes_of(body), 5, strlen(body)));
    hub_excerpt_append(&excerpt, token, text, sizeof(text));
    assert_string_equal(text, expected);
}

static void test_white_space_and_control_bytes_become_one_space(void **state)
{
    (void)state;
    expect("  \r\n<b>Bad\t\x01\n Gateway</b>", "token", "answer: <b>Bad Gateway</b>");
    expect("", "token", "answer");
    expect("\n", "token", "answer");
}

static void test_what_may_hold_the_token_is_not_shown(void **state)
{
    (void)state;
    expect("you sent eyJ0eXAiOi", "eyJ0eXAiOiJKV1Qi.x.y", "answer");
    expect("Authorization: Bearer abc", "zzzzzzzzz", "answer");
    expect("authorization: bearer abc", "zzzzzzzzz", "answer");
    expect("nothing of the kind", "", "answer: nothing of the kind");
}

static void test_a_long_body_is_cut(void **state)
{
    char body[4096], expected[64];

    (void)state;
    memset(body, 'x', sizeof(body) - 1);
    body[sizeof(body) - 1] = '\0';
    memset(expected, 'x', sizeof(expected) - 1);
    expected[sizeof(expected) - 1] = '\0';
    memcpy(expected, "answer: ", 8);
    expect(body, "token", expected);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_white_space_and_control_bytes_become_one_space),
        cmocka_unit_test(test_what_may_hold_the_token_is_not_shown),
        cmocka_unit_test(test_a_long_body_is_cut),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
