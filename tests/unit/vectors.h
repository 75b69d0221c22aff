/* What the tests of the wire share: the files of tests/vectors, and literals that are compared as bytes. */
#ifndef TESTS_UNIT_VECTORS_H
#define TESTS_UNIT_VECTORS_H

#include "common/base/buf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define assert_bytes(actual, expected) assert_bytes_at(actual, expected, __FILE__, __LINE__)
#define assert_text(actual, text)      assert_bytes(actual, bytes_of(text))

static inline void assert_bytes_at(struct bytes actual, struct bytes expected, const char *file,
                                   int line)
{
    if (bytes_equal(actual, expected))
        return;
    print_error("got      %.*s\nexpected %.*s\n", BYTES_ARG(actual), BYTES_ARG(expected));
    _fail(file, line);
}

/* Reads tests/vectors/<version>/<serializer>/<name> into buf, without a newline at its end. */
static inline struct bytes vector_read(struct buf *buf, const char *version, const char *serializer,
                                       const char *name)
{
    char path[128];

    snprintf(path, sizeof(path), "tests/vectors/%s/%s/%s", version, serializer, name);
    FILE *file = fopen(path, "rb");
    if (file == NULL)
        fail_msg("%s: can't be opened (tests run from the repository's root)", path);
    buf_clear(buf);
    buf->len = fread(buf_reserve(buf, 1 << 20), 1, 1 << 20, file);
    fclose(file);
    return buf_bytes(buf);
}

#endif
