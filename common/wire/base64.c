#include "common/wire/base64.h"

#define SPACE   (-1)
#define INVALID (-2)

static const char ALPHABET[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

size_t base64_len(size_t len)
{
    return (len + 2) / 3 * 4;
}

void base64_encode(struct buf *out, struct bytes data)
{
    const unsigned char *in = (const unsigned char *)data.data;
    size_t len = base64_len(data.len);
    char *to = buf_reserve(out, len);
    size_t i = 0;

    for (; i + 3 <= data.len; i += 3) {
        uint32_t word = (uint32_t)in[i] << 16 | (uint32_t)in[i + 1] << 8 | in[i + 2];

        *to++ = ALPHABET[word >> 18];
        *to++ = ALPHABET[word >> 12 & 63];
        *to++ = ALPHABET[word >> 6 & 63];
        *to++ = ALPHABET[word & 63];
    }
    if (i < data.len) {
        uint32_t word = (uint32_t)in[i] << 16;

        if (i + 1 < data.len)
            word |= (uint32_t)in[i + 1] << 8;
        *to++ = ALPHABET[word >> 18];
        *to++ = ALPHABET[word >> 12 & 63];
        *to++ = i + 1 < data.len ? ALPHABET[word >> 6 & 63] : '=';
        *to++ = '=';
    }
    out->len += len;
}

void base64_encode_url(struct buf *out, struct bytes data)
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

static int value_of(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    if (c == '+')
        return 62;
    if (c == '/')
        return 63;
    if (c == ' ' || c == '\t' || c == '\r' || c == '\n')
        return SPACE;
    return INVALID;
}

int base64_decode(struct bytes *data, struct bytes text, struct arena *arena)
{
    char *out = arena_alloc(arena, text.len / 4 * 3 + 3);
    size_t len = 0;
    size_t digits = 0;
    size_t padding = 0;
    uint32_t word = 0;

    for (size_t i = 0; i < text.len; i++) {
        if (text.data[i] == '=') {
            padding++;
            continue;
        }
        int value = value_of(text.data[i]);
        if (value == SPACE)
            continue;
        if (value == INVALID || padding > 0)
            return -ERR_FORMAT;
        word = word << 6 | (uint32_t)value;
        digits++;
        if (digits % 4 != 1)
            out[len++] = (char)(word >> (6 - 2 * ((digits + 3) % 4)) & 0xFF);
    }
    if (digits % 4 == 1)
        return -ERR_FORMAT;
    if (padding > 0 && (padding > 2 || (digits + padding) % 4 != 0))
        return -ERR_FORMAT;
    *data = (struct bytes){out, len};
    return 0;
}
