#include "consumer/former.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

static void check(const char *current, const char *place, const char *expected)
{
    char *dsn = former_dsn(current, place);

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_former_place_gets_today_s_credentials_and_options),
        cmocka_unit_test(test_options_that_name_another_place_are_left_out),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
