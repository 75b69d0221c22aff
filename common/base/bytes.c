#include "common/base/bytes.h"

#include <string.h>

struct bytes bytes_of(const char *text)
{
    if (text == NULL)
        return BYTES_NONE;
    return (struct bytes){text, strlen(text)};
}

bool bytes_equal(struct bytes a, struct bytes b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

bool bytes_equal_text(struct bytes a, const char *text)
{
    return bytes_equal(a, bytes_of(text));
}

bool bytes_starts_with(struct bytes whole, struct bytes start)
{
    return whole.len >= start.len &&
           (start.len == 0 || memcmp(whole.data, start.data, start.len) == 0);
}

bool bytes_ends_with(struct bytes whole, struct bytes end)
{
    if (whole.len < end.len)
        return false;
    return bytes_equal(bytes_slice(whole, whole.len - end.len, end.len), end);
}

struct bytes bytes_slice(struct bytes whole, size_t from, size_t len)
{
    if (from > whole.len)
        from = whole.len;
    if (len > whole.len - from)
        len = whole.len - from;
    if (whole.data == NULL)
        return BYTES_NONE;
    return (struct bytes){whole.data + from, len};
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n' || c == '\v' || c == '\f';
}

struct bytes bytes_trim(struct bytes whole)
{
    while (whole.len > 0 && is_space(whole.data[0])) {
        whole.data++;
        whole.len--;
    }
    while (whole.len > 0 && is_space(whole.data[whole.len - 1]))
        whole.len--;
    return whole;
}

bool bytes_split(struct bytes whole, char separator, struct bytes *head, struct bytes *tail)
{
    const char *at = whole.len > 0 ? memchr(whole.data, separator, whole.len) : NULL;

    if (at == NULL) {
        *head = whole;
        *tail = BYTES_NONE;
        return false;
    }
    size_t before = (size_t)(at - whole.data);
    *tail = (struct bytes){at + 1, whole.len - before - 1};
    *head = (struct bytes){whole.data, before};
    return true;
}

static bool holds(struct bytes text, const char *characters)
{
    for (size_t i = 0; i < text.len; i++)
        if (text.data[i] != '\0' && strchr(characters, text.data[i]) != NULL)
            return true;
    return false;
}

bool bytes_split_port(struct bytes address, struct bytes *host, struct bytes *port)
{
    struct bytes behind;

    *port = BYTES_NONE;
    if (!bytes_starts_with(address, BYTES("["))) {
        bytes_split(address, ':', host, port);
        return !holds(*host, "[]") && !holds(*port, ":");
    }
    bool closed = bytes_split(bytes_slice(address, 1, address.len), ']', host, &behind);
    if (!closed || host->len == 0 || holds(*host, "["))
        return false;
    if (behind.len > 0)
        *port = bytes_slice(behind, 1, behind.len);
    return behind.len == 0 || behind.data[0] == ':';
}

bool bytes_to_port(struct bytes text, uint16_t *port)
{
    uint64_t number;

    if (!bytes_to_u64(text, &number) || number == 0 || number > UINT16_MAX)
        return false;
    *port = (uint16_t)number;
    return true;
}

static bool is_separator(char c)
{
    return c == ',' || c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

bool bytes_next_item(struct bytes *list, struct bytes *item)
{
    size_t from = 0;

    while (from < list->len && is_separator(list->data[from]))
        from++;
    size_t to = from;
    while (to < list->len && !is_separator(list->data[to]))
        to++;
    *item = bytes_slice(*list, from, to - from);
    *list = bytes_slice(*list, to, list->len);
    return item->len > 0;
}

bool bytes_to_u64(struct bytes text, uint64_t *value)
{
    uint64_t sum = 0;

    if (text.len == 0)
        return false;
    for (size_t i = 0; i < text.len; i++) {
        char c = text.data[i];

        if (c < '0' || c > '9')
            return false;
        if (__builtin_mul_overflow(sum, 10U, &sum) ||
            __builtin_add_overflow(sum, (uint64_t)(c - '0'), &sum))
            return false;
    }
    *value = sum;
    return true;
}

uint64_t bytes_hash(struct bytes text)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);

    for (size_t i = 0; i < text.len; i++)
        hash = (hash ^ (unsigned char)text.data[i]) * UINT64_C(0x100000001b3);
    return hash;
}

int bytes_hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* The length of the UTF-8 sequence that starts at p, or 0. RFC 3629, section 4. */
static size_t utf8_sequence(const unsigned char *p, size_t left)
{
    unsigned char low = 0x80, high = 0xBF;
    size_t len;

    if (p[0] < 0x80)
        return 1;
    if (p[0] >= 0xC2 && p[0] <= 0xDF)
        len = 2;
    else if (p[0] >= 0xE0 && p[0] <= 0xEF)
        len = 3;
    else if (p[0] >= 0xF0 && p[0] <= 0xF4)
        len = 4;
    else
        return 0;
    if (len > left)
        return 0;
    if (p[0] == 0xE0)
        low = 0xA0;
    else if (p[0] == 0xED)
        high = 0x9F;
    else if (p[0] == 0xF0)
        low = 0x90;
    else if (p[0] == 0xF4)
        high = 0x8F;
    if (p[1] < low || p[1] > high)
        return 0;
    for (size_t i = 2; i < len; i++)
        if (p[i] < 0x80 || p[i] > 0xBF)
            return 0;
    return len;
}

bool bytes_is_utf8(struct bytes text)
{
    const unsigned char *p = (const unsigned char *)text.data;
    size_t i = 0;

    while (i < text.len) {
        uint64_t word;

        /* Eight ASCII bytes at a time: nearly all that devices send. */
        if (text.len - i >= sizeof(word)) {
            memcpy(&word, p + i, sizeof(word));
            if ((word & UINT64_C(0x8080808080808080)) == 0) {
                i += sizeof(word);
                continue;
            }
        }
        size_t len = utf8_sequence(p + i, text.len - i);
        if (len == 0)
            return false;
        i += len;
    }
    return true;
}

static char shown_byte(unsigned char c)
{
    return strchr(" \t\r\n", c) != NULL && c != '\0' ? ' ' : '?';
}

void bytes_to_printable(struct bytes text, char *out, size_t size)
{
    const unsigned char *p = (const unsigned char *)text.data;
    size_t used = 0;
    size_t i = 0;

    while (i < text.len) {
        size_t len = utf8_sequence(p + i, text.len - i);
        bool control = len == 0 || p[i] < 0x20 || p[i] == 0x7F ||
                       (p[i] == 0xC2 && p[i + 1] < 0xA0); /* C1: U+0080 to U+009F */

        if (used + (control ? 1 : len) >= size)
            break;

        if (control)
            out[used++] = shown_byte(p[i]);
        else
            memcpy(out + used, p + i, len);
        used += control ? 0 : len;
        i += len > 0 ? len : 1;
    }
    out[used] = '\0';
}
