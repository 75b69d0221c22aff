#include "common/wire/fields.h"

#include "common/wire/php.h"

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

int fields_decode(struct fields *fields, struct bytes value)
{
    struct php_reader reader = {.text = value};
    struct php_value list;

    *fields = (struct fields){0};
    if (php_read(&reader, &list) < 0 || list.type != PHP_ARRAY || list.count % 2 != 0)
        return -ERR_FORMAT;
    for (size_t i = 0; i < list.count; i += 2) {
        struct bytes name, content;

        if (read_word(&reader, &name) < 0 || read_word(&reader, &content) < 0)
            return -ERR_FORMAT;
        take(fields, name, content);
    }
    return php_read_end(&reader) < 0 || !php_at_end(&reader) ? -ERR_FORMAT : 0;
}
