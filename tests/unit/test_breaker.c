#include "worker/breaker.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static struct breaker breaker_new(void)
{
    struct breaker breaker;

    breaker_init(&breaker, 100, 1000);
    return breaker;
}

static void test_a_wait_opens_it_and_further_ones_change_nothing(void **state)
{
    struct breaker breaker = breaker_new();

    (void)state;
    breaker_failed(&breaker, 1000, 0);
    assert_int_equal(breaker.state, BREAKER_OPEN);
    int64_t until = breaker.until_ms;
    breaker_failed(&breaker, 1001, 0);
    assert_int_equal(breaker.until_ms, until);
}

static void test_the_probe_falls_due_once(void **state)
{
    struct breaker breaker = breaker_new();

    (void)state;
    breaker_failed(&breaker, 1000, 0);
    assert_false(breaker_probe_due(&breaker, 1000));
    assert_true(breaker_probe_due(&breaker, breaker.until_ms));
    assert_false(breaker_probe_due(&breaker, breaker.until_ms + 1000));
    assert_int_equal(breaker.state, BREAKER_HALF_OPEN);
}

static void test_an_answer_from_before_it_opened_does_not_close_it(void **state)
{
    struct breaker breaker = breaker_new();

    (void)state;
    breaker_failed(&breaker, 1000, 0);
    assert_false(breaker_passed(&breaker));
    assert_int_equal(breaker.state, BREAKER_OPEN);
}

static void test_a_probe_that_passes_closes_it(void **state)
{
    struct breaker breaker = breaker_new();

    (void)state;
    breaker_failed(&breaker, 1000, 0);
    breaker_probe_due(&breaker, breaker.until_ms);
    assert_true(breaker_passed(&breaker));
    assert_int_equal(breaker.state, BREAKER_CLOSED);
    assert_false(breaker_passed(&breaker));
}

static void test_probes_that_fail_wait_longer(void **state)
{
    struct breaker breaker = breaker_new();
    int64_t now = 0;

    (void)state;
    breaker_failed(&breaker, now, 0);
    for (int i = 0; i < 10; i++) {
        now = breaker.until_ms;
        assert_true(breaker_probe_due(&breaker, now));
        breaker_failed(&breaker, now, 0);
    }
    assert_true(breaker.until_ms - now >= 750);
    assert_true(breaker.until_ms - now <= 1000);
}

static void test_a_rest_is_as_long_as_asked_for_up_to_the_longest(void **state)
{
    struct breaker breaker = breaker_new();

    (void)state;
    breaker_failed(&breaker, 1000, 700);
    assert_int_equal(breaker.until_ms, 1700);
    breaker_failed(&breaker, 1100, 500);
    assert_int_equal(breaker.until_ms, 1700);
    breaker_failed(&breaker, 1100, 800);
    assert_int_equal(breaker.until_ms, 1900);
    breaker_failed(&breaker, 1100, 86400000);
    assert_int_equal(breaker.until_ms, 2100);
}

/* Of a limiter that lets one pass every 300 ms and no more at once. */
static void test_rests_settle_near_what_suffices(void **state)
{
    struct breaker breaker = breaker_new();
    int64_t now = 0, free = 300;
    int passed = 0;

    (void)state;
    breaker_failed(&breaker, now, 0);
    while (now < 60000) {
        now = breaker.until_ms;
        assert_true(breaker_probe_due(&breaker, now));
        if (now >= free) {
            assert_true(breaker_passed(&breaker));
            free = now + 300;
            passed++;
        }
        breaker_failed(&breaker, now, 0);
    }
    assert_true(passed > 60000 / 300 / 2);
}

static void test_a_hub_that_works_is_asked_soon_after_the_next_failure(void **state)
{
    struct breaker breaker = breaker_new();

    (void)state;
    for (int i = 0; i < 10; i++) {
        breaker_failed(&breaker, 0, 0);
        breaker_probe_due(&breaker, breaker.until_ms);
    }
    breaker_passed(&breaker);
    breaker_works(&breaker);
    breaker_failed(&breaker, 0, 0);
    assert_true(breaker.until_ms <= 125);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_wait_opens_it_and_further_ones_change_nothing),
        cmocka_unit_test(test_the_probe_falls_due_once),
        cmocka_unit_test(test_an_answer_from_before_it_opened_does_not_close_it),
        cmocka_unit_test(test_a_probe_that_passes_closes_it),
        cmocka_unit_test(test_probes_that_fail_wait_longer),
        cmocka_unit_test(test_a_rest_is_as_long_as_asked_for_up_to_the_longest),
        cmocka_unit_test(test_rests_settle_near_what_suffices),
        cmocka_unit_test(test_a_hub_that_works_is_asked_soon_after_the_next_failure),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
