#include "common/wire/hub_answer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static void expect(long first, long last, bool id_matches, enum hub_outcome outcome)
{
    for (long status = first; status <= last; status++) {
        struct hub_answer answer = hub_answer_read(status, id_matches);

        if (answer.outcome != outcome)
            fail_msg("status %ld", status);
        assert_non_null(answer.meaning);
    }
}

static void test_only_status_200_with_our_id_has_passed(void **state)
{
    (void)state;
    expect(200, 200, true, HUB_PASSED);
    expect(200, 200, false, HUB_FAILED);
    for (long status = -1; status < 1000; status++)
        if (status != 200)
            assert_int_not_equal(hub_answer_read(status, true).outcome, HUB_PASSED);
}

static void test_400_403_and_413_are_refusals_of_the_update(void **state)
{
    (void)state;
    expect(400, 400, false, HUB_REFUSED);
    expect(403, 403, false, HUB_REFUSED);
    expect(413, 413, false, HUB_REFUSED);
}

static void test_status_401_is_unauthorized(void **state)
{
    (void)state;
    expect(401, 401, false, HUB_UNAUTHORIZED);
}

static void test_status_429_and_503_are_rate_limits(void **state)
{
    (void)state;
    expect(429, 429, false, HUB_LIMITED);
    expect(503, 503, false, HUB_LIMITED);
}

static void test_any_other_status_is_a_failure(void **state)
{
    (void)state;
    expect(-1, 199, false, HUB_FAILED);
    expect(201, 399, false, HUB_FAILED);
    expect(402, 402, false, HUB_FAILED);
    expect(404, 412, false, HUB_FAILED);
    expect(414, 428, false, HUB_FAILED);
    expect(430, 502, false, HUB_FAILED);
    expect(504, 999, false, HUB_FAILED);
}

static void expect_shown(const char *body, const char *token, const char *expected)
{
    struct hub_answer_excerpt excerpt = {0};
    char text[64] = "answer";

    /* In two chunks, as a network has it. */
    hub_answer_excerpt_add(&excerpt, bytes_slice(bytes_of(body), 0, 5));
    hub_answer_excerpt_add(&excerpt, bytes_slice(bytes_of(body), 5, strlen(body)));
    hub_answer_excerpt_append(&excerpt, token, text, sizeof(text));
    assert_string_equal(text, expected);
}

static void test_white_space_and_control_bytes_become_one_space(void **state)
{
    (void)state;
    expect_shown("  \r\n<b>Bad\t\x01\n Gateway</b>", "token", "answer: <b>Bad Gateway</b>");
    expect_shown("", "token", "answer");
    expect_shown("\n", "token", "answer");
}

static void test_an_answer_that_may_hold_the_token_is_not_shown(void **state)
{
    (void)state;
    expect_shown("you sent eyJ0eXAiOi", "eyJ0eXAiOiJKV1Qi.x.y", "answer");
    expect_shown("Authorization: Bearer abc", "zzzzzzzzz", "answer");
    expect_shown("authorization: bearer abc", "zzzzzzzzz", "answer");
    expect_shown("nothing of the kind", "", "answer: nothing of the kind");
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
    expect_shown(body, "token", expected);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_only_status_200_with_our_id_has_passed),
        cmocka_unit_test(test_400_403_and_413_are_refusals_of_the_update),
        cmocka_unit_test(test_status_401_is_unauthorized),
        cmocka_unit_test(test_status_429_and_503_are_rate_limits),
        cmocka_unit_test(test_any_other_status_is_a_failure),
        cmocka_unit_test(test_white_space_and_control_bytes_become_one_space),
        cmocka_unit_test(test_an_answer_that_may_hold_the_token_is_not_shown),
        cmocka_unit_test(test_a_long_body_is_cut),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
