#include "common/wire/fields.h"

#include "common/base/alloc.h"
#include "common/wire/php.h"

#include <stdlib.h>

bool fields_is_list(struct bytes value)
{
    return bytes_starts_with(value, BYTES("a:"));
}

void fields_encode(struct buf *out, const struct bytes *words, size_t len)
{
    buf_append(out, BYTES("a:"));
    buf_append_u64(out, len);
    buf_append(out, BYTES(":{"));
    for (size_t i = 0; i < len; i++) {
        php_write_int(out, (int64_t)i);
        php_write_string(out, words[i]);
    }
    buf_append_char(out, '}');
}

static int read_word(struct php_reader *reader, struct bytes *word)
{
    struct php_value key, value;

    if (php_read_key(reader, &key) < 0 || php_read(reader, &value) < 0 || value.type != PHP_STRING)
        return -ERR_FORMAT;
    *word = value.text;
    return 0;
}

static void take(struct fields *fields, struct bytes name, struct bytes value)
{
    if (bytes_equal_text(name, "message"))
        fields->message = value;
    else if (bytes_equal_text(name, "body"))
        fields->body = value;
    else if (bytes_equal_text(name, "headers"))
        fields->headers = value;
}

int fields_words(struct bytes **words, size_t *len, struct bytes value)
{
    struct php_reader reader = {.text = value};
    struct php_value list;

    *words = NULL;
    *len = 0;
    if (php_read(&reader, &list) < 0 || list.type != PHP_ARRAY || list.count % 2 != 0)
        return -ERR_FORMAT;
    for (size_t i = 0; i < list.count; i++) {
        if ((i & (i - 1)) == 0) /* the count is not to be trusted */
            *words = xrealloc(*words, (2 * i + 1) * sizeof(**words));
        if (read_word(&reader, &(*words)[i]) < 0)
            goto malformed;
        *len = i + 1;
    }
    if (php_read_end(&reader) == 0 && php_at_end(&reader))
        return 0;
malformed:
    free(*words);
    *words = NULL;
    *len = 0;
    return -ERR_FORMAT;
}

int fields_decode(struct fields *fields, struct bytes value)
{
    struct bytes *words;
    size_t len;

    *fields = (struct fields){0};
    if (fields_words(&words, &len, value) < 0)
        return -ERR_FORMAT;
    for (size_t i = 0; i < len; i += 2)
        take(fields, words[i], words[i + 1]);
    free(words);
    return 0;
}
