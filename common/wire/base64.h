/* Base64 with the standard alphabet and padding. RFC 4648, section 4. Pure. */
#ifndef COMMON_WIRE_BASE64_H
#define COMMON_WIRE_BASE64_H

#include "common/base/arena.h"
#include "common/base/buf.h"
#include "common/base/error.h"

void base64_encode(struct buf *out, struct bytes data);

/* Accepts what PHP's base64_decode(…, true) does: white space anywhere, and no padding at all or the
 * right one. Any other byte, bytes behind padding, or a single left-over character: -ERR_FORMAT. */
MUST_CHECK int base64_decode(struct bytes *data, struct bytes text, struct arena *arena);

#endif
