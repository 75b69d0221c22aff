/* JSON as the message path needs it: strict (RFC 8259), without building a tree, without changing a
 * byte of what is passed on. cJSON is for the control protocol; here it would cut strings at \u0000,
 * rewrite numbers and accept invalid text.
 *
 * Pure: bytes in, bytes out. Depth is limited to JSON_DEPTH_MAX. */
#ifndef COMMON_WIRE_JSON_H
#define COMMON_WIRE_JSON_H

#include "common/base/arena.h"
#include "common/base/buf.h"
#include "common/base/error.h"

#define JSON_DEPTH_MAX 512 /* PHP's json_decode default */

/* The whole of text is one JSON value with white space around it and valid UTF-8 inside. */
bool json_is_valid(struct bytes text);

/* The members of an object, in order; values are raw JSON text inside `text`, trimmed; keys are
 * unescaped (into arena where they had escapes).
 *     struct json_object object;
 *     if (json_object_begin(&object, text, arena) < 0) ... not an object (an empty list counts as an
 *         empty object: PHP's encoding of an empty map)
 *     while ((more = json_object_next(&object, &key, &value)) > 0) ...; more < 0: malformed */
struct json_object {
    struct bytes rest;
    struct arena *arena;
    bool first;
    bool empty_list;
};

MUST_CHECK int json_object_begin(struct json_object *object, struct bytes text, struct arena *arena);
MUST_CHECK int json_object_next(struct json_object *object, struct bytes *key, struct bytes *value);

/* The value of one member, or BYTES_NONE (also when text is no object). */
struct bytes json_object_get(struct bytes text, const char *key, struct arena *arena);

/* A raw string value, quotes included, unescaped: points into `raw` if it has no escapes, else into
 * arena. A lone surrogate is -ERR_FORMAT, as PHP has it. */
MUST_CHECK int json_unquote(struct bytes *text, struct bytes raw, struct arena *arena);

/* Quoted as PHP's json_encode does by default: `/` as `\/`, non-ASCII as \uXXXX (lower-case hex,
 * surrogate pairs). -ERR_FORMAT, with nothing appended, if text is not UTF-8. */
MUST_CHECK int json_quote_php(struct buf *out, struct bytes text);
/* Quoted with the least escaping (`"`, `\`, control characters); text must be UTF-8. */
void json_quote(struct buf *out, struct bytes text);

/* Base64, standard alphabet with padding; decode is strict as PHP's base64_decode(…, true). */
void base64_encode(struct buf *out, struct bytes data);
MUST_CHECK int base64_decode(struct bytes *data, struct bytes text, struct arena *arena);

#endif
