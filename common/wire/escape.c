#include "common/wire/escape.h"

#include "common/base/buf.h"
#include "common/wire/json.h"
#include "common/wire/php.h"

#include <stdlib.h>
#include <string.h>

/* One layer of json_encode over ASCII text, without the quotes. */
static void escape_json(struct buf *out, struct bytes text)
{
    struct buf quoted = {0};

    if (json_quote_php(&quoted, text) < 0)
        abort();
    buf_append(out, bytes_slice(buf_bytes(&quoted), 1, quoted.len - 2));
    buf_free(&quoted);
}

/* What one ASCII text becomes by all layers. */
static void escape_ascii(struct buf *out, enum escape_layers layers, struct bytes text)
{
    struct buf inner = {0};

    switch (layers) {
    case ESCAPE_JSON:
        buf_append(&inner, text);
        break;
    case ESCAPE_SLASHES_JSON:
        php_addslashes(&inner, text);
        break;
    case ESCAPE_JSON_JSON:
        escape_json(&inner, text);
        break;
    }
    escape_json(out, buf_bytes(&inner));
    buf_free(&inner);
}

void escape_table_fill(struct escape_table *table, enum escape_layers layers)
{
    struct buf escaped = {0};

    memset(table, 0, sizeof(*table));
    for (int byte = 0; byte < 128; byte++) {
        char c = (char)byte;

        buf_clear(&escaped);
        escape_ascii(&escaped, layers, (struct bytes){&c, 1});
        table->len[byte] = (uint8_t)escaped.len;
        memcpy(table->text[byte], escaped.data, escaped.len);
    }
    buf_free(&escaped);

    memcpy(table->unit, "\\\\u", 3);
    table->unit_start = 3;
    if (layers != ESCAPE_JSON_JSON) {
        memcpy(table->unit, "\\u", 2);
        table->unit_start = 2;
    }
    for (int byte = 0xC2; byte <= 0xF4; byte++)
        table->len[byte] = (uint8_t)((table->unit_start + 4) * (byte < 0xF0 ? 1 : 2));
}

size_t escape_len(const struct escape_table *table, struct bytes text)
{
    const unsigned char *p = (const unsigned char *)text.data;
    size_t len = 0;

    for (size_t i = 0; i < text.len; i++)
        len += table->len[p[i]];
    return len;
}

static char *put_unit(char *to, const struct escape_table *table, uint32_t unit)
{
    static const char HEX[] = "0123456789abcdef";

    memcpy(to, table->unit, sizeof(table->unit));
    to += table->unit_start;
    *to++ = HEX[unit >> 12 & 15];
    *to++ = HEX[unit >> 8 & 15];
    *to++ = HEX[unit >> 4 & 15];
    *to++ = HEX[unit & 15];
    return to;
}

char *escape_put(char *to, const struct escape_table *table, struct bytes text)
{
    const char *p = text.data;
    const char *end = text.len > 0 ? p + text.len : p;

    while (p < end) {
        unsigned char c = (unsigned char)*p;

        if (c < 0x80) {
            /* Always eight bytes: faster than a copy whose length has to be looked at. */
            memcpy(to, table->text[c], sizeof(table->text[c]));
            to += table->len[c];
            p++;
            continue;
        }
        uint32_t code;
        p += json_code_point(p, &code);
        if (code >= 0x10000) {
            code -= 0x10000;
            to = put_unit(to, table, 0xD800 + (code >> 10));
            code = 0xDC00 + (code & 0x3FF);
        }
        to = put_unit(to, table, code);
    }
    return to;
}
