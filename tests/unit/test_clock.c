#include "common/base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define SECOND INT64_C(1000000)
#define NOW    (INT64_C(1795514400) * SECOND + 123456) /* 2026-11-24 10:00:00.123456 UTC */

static int64_t at(const char *text)
{
    struct error err;
    int64_t us;

    if (clock_parse(bytes_of(text), NOW, &us, &err) < 0)
        fail_msg("%s: %s", text, err.text);
    return us - NOW;
}

static void test_a_duration_is_parsed_as_a_time_that_long_ago(void **state)
{
    (void)state;
    assert_int_equal(at("now"), 0);
    assert_int_equal(at("90s"), -90 * SECOND);
    assert_int_equal(at("15m"), -900 * SECOND);
    assert_int_equal(at("2h ago"), -7200 * SECOND);
    assert_int_equal(at("1d12h"), -36 * 3600 * SECOND);
    assert_int_equal(at("1w"), -7 * 86400 * SECOND);
    assert_int_equal(at("999999999w"), 1 - NOW);
    assert_int_equal(at("today"), -36000 * SECOND - 123456);
    assert_int_equal(at("yesterday"), -(36000 + 86400) * SECOND - 123456);
}

static void test_a_date_is_utc_unless_it_has_a_zone(void **state)
{
    (void)state;
    assert_int_equal(at("2026-11-24"), -36000 * SECOND - 123456);
    assert_int_equal(at("2026-11-24T10:00"), -123456);
    assert_int_equal(at("2026-11-24 10:00:00.123456"), 0);
    assert_int_equal(at("2026-11-24T10:00:00.1234567Z"), 0);
    assert_int_equal(at("2026-11-24T12:00:00.123456+02:00"), 0);
    assert_int_equal(at("2026-11-24T04:30:00.123456-0530"), 0);
    assert_int_equal(at("2028-02-29"), (INT64_C(461) * 86400 + 14 * 3600) * SECOND - 123456);
}

/* 0 would be no time at all: whoever asks for what was before then must not get everything. */
static void test_the_earliest_moment_is_behind_1970(void **state)
{
    (void)state;
    assert_int_equal(at("1970-01-01"), 1 - NOW);
    assert_int_equal(at("1970-01-01T00:00+02:00"), 1 - NOW);
    assert_int_equal(at("1970-01-01T00:00:00.000002"), 2 - NOW);
}

static void test_invalid_times_are_refused_with_the_accepted_forms(void **state)
{
    static const char *const texts[] = {"",
                                        "x",
                                        "2",
                                        "2x",
                                        "h",
                                        "-2h",
                                        "1.5h",
                                        "2026-13-01",
                                        "2026-11-31",
                                        "2027-02-29",
                                        "2026-11-24T",
                                        "2026-11-24T25:00",
                                        "2026-11-24T10:00:61",
                                        "2026-11-24T10:00+2",
                                        "2026-11-24x",
                                        "1969-12-31",
                                        "26-11-24",
                                        "2h 3m",
                                        "9999999999s",
                                        "2026-11-24T10:00:00."};

    (void)state;
    for (size_t i = 0; i < LENGTH_OF(texts); i++) {
        struct error err = {0};
        int64_t us;

        if (clock_parse(bytes_of(texts[i]), NOW, &us, &err) != -ERR_USAGE)
            fail_msg("`%s` is taken", texts[i]);
        assert_non_null(strstr(err.text, "2026-11-24T10:00"));
    }
}

static void test_back_off_doubles_with_a_quarter_of_jitter_up_to_the_maximum(void **state)
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

static void test_a_reset_back_off_begins_at_the_minimum(void **state)
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
        cmocka_unit_test(test_a_duration_is_parsed_as_a_time_that_long_ago),
        cmocka_unit_test(test_a_date_is_utc_unless_it_has_a_zone),
        cmocka_unit_test(test_the_earliest_moment_is_behind_1970),
        cmocka_unit_test(test_invalid_times_are_refused_with_the_accepted_forms),
        cmocka_unit_test(test_back_off_doubles_with_a_quarter_of_jitter_up_to_the_maximum),
        cmocka_unit_test(test_a_reset_back_off_begins_at_the_minimum),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
