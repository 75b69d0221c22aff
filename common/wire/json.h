/* JSON for the message path: strict (RFC 8259), without building a tree, and without changing a byte of values that are
 * passed on. cJSON is for the control protocol: it cuts strings at \u0000, rewrites numbers and accepts invalid text.
 *
 * Pure: bytes in, bytes out. Depth is limited to JSON_DEPTH_MAX, unless a reader is given another limit. */
#ifndef COMMON_WIRE_JSON_H
#define COMMON_WIRE_JSON_H

#include "common/base/arena.h"
#include "common/base/buf.h"
#include "common/base/error.h"

#define JSON_DEPTH_MAX   512  /* PHP's json_decode default */
#define JSON_DEPTH_LIMIT 1024 /* no reader may be given more */

/* True if the whole text is one JSON value, perhaps with white space around it, and valid UTF-8. Escaped surrogates
 * must be pairs: PHP and most parsers refuse a lone one, though RFC 8259 allows it. */
bool json_is_valid(struct bytes text);

/* The members of an object, in order; values are raw JSON text inside `text`, trimmed; keys are
 * unescaped (into arena where they had escapes).
 *     struct json_object object;
 *     if (json_object_begin(&object, text, arena) < 0) ... not an object (an empty list counts as an
 *         empty object: PHP's encoding of an empty map)
 *     while ((more = json_object_next(&object, &key, &value)) > 0) ...; more < 0: malformed, or
 *         -ERR_TOO_LARGE: a value is nested deeper than depth_max, which json_object_begin sets */
struct json_object {
    struct bytes rest;
    struct arena *arena;
    size_t depth_max;
    bool first;
    bool empty_list;
};

MUST_CHECK int json_object_begin(struct json_object *object, struct bytes text,
                                 struct arena *arena);
MUST_CHECK int json_object_next(struct json_object *object, struct bytes *key, struct bytes *value);
/* As json_object_next, with string values unescaped into arena: faster for long ones than json_unquote afterwards. */
MUST_CHECK int json_object_next_text(struct json_object *object, struct bytes *key,
                                     struct bytes *value, bool *is_text);

/* The raw value of one member, the last of that name as in PHP; BYTES_NONE if there is none, or text is no well-formed
 * object. */
struct bytes json_object_get(struct bytes text, const char *key, struct arena *arena);

/* The elements of a list, in order, as raw JSON text; used as json_object is. */
struct json_array {
    struct bytes rest;
    size_t depth_max;
    bool first;
};

MUST_CHECK int json_array_begin(struct json_array *array, struct bytes text);
MUST_CHECK int json_array_next(struct json_array *array, struct bytes *value);

/* A raw integer value: no fraction, no exponent, fits. */
MUST_CHECK int json_to_i64(struct bytes raw, int64_t *value);

/* A raw string value, quotes included, unescaped: points into `raw` if it has no escapes, else into
 * arena. A lone surrogate is -ERR_FORMAT, as in PHP. */
MUST_CHECK int json_unquote(struct bytes *text, struct bytes raw, struct arena *arena);

/* Quoted as PHP's json_encode does by default: `/` as `\/`, non-ASCII as \uXXXX (lower-case hex,
 * surrogate pairs). -ERR_FORMAT, with nothing appended, if text is not UTF-8. */
MUST_CHECK int json_quote_php(struct buf *out, struct bytes text);
/* As json_quote_php, with U+FFFD where text is not UTF-8. */
void json_quote_php_mended(struct buf *out, struct bytes text);
/* Appends a member's name, quoted by json_quote_php_mended, and a colon; a comma first if it is not the first
 * member. */
void json_member(struct buf *out, struct bytes name);
void json_member_text(struct buf *out, struct bytes name, struct bytes value); /* with a string */
/* Quoted with the least escaping (`"`, `\`, control characters); text must be UTF-8. */
void json_quote(struct buf *out, struct bytes text);

/* Appends valid JSON with every character outside of ASCII as \uXXXX; its values do not change. */
void json_to_ascii(struct buf *out, struct bytes json);
/* Appends valid JSON in one line: in it a line break can only be white space, and becomes a space. */
void json_to_line(struct buf *out, struct bytes json);

/* Appends text (unquoted) with U+FFFD in place of every byte that is no part of valid UTF-8. */
void json_make_utf8(struct buf *out, struct bytes text);
/* The first character of a valid, not empty UTF-8 text; returns its length in bytes. */
size_t json_code_point(const char *text, uint32_t *code);

#endif
