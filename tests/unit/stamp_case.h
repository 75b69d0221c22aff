/* An envelope on its way from failure to failure, for the tests of its stamps. */
#ifndef TESTS_UNIT_STAMP_CASE_H
#define TESTS_UNIT_STAMP_CASE_H

#include "common/wire/stamp.h"

#include "common/wire/json.h"
#include "common/wire/php.h"
#include "common/wire/retry.h"
#include "tests/unit/vectors.h"

#include <time.h>

static const struct stamp_failure REFUSED = {
    .exception_class = BYTES("RuntimeException"),
    .exception_message = BYTES("The hub answered 503"),
    .stream_id = BYTES("1-1"),
    .delay_ms = 1000,
    .retry_count = 1,
    .now_us = INT64_C(1795514400123456),
};

/* An envelope on its way from failure to failure; its bytes are in body and headers. */
struct subject {
    struct arena arena;
    struct buf body;
    struct buf headers;
    struct envelope envelope;
};

static inline void subject_free(struct subject *subject)
{
    arena_free(&subject->arena);
    buf_free(&subject->body);
    buf_free(&subject->headers);
}

static inline void subject_decode(struct subject *subject)
{
    struct error err;

    if (envelope_decode_parts(
            &subject->envelope, arena_copy(&subject->arena, buf_bytes(&subject->body)),
            arena_copy(&subject->arena, buf_bytes(&subject->headers)), &subject->arena, &err) < 0)
        fail_msg("%s", err.text);
}

static inline void subject_read(struct subject *subject, const char *version,
                                const char *serializer, const char *file)
{
    struct buf buf = {0};
    struct bytes value = vector_read(&buf, version, serializer, file);
    struct error err;

    value = arena_copy(&subject->arena, value);
    if (envelope_decode(&subject->envelope, value, &subject->arena, &err) < 0)
        fail_msg("%s", err.text);
    buf_free(&buf);
}

static inline void subject_stamp(struct subject *subject, const struct stamp_failure *failure)
{
    struct error err;

    if (stamp_failure(&subject->body, &subject->headers, &subject->envelope, failure, &err) < 0)
        fail_msg("%s", err.text);
    subject_decode(subject);
}

static inline size_t occurrences(const struct buf *text, const char *word)
{
    struct bytes rest = buf_bytes(text);
    size_t count = 0;
    const char *at;

    while ((at = memmem(rest.data, rest.len, word, strlen(word))) != NULL) {
        rest = bytes_slice(rest, (size_t)(at + 1 - rest.data), rest.len);
        count++;
    }
    return count;
}

#endif
