/* The token that publishes: its header and claims, as one that hubs 0.x and 1.0 accept. Pure; signing is
 * client/jwt. */
#ifndef COMMON_WIRE_JWT_CLAIMS_H
#define COMMON_WIRE_JWT_CLAIMS_H

#include "common/base/buf.h"

/* base64url({"typ":"JWT","alg":…}) "." base64url({"exp":…,"mercure":{"publish":["*"],"subscribe":[]}}) */
void jwt_claims_encode(struct buf *out, const char *algorithm, int64_t expires_s);
void base64url_encode(struct buf *out, struct bytes data); /* no padding */

#endif
