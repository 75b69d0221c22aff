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
    breaker_failed(&breaker, 1000);
    assert_int_equal(breaker.state, BREAKER_OPEN);
    int64_t until = breaker.until_ms;
    breaker_failed(&breaker, 1001);
    assert_int_equal(breaker.until_ms, until);
}

static void test_the_probe_falls_due_once(void **state)
{
    struct breaker breaker = breaker_new();

    (void)state;
    breaker_failed(&breaker, 1000);
    assert_false(breaker_probe_due(&breaker, 1000));
    assert_true(breaker_probe_due(&breaker, breaker.until_ms));
    assert_false(breaker_probe_due(&breaker, breaker.until_ms + 1000));
    assert_int_equal(breaker.state, BREAKER_HALF_OPEN);
}

static void test_an_answer_from_before_it_opened_does_not_close_it(void **state)
{
    struct breaker breaker = breaker_new();

    (void)state;
    breaker_failed(&breaker, 1000);
    assert_false(breaker_passed(&breaker));
    assert_int_equal(breaker.state, BREAKER_OPEN);
}

static void test_a_probe_that_passes_closes_it(void **state)
{
    struct breaker breaker = breaker_new();

    (void)state;
    breaker_failed(&breaker, 1000);
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
    breaker_failed(&breaker, now);
    for (int i = 0; i < 10; i++) {
        now = breaker.until_ms;
        assert_true(breaker_probe_due(&breaker, now));
        breaker_failed(&breaker, now);
    }
    assert_true(breaker.until_ms - now >= 750);
    assert_true(breaker.until_ms - now <= 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_wait_opens_it_and_further_ones_change_nothing),
        cmocka_unit_test(test_the_probe_falls_due_once),
        cmocka_unit_test(test_an_answer_from_before_it_opened_does_not_close_it),
        cmocka_unit_test(test_a_probe_that_passes_closes_it),
        cmocka_unit_test(test_probes_that_fail_wait_longer),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
