#include "common/wire/jwt_claims.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void test_base64url_has_no_padding(void **state)
{
    struct buf out = {0};

    (void)state;
    base64url_encode(&out, BYTES("\xFB\xEF\xFF\xFE"));
    assert_string_equal(buf_text(&out), "--___g");
    buf_free(&out);
}

/* {"typ":"JWT","alg":"HS256"} and {"exp":1700003600,"mercure":{"publish":["*"],"subscribe":[]}} */
static void test_the_claims_are_symfonys(void **state)
{
    struct buf out = {0};

    (void)state;
    jwt_claims_encode(&out, "HS256", 1700003600);
    assert_string_equal(buf_text(&out),
                        "eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9."
                        "eyJleHAiOjE3MDAwMDM2MDAsIm1lcmN1cmUiOnsicHVibGlzaCI6WyIqIl0sInN1YnNj"
                        "cmliZSI6W119fQ");
    buf_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_base64url_has_no_padding),
        cmocka_unit_test(test_the_claims_are_symfonys),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
