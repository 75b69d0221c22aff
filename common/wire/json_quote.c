#include "common/wire/json.h"

#include <string.h>

static const char HEX[] = "0123456789abcdef";

/* The letter of a two-character escape, or 0. */
static char short_letter(unsigned char c)
{
    switch (c) {
    case '"':
    case '\\':
        return (char)c;
    case '\b':
        return 'b';
    case '\f':
        return 'f';
    case '\n':
        return 'n';
    case '\r':
        return 'r';
    case '\t':
        return 't';
    }
    return 0;
}

static char *put_unit(char *to, uint32_t unit)
{
    *to++ = '\\';
    *to++ = 'u';
    *to++ = HEX[unit >> 12 & 15];
    *to++ = HEX[unit >> 8 & 15];
    *to++ = HEX[unit >> 4 & 15];
    *to++ = HEX[unit & 15];
    return to;
}

/* An ASCII byte; six bytes at the most. */
static char *put_ascii(char *to, unsigned char c)
{
    char letter = short_letter(c);

    if (letter != 0) {
        *to++ = '\\';
        *to++ = letter;
        return to;
    }
    if (c < 0x20)
        return put_unit(to, c);
    *to++ = (char)c;
    return to;
}

size_t json_code_point(const char *text, uint32_t *code)
{
    const unsigned char *p = (const unsigned char *)text;

    if (p[0] < 0x80) {
        *code = p[0];
        return 1;
    }
    if (p[0] < 0xE0) {
        *code = (p[0] & 0x1FU) << 6 | (p[1] & 0x3FU);
        return 2;
    }
    if (p[0] < 0xF0) {
        *code = (p[0] & 0x0FU) << 12 | (p[1] & 0x3FU) << 6 | (p[2] & 0x3FU);
        return 3;
    }
    *code = (p[0] & 0x07U) << 18 | (p[1] & 0x3FU) << 12 | (p[2] & 0x3FU) << 6 | (p[3] & 0x3FU);
    return 4;
}

/* One character that isn't ASCII; twelve bytes at the most. */
static char *put_wide(char *to, uint32_t code)
{
    if (code < 0x10000)
        return put_unit(to, code);
    code -= 0x10000;
    to = put_unit(to, 0xD800 + (code >> 10));
    return put_unit(to, 0xDC00 + (code & 0x3FF));
}

/* Room is asked for in pieces: six times a large text at once would be a lot of memory. */
#define PIECE 4096

/* in_string: ASCII is escaped as well, where a string needs it. */
static void append_in_ascii(struct buf *out, struct bytes text, bool in_string)
{
    size_t i = 0;

    while (i < text.len) {
        size_t stop = text.len - i > PIECE ? i + PIECE : text.len;
        char *start = buf_reserve(out, (stop - i) * 6 + 12);
        char *to = start;

        while (i < stop) {
            uint32_t code;

            i += json_code_point(text.data + i, &code);
            if (code >= 0x80) {
                to = put_wide(to, code);
            } else if (!in_string) {
                *to++ = (char)code;
            } else if (code == '/') {
                *to++ = '\\';
                *to++ = '/';
            } else {
                to = put_ascii(to, (unsigned char)code);
            }
        }
        out->len += (size_t)(to - start);
    }
}

int json_quote_php(struct buf *out, struct bytes text)
{
    if (!bytes_is_utf8(text))
        return -ERR_FORMAT;
    buf_append_char(out, '"');
    append_in_ascii(out, text, true);
    buf_append_char(out, '"');
    return 0;
}

/* Outside its strings JSON is ASCII. */
void json_to_ascii(struct buf *out, struct bytes json)
{
    append_in_ascii(out, json, false);
}

void json_quote(struct buf *out, struct bytes text)
{
    size_t i = 0;

    buf_append_char(out, '"');
    while (i < text.len) {
        size_t stop = text.len - i > PIECE ? i + PIECE : text.len;
        char *start = buf_reserve(out, (stop - i) * 6);
        char *to = start;

        for (; i < stop; i++)
            to = put_ascii(to, (unsigned char)text.data[i]);
        out->len += (size_t)(to - start);
    }
    buf_append_char(out, '"');
}

void json_make_utf8(struct buf *out, struct bytes text)
{
    static const struct bytes replacement = {"\xEF\xBF\xBD", 3};
    size_t i = 0;

    while (i < text.len) {
        size_t len = 1;

        while (len <= 4 && len <= text.len - i && !bytes_is_utf8(bytes_slice(text, i, len)))
            len++;
        if (len > 4 || len > text.len - i) {
            buf_append(out, replacement);
            i++;
            continue;
        }
        buf_append(out, bytes_slice(text, i, len));
        i += len;
    }
}
