#include "common/client/hub.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

static int judge(long status, bool id_matches, struct error *err)
{
    struct hub_result result = {.answer = hub_answer_read(status, id_matches), .status = status};

    snprintf(result.text, sizeof(result.text), "http://hub/: %s", result.answer.meaning);
    return hub_probe_judge(&result, err);
}

static void test_only_a_probe_that_passed_is_health(void **state)
{
    struct error err = {0};

    (void)state;
    assert_int_equal(judge(200, true, &err), 0);
    for (long status = 0; status < 600; status++)
        assert_true(judge(status, false, &err) < 0);
}

static void test_a_refused_token_is_named(void **state)
{
    struct error err = {0};

    (void)state;
    assert_int_equal(judge(401, false, &err), -ERR_REFUSED);
    assert_non_null(strstr(err.text, "MERCURE_JWT_SECRET"));
    assert_non_null(strstr(err.text, "http://hub/"));
}

static void test_a_status_that_no_hub_sends_names_mercure_url(void **state)
{
    const long answers[] = {200, 204, 301, 400, 403, 404, 405, 407, 418};

    (void)state;
    for (size_t i = 0; i < LENGTH_OF(answers); i++) {
        struct error err = {0};

        assert_int_equal(judge(answers[i], false, &err), -ERR_REFUSED);
        assert_non_null(strstr(err.text, "MERCURE_URL"));
    }
}

static void test_a_busy_hub_may_come_back(void **state)
{
    const long answers[] = {0, 408, 425, 429, 500, 502, 503, 504};

    (void)state;
    for (size_t i = 0; i < LENGTH_OF(answers); i++) {
        struct error err = {0};

        assert_int_equal(judge(answers[i], false, &err), -ERR_UNREACHABLE);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_only_a_probe_that_passed_is_health),
        cmocka_unit_test(test_a_refused_token_is_named),
        cmocka_unit_test(test_a_status_that_no_hub_sends_names_mercure_url),
        cmocka_unit_test(test_a_busy_hub_may_come_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
