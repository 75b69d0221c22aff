#include "common/wire/php.h"

#include "common/base/alloc.h"

#include <stdlib.h>
#include <string.h>

static bool take(struct php_reader *reader, char c)
{
    if (reader->at >= reader->text.len || reader->text.data[reader->at] != c)
        return false;
    reader->at++;
    return true;
}

static bool take_text(struct php_reader *reader, const char *text)
{
    while (*text != '\0')
        if (!take(reader, *text++))
            return false;
    return true;
}

static bool take_number(struct php_reader *reader, uint64_t *number)
{
    size_t start = reader->at;

    while (reader->at < reader->text.len && reader->text.data[reader->at] >= '0' &&
           reader->text.data[reader->at] <= '9')
        reader->at++;
    return bytes_to_u64(bytes_slice(reader->text, start, reader->at - start), number);
}

/* Takes the number of pairs of an array or object, and the opening brace. */
static bool take_count(struct php_reader *reader, struct php_value *value)
{
    uint64_t count;

    value->count_at = reader->at;
    if (!take_number(reader, &count) || count > SIZE_MAX)
        return false;
    value->count = (size_t)count;
    value->count_len = reader->at - value->count_at;
    return take_text(reader, ":{");
}

/* Takes <length>:"<bytes>". */
static bool take_quoted(struct php_reader *reader, struct bytes *text)
{
    uint64_t len;

    if (!take_number(reader, &len) || !take_text(reader, ":\"") ||
        len > reader->text.len - reader->at)
        return false;
    *text = bytes_slice(reader->text, reader->at, (size_t)len);
    reader->at += (size_t)len;
    return take(reader, '"');
}

static bool take_int(struct php_reader *reader, int64_t *number)
{
    bool negative = take(reader, '-');
    uint64_t magnitude;

    if (!negative)
        (void)take(reader, '+');
    if (!take_number(reader, &magnitude) || magnitude > (uint64_t)INT64_MAX + (negative ? 1 : 0))
        return false;
    *number = (int64_t)(negative ? 0 - magnitude : magnitude);
    return take(reader, ';');
}

static bool is_float_char(char c)
{
    return c != '\0' && strchr("0123456789+-.eEINFA", c) != NULL;
}

/* Takes a float without its value, which nobody needs: checking the characters is enough. */
static bool take_float(struct php_reader *reader)
{
    size_t start = reader->at;

    while (reader->at < reader->text.len && is_float_char(reader->text.data[reader->at]))
        reader->at++;
    return reader->at > start && take(reader, ';');
}

static void collect(struct php_references *references, struct php_reference reference)
{
    references->list = xgrow(references->list, references->len, sizeof(*references->list));
    references->list[references->len++] = reference;
}

static bool take_reference(struct php_reader *reader, struct php_value *value)
{
    size_t start = reader->at;
    uint64_t number;

    if (!take_number(reader, &number) || number == 0 || number > reader->values)
        return false;
    if (reader->references != NULL)
        collect(reader->references, (struct php_reference){start, reader->at - start, number});
    value->number = (int64_t)number;
    return take(reader, ';');
}

static bool take_custom(struct php_reader *reader, struct php_value *value)
{
    uint64_t len;

    reader->custom = true;
    if (!take_quoted(reader, &value->text) || !take(reader, ':') || !take_number(reader, &len) ||
        !take_text(reader, ":{") || len > reader->text.len - reader->at)
        return false;
    struct bytes inside = bytes_slice(reader->text, reader->at, (size_t)len);
    if (memmem(inside.data, inside.len, "r:", 2) != NULL ||
        memmem(inside.data, inside.len, "R:", 2) != NULL)
        reader->custom_references = true;
    reader->at += (size_t)len;
    return take(reader, '}');
}

static bool take_body(struct php_reader *reader, char letter, struct php_value *value)
{
    switch (letter) {
    case 'b':
        value->type = PHP_BOOL;
        return take_int(reader, &value->number) && (value->number == 0 || value->number == 1);
    case 'i':
        value->type = PHP_INT;
        return take_int(reader, &value->number);
    case 'd':
        value->type = PHP_FLOAT;
        return take_float(reader);
    case 's':
        value->type = PHP_STRING;
        return take_quoted(reader, &value->text) && take(reader, ';');
    case 'a':
        value->type = PHP_ARRAY;
        return take_count(reader, value);
    case 'O':
        value->type = PHP_OBJECT;
        return take_quoted(reader, &value->text) && value->text.len > 0 && take(reader, ':') &&
               take_count(reader, value);
    case 'E':
        value->type = PHP_ENUM;
        return take_quoted(reader, &value->text) && take(reader, ';');
    case 'C':
        value->type = PHP_CUSTOM;
        return take_custom(reader, value);
    case 'r':
        value->type = PHP_REPEATED;
        return take_reference(reader, value);
    case 'R':
        value->type = PHP_REFERENCE;
        return take_reference(reader, value);
    }
    return false;
}

int php_read(struct php_reader *reader, struct php_value *value)
{
    *value = (struct php_value){.type = PHP_NULL};
    if (take(reader, 'N')) {
        reader->values++;
        return take(reader, ';') ? 0 : -ERR_FORMAT;
    }
    if (reader->at >= reader->text.len)
        return -ERR_FORMAT;
    size_t start = reader->at;
    char letter = reader->text.data[reader->at++];
    if (!take(reader, ':') || !take_body(reader, letter, value))
        return -ERR_FORMAT;
    if (value->type == PHP_REFERENCE)
        return 0;
    reader->values++;
    if (reader->values == reader->sought)
        reader->sought_at = start;
    return 0;
}

int php_read_key(struct php_reader *reader, struct php_value *key)
{
    *key = (struct php_value){.type = PHP_INT};
    if (take_text(reader, "i:"))
        return take_int(reader, &key->number) ? 0 : -ERR_FORMAT;
    key->type = PHP_STRING;
    if (!take_text(reader, "s:") || !take_quoted(reader, &key->text) || !take(reader, ';'))
        return -ERR_FORMAT;
    return 0;
}

int php_read_end(struct php_reader *reader)
{
    return take(reader, '}') ? 0 : -ERR_FORMAT;
}

bool php_at_end(const struct php_reader *reader)
{
    return reader->at == reader->text.len;
}

static bool is_container(const struct php_value *value)
{
    return value->type == PHP_ARRAY || value->type == PHP_OBJECT;
}

int php_skip_rest(struct php_reader *reader, const struct php_value *value)
{
    size_t left[PHP_DEPTH_MAX]; /* pairs not yet read, outermost first */
    size_t depth = 0;
    struct php_value inner;

    if (!is_container(value))
        return 0;
    left[depth++] = value->count;
    while (depth > 0) {
        if (left[depth - 1] == 0) {
            if (php_read_end(reader) < 0)
                return -ERR_FORMAT;
            depth--;
            continue;
        }
        left[depth - 1]--;
        if (php_read_key(reader, &inner) < 0 || php_read(reader, &inner) < 0)
            return -ERR_FORMAT;
        if (is_container(&inner)) {
            if (depth == PHP_DEPTH_MAX)
                return -ERR_FORMAT;
            left[depth++] = inner.count;
        }
    }
    return 0;
}

int php_skip(struct php_reader *reader)
{
    struct php_value value;

    if (php_read(reader, &value) < 0)
        return -ERR_FORMAT;
    return php_skip_rest(reader, &value);
}

int php_follow(const struct php_reader *reader, const struct php_value *reference,
               struct php_reader *target, struct php_value *value)
{
    struct php_reader search = {.text = reader->text, .sought = (uint64_t)reference->number};

    if (reader->custom || php_skip(&search) < 0 || search.sought_at == 0)
        return -ERR_FORMAT;
    *target = (struct php_reader){
        .text = reader->text, .at = search.sought_at, .values = search.sought - 1};
    if (php_read(target, value) < 0 || value->type == PHP_REPEATED)
        return -ERR_FORMAT;
    return 0;
}

void php_references_free(struct php_references *references)
{
    free(references->list);
    *references = (struct php_references){0};
}

struct bytes php_property_name(struct bytes key)
{
    const char *nul = key.len > 0 ? memrchr(key.data, '\0', key.len) : NULL;

    if (nul == NULL)
        return key;
    return bytes_slice(key, (size_t)(nul + 1 - key.data), key.len);
}

void php_write_string(struct buf *out, struct bytes text)
{
    buf_append(out, BYTES("s:"));
    buf_append_u64(out, text.len);
    buf_append(out, BYTES(":\""));
    buf_append(out, text);
    buf_append(out, BYTES("\";"));
}

void php_write_int(struct buf *out, int64_t value)
{
    buf_append(out, BYTES("i:"));
    if (value < 0)
        buf_append_char(out, '-');
    buf_append_u64(out, value < 0 ? 0 - (uint64_t)value : (uint64_t)value);
    buf_append_char(out, ';');
}

void php_write_object(struct buf *out, struct bytes class, size_t properties)
{
    buf_append(out, BYTES("O:"));
    buf_append_u64(out, class.len);
    buf_append(out, BYTES(":\""));
    buf_append(out, class);
    buf_append(out, BYTES("\":"));
    buf_append_u64(out, properties);
    buf_append(out, BYTES(":{"));
}

void php_write_time(struct buf *out, struct bytes date, struct bytes zone, bool is_offset)
{
    php_write_object(out, BYTES("DateTimeImmutable"), 3);
    php_write_string(out, BYTES("date"));
    php_write_string(out, date);
    php_write_string(out, BYTES("timezone_type"));
    php_write_int(out, is_offset ? 1 : 3);
    php_write_string(out, BYTES("timezone"));
    php_write_string(out, zone);
    buf_append_char(out, '}');
}

void php_addslashes(struct buf *out, struct bytes text)
{
    char *start = buf_reserve(out, text.len * 2);
    char *to = start;

    for (size_t i = 0; i < text.len; i++) {
        char c = text.data[i];

        if (c == '\'' || c == '"' || c == '\\' || c == '\0')
            *to++ = '\\';
        *to++ = c != '\0' ? c : '0';
    }
    out->len += (size_t)(to - start);
}

struct bytes php_stripslashes(struct bytes text, struct arena *arena)
{
    if (text.len == 0 || memchr(text.data, '\\', text.len) == NULL)
        return text;

    const char *p = text.data;
    const char *end = p + text.len;
    char *out = arena_alloc(arena, text.len);
    char *to = out;

    while (p < end) {
        char c = *p++;

        if (c != '\\') {
            *to++ = c;
        } else if (p < end) { /* a backslash at the very end stands for nothing */
            *to++ = *p != '0' ? *p : '\0';
            p++;
        }
    }
    return (struct bytes){out, (size_t)(to - out)};
}
