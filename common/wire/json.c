#include "common/wire/json.h"

#include <stdlib.h>
#include <string.h>

/* A scan's position. Nothing at or behind `end` is read. */
struct cursor {
    const char *at;
    const char *end;
};

static struct cursor cursor_of(struct bytes text)
{
    if (text.len == 0)
        return (struct cursor){"", ""};
    return (struct cursor){text.data, text.data + text.len};
}

static struct bytes cursor_rest(const struct cursor *cursor)
{
    return (struct bytes){cursor->at, (size_t)(cursor->end - cursor->at)};
}

static void skip_space(struct cursor *cursor)
{
    while (cursor->at < cursor->end && (*cursor->at == ' ' || *cursor->at == '\t' ||
                                        *cursor->at == '\n' || *cursor->at == '\r'))
        cursor->at++;
}

/* Steps over the next byte if that byte is c. */
static bool take(struct cursor *cursor, char c)
{
    if (cursor->at == cursor->end || *cursor->at != c)
        return false;
    cursor->at++;
    return true;
}

/* Takes one `uXXXX` behind a backslash. Returns the unit, or -1. */
static int take_unit(struct cursor *cursor)
{
    int unit = 0;

    if (cursor->end - cursor->at < 5 || *cursor->at != 'u')
        return -1;
    for (int i = 1; i <= 4; i++) {
        int digit = bytes_hex_digit(cursor->at[i]);

        if (digit < 0)
            return -1;
        unit = unit << 4 | digit;
    }
    cursor->at += 5;
    return unit;
}

/* Takes one `uXXXX`, or two that form a surrogate pair. Returns the code point, or -1. */
static int take_code_point(struct cursor *cursor)
{
    int unit = take_unit(cursor);

    if (unit < 0xD800 || unit > 0xDFFF)
        return unit;
    if (unit > 0xDBFF || !take(cursor, '\\'))
        return -1;
    int low = take_unit(cursor);
    if (low < 0xDC00 || low > 0xDFFF)
        return -1;
    return 0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00);
}

/* The byte that a one-letter escape stands for; 0 where there is no such escape. */
static const char SHORT_ESCAPE[256] = {
    ['"'] = '"',  ['\\'] = '\\', ['/'] = '/',  ['b'] = '\b',
    ['f'] = '\f', ['n'] = '\n',  ['r'] = '\r', ['t'] = '\t',
};

static char *put_utf8(char *to, int code)
{
    if (code < 0x80) {
        *to++ = (char)code;
    } else if (code < 0x800) {
        *to++ = (char)(0xC0 | code >> 6);
        *to++ = (char)(0x80 | (code & 63));
    } else if (code < 0x10000) {
        *to++ = (char)(0xE0 | code >> 12);
        *to++ = (char)(0x80 | (code >> 6 & 63));
        *to++ = (char)(0x80 | (code & 63));
    } else {
        *to++ = (char)(0xF0 | code >> 18);
        *to++ = (char)(0x80 | (code >> 12 & 63));
        *to++ = (char)(0x80 | (code >> 6 & 63));
        *to++ = (char)(0x80 | (code & 63));
    }
    return to;
}

/* Writes the character that the escape behind a backslash stands for. Returns NULL if the escape
 * is not valid. */
static char *put_escaped(char *to, struct cursor *cursor)
{
    if (cursor->at == cursor->end)
        return NULL;
    if (*cursor->at == 'u') {
        int code = take_code_point(cursor);

        return code < 0 ? NULL : put_utf8(to, code);
    }
    *to = SHORT_ESCAPE[(unsigned char)*cursor->at++];
    return *to != 0 ? to + 1 : NULL;
}

static bool scan_escape(struct cursor *cursor)
{
    char unused[4];

    return put_escaped(unused, cursor) != NULL;
}

/* Steps over a string with its quotes. */
static bool scan_string(struct cursor *cursor)
{
    struct cursor scan = *cursor; /* a copy can stay in registers */
    unsigned char seen = 0;

    if (!take(&scan, '"'))
        return false;
    while (scan.at < scan.end) {
        unsigned char c = (unsigned char)*scan.at++;

        if (c == '"') {
            struct bytes text = {cursor->at, (size_t)(scan.at - cursor->at)};

            cursor->at = scan.at;
            return seen < 0x80 || bytes_is_utf8(text);
        }
        if (c < 0x20 || (c == '\\' && !scan_escape(&scan)))
            return false;
        seen |= c;
    }
    return false;
}

/* Steps over a string like scan_string, and copies the unescaped text into arena. The raw length
 * is enough room, since no escape is shorter than its character. */
static bool unescape(struct bytes *text, struct cursor *cursor, struct arena *arena)
{
    struct cursor scan = *cursor;
    size_t room = (size_t)(scan.end - scan.at);
    char *out = arena_alloc(arena, room);
    char *to = out;
    unsigned char seen = 0;

    if (!take(&scan, '"'))
        return false;
    while (scan.at < scan.end) {
        unsigned char c = (unsigned char)*scan.at++;

        if (c == '"') {
            *text = (struct bytes){out, (size_t)(to - out)};
            arena_give_back(arena, room - text->len);
            cursor->at = scan.at;
            return seen < 0x80 || bytes_is_utf8(*text);
        }
        if (c < 0x20)
            return false;
        if (c != '\\')
            *to++ = (char)c;
        else if ((to = put_escaped(to, &scan)) == NULL)
            return false;
        seen |= c;
    }
    return false;
}

static bool scan_digits(struct cursor *cursor)
{
    const char *start = cursor->at;

    while (cursor->at < cursor->end && *cursor->at >= '0' && *cursor->at <= '9')
        cursor->at++;
    return cursor->at > start;
}

static bool scan_number(struct cursor *cursor)
{
    take(cursor, '-');
    if (!take(cursor, '0') && !scan_digits(cursor))
        return false;
    if (take(cursor, '.') && !scan_digits(cursor))
        return false;
    if (take(cursor, 'e') || take(cursor, 'E')) {
        if (!take(cursor, '+'))
            take(cursor, '-');
        return scan_digits(cursor);
    }
    return true;
}

static bool scan_word(struct cursor *cursor, struct bytes word)
{
    if (!bytes_starts_with(cursor_rest(cursor), word))
        return false;
    cursor->at += word.len;
    return true;
}

static bool scan_scalar(struct cursor *cursor)
{
    if (cursor->at == cursor->end)
        return false;
    switch (*cursor->at) {
    case '"':
        return scan_string(cursor);
    case 't':
        return scan_word(cursor, BYTES("true"));
    case 'f':
        return scan_word(cursor, BYTES("false"));
    case 'n':
        return scan_word(cursor, BYTES("null"));
    }
    return scan_number(cursor);
}

/* Steps over a member's name and the colon behind the name. */
static bool scan_name(struct cursor *cursor)
{
    skip_space(cursor);
    if (!scan_string(cursor))
        return false;
    skip_space(cursor);
    return take(cursor, ':');
}

/* The open lists and objects around the scan's position, outermost first. */
struct nest {
    char closer[JSON_DEPTH_LIMIT]; /* `]` or `}` */
    size_t depth;
    size_t depth_max;
};

enum step { STEP_VALUE, STEP_END, STEP_WRONG, STEP_TOO_DEEP };

/* Continues behind a value: closes the lists and objects that end there. Stops at the next value
 * or at the end of the outermost one. */
static enum step scan_behind_value(struct cursor *cursor, struct nest *nest)
{
    while (nest->depth > 0) {
        char closer = nest->closer[nest->depth - 1];

        skip_space(cursor);
        if (take(cursor, ','))
            return closer == ']' || scan_name(cursor) ? STEP_VALUE : STEP_WRONG;
        if (!take(cursor, closer))
            return STEP_WRONG;
        nest->depth--;
    }
    return STEP_END;
}

/* Steps over a scalar and the ends behind it, or over the start of a list or object. */
static enum step scan_at_value(struct cursor *cursor, struct nest *nest)
{
    char closer;

    skip_space(cursor);
    if (take(cursor, '['))
        closer = ']';
    else if (take(cursor, '{'))
        closer = '}';
    else
        return scan_scalar(cursor) ? scan_behind_value(cursor, nest) : STEP_WRONG;
    if (nest->depth == nest->depth_max)
        return STEP_TOO_DEEP;
    skip_space(cursor);
    if (take(cursor, closer))
        return scan_behind_value(cursor, nest);
    nest->closer[nest->depth++] = closer;
    return closer == ']' || scan_name(cursor) ? STEP_VALUE : STEP_WRONG;
}

/* Steps over one value of any kind. The function is not recursive: `nest` bounds the depth, not
 * the stack. */
static int scan_value(struct cursor *cursor, size_t depth_max)
{
    struct nest nest;
    enum step step;

    nest.depth = 0;
    nest.depth_max = depth_max;
    do {
        step = scan_at_value(cursor, &nest);
    } while (step == STEP_VALUE);
    if (step == STEP_TOO_DEEP)
        return -ERR_TOO_LARGE;
    return step == STEP_END ? 0 : -ERR_FORMAT;
}

static bool at_end(struct cursor *cursor)
{
    skip_space(cursor);
    return cursor->at == cursor->end;
}

bool json_is_valid(struct bytes text)
{
    struct cursor cursor = cursor_of(text);

    return scan_value(&cursor, JSON_DEPTH_MAX) == 0 && at_end(&cursor);
}

/* Steps over one value. *raw is the value's text without the white space around. */
static int scan_raw(struct cursor *cursor, size_t depth_max, struct bytes *raw)
{
    skip_space(cursor);
    const char *start = cursor->at;
    int result = scan_value(cursor, depth_max);
    *raw = (struct bytes){start, (size_t)(cursor->at - start)};
    return result;
}

int json_object_begin(struct json_object *object, struct bytes text, struct arena *arena)
{
    struct cursor cursor = cursor_of(text);
    bool list;

    skip_space(&cursor);
    list = take(&cursor, '[');
    if (!list && !take(&cursor, '{'))
        return -ERR_FORMAT;
    if (list) {
        skip_space(&cursor);
        if (!take(&cursor, ']') || !at_end(&cursor))
            return -ERR_FORMAT;
    }
    *object = (struct json_object){cursor_rest(&cursor), arena, JSON_DEPTH_MAX, true, list};
    return 0;
}

/* Moves to the value of the next member. Returns 0 if there is no further member. */
static int take_name(struct json_object *object, struct cursor *cursor, struct bytes *key)
{
    struct bytes name;

    if (object->empty_list)
        return 0;
    skip_space(cursor);
    if (take(cursor, '}'))
        return at_end(cursor) ? 0 : -ERR_FORMAT;
    if (!object->first && !take(cursor, ','))
        return -ERR_FORMAT;
    skip_space(cursor);
    name.data = cursor->at;
    if (!scan_string(cursor))
        return -ERR_FORMAT;
    name.len = (size_t)(cursor->at - name.data);
    skip_space(cursor);
    if (!take(cursor, ':') || json_unquote(key, name, object->arena) < 0)
        return -ERR_FORMAT;
    skip_space(cursor);
    object->first = false;
    return 1;
}

int json_object_next(struct json_object *object, struct bytes *key, struct bytes *value)
{
    struct cursor cursor = cursor_of(object->rest);
    int more = take_name(object, &cursor, key);

    if (more <= 0)
        return more;
    int result = scan_raw(&cursor, object->depth_max, value);
    object->rest = cursor_rest(&cursor);
    return result < 0 ? result : 1;
}

int json_object_next_text(struct json_object *object, struct bytes *key, struct bytes *value,
                          bool *is_text)
{
    struct cursor cursor = cursor_of(object->rest);
    int more = take_name(object, &cursor, key);

    if (more <= 0)
        return more;
    *is_text = bytes_starts_with(cursor_rest(&cursor), BYTES("\""));
    int result = !*is_text ? scan_raw(&cursor, object->depth_max, value)
                 : unescape(value, &cursor, object->arena) ? 0
                                                           : -ERR_FORMAT;
    object->rest = cursor_rest(&cursor);
    return result < 0 ? result : 1;
}

struct bytes json_object_get(struct bytes text, const char *key, struct arena *arena)
{
    struct bytes found = BYTES_NONE;
    struct json_object object;
    struct bytes name;
    struct bytes value;
    int more;

    if (json_object_begin(&object, text, arena) < 0)
        return BYTES_NONE;
    while ((more = json_object_next(&object, &name, &value)) > 0)
        if (bytes_equal_text(name, key))
            found = value;
    return more < 0 ? BYTES_NONE : found;
}

int json_array_begin(struct json_array *array, struct bytes text)
{
    struct cursor cursor = cursor_of(text);

    skip_space(&cursor);
    if (!take(&cursor, '['))
        return -ERR_FORMAT;
    *array = (struct json_array){cursor_rest(&cursor), JSON_DEPTH_MAX, true};
    return 0;
}

int json_array_next(struct json_array *array, struct bytes *value)
{
    struct cursor cursor = cursor_of(array->rest);

    skip_space(&cursor);
    if (take(&cursor, ']'))
        return at_end(&cursor) ? 0 : -ERR_FORMAT;
    if (!array->first && !take(&cursor, ','))
        return -ERR_FORMAT;
    int result = scan_raw(&cursor, array->depth_max, value);
    if (result < 0)
        return result;
    array->first = false;
    array->rest = cursor_rest(&cursor);
    return 1;
}

int json_to_i64(struct bytes raw, int64_t *value)
{
    struct cursor cursor = cursor_of(raw);
    bool negative = take(&cursor, '-');
    struct bytes digits = cursor_rest(&cursor);
    uint64_t magnitude;

    if (!bytes_to_u64(digits, &magnitude) || (digits.len > 1 && digits.data[0] == '0'))
        return -ERR_FORMAT;
    if (magnitude > (uint64_t)INT64_MAX + (negative ? 1 : 0))
        return -ERR_FORMAT;
    *value = (int64_t)(negative ? 0 - magnitude : magnitude);
    return 0;
}

int json_unquote(struct bytes *text, struct bytes raw, struct arena *arena)
{
    struct cursor cursor = cursor_of(raw);

    if (raw.len > 0 && memchr(raw.data, '\\', raw.len) != NULL)
        return unescape(text, &cursor, arena) && cursor.at == cursor.end ? 0 : -ERR_FORMAT;
    if (!scan_string(&cursor) || cursor.at != cursor.end)
        return -ERR_FORMAT;
    *text = (struct bytes){raw.data + 1, raw.len - 2};
    return 0;
}

static const char HEX[] = "0123456789abcdef";

/* Returns the letter of a two-character escape, or 0 if the byte has none. */
static char short_letter(unsigned char c)
{
    switch (c) {
    case '"':
    case '\\':
        return (char)c;
    case '\b':
        return 'b';
    case '\f':
        return 'f';
    case '\n':
        return 'n';
    case '\r':
        return 'r';
    case '\t':
        return 't';
    }
    return 0;
}

static char *put_unit(char *to, uint32_t unit)
{
    *to++ = '\\';
    *to++ = 'u';
    *to++ = HEX[unit >> 12 & 15];
    *to++ = HEX[unit >> 8 & 15];
    *to++ = HEX[unit >> 4 & 15];
    *to++ = HEX[unit & 15];
    return to;
}

/* Writes an ASCII byte, escaped to at most six bytes. */
static char *put_ascii(char *to, unsigned char c)
{
    char letter = short_letter(c);

    if (letter != 0) {
        *to++ = '\\';
        *to++ = letter;
        return to;
    }
    if (c < 0x20)
        return put_unit(to, c);
    *to++ = (char)c;
    return to;
}

size_t json_code_point(const char *text, uint32_t *code)
{
    const unsigned char *p = (const unsigned char *)text;

    if (p[0] < 0x80) {
        *code = p[0];
        return 1;
    }
    if (p[0] < 0xE0) {
        *code = (p[0] & 0x1FU) << 6 | (p[1] & 0x3FU);
        return 2;
    }
    if (p[0] < 0xF0) {
        *code = (p[0] & 0x0FU) << 12 | (p[1] & 0x3FU) << 6 | (p[2] & 0x3FU);
        return 3;
    }
    *code = (p[0] & 0x07U) << 18 | (p[1] & 0x3FU) << 12 | (p[2] & 0x3FU) << 6 | (p[3] & 0x3FU);
    return 4;
}

/* Escapes a character that isn't ASCII to at most twelve bytes. */
static char *put_wide(char *to, uint32_t code)
{
    if (code < 0x10000)
        return put_unit(to, code);
    code -= 0x10000;
    to = put_unit(to, 0xD800 + (code >> 10));
    return put_unit(to, 0xDC00 + (code & 0x3FF));
}

/* Memory is reserved piece by piece, since six times a large text's length at once would be too
 * much. */
#define PIECE 4096

/* in_string: also escapes ASCII bytes that must be escaped inside a string. */
static void append_in_ascii(struct buf *out, struct bytes text, bool in_string)
{
    size_t i = 0;

    while (i < text.len) {
        size_t stop = text.len - i > PIECE ? i + PIECE : text.len;
        char *start = buf_reserve(out, (stop - i) * 6 + 12);
        char *to = start;

        while (i < stop) {
            uint32_t code;

            i += json_code_point(text.data + i, &code);
            if (code >= 0x80) {
                to = put_wide(to, code);
            } else if (!in_string) {
                *to++ = (char)code;
            } else if (code == '/') {
                *to++ = '\\';
                *to++ = '/';
            } else {
                to = put_ascii(to, (unsigned char)code);
            }
        }
        out->len += (size_t)(to - start);
    }
}

int json_quote_php(struct buf *out, struct bytes text)
{
    if (!bytes_is_utf8(text))
        return -ERR_FORMAT;
    buf_append_char(out, '"');
    append_in_ascii(out, text, true);
    buf_append_char(out, '"');
    return 0;
}

/* Only strings can hold characters beyond ASCII, so every such character may become an escape. */
void json_to_ascii(struct buf *out, struct bytes json)
{
    append_in_ascii(out, json, false);
}

void json_quote(struct buf *out, struct bytes text)
{
    size_t i = 0;

    buf_append_char(out, '"');
    while (i < text.len) {
        size_t stop = text.len - i > PIECE ? i + PIECE : text.len;
        char *start = buf_reserve(out, (stop - i) * 6);
        char *to = start;

        for (; i < stop; i++)
            to = put_ascii(to, (unsigned char)text.data[i]);
        out->len += (size_t)(to - start);
    }
    buf_append_char(out, '"');
}

void json_to_line(struct buf *out, struct bytes json)
{
    char *copy = buf_reserve(out, json.len);

    memcpy(copy, json.data, json.len);
    out->len += json.len;
    if (memchr(copy, '\n', json.len) == NULL && memchr(copy, '\r', json.len) == NULL)
        return;
    for (size_t i = 0; i < json.len; i++)
        if (copy[i] == '\n' || copy[i] == '\r')
            copy[i] = ' ';
}

void json_make_utf8(struct buf *out, struct bytes text)
{
    static const struct bytes replacement = {"\xEF\xBF\xBD", 3};
    size_t i = 0;

    while (i < text.len) {
        size_t len = bytes_utf8_length(bytes_slice(text, i, text.len));

        buf_append(out, len > 0 ? bytes_slice(text, i, len) : replacement);
        i += len > 0 ? len : 1;
    }
}

void json_quote_php_mended(struct buf *out, struct bytes text)
{
    struct buf mended = {0};

    if (json_quote_php(out, text) == 0)
        return;
    json_make_utf8(&mended, text);
    if (json_quote_php(out, buf_bytes(&mended)) < 0)
        abort();
    buf_free(&mended);
}

void json_member(struct buf *out, struct bytes name)
{
    if (out->len > 0 && out->data[out->len - 1] != '{')
        buf_append_char(out, ',');
    json_quote_php_mended(out, name);
    buf_append_char(out, ':');
}

void json_member_text(struct buf *out, struct bytes name, struct bytes value)
{
    json_member(out, name);
    json_quote_php_mended(out, value);
}
