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

static void test_a_failure_opens_the_breaker_and_further_ones_change_nothing(void **state)
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

static void test_a_pause_is_as_long_as_asked_for_up_to_the_maximum(void **state)
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
static void test_pauses_adapt_to_the_rate_of_a_limiter(void **state)
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
/* The window */

/* One round of answers, of which so many of a hundred are a limiter's. */
static void answer_round(struct breaker_window *window, size_t percent)
{
    size_t round = window->size * 4 > 16 ? window->size * 4 : 16;

    for (size_t i = 0; i < round; i++)
        breaker_window_answered(window, i * 100 / round < percent);
}

static void test_the_window_stays_whole_while_nothing_is_refused(void **state)
{
    struct breaker_window window;

    (void)state;
    breaker_window_init(&window, 16);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(window.size, 16);
        answer_round(&window, 0);
    }
}

static void test_refusals_of_less_than_a_third_do_not_shrink_the_window(void **state)
{
    struct breaker_window window;

    (void)state;
    breaker_window_init(&window, 16);
    for (int i = 0; i < 20; i++)
        answer_round(&window, 30);
    assert_int_equal(window.size, 16);
}

static void test_refusals_of_more_than_a_third_halve_the_window_down_to_one(void **state)
{
    static const size_t sizes[] = {16, 8, 4, 2, 1, 1};
    struct breaker_window window;

    (void)state;
    breaker_window_init(&window, 16);
    for (size_t i = 0; i < LENGTH_OF(sizes); i++) {
        assert_int_equal(window.size, sizes[i]);
        answer_round(&window, 40);
    }
}

static void test_the_window_grows_by_one_each_round(void **state)
{
    struct breaker_window window;

    (void)state;
    breaker_window_init(&window, 4);
    breaker_window_shrink(&window);
    breaker_window_shrink(&window);
    for (size_t size = 1; size <= 4; size++) {
        assert_int_equal(window.size, size);
        answer_round(&window, 0);
    }
    assert_int_equal(window.size, 4);
}

static void test_shrinking_begins_a_new_round(void **state)
{
    struct breaker_window window;

    (void)state;
    breaker_window_init(&window, 16);
    for (int i = 0; i < 63; i++)
        breaker_window_answered(&window, true);
    breaker_window_shrink(&window);
    assert_int_equal(window.size, 8);
    breaker_window_answered(&window, true);
    assert_int_equal(window.size, 8);
}

static void test_an_answer_is_overdue_after_4_usual_times_and_at_least_100_ms(void **state)
{
    struct breaker_window window;

    (void)state;
    breaker_window_init(&window, 16);
    assert_int_equal(breaker_window_overdue_ms(&window), 100);
    for (int i = 0; i < 100; i++)
        breaker_window_took(&window, 1000);
    assert_int_equal(breaker_window_overdue_ms(&window), 100);
    for (int i = 0; i < 100; i++)
        breaker_window_took(&window, 100000);
    assert_in_range(breaker_window_overdue_ms(&window), 395, 400);
}

static void try_messages(struct breaker_window *window, int every)
{
    for (int i = 1; i <= 1000; i++)
        breaker_window_tried(window, i % every == 0);
}

static void test_more_random_failures_need_more_strikes_for_a_charge(void **state)
{
    struct breaker_window window;

    (void)state;
    breaker_window_init(&window, 16);
    assert_int_equal(breaker_window_strikes(&window), 3);
    breaker_window_tried(&window, true);
    assert_int_equal(breaker_window_strikes(&window), 3);
    try_messages(&window, 100);
    assert_int_equal(breaker_window_strikes(&window), 3);
    try_messages(&window, 5);
    assert_in_range(breaker_window_strikes(&window), 7, 8);
    try_messages(&window, 1);
    assert_int_equal(breaker_window_strikes(&window), 10);
    breaker_window_forget_failing(&window);
    assert_int_equal(breaker_window_strikes(&window), 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_failure_opens_the_breaker_and_further_ones_change_nothing),
        cmocka_unit_test(test_the_probe_falls_due_once),
        cmocka_unit_test(test_an_answer_from_before_it_opened_does_not_close_it),
        cmocka_unit_test(test_a_probe_that_passes_closes_it),
        cmocka_unit_test(test_probes_that_fail_wait_longer),
        cmocka_unit_test(test_a_pause_is_as_long_as_asked_for_up_to_the_maximum),
        cmocka_unit_test(test_pauses_adapt_to_the_rate_of_a_limiter),
        cmocka_unit_test(test_a_hub_that_works_is_asked_soon_after_the_next_failure),
        cmocka_unit_test(test_the_window_stays_whole_while_nothing_is_refused),
        cmocka_unit_test(test_refusals_of_less_than_a_third_do_not_shrink_the_window),
        cmocka_unit_test(test_refusals_of_more_than_a_third_halve_the_window_down_to_one),
        cmocka_unit_test(test_the_window_grows_by_one_each_round),
        cmocka_unit_test(test_shrinking_begins_a_new_round),
        cmocka_unit_test(test_an_answer_is_overdue_after_4_usual_times_and_at_least_100_ms),
        cmocka_unit_test(test_more_random_failures_need_more_strikes_for_a_charge),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
