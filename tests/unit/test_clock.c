#include "common/base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void test_waits_double_within_a_quarter_up_to_the_maximum(void **state)
{
    int64_t expected = 100;

    (void)state;
    struct clock_backoff backoff = {.minimum_ms = 100, .maximum_ms = 3000};
    for (int i = 0; i < 20; i++) {
        int64_t wait = clock_backoff_next(&backoff);

        assert_true(wait >= expected - expected / 4);
        assert_true(wait <= expected + expected / 4);
        assert_true(wait <= 3000);
        expected = expected * 2 > 3000 ? 3000 : expected * 2;
    }
}

static void test_a_reset_begins_at_the_minimum(void **state)
{
    struct clock_backoff backoff = {.minimum_ms = 100, .maximum_ms = 3000};

    (void)state;
    for (int i = 0; i < 10; i++)
        clock_backoff_next(&backoff);
    clock_backoff_reset(&backoff);
    assert_true(clock_backoff_next(&backoff) <= 125);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_waits_double_within_a_quarter_up_to_the_maximum),
        cmocka_unit_test(test_a_reset_begins_at_the_minimum),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
