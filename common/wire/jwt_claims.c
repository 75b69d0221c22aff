#include "common/wire/jwt_claims.h"

#include "common/wire/json.h"

#include <string.h>

/* The standard alphabet's + and / replaced and the padding left out: RFC 4648, section 5. */
void base64url_encode(struct buf *out, struct bytes data)
{
    size_t from = out->len;

    base64_encode(out, data);
    while (out->len > from && out->data[out->len - 1] == '=')
        out->len--;
    for (size_t i = from; i < out->len; i++) {
        if (out->data[i] == '+')
            out->data[i] = '-';
        else if (out->data[i] == '/')
            out->data[i] = '_';
    }
}

void jwt_claims_encode(struct buf *out, const char *algorithm, int64_t expires_s)
{
    struct buf json = {0};

    buf_printf(&json, "{\"typ\":\"JWT\",\"alg\":\"%s\"}", algorithm);
    base64url_encode(out, buf_bytes(&json));
    buf_append_char(out, '.');
    buf_clear(&json);
    buf_printf(&json, "{\"exp\":%lld,\"mercure\":{\"publish\":[\"*\"],\"subscribe\":[]}}",
               (long long)expires_s);
    base64url_encode(out, buf_bytes(&json));
    buf_free(&json);
}

static int decode_part(struct bytes *json, struct bytes part, struct arena *arena)
{
    struct bytes standard = arena_copy(arena, part);
    char *data = (char *)standard.data;

    for (size_t i = 0; i < standard.len; i++) {
        if (data[i] == '-')
            data[i] = '+';
        else if (data[i] == '_')
            data[i] = '/';
    }
    return base64_decode(json, standard, arena);
}

/* A NumericDate: whole seconds, a fraction is cut (RFC 7519, section 2). */
static int64_t read_seconds(struct bytes number)
{
    struct bytes whole, fraction;
    uint64_t seconds;

    bytes_split(number, '.', &whole, &fraction);
    if (!bytes_to_u64(whole, &seconds) || seconds > INT64_MAX)
        return 0;
    return (int64_t)seconds;
}

int64_t jwt_claims_expiry(struct bytes token)
{
    struct arena arena = {0};
    struct bytes header, rest, claims, signature, json;
    int64_t expiry = 0;

    if (bytes_split(token, '.', &header, &rest) && bytes_split(rest, '.', &claims, &signature) &&
        decode_part(&json, claims, &arena) == 0 && json_is_valid(json))
        expiry = read_seconds(json_object_get(json, "exp", &arena));
    arena_free(&arena);
    return expiry;
}
