/* The publisher's token. It is given (MERCURE_JWT), or signed by OpenSSL with a secret (HS256, HS384, HS512) or a key
 * file (RS256, ES256). A signed token is cached, and made anew at 80 % of its hour or on demand. One thread. */
#ifndef COMMON_CLIENT_JWT_H
#define COMMON_CLIENT_JWT_H

#include "common/base/buf.h"
#include "common/base/error.h"
#include "common/settings/settings.h"

struct jwt;

/* -ERR_USAGE names the setting: no token and no secret, an unreadable key file, an unknown algorithm, or a short
 * secret. HS256 needs 32 bytes, HS384 48, HS512 64. */
MUST_CHECK int jwt_new(struct jwt **jwt, const struct settings_mercure *settings,
                       struct error *err);
void jwt_free(struct jwt *jwt);
/* Valid now; owned by jwt until the next call. NULL with err if signing fails. */
const char *jwt_token(struct jwt *jwt, int64_t now_s, struct error *err);
/* For a 401: the next jwt_token makes a new token, unless it is given. */
void jwt_renew(struct jwt *jwt);

/* Header and claims, as hubs 0.x and 1.0 accept them; pure.
 * base64url({"typ":"JWT","alg":…}) "." base64url({"exp":…,"mercure":{"publish":["*"],"subscribe":[]}}) */
void jwt_encode_claims(struct buf *out, const char *algorithm, int64_t expires_s);

#endif
