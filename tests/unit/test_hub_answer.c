#include "common/wire/hub_answer.h"

#include <setjmp.h>
#include <stdarg.h>

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

static void test_only_200_with_our_id_has_passed(void **state)
{
    (void)state;
    expect(200, 200, true, HUB_PASSED);
    expect(200, 200, false, HUB_FAILED);
    for (long status = -1; status < 1000; status++)
        if (status != 200)
            assert_int_not_equal(hub_answer_read(status, true).outcome, HUB_PASSED);
}

static void test_what_may_be_said_of_the_update_is_a_refusal(void **state)
{
    (void)state;
    expect(400, 400, false, HUB_REFUSED);
    expect(403, 403, false, HUB_REFUSED);
    expect(413, 413, false, HUB_REFUSED);
}

static void test_a_401_is_the_tokens(void **state)
{
    (void)state;
    expect(401, 401, false, HUB_UNAUTHORIZED);
}

static void test_429_and_503_are_a_limiters(void **state)
{
    (void)state;
    expect(429, 429, false, HUB_LIMITED);
    expect(503, 503, false, HUB_LIMITED);
}

static void test_all_else_is_a_failure(void **state)
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_only_200_with_our_id_has_passed),
        cmocka_unit_test(test_what_may_be_said_of_the_update_is_a_refusal),
        cmocka_unit_test(test_a_401_is_the_tokens),
        cmocka_unit_test(test_429_and_503_are_a_limiters),
        cmocka_unit_test(test_all_else_is_a_failure),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
