/* Base64 with the standard alphabet and padding. RFC 4648, section 4. Pure. */
#ifndef COMMON_WIRE_BASE64_H
#define COMMON_WIRE_BASE64_H

#include "common/base/arena.h"
#include "common/base/buf.h"
#include "common/base/error.h"

void base64_encode(struct buf *out, struct bytes data);
/* With + and / replaced and no padding: RFC 4648, section 5. */
void base64_encode_url(struct buf *out, struct bytes data);

/* Counts the length of the base64 of bytes that come in parts, and its `/`, which other codecs escape, without writing
 * it. Zero-initialised is empty; nothing may be added after base64_count_end. */
struct base64_count {
    size_t len;
    size_t slashes;
    uint32_t word; /* bytes of a group of three that is not complete yet */
    unsigned open; /* how many bytes `word` has */
};
void base64_count_add(struct base64_count *count, struct bytes data);
void base64_count_end(struct base64_count *count);

/* Accepts what PHP's base64_decode(…, true) accepts: white space anywhere, and either no padding or the right one.
 * -ERR_FORMAT: any other byte, bytes behind padding, or a single left-over character. */
MUST_CHECK int base64_decode(struct bytes *data, struct bytes text, struct arena *arena);

#endif
