#include "common/wire/retry.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static const struct retry_strategy DEFAULTS = {.max_retries = 3, .delay_ms = 1000, .multiplier = 2};

static void test_retries_end_at_the_maximum(void **state)
{
    (void)state;
    assert_true(retry_is_allowed(&DEFAULTS, 0));
    assert_true(retry_is_allowed(&DEFAULTS, 2));
    assert_false(retry_is_allowed(&DEFAULTS, 3));
    assert_false(retry_is_allowed(&DEFAULTS, INT64_MAX));
    struct retry_strategy none = DEFAULTS;
    none.max_retries = 0;
    assert_false(retry_is_allowed(&none, 0));
}

static void test_each_wait_is_a_multiple_of_the_last(void **state)
{
    (void)state;
    assert_int_equal(retry_delay_ms(&DEFAULTS, 0, 1), 1000);
    assert_int_equal(retry_delay_ms(&DEFAULTS, 1, 2), 2000);
    assert_int_equal(retry_delay_ms(&DEFAULTS, 2, 3), 4000);
    struct retry_strategy constant = DEFAULTS;
    constant.multiplier = 1;
    assert_int_equal(retry_delay_ms(&constant, 50, 4), 1000);
    struct retry_strategy broken = {.delay_ms = 3, .multiplier = 1.5};
    assert_int_equal(retry_delay_ms(&broken, 1, 0), 5); /* 4.5, rounded up */
}

static void test_a_wait_is_cut_at_the_maximum(void **state)
{
    struct retry_strategy strategy = DEFAULTS;

    (void)state;
    strategy.max_delay_ms = 1500;
    assert_int_equal(retry_delay_ms(&strategy, 0, 0), 1000);
    assert_int_equal(retry_delay_ms(&strategy, 1, 0), 1500);
    assert_int_equal(retry_delay_ms(&strategy, INT64_MAX, 0), 1500);
    strategy.jitter = 0.5;
    assert_int_equal(retry_delay_ms(&strategy, INT64_MAX, UINT64_MAX), 1500);
}

static void test_a_wait_always_fits(void **state)
{
    struct retry_strategy strategy = DEFAULTS;

    (void)state;
    assert_true(retry_delay_ms(&strategy, 100, 0) == RETRY_DELAY_MAX_MS);
    assert_true(retry_delay_ms(&strategy, INT64_MAX, 0) == RETRY_DELAY_MAX_MS);
    strategy.jitter = 1;
    assert_true(retry_delay_ms(&strategy, INT64_MAX, UINT64_MAX) == RETRY_DELAY_MAX_MS);
    strategy.delay_ms = INT64_MAX;
    assert_true(retry_delay_ms(&strategy, 0, UINT64_MAX) == RETRY_DELAY_MAX_MS);
    strategy.delay_ms = 0;
    assert_int_equal(retry_delay_ms(&strategy, 5, UINT64_MAX), 0);
}

static void test_jitter_stays_within_its_share_and_uses_all_of_it(void **state)
{
    struct retry_strategy strategy = DEFAULTS;
    uint64_t random = 1;
    int64_t lowest = INT64_MAX;
    int64_t highest = 0;

    (void)state;
    strategy.jitter = 0.1;
    assert_int_equal(retry_delay_ms(&strategy, 0, 0), 900);
    assert_int_equal(retry_delay_ms(&strategy, 0, UINT64_MAX), 1100);
    for (int i = 0; i < 100000; i++) {
        random = random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        int64_t delay = retry_delay_ms(&strategy, 1, random);

        lowest = delay < lowest ? delay : lowest;
        highest = delay > highest ? delay : highest;
    }
    assert_int_equal(lowest, 1800);
    assert_int_equal(highest, 2200);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_retries_end_at_the_maximum),
        cmocka_unit_test(test_each_wait_is_a_multiple_of_the_last),
        cmocka_unit_test(test_a_wait_is_cut_at_the_maximum),
        cmocka_unit_test(test_a_wait_always_fits),
        cmocka_unit_test(test_jitter_stays_within_its_share_and_uses_all_of_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
