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

static void expect_expiry(const char *claims, int64_t expiry)
{
    struct buf token = {0};

    base64url_encode(&token, BYTES("{\"alg\":\"HS256\"}"));
    buf_append_char(&token, '.');
    base64url_encode(&token, bytes_of(claims));
    buf_append_text(&token, ".c2lnbmF0dXJl");
    assert_int_equal(jwt_claims_expiry(buf_bytes(&token)), expiry);
    buf_free(&token);
}

static void test_the_expiry_of_a_given_token_is_read(void **state)
{
    (void)state;
    expect_expiry("{\"exp\":1700003600,\"mercure\":{}}", 1700003600);
    expect_expiry("{\"exp\":1700003600.25}", 1700003600);
    expect_expiry("{\"mercure\":{\"exp\":5}}", 0);
    expect_expiry("{\"exp\":\"soon\"}", 0);
    expect_expiry("{\"exp\":-5}", 0);
    expect_expiry("{\"exp\":99999999999999999999}", 0);
    expect_expiry("{\"exp\":1700003600", 0);
    expect_expiry("[]", 0);
}

static void test_what_is_no_token_has_no_expiry(void **state)
{
    static const char *const tokens[] = {"", ".", "..", "a.b", "a.b.c", "a.!!.c", "eyJ.eyJ.x"};

    (void)state;
    for (size_t i = 0; i < sizeof(tokens) / sizeof(tokens[0]); i++)
        assert_int_equal(jwt_claims_expiry(bytes_of(tokens[i])), 0);
    assert_int_equal(jwt_claims_expiry(BYTES_NONE), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_base64url_has_no_padding),
        cmocka_unit_test(test_the_claims_are_symfonys),
        cmocka_unit_test(test_the_expiry_of_a_given_token_is_read),
        cmocka_unit_test(test_what_is_no_token_has_no_expiry),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
