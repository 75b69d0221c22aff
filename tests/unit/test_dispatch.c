#include "consumer/dispatch/dispatch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define TIMEOUT_MS 1000

static void assert_normal(const struct dispatch_limit *limit)
{
    assert_int_equal(limit->bytes, DISPATCH_LIMIT_BYTES);
    assert_int_equal(limit->answer_timeout_ms, TIMEOUT_MS);
    assert_int_equal(dispatch_limit_in_flight(limit), DISPATCH_LIMIT_IN_FLIGHT);
    assert_false(dispatch_limit_is_degraded(limit));
}

static void test_answers_do_not_change_limits_that_are_normal(void **state)
{
    struct dispatch_limit limit;

    (void)state;
    dispatch_limit_init(&limit, TIMEOUT_MS);
    assert_normal(&limit);
    dispatch_limit_answered(&limit, 10);
    dispatch_limit_answered(&limit, 10 * TIMEOUT_MS); /* it came bit by bit */
    assert_normal(&limit);
}

static void test_a_late_answer_halves_the_batch_size_down_to_its_minimum(void **state)
{
    struct dispatch_limit limit;

    (void)state;
    dispatch_limit_init(&limit, TIMEOUT_MS);
    dispatch_limit_timed_out(&limit, 1000900, 250);
    assert_int_equal(limit.bytes, 500000);
    assert_int_equal(dispatch_limit_in_flight(&limit), 1);
    dispatch_limit_timed_out(&limit, 80000, 100); /* all that there was */
    assert_int_equal(limit.bytes, 40000);
    dispatch_limit_timed_out(&limit, 2000000, 2); /* a small one, then a large one */
    assert_int_equal(limit.bytes, 20000);
    dispatch_limit_timed_out(&limit, 2000000, 2);
    assert_int_equal(limit.bytes, DISPATCH_LIMIT_BYTES_MIN);
    assert_int_equal(limit.answer_timeout_ms, TIMEOUT_MS);
    dispatch_limit_timed_out(&limit, 2000000, 2);
    assert_int_equal(limit.bytes, DISPATCH_LIMIT_BYTES_MIN);
    assert_int_equal(limit.answer_timeout_ms, 2 * TIMEOUT_MS);
}

static void test_a_late_answer_to_a_few_bytes_doubles_the_timeout(void **state)
{
    struct dispatch_limit limit;

    (void)state;
    dispatch_limit_init(&limit, TIMEOUT_MS);
    dispatch_limit_timed_out(&limit, 1500, 5);
    assert_int_equal(limit.bytes, DISPATCH_LIMIT_BYTES_MIN);
    assert_int_equal(limit.answer_timeout_ms, 2 * TIMEOUT_MS);
    dispatch_limit_timed_out(&limit, 0, 0); /* the mark alone */
    assert_int_equal(limit.bytes, DISPATCH_LIMIT_BYTES_MIN);
    assert_int_equal(limit.answer_timeout_ms, 4 * TIMEOUT_MS);
}

static void test_a_link_with_high_latency_gets_full_batches(void **state)
{
    struct dispatch_limit limit;

    (void)state;
    dispatch_limit_init(&limit, TIMEOUT_MS);
    dispatch_limit_timed_out(&limit, 1500, 5);
    for (int i = 0; i < 50; i++)
        dispatch_limit_answered(&limit, 600);
    assert_normal(&limit);
}

static void test_quick_answers_restore_the_batch_size(void **state)
{
    struct dispatch_limit limit;

    (void)state;
    dispatch_limit_init(&limit, TIMEOUT_MS);
    for (int i = 0; i < 3; i++)
        dispatch_limit_timed_out(&limit, DISPATCH_LIMIT_BYTES, 250);
    assert_int_equal(limit.bytes, 125000);
    dispatch_limit_answered(&limit, 300);
    assert_int_equal(limit.bytes, 250000);
    dispatch_limit_answered(&limit, 300);
    assert_int_equal(limit.bytes, 500000);
    assert_int_equal(dispatch_limit_in_flight(&limit), 1);
    assert_true(dispatch_limit_is_degraded(&limit));
    dispatch_limit_answered(&limit, 300);
    assert_normal(&limit);
}

static void test_an_answer_in_time_but_not_quick_raises_the_batch_size_little(void **state)
{
    struct dispatch_limit limit;

    (void)state;
    dispatch_limit_init(&limit, TIMEOUT_MS);
    dispatch_limit_timed_out(&limit, DISPATCH_LIMIT_BYTES, 250);
    dispatch_limit_answered(&limit, 600);
    assert_int_equal(limit.bytes, 562500);
    dispatch_limit_answered(&limit, 700);
    assert_int_equal(limit.bytes, 562500);
}

static void test_a_late_answer_to_a_single_message_doubles_the_timeout(void **state)
{
    struct dispatch_limit limit;

    (void)state;
    dispatch_limit_init(&limit, TIMEOUT_MS);
    dispatch_limit_timed_out(&limit, 2000000, 1);
    assert_int_equal(limit.answer_timeout_ms, 2 * TIMEOUT_MS);
    dispatch_limit_timed_out(&limit, 2000000, 1);
    assert_int_equal(limit.answer_timeout_ms, 4 * TIMEOUT_MS);
    dispatch_limit_answered(&limit, 3 * TIMEOUT_MS);
    assert_int_equal(limit.answer_timeout_ms,
                     4 * TIMEOUT_MS); /* the next one as large needs it too */
    dispatch_limit_answered(&limit, 500);
    assert_int_equal(limit.answer_timeout_ms, 2 * TIMEOUT_MS);
    for (int i = 0; i < 3; i++)
        dispatch_limit_answered(&limit, 10);
    assert_normal(&limit);
    for (int i = 0; i < 100; i++)
        dispatch_limit_timed_out(&limit, 2000000, 1);
    assert_int_equal(limit.answer_timeout_ms, DISPATCH_LIMIT_TIMEOUT_MAX);
    for (int i = 0; i < 30; i++)
        dispatch_limit_answered(&limit, 10);
    assert_normal(&limit);
}

static void test_a_configured_timeout_above_the_maximum_is_not_raised(void **state)
{
    struct dispatch_limit limit;

    (void)state;
    dispatch_limit_init(&limit, 2 * DISPATCH_LIMIT_TIMEOUT_MAX);
    dispatch_limit_timed_out(&limit, 2000000, 1);
    assert_int_equal(limit.answer_timeout_ms, 2 * DISPATCH_LIMIT_TIMEOUT_MAX);
}

static void test_only_a_second_timeout_counts_as_a_degraded_link(void **state)
{
    struct dispatch_limit limit;
    struct error err;

    (void)state;
    dispatch_limit_init(&limit, TIMEOUT_MS);
    dispatch_limit_timed_out(&limit, 2000000, 1);
    assert_false(dispatch_limit_is_degraded(&limit));
    dispatch_limit_explain(&limit, "redis://there:6379/messages", &err);
    assert_null(strstr(err.text, "timeout=SECONDS"));
    dispatch_limit_timed_out(&limit, 2000000, 1);
    assert_true(dispatch_limit_is_degraded(&limit));
    dispatch_limit_explain(&limit, "redis://there:6379/messages", &err);
    assert_int_equal(err.code, ERR_UNREACHABLE);
    assert_non_null(strstr(err.text, "redis://there:6379/messages: no answer in time to 2000000"));
    assert_non_null(strstr(err.text, "timeout=SECONDS in the DSN"));
    assert_non_null(strstr(err.text, "for 4000 ms"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answers_do_not_change_limits_that_are_normal),
        cmocka_unit_test(test_a_late_answer_halves_the_batch_size_down_to_its_minimum),
        cmocka_unit_test(test_a_late_answer_to_a_few_bytes_doubles_the_timeout),
        cmocka_unit_test(test_a_link_with_high_latency_gets_full_batches),
        cmocka_unit_test(test_quick_answers_restore_the_batch_size),
        cmocka_unit_test(test_an_answer_in_time_but_not_quick_raises_the_batch_size_little),
        cmocka_unit_test(test_a_late_answer_to_a_single_message_doubles_the_timeout),
        cmocka_unit_test(test_a_configured_timeout_above_the_maximum_is_not_raised),
        cmocka_unit_test(test_only_a_second_timeout_counts_as_a_degraded_link),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
