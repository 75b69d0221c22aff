#include "consumer/dispatch/previous_destination.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void check(const char *current, const char *place, const char *expected)
{
    char *dsn = previous_destination_dsn(current, place);

    assert_string_equal(dsn, expected);
    free(dsn);
}

static void test_the_former_place_gets_today_s_credentials_and_options(void **state)
{
    (void)state;
    check("redis://new:6379/b", "redis://old:6379/a", "redis://old:6379/a");
    check("redis://:p%2Fw@new/b?timeout=1", "redis://old:6379/a",
          "redis://:p%2Fw@old:6379/a?timeout=1");
    check("rediss://u:p@w@new:1/b/g?dbindex=2&timeout=1", "redis://old:6379/a",
          "redis://u:p@w@old:6379/a?timeout=1");
    check("redis://new/b?dbindex=2&timeout=1", "redis://old:6379/a?dbindex=3",
          "redis://old:6379/a?dbindex=3&timeout=1");
    check("redis://new/b", "redis:///run/r.sock?stream=s&dbindex=1",
          "redis:///run/r.sock?stream=s&dbindex=1");
    check("redis:///run/r.sock?stream=b", "redis://old:6379/a", "redis://old:6379/a");
}

static void test_options_that_name_another_place_are_left_out(void **state)
{
    (void)state;
    check("redis://x@new?stream=b&serializer=0&host[c:1]", "redis://old:6379/a",
          "redis://x@old:6379/a?serializer=0");
    check("redis://new?stream=b", "redis://old:6379/a", "redis://old:6379/a");
}

static void test_the_reason_names_the_place_and_the_mend_however_long_it_is(void **state)
{
    struct error err = {.text = "redis://old:6379/a: Connection refused"};
    char text[192];

    (void)state;
    previous_destination_reason(text, sizeof(text), "redis://old:6379/a", &err);
    assert_string_equal(text,
                        "the former redis://old:6379/a: Connection refused; if it is gone for "
                        "good: [spool] former = redirect (what it already has may come twice)");
    strcpy(err.text, "no such host");
    previous_destination_reason(text, sizeof(text), "redis://old:6379/a", &err);
    assert_memory_equal(text, BYTES("the former redis://old:6379/a: no such host; if").data, 47);
    memset(err.text, 'x', sizeof(err.text) - 1);
    previous_destination_reason(text, sizeof(text), "redis://old:6379/a", &err);
    assert_int_equal(strlen(text), sizeof(text) - 1);
    assert_non_null(strstr(text, "; if it is gone for good: [spool] former = redirect"));
    assert_int_equal(text[strlen(text) - 1], ')');
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_former_place_gets_today_s_credentials_and_options),
        cmocka_unit_test(test_options_that_name_another_place_are_left_out),
        cmocka_unit_test(test_the_reason_names_the_place_and_the_mend_however_long_it_is),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
