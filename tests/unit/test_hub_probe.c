#include "common/client/hub_probe.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#define URL "http://hub/.well-known/mercure"

static void test_a_hub_that_misses_the_topic_is_well(void **state)
{
    struct error err = {0};

    (void)state;
    assert_int_equal(hub_probe_judge(400, URL, &err), 0);
}

static void test_a_refused_token_is_named(void **state)
{
    struct error err = {0};

    (void)state;
    assert_int_equal(hub_probe_judge(401, URL, &err), -ERR_REFUSED);
    assert_non_null(strstr(err.text, "MERCURE_JWT_SECRET"));
    assert_non_null(strstr(err.text, URL));
}

static void test_what_is_no_hub_points_at_the_url(void **state)
{
    const long answers[] = {200, 204, 301, 404, 405, 418};

    (void)state;
    for (size_t i = 0; i < sizeof answers / sizeof answers[0]; i++) {
        struct error err = {0};
        assert_int_equal(hub_probe_judge(answers[i], URL, &err), -ERR_REFUSED);
        assert_non_null(strstr(err.text, "MERCURE_URL"));
    }
}

static void test_a_busy_hub_may_come_back(void **state)
{
    const long answers[] = {408, 429, 500, 502, 503, 504};

    (void)state;
    for (size_t i = 0; i < sizeof answers / sizeof answers[0]; i++) {
        struct error err = {0};
        assert_int_equal(hub_probe_judge(answers[i], URL, &err), -ERR_UNREACHABLE);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_hub_that_misses_the_topic_is_well),
        cmocka_unit_test(test_a_refused_token_is_named),
        cmocka_unit_test(test_what_is_no_hub_points_at_the_url),
        cmocka_unit_test(test_a_busy_hub_may_come_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
