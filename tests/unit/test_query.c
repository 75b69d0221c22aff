/* The query of GET /latest. */
#include "monitor/query.h"

#include "common/base/bytes.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void expect_filter(const char *given, const char *expected)
{
    struct query query;
    struct error err;

    assert_int_equal(query_read(&query, given, NULL, &err), 0);
    assert_string_equal(query.filter, expected);
    free(query.filter);
}

static void expect_fault(const char *filter, const char *cursor, const char *about)
{
    struct query query;
    struct error err;

    assert_int_equal(query_read(&query, filter, cursor, &err), -ERR_USAGE);
    if (strstr(err.text, about) != err.text)
        fail_msg("\"%s\" instead of \"%s…\"", err.text, about);
}

static void test_a_filter_is_percent_decoded_and_its_plus_is_kept(void **state)
{
    (void)state;
    expect_filter("plant/%23", "plant/#");
    expect_filter("plant/+/temp", "plant/+/temp");
    expect_filter("plant/%2B/temp", "plant/+/temp");
    expect_filter("salle%20%C3%A9t%C3%A9", "salle été");
}

static void test_what_is_no_filter_is_refused_with_the_reason(void **state)
{
    (void)state;
    expect_fault("", NULL, "filter: ");
    expect_fault("a%23", NULL, "filter: ");
    expect_fault("%23/a", NULL, "filter: ");
    expect_fault("a%00b", NULL, "filter: ");
    expect_fault("%FF", NULL, "filter: ");
    expect_fault("$share/g/a", NULL, "filter: ");
}

static void test_a_cursor_is_a_number(void **state)
{
    struct query query;
    struct error err;

    (void)state;
    assert_int_equal(query_read(&query, NULL, "18446744073709551615", &err), 0);
    assert_true(query.cursor == UINT64_MAX && query.filter == NULL);
    assert_int_equal(query_read(&query, NULL, NULL, &err), 0);
    assert_true(query.cursor == 0);
    expect_fault(NULL, "", "cursor: ");
    expect_fault(NULL, "-1", "cursor: ");
    expect_fault(NULL, "18446744073709551616", "cursor: ");
    expect_fault("a", "1 COUNT 5", "cursor: ");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_filter_is_percent_decoded_and_its_plus_is_kept),
        cmocka_unit_test(test_what_is_no_filter_is_refused_with_the_reason),
        cmocka_unit_test(test_a_cursor_is_a_number),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
