#include "common/wire/hub_answer.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void expect(long first, long last, bool id_matches, enum hub_outcome outcome,
                   bool mint_again)
{
    for (long status = first; status <= last; status++) {
        struct hub_answer answer = hub_answer_read(status, id_matches);

        if (answer.outcome != outcome || answer.mint_again != mint_again)
            fail_msg("status %ld", status);
        assert_non_null(answer.meaning);
    }
}

static void test_done_is_200_with_our_id_and_nothing_else(void **state)
{
    (void)state;
    expect(200, 200, true, HUB_DONE, false);
    expect(200, 200, false, HUB_RETRY, false);
    for (long status = -1; status < 1000; status++)
        if (status != 200)
            assert_int_not_equal(hub_answer_read(status, true).outcome, HUB_DONE);
}

static void test_poison_is_rejected(void **state)
{
    (void)state;
    expect(400, 400, false, HUB_REJECT, false);
    expect(403, 403, false, HUB_REJECT, false);
    expect(413, 413, false, HUB_REJECT, false);
}

static void test_a_401_waits_and_mints_again(void **state)
{
    (void)state;
    expect(401, 401, false, HUB_WAIT, true);
}

static void test_the_hubs_and_the_settings_trouble_waits(void **state)
{
    (void)state;
    expect(0, 0, false, HUB_WAIT, false);
    expect(300, 399, false, HUB_WAIT, false);
    expect(404, 405, false, HUB_WAIT, false);
    expect(408, 408, false, HUB_WAIT, false);
    expect(421, 421, false, HUB_WAIT, false);
    expect(425, 425, false, HUB_WAIT, false);
    expect(429, 429, false, HUB_WAIT, false);
    expect(500, 599, false, HUB_WAIT, false);
    expect(600, 999, false, HUB_WAIT, false);
    expect(-1, -1, false, HUB_WAIT, false);
}

static void test_what_no_hub_answers_is_retried(void **state)
{
    (void)state;
    expect(100, 299, false, HUB_RETRY, false);
    expect(402, 402, false, HUB_RETRY, false);
    expect(406, 407, false, HUB_RETRY, false);
    expect(409, 412, false, HUB_RETRY, false);
    expect(414, 420, false, HUB_RETRY, false);
    expect(422, 424, false, HUB_RETRY, false);
    expect(426, 428, false, HUB_RETRY, false);
    expect(430, 499, false, HUB_RETRY, false);
}

static void test_only_an_answer_that_may_be_about_the_update_can_be_held_against_it(void **state)
{
    (void)state;
    assert_int_equal(hub_answer_read(429, false).cause, HUB_CAUSE_LIMIT);
    for (long status = 300; status < 500; status++) {
        struct hub_answer answer = hub_answer_read(status, false);
        bool settings = answer.outcome == HUB_WAIT && status != 408 && status != 425;

        if (status != 429)
            assert_int_equal(answer.cause, settings ? HUB_CAUSE_SETTINGS : HUB_CAUSE_OPEN);
    }
    assert_int_equal(hub_answer_read(0, false).cause, HUB_CAUSE_OPEN);
    assert_int_equal(hub_answer_read(503, false).cause, HUB_CAUSE_OPEN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_done_is_200_with_our_id_and_nothing_else),
        cmocka_unit_test(test_poison_is_rejected),
        cmocka_unit_test(test_a_401_waits_and_mints_again),
        cmocka_unit_test(test_the_hubs_and_the_settings_trouble_waits),
        cmocka_unit_test(test_what_no_hub_answers_is_retried),
        cmocka_unit_test(test_only_an_answer_that_may_be_about_the_update_can_be_held_against_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
