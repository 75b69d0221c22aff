#include "common/base/buf.h"

#include "common/base/alloc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void buf_free(struct buf *buf)
{
    free(buf->data);
    *buf = (struct buf){0};
}

void buf_clear(struct buf *buf)
{
    buf->len = 0;
}

char *buf_reserve(struct buf *buf, size_t more)
{
    if (buf->data == NULL || buf->capacity - buf->len < more) {
        size_t capacity = buf->capacity < 64 ? 64 : buf->capacity;

        while (capacity - buf->len < more)
            capacity *= 2;
        buf->data = xrealloc(buf->data, capacity);
        buf->capacity = capacity;
    }
    return buf->data + buf->len;
}

void buf_append(struct buf *buf, struct bytes bytes)
{
    if (bytes.len == 0)
        return;
    memcpy(buf_reserve(buf, bytes.len), bytes.data, bytes.len);
    buf->len += bytes.len;
}

void buf_append_text(struct buf *buf, const char *text)
{
    buf_append(buf, bytes_of(text));
}

void buf_append_char(struct buf *buf, char c)
{
    *buf_reserve(buf, 1) = c;
    buf->len++;
}

void buf_append_u64(struct buf *buf, uint64_t value)
{
    char digits[BYTES_DIGITS_MAX];
    const char *end = bytes_put_digits(digits, value);

    buf_append(buf, (struct bytes){digits, (size_t)(end - digits)});
}

void buf_vprintf(struct buf *buf, const char *format, va_list arguments)
{
    va_list again;

    va_copy(again, arguments);
    int len = vsnprintf(NULL, 0, format, arguments);
    if (len > 0) {
        size_t size = (size_t)len + 1;

        vsnprintf(buf_reserve(buf, size), size, format, again);
        buf->len += (size_t)len;
    }
    va_end(again);
}

void buf_printf(struct buf *buf, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    buf_vprintf(buf, format, arguments);
    va_end(arguments);
}

struct bytes buf_bytes(const struct buf *buf)
{
    return (struct bytes){buf->data, buf->len};
}

const char *buf_text(struct buf *buf)
{
    *buf_reserve(buf, 1) = '\0';
    return buf->data;
}

char *buf_take_text(struct buf *buf)
{
    (void)buf_text(buf);
    char *text = buf->data;

    *buf = (struct buf){0};
    return text;
}
