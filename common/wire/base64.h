/* Base64 with the standard alphabet and padding. RFC 4648, section 4. Pure. */
#ifndef COMMON_WIRE_BASE64_H
#define COMMON_WIRE_BASE64_H

#include "common/base/arena.h"
#include "common/base/buf.h"
#include "common/base/error.h"

/* The length of the base64 of `len` bytes. */
size_t base64_len(size_t len);
void base64_encode(struct buf *out, struct bytes data);
/* With + and / replaced and no padding: RFC 4648, section 5. */
void base64_encode_url(struct buf *out, struct bytes data);

/* Accepts what PHP's base64_decode(…, true) accepts: white space anywhere, and either no padding or the right one.
 * -ERR_FORMAT: any other byte, bytes behind padding, or a single left-over character. */
MUST_CHECK int base64_decode(struct bytes *data, struct bytes text, struct arena *arena);

#endif
