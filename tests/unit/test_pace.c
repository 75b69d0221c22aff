#include "worker/pace.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

static void pass_round(struct pace *pace)
{
    size_t window = pace->window;

    for (size_t i = 1; i < window; i++)
        assert_false(pace_passed(pace));
    assert_true(pace_passed(pace));
}

static void test_all_may_go_while_nothing_fails(void **state)
{
    struct pace pace;

    (void)state;
    pace_init(&pace, 16);
    for (int i = 0; i < 100; i++) {
        assert_true(pace_passed(&pace));
        assert_int_equal(pace.window, 16);
    }
    assert_true(pace_is_full(&pace));
}

static void test_after_a_wait_it_grows_from_one_to_all(void **state)
{
    static const size_t windows[] = {1, 2, 4, 8, 9, 10, 11, 12, 13, 14, 15, 16, 16};
    struct pace pace;

    (void)state;
    pace_init(&pace, 16);
    pace_waited(&pace);
    for (size_t i = 0; i < sizeof(windows) / sizeof(windows[0]); i++) {
        assert_int_equal(pace.window, windows[i]);
        assert_int_equal(pace_is_full(&pace), windows[i] == 16);
        if (windows[i] < 16)
            pass_round(&pace);
    }
}

static void test_it_doubles_up_to_half_of_what_was_too_many(void **state)
{
    struct pace pace;

    (void)state;
    pace_init(&pace, 16);
    pace_waited(&pace);
    for (int i = 0; i < 3; i++)
        pass_round(&pace);
    assert_int_equal(pace.window, 8);
    pace_waited(&pace);
    assert_int_equal(pace.threshold, 4);
    pace_waited(&pace);
    assert_int_equal(pace.threshold, 1);
    pass_round(&pace);
    assert_int_equal(pace.window, 2);
    pass_round(&pace);
    assert_int_equal(pace.window, 3);
}

static void test_one_connection_is_all(void **state)
{
    struct pace pace;

    (void)state;
    pace_init(&pace, 1);
    pace_waited(&pace);
    assert_int_equal(pace.window, 1);
    assert_true(pace_passed(&pace));
    assert_true(pace_is_full(&pace));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_may_go_while_nothing_fails),
        cmocka_unit_test(test_after_a_wait_it_grows_from_one_to_all),
        cmocka_unit_test(test_it_doubles_up_to_half_of_what_was_too_many),
        cmocka_unit_test(test_one_connection_is_all),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
