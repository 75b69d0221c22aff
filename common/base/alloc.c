#include "common/base/alloc.h"

#include <malloc.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LARGE       (1024 * 1024)
#define KEPT_AT_TOP (16 * 1024 * 1024)

static void *checked(void *memory, size_t size)
{
    if (memory == NULL && size != 0) {
        fprintf(stderr, "out of memory: %zu bytes refused\n", size);
        abort();
    }
    return memory;
}

void *xmalloc(size_t size)
{
    return checked(malloc(size), size);
}

void *xcalloc(size_t count, size_t size)
{
    return checked(calloc(count, size), count * size);
}

void *xrealloc(void *old, size_t size)
{
    return checked(realloc(old, size), size);
}

char *xstrdup(const char *text)
{
    return checked(strdup(text), 1);
}

char *xstrndup(const char *text, size_t len)
{
    char *copy = xmalloc(len + 1);

    if (len > 0)
        memcpy(copy, text, len);
    copy[len] = '\0';
    return copy;
}

char *xasprintf(const char *format, ...)
{
    va_list arguments;
    char *text = NULL;

    va_start(arguments, format);
    int len = vasprintf(&text, format, arguments);
    va_end(arguments);
    return checked(len < 0 ? NULL : text, 1);
}

void *xgrow(void *items, size_t len, size_t item_size)
{
    bool is_full = (len & (len - 1)) == 0; /* 0 or a power of two */

    return is_full ? xrealloc(items, (len == 0 ? 1 : 2 * len) * item_size) : items;
}

void alloc_give_back_large(void)
{
    (void)mallopt(M_MMAP_THRESHOLD, LARGE);
    /* Setting M_MMAP_THRESHOLD fixes the trim threshold at a small value. Each end of a batch
     * would then be a system call. */
    (void)mallopt(M_TRIM_THRESHOLD, KEPT_AT_TOP);
}
