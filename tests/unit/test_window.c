#include "worker/window.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

/* One round of answers, of which so many of a hundred are a limiter's. */
static void answer_round(struct window *window, size_t percent)
{
    size_t round = window->size * 4 > 16 ? window->size * 4 : 16;

    for (size_t i = 0; i < round; i++)
        window_answered(window, i * 100 / round < percent);
}

static void test_all_may_go_while_nothing_is_refused(void **state)
{
    struct window window;

    (void)state;
    window_init(&window, 16);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(window.size, 16);
        answer_round(&window, 0);
    }
}

static void test_refusals_of_less_than_a_third_do_not_shrink_it(void **state)
{
    struct window window;

    (void)state;
    window_init(&window, 16);
    for (int i = 0; i < 20; i++)
        answer_round(&window, 30);
    assert_int_equal(window.size, 16);
}

static void test_refusals_of_more_than_a_third_halve_it_down_to_one(void **state)
{
    static const size_t sizes[] = {16, 8, 4, 2, 1, 1};
    struct window window;

    (void)state;
    window_init(&window, 16);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        assert_int_equal(window.size, sizes[i]);
        answer_round(&window, 40);
    }
}

static void test_it_grows_by_one_a_round(void **state)
{
    struct window window;

    (void)state;
    window_init(&window, 4);
    window_shrink(&window);
    window_shrink(&window);
    for (size_t size = 1; size <= 4; size++) {
        assert_int_equal(window.size, size);
        answer_round(&window, 0);
    }
    assert_int_equal(window.size, 4);
}

static void test_shrinking_begins_a_new_round(void **state)
{
    struct window window;

    (void)state;
    window_init(&window, 16);
    for (int i = 0; i < 63; i++)
        window_answered(&window, true);
    window_shrink(&window);
    assert_int_equal(window.size, 8);
    window_answered(&window, true);
    assert_int_equal(window.size, 8);
}

static void test_overdue_is_four_times_what_answers_take_and_a_tenth_of_a_second(void **state)
{
    struct window window;

    (void)state;
    window_init(&window, 16);
    assert_int_equal(window_overdue_ms(&window), 100);
    for (int i = 0; i < 100; i++)
        window_took(&window, 1000);
    assert_int_equal(window_overdue_ms(&window), 100);
    for (int i = 0; i < 100; i++)
        window_took(&window, 100000);
    assert_in_range(window_overdue_ms(&window), 395, 400);
}

static void try_messages(struct window *window, int every)
{
    for (int i = 1; i <= 1000; i++)
        window_tried(window, i % every == 0);
}

static void test_the_more_fail_by_chance_the_more_strikes_blame_one(void **state)
{
    struct window window;

    (void)state;
    window_init(&window, 16);
    assert_int_equal(window_strikes(&window), 3);
    window_tried(&window, true);
    assert_int_equal(window_strikes(&window), 3);
    try_messages(&window, 100);
    assert_int_equal(window_strikes(&window), 3);
    try_messages(&window, 5);
    assert_in_range(window_strikes(&window), 7, 8);
    try_messages(&window, 1);
    assert_int_equal(window_strikes(&window), 10);
    window_forget_failing(&window);
    assert_int_equal(window_strikes(&window), 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_may_go_while_nothing_is_refused),
        cmocka_unit_test(test_refusals_of_less_than_a_third_do_not_shrink_it),
        cmocka_unit_test(test_refusals_of_more_than_a_third_halve_it_down_to_one),
        cmocka_unit_test(test_it_grows_by_one_a_round),
        cmocka_unit_test(test_shrinking_begins_a_new_round),
        cmocka_unit_test(test_overdue_is_four_times_what_answers_take_and_a_tenth_of_a_second),
        cmocka_unit_test(test_the_more_fail_by_chance_the_more_strikes_blame_one),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
