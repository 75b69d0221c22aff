#include "common/client/jwt.h"

#include "common/base/alloc.h"
#include "common/client/tls.h"
#include "common/wire/base64.h"

#include <openssl/bn.h>
#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <stdlib.h>
#include <string.h>

#define LIFETIME_S       3600
#define RENEWED_AFTER_S  (LIFETIME_S * 8 / 10)
#define RSA_BITS_MINIMUM 2048 /* RFC 7518, section 3.3 */
#define ES256_HALF       32   /* RFC 7518, section 3.4: r and s, raw, one behind the other */

enum key_kind { KEY_SECRET, KEY_RSA, KEY_EC };

struct algorithm {
    const char *name;
    enum key_kind kind;
    const EVP_MD *(*digest)(void);
};

static const struct algorithm ALGORITHMS[] = {
    [JWT_HS256] = {"HS256", KEY_SECRET, EVP_sha256},
    [JWT_HS384] = {"HS384", KEY_SECRET, EVP_sha384},
    [JWT_HS512] = {"HS512", KEY_SECRET, EVP_sha512},
    [JWT_RS256] = {"RS256", KEY_RSA, EVP_sha256},
    [JWT_ES256] = {"ES256", KEY_EC, EVP_sha256},
};

struct jwt {
    const struct algorithm *algorithm; /* NULL: the settings give the token */
    EVP_PKEY *key;                     /* an HMAC key, or of the key file */
    struct buf token;                  /* NUL-terminated once made */
    int64_t renewed_s;                 /* when the token is made anew; 0: at once */
};

/* Takes the token of the settings. A token is sent in a header line, so that only visible ASCII
 * is allowed. */
static int use_given_token(struct jwt *jwt, const char *given, struct error *err)
{
    struct bytes token = bytes_trim(bytes_of(given));

    for (size_t i = 0; i < token.len; i++)
        if (token.data[i] <= ' ' || token.data[i] > '~')
            return error_set(err, ERR_USAGE,
                             "[mercure] jwt (MERCURE_JWT) holds a byte that no token has: is it "
                             "complete, on one line, without quotes?");
    buf_append(&jwt->token, token);
    buf_text(&jwt->token);
    return 0;
}

static int use_secret(struct jwt *jwt, const struct settings_mercure *settings, struct error *err)
{
    const char *secret = settings->jwt_secret;
    int result = settings_check_secret(settings, err);

    if (result < 0)
        return result;
    jwt->key = EVP_PKEY_new_raw_private_key(EVP_PKEY_HMAC, NULL, (const unsigned char *)secret,
                                            strlen(secret));
    if (jwt->key == NULL)
        return error_set(err, ERR_SYSTEM, "[mercure] jwt_secret: %s", tls_reason());
    return 0;
}

static int check_key(const struct jwt *jwt, const char *path, struct error *err)
{
    int kind = EVP_PKEY_base_id(jwt->key);
    int bits = EVP_PKEY_bits(jwt->key);
    char curve[32] = "";

    if (jwt->algorithm->kind == KEY_RSA) {
        if (kind != EVP_PKEY_RSA || bits < RSA_BITS_MINIMUM)
            return error_set(err, ERR_USAGE,
                             "[mercure] jwt_key_file %s: RS256 needs an RSA key of %d bits or more",
                             path, RSA_BITS_MINIMUM);
        return 0;
    }
    if (kind == EVP_PKEY_EC)
        EVP_PKEY_get_group_name(jwt->key, curve, sizeof(curve), NULL);
    if (strcmp(curve, "prime256v1") != 0)
        return error_set(err, ERR_USAGE,
                         "[mercure] jwt_key_file %s: ES256 needs an EC key on the curve P-256",
                         path);
    return 0;
}

static int use_key_file(struct jwt *jwt, const struct settings_mercure *settings, struct error *err)
{
    const char *path = settings->jwt_key_file;

    if (path[0] == '\0')
        return error_set(err, ERR_USAGE,
                         "[mercure] jwt_algorithm %s needs a private key: set jwt_key_file",
                         jwt->algorithm->name);
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return error_system(err, "[mercure] jwt_key_file %s", path);
    ERR_clear_error();
    jwt->key = PEM_read_PrivateKey(file, NULL, tls_give_passphrase, NULL);
    fclose(file);
    if (jwt->key == NULL)
        return error_set(
            err, ERR_USAGE,
            "[mercure] jwt_key_file %s holds no PEM private key without a passphrase: %s", path,
            tls_reason());
    return check_key(jwt, path, err);
}

static int prepare(struct jwt *jwt, const struct settings_mercure *settings, struct error *err)
{
    if (settings->jwt[0] != '\0')
        return use_given_token(jwt, settings->jwt, err);
    jwt->algorithm = &ALGORITHMS[settings->jwt_algorithm];
    if (jwt->algorithm->kind == KEY_SECRET)
        return use_secret(jwt, settings, err);
    return use_key_file(jwt, settings, err);
}

int jwt_new(struct jwt **jwt, const struct settings_mercure *settings, struct error *err)
{
    struct jwt *made = xcalloc(1, sizeof(*made));
    int result = prepare(made, settings, err);

    if (result < 0) {
        jwt_free(made);
        return result;
    }
    *jwt = made;
    return 0;
}

void jwt_free(struct jwt *jwt)
{
    if (jwt == NULL)
        return;
    EVP_PKEY_free(jwt->key);
    if (jwt->token.data != NULL)
        explicit_bzero(jwt->token.data, jwt->token.capacity);
    buf_free(&jwt->token);
    free(jwt);
}

static bool sign(const struct jwt *jwt, struct bytes signed_part, struct buf *signature)
{
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    const unsigned char *text = (const unsigned char *)signed_part.data;
    size_t len = 0;
    bool done = context != NULL &&
                EVP_DigestSignInit(context, NULL, jwt->algorithm->digest(), NULL, jwt->key) == 1 &&
                EVP_DigestSign(context, NULL, &len, text, signed_part.len) == 1 &&
                EVP_DigestSign(context, (unsigned char *)buf_reserve(signature, len), &len, text,
                               signed_part.len) == 1;

    EVP_MD_CTX_free(context);
    if (done)
        signature->len += len;
    return done;
}

/* Converts OpenSSL's DER sequence of two integers to the form of JWS: both integers at full
 * width. */
static bool der_to_raw(struct buf *signature)
{
    const unsigned char *der = (const unsigned char *)signature->data;

    ECDSA_SIG *parsed = d2i_ECDSA_SIG(NULL, &der, (long)signature->len);
    unsigned char raw[2 * ES256_HALF];

    bool done = parsed != NULL &&
                BN_bn2binpad(ECDSA_SIG_get0_r(parsed), raw, ES256_HALF) == ES256_HALF &&
                BN_bn2binpad(ECDSA_SIG_get0_s(parsed), raw + ES256_HALF, ES256_HALF) == ES256_HALF;
    ECDSA_SIG_free(parsed);
    if (!done)
        return false;
    buf_clear(signature);
    buf_append(signature, (struct bytes){(const char *)raw, sizeof(raw)});
    return true;
}

void jwt_encode_claims(struct buf *out, const char *algorithm, int64_t expires_s)
{
    struct buf json = {0};

    buf_printf(&json, "{\"typ\":\"JWT\",\"alg\":\"%s\"}", algorithm);
    base64_encode_url(out, buf_bytes(&json));
    buf_append_char(out, '.');
    buf_clear(&json);
    buf_printf(&json, "{\"exp\":%lld,\"mercure\":{\"publish\":[\"*\"],\"subscribe\":[]}}",
               (long long)expires_s);
    base64_encode_url(out, buf_bytes(&json));
    buf_free(&json);
}

static int refresh_token(struct jwt *jwt, int64_t now_s, struct error *err)
{
    struct buf signature = {0};

    ERR_clear_error();
    buf_clear(&jwt->token);
    jwt_encode_claims(&jwt->token, jwt->algorithm->name, now_s + LIFETIME_S);
    bool done = sign(jwt, buf_bytes(&jwt->token), &signature);
    if (done && jwt->algorithm->kind == KEY_EC)
        done = der_to_raw(&signature);
    buf_append_char(&jwt->token, '.');
    base64_encode_url(&jwt->token, buf_bytes(&signature));
    buf_text(&jwt->token);
    buf_free(&signature);
    jwt->renewed_s = done ? now_s + RENEWED_AFTER_S : 0;
    if (!done)
        return error_set(err, ERR_SYSTEM, "the hub's token cannot be signed with %s: %s",
                         jwt->algorithm->name, tls_reason());
    return 0;
}

const char *jwt_token(struct jwt *jwt, int64_t now_s, struct error *err)
{
    /* True if the clock was set back: the token would be kept for too long. */
    bool out_of_step = jwt->renewed_s - now_s > RENEWED_AFTER_S;

    if (jwt->algorithm != NULL && (now_s >= jwt->renewed_s || out_of_step))
        if (refresh_token(jwt, now_s, err) < 0)
            return NULL;
    return jwt->token.data;
}

void jwt_renew(struct jwt *jwt)
{
    jwt->renewed_s = 0;
}
