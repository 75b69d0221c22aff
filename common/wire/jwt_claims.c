#include "common/wire/jwt_claims.h"

#include "common/wire/base64.h"

#include <string.h>

/* The standard alphabet's + and / replaced and the padding left out: RFC 4648, section 5. */
void base64url_encode(struct buf *out, struct bytes data)
{
    size_t from = out->len;

    base64_encode(out, data);
    while (out->len > from && out->data[out->len - 1] == '=')
        out->len--;
    for (size_t i = from; i < out->len; i++)
        if (out->data[i] == '+')
            out->data[i] = '-';
        else if (out->data[i] == '/')
            out->data[i] = '_';
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
