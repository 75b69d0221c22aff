#include "common/client/jwt.h"

#include "common/base/alloc.h"
#include "common/base/arena.h"
#include "common/base/buf.h"
#include "common/wire/base64.h"
#include "common/wire/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/bn.h>
#include <openssl/ecdsa.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>

#include <cmocka.h>

#define NOW       INT64_C(1700000000)
#define SECRET_32 "0123456789abcdef0123456789abcdef"
#define SECRET_64 SECRET_32 SECRET_32

static struct settings_mercure settings_of(enum jwt_algorithm algorithm, const char *secret)
{
    return (struct settings_mercure){
        .jwt = "",
        .jwt_secret = (char *)secret,
        .jwt_algorithm = algorithm,
        .jwt_key_file = "",
    };
}

static struct jwt *make(const struct settings_mercure *settings)
{
    struct jwt *jwt = NULL;
    struct error err = {0};

    if (jwt_new(&jwt, settings, &err) < 0)
        fail_msg("%s", err.text);
    return jwt;
}

/* Header and claims as text, and the raw signature. */
struct opened {
    struct arena arena;
    struct bytes signed_part;
    struct bytes header;
    struct bytes claims;
    struct bytes signature;
};

static struct bytes decode_url(struct arena *arena, struct bytes part)
{
    struct bytes copy = arena_copy(arena, part), decoded;
    char *data = (char *)copy.data;

    assert_null(memchr(data, '=', copy.len));
    for (size_t i = 0; i < copy.len; i++) {
        if (data[i] == '-')
            data[i] = '+';
        if (data[i] == '_')
            data[i] = '/';
    }
    assert_int_equal(base64_decode(&decoded, copy, arena), 0);
    return decoded;
}

static void open_token(struct opened *opened, const char *token)
{
    struct bytes header, claims, signature, rest;

    *opened = (struct opened){0};
    assert_true(bytes_split(bytes_of(token), '.', &header, &rest));
    assert_true(bytes_split(rest, '.', &claims, &signature));
    opened->signed_part = (struct bytes){token, header.len + 1 + claims.len};
    opened->header = decode_url(&opened->arena, header);
    opened->claims = decode_url(&opened->arena, claims);
    opened->signature = decode_url(&opened->arena, signature);
}

static void test_a_secret_signs_what_the_hub_can_check(void **state)
{
    static const struct {
        enum jwt_algorithm algorithm;
        const char *secret;
        const char *header;
    } rows[] = {
        {JWT_HS256, SECRET_32, "{\"typ\":\"JWT\",\"alg\":\"HS256\"}"},
        {JWT_HS384, SECRET_64, "{\"typ\":\"JWT\",\"alg\":\"HS384\"}"},
        {JWT_HS512, SECRET_64, "{\"typ\":\"JWT\",\"alg\":\"HS512\"}"},
    };
    const EVP_MD *digests[] = {EVP_sha256(), EVP_sha384(), EVP_sha512()};

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct settings_mercure settings = settings_of(rows[i].algorithm, rows[i].secret);
        struct jwt *jwt = make(&settings);
        struct opened opened;
        unsigned char expected[EVP_MAX_MD_SIZE];
        unsigned len;

        open_token(&opened, jwt_token(jwt, NOW, NULL));
        assert_true(bytes_equal_text(opened.header, rows[i].header));
        assert_true(bytes_equal_text(
            opened.claims,
            "{\"exp\":1700003600,\"mercure\":{\"publish\":[\"*\"],\"subscribe\":[]}}"));
        HMAC(digests[i], rows[i].secret, (int)strlen(rows[i].secret),
             (const unsigned char *)opened.signed_part.data, opened.signed_part.len, expected,
             &len);
        assert_int_equal(opened.signature.len, len);
        assert_memory_equal(opened.signature.data, expected, len);
        arena_free(&opened.arena);
        jwt_free(jwt);
    }
}

/* Writes the key to a temporary file; the caller removes and frees the path. */
static char *write_key(EVP_PKEY *key)
{
    char *path = xstrdup("/tmp/test_jwt_XXXXXX");
    int fd = mkstemp(path);
    FILE *file = fdopen(fd, "w");

    assert_non_null(file);
    assert_int_equal(PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL), 1);
    fclose(file);
    return path;
}

static bool verifies(EVP_PKEY *key, struct bytes text, const unsigned char *signature, size_t len)
{
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    bool good =
        EVP_DigestVerifyInit(context, NULL, EVP_sha256(), NULL, key) == 1 &&
        EVP_DigestVerify(context, signature, len, (const unsigned char *)text.data, text.len) == 1;

    EVP_MD_CTX_free(context);
    return good;
}

static struct jwt *make_with_key(enum jwt_algorithm algorithm, EVP_PKEY *key)
{
    struct settings_mercure settings = settings_of(algorithm, "");
    char *path = write_key(key);

    settings.jwt_key_file = path;
    struct jwt *jwt = make(&settings);
    unlink(path);
    free(path);
    return jwt;
}

static void test_an_rsa_key_signs_as_rs256(void **state)
{
    EVP_PKEY *key = EVP_RSA_gen(2048);
    struct jwt *jwt = make_with_key(JWT_RS256, key);
    struct opened opened;

    (void)state;
    open_token(&opened, jwt_token(jwt, NOW, NULL));
    assert_true(bytes_equal_text(opened.header, "{\"typ\":\"JWT\",\"alg\":\"RS256\"}"));
    assert_true(verifies(key, opened.signed_part, (const unsigned char *)opened.signature.data,
                         opened.signature.len));
    arena_free(&opened.arena);
    jwt_free(jwt);
    EVP_PKEY_free(key);
}

/* r and s at full width each, whatever their leading bytes: many signatures, to meet short ones. */
static void test_an_ec_key_signs_as_es256_with_64_raw_bytes(void **state)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    struct jwt *jwt = make_with_key(JWT_ES256, key);

    (void)state;
    for (int i = 0; i < 600; i++) {
        struct opened opened;

        ECDSA_SIG *signature = ECDSA_SIG_new();
        unsigned char *der = NULL;

        jwt_renew(jwt);
        open_token(&opened, jwt_token(jwt, NOW + i, NULL));
        assert_true(bytes_equal_text(opened.header, "{\"typ\":\"JWT\",\"alg\":\"ES256\"}"));
        assert_int_equal(opened.signature.len, 64);
        const unsigned char *raw = (const unsigned char *)opened.signature.data;
        ECDSA_SIG_set0(signature, BN_bin2bn(raw, 32, NULL), BN_bin2bn(raw + 32, 32, NULL));
        int len = i2d_ECDSA_SIG(signature, &der);
        assert_true(len > 0 && verifies(key, opened.signed_part, der, (size_t)len));
        OPENSSL_free(der);
        ECDSA_SIG_free(signature);
        arena_free(&opened.arena);
    }
    jwt_free(jwt);
    EVP_PKEY_free(key);
}

static int64_t expiry_at(struct jwt *jwt, int64_t now_s)
{
    struct opened opened;
    uint64_t expiry = 0;

    open_token(&opened, jwt_token(jwt, now_s, NULL));
    assert_true(bytes_to_u64(json_object_get(opened.claims, "exp", &opened.arena), &expiry));
    arena_free(&opened.arena);
    return (int64_t)expiry;
}

static void test_a_token_is_kept_for_four_fifths_of_its_hour(void **state)
{
    struct settings_mercure settings = settings_of(JWT_HS256, SECRET_32);
    struct jwt *jwt = make(&settings);

    (void)state;
    assert_int_equal(expiry_at(jwt, NOW), NOW + 3600);
    assert_int_equal(expiry_at(jwt, NOW + 2879), NOW + 3600);
    assert_int_equal(expiry_at(jwt, NOW + 2880), NOW + 2880 + 3600);
    jwt_free(jwt);
}

static void test_a_token_is_minted_on_demand_and_when_the_clock_was_set_back(void **state)
{
    struct settings_mercure settings = settings_of(JWT_HS256, SECRET_32);
    struct jwt *jwt = make(&settings);

    (void)state;
    assert_int_equal(expiry_at(jwt, NOW), NOW + 3600);
    jwt_renew(jwt);
    assert_int_equal(expiry_at(jwt, NOW + 5), NOW + 5 + 3600);
    assert_int_equal(expiry_at(jwt, NOW - 100), NOW - 100 + 3600);
    jwt_free(jwt);
}

static void test_a_given_token_stays_what_it_is(void **state)
{
    struct settings_mercure settings = settings_of(JWT_RS256, "");
    struct jwt *jwt;

    (void)state;
    settings.jwt = " a.b.c\n";
    jwt = make(&settings);
    assert_string_equal(jwt_token(jwt, NOW, NULL), "a.b.c");
    jwt_renew(jwt);
    assert_string_equal(jwt_token(jwt, NOW + 10000, NULL), "a.b.c");
    jwt_free(jwt);
}

static void expect_fault(const struct settings_mercure *settings, const char *said)
{
    struct jwt *jwt = NULL;
    struct error err = {0};

    assert_int_equal(jwt_new(&jwt, settings, &err), -ERR_USAGE);
    if (strstr(err.text, said) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", err.text, said);
    assert_null(strstr(err.text, "hunter2"));
}

static void test_faulty_jwt_settings_are_named(void **state)
{
    struct settings_mercure settings = settings_of(JWT_HS256, "");
    struct jwt *jwt = NULL;
    struct error err = {0};

    (void)state;
    expect_fault(&settings, "MERCURE_JWT_SECRET");
    settings.jwt_secret = "hunter2hunter2hunter2hunter2hun";
    expect_fault(&settings, "31 bytes long; HS256 needs at least 32");
    settings.jwt_secret = SECRET_32;
    settings.jwt_algorithm = JWT_HS384;
    expect_fault(&settings, "at least 48");
    settings.jwt_algorithm = JWT_HS512;
    expect_fault(&settings, "at least 64");
    settings.jwt_algorithm = JWT_RS256;
    expect_fault(&settings, "jwt_key_file");
    settings.jwt_key_file = "/nonexistent/key.pem";
    assert_int_equal(jwt_new(&jwt, &settings, &err), -ERR_SYSTEM); /* it may be there later */
    assert_non_null(strstr(err.text, "/nonexistent/key.pem: No such file"));
    settings.jwt_key_file = "LICENSE";
    expect_fault(&settings, "no PEM private key");
    settings.jwt = "hunter2\r\nX-Evil: 1";
    expect_fault(&settings, "MERCURE_JWT)");
}

static void test_a_key_of_the_wrong_kind_is_refused(void **state)
{
    EVP_PKEY *ec = EVP_EC_gen("P-384"), *rsa = EVP_RSA_gen(1024);
    char *ec_path = write_key(ec), *rsa_path = write_key(rsa);
    struct settings_mercure settings = settings_of(JWT_ES256, "");

    (void)state;
    settings.jwt_key_file = ec_path;
    expect_fault(&settings, "P-256");
    settings.jwt_key_file = rsa_path;
    expect_fault(&settings, "P-256");
    settings.jwt_algorithm = JWT_RS256;
    expect_fault(&settings, "2048");
    settings.jwt_key_file = ec_path;
    expect_fault(&settings, "RSA");
    unlink(ec_path);
    unlink(rsa_path);
    free(ec_path);
    free(rsa_path);
    EVP_PKEY_free(ec);
    EVP_PKEY_free(rsa);
}

static void test_base64url_has_no_padding(void **state)
{
    struct buf out = {0};

    (void)state;
    base64_encode_url(&out, BYTES("\xFB\xEF\xFF\xFE"));
    assert_string_equal(buf_text(&out), "--___g");
    buf_free(&out);
}

/* {"typ":"JWT","alg":"HS256"} and {"exp":1700003600,"mercure":{"publish":["*"],"subscribe":[]}} */
static void test_the_claims_are_symfonys(void **state)
{
    struct buf out = {0};

    (void)state;
    jwt_encode_claims(&out, "HS256", 1700003600);
    assert_string_equal(buf_text(&out),
                        "eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9."
                        "eyJleHAiOjE3MDAwMDM2MDAsIm1lcmN1cmUiOnsicHVibGlzaCI6WyIqIl0sInN1YnNj"
                        "cmliZSI6W119fQ");
    buf_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_secret_signs_what_the_hub_can_check),
        cmocka_unit_test(test_an_rsa_key_signs_as_rs256),
        cmocka_unit_test(test_an_ec_key_signs_as_es256_with_64_raw_bytes),
        cmocka_unit_test(test_a_token_is_kept_for_four_fifths_of_its_hour),
        cmocka_unit_test(test_a_token_is_minted_on_demand_and_when_the_clock_was_set_back),
        cmocka_unit_test(test_a_given_token_stays_what_it_is),
        cmocka_unit_test(test_faulty_jwt_settings_are_named),
        cmocka_unit_test(test_a_key_of_the_wrong_kind_is_refused),
        cmocka_unit_test(test_base64url_has_no_padding),
        cmocka_unit_test(test_the_claims_are_symfonys),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
