/* A growable run of bytes with one owner. Zero-initialised is empty and ready: struct buf b = {0}.
 *
 * Growth doubles; buf_clear keeps the memory, so a buffer that is used again and again stops
 * allocating. There is no NUL behind the bytes unless buf_text put one there. Any append may move
 * `data`: don't keep a `struct bytes` into it across one. */
#ifndef COMMON_BASE_BUF_H
#define COMMON_BASE_BUF_H

#include "common/base/bytes.h"

#include <stdarg.h>

struct buf {
    char *data;
    size_t len;
    size_t capacity;
};

void buf_free(struct buf *buf);                  /* leaves it empty and usable */
void buf_clear(struct buf *buf);                 /* length 0, memory kept */
char *buf_reserve(struct buf *buf, size_t more); /* room for that many; returns where they go */
void buf_append(struct buf *buf, struct bytes bytes);
void buf_append_text(struct buf *buf, const char *text);
void buf_append_char(struct buf *buf, char c);
void buf_append_u64(struct buf *buf, uint64_t value); /* in decimal */
void buf_printf(struct buf *buf, const char *format, ...) __attribute__((format(printf, 2, 3)));
void buf_vprintf(struct buf *buf, const char *format, va_list arguments)
    __attribute__((format(printf, 2, 0)));

struct bytes buf_bytes(const struct buf *buf); /* valid until the next append */
const char *buf_text(struct buf *buf); /* with a NUL behind it; valid until the next append */
char *buf_take_text(struct buf *buf);  /* with a NUL, the caller's to free; the buf is empty then */

#endif
