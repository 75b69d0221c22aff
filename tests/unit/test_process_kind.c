/* The kind of a process by its name. */
#include "common/base/process_kind.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void test_a_name_tells_the_kind_with_and_without_a_section(void **state)
{
    (void)state;
    assert_int_equal(process_kind_of("consumer"), PROCESS_CONSUMER);
    assert_int_equal(process_kind_of("consumer:garden"), PROCESS_CONSUMER);
    assert_int_equal(process_kind_of("worker"), PROCESS_WORKER);
    assert_int_equal(process_kind_of("monitor"), PROCESS_MONITOR);
    assert_int_equal(process_kind_of("supervisor"), PROCESS_SUPERVISOR);
}

static void test_a_name_that_only_begins_like_a_kind_is_unknown(void **state)
{
    char spoilt[32];

    (void)state;
    memset(spoilt, 'x', sizeof(spoilt));
    assert_int_equal(process_kind_of("consumers"), PROCESS_UNKNOWN);
    assert_int_equal(process_kind_of("work"), PROCESS_UNKNOWN);
    assert_int_equal(process_kind_of(""), PROCESS_UNKNOWN);
    assert_int_equal(process_kind_of(spoilt), PROCESS_UNKNOWN);
}

static void test_the_section_is_what_is_behind_the_colon(void **state)
{
    (void)state;
    assert_string_equal(process_kind_section("consumer:garden"), "garden");
    assert_string_equal(process_kind_section("consumer"), "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_name_tells_the_kind_with_and_without_a_section),
        cmocka_unit_test(test_a_name_that_only_begins_like_a_kind_is_unknown),
        cmocka_unit_test(test_the_section_is_what_is_behind_the_colon),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
