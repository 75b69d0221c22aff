#include "common/wire/envelope.h"

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/wire/base64.h"
#include "common/wire/json.h"
#include "common/wire/php.h"

#include <stdlib.h>
#include <string.h>

/* The escapings of an envelope's text: one or two layers, done in one pass by table. The length
 * is computed first, since the length stands in front of the text. Texts are valid UTF-8. */
enum escape_layers {
    ESCAPE_JSON,         /* PHP's json_encode */
    ESCAPE_SLASHES_JSON, /* addslashes, then json_encode */
    ESCAPE_JSON_JSON,    /* json_encode, then json_encode again */
};

/* escape_put may write up to so many bytes of garbage behind the text. */
#define ESCAPE_SLACK 8

struct escape_table {
    uint8_t len[256];   /* each byte's escaped length; beyond ASCII all counts at the first byte */
    char text[128][8];  /* the escaped form of each ASCII byte */
    char unit[4];       /* the start of a \uXXXX, with its backslashes */
    uint8_t unit_start; /* the length of that start */
};

/* Appends the ASCII text as json_encode writes it, without the quotes. */
static void escape_json(struct buf *out, struct bytes text)
{
    struct buf quoted = {0};

    if (json_quote_php(&quoted, text) < 0)
        abort();
    buf_append(out, bytes_slice(buf_bytes(&quoted), 1, quoted.len - 2));
    buf_free(&quoted);
}

/* Appends the ASCII text escaped by all layers. */
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

static void escape_table_fill(struct escape_table *table, enum escape_layers layers)
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

static size_t escape_len(const struct escape_table *table, struct bytes text)
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

static char *escape_put(char *to, const struct escape_table *table, struct bytes text)
{
    const char *p = text.data;
    const char *end = text.len > 0 ? p + text.len : p;

    while (p < end) {
        unsigned char c = (unsigned char)*p;

        if (c < 0x80) {
            /* Copying always eight bytes is faster than copying the exact length. */
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

/* The constant parts of the body's text: start TOPIC between PAYLOAD finish. In PHP's format the
 * topic's and payload's length and `open` stand before each. */
struct pieces {
    struct buf start;
    struct buf open;
    struct buf between;
    struct buf finish;
};

struct envelope_template {
    enum envelope_serializer serializer;
    bool redis_serialized;
    bool metadata_headers;
    bool fixed_is_utf8;    /* class and bus are valid UTF-8 */
    struct pieces plain;   /* the pieces as serialized */
    struct pieces escaped; /* the pieces as escaped in the entry */
    struct buf headers;    /* the constant headers, comma-separated, without braces */
    struct escape_table body_table;
    struct escape_table header_table;

    /* Memory and results that are reused for each message. */
    struct buf all_headers;
    struct buf topic;
    struct buf payload;
    struct buf body;
    int64_t second; /* the second that `date` holds */
    char date[CLOCK_TEXT_SIZE];
};

static void php_pieces(struct pieces *pieces, const struct envelope_format *format)
{
    static const struct bytes stamp = BYTES(ENVELOPE_STAMP_CLASS("BusNameStamp"));
    struct buf *start = &pieces->start;

    php_write_object(start, BYTES(ENVELOPE_CLASS), 2);
    php_write_string(start, BYTES("\0" ENVELOPE_CLASS "\0stamps"));
    buf_append(start, BYTES("a:1:{"));
    php_write_string(start, stamp);
    buf_append(start, BYTES("a:1:{i:0;"));
    php_write_object(start, stamp, 1);
    php_write_string(start, BYTES("\0" ENVELOPE_STAMP_CLASS("BusNameStamp") "\0busName"));
    php_write_string(start, format->bus);
    buf_append(start, BYTES("}}}"));
    php_write_string(start, BYTES("\0" ENVELOPE_CLASS "\0message"));
    php_write_object(start, format->message_class, 2);
    envelope_php_key(start, format->visibility, format->message_class, "topic");
    buf_append(start, BYTES("s:"));
    buf_append(&pieces->open, BYTES(":\""));
    buf_append(&pieces->between, BYTES("\";"));
    envelope_php_key(&pieces->between, format->visibility, format->message_class, "payload");
    buf_append(&pieces->between, BYTES("s:"));
    buf_append(&pieces->finish, BYTES("\";}}"));
}

static void json_pieces(struct pieces *pieces)
{
    buf_append(&pieces->start, BYTES("{\"topic\":\""));
    buf_append(&pieces->between, BYTES("\",\"payload\":\""));
    buf_append(&pieces->finish, BYTES("\"}"));
}

static void json_headers(struct buf *headers, const struct envelope_format *format)
{
    struct buf stamps = {0};

    buf_append(&stamps, BYTES("[{\"busName\":"));
    json_quote_php_mended(&stamps, format->bus);
    buf_append(&stamps, BYTES("}]"));
    json_member_text(headers, BYTES("type"), format->message_class);
    json_member_text(headers, BYTES(ENVELOPE_STAMP_HEADER ENVELOPE_STAMP_CLASS("BusNameStamp")),
                     buf_bytes(&stamps));
    json_member_text(headers, BYTES("Content-Type"), BYTES("application/json"));
    buf_free(&stamps);
}

/* Escapes a piece: addslashes for PHP's format, then the entry's JSON. JSON's pieces are quoted
 * already. */
static void escape_piece(struct buf *plain, struct buf *escaped,
                         enum envelope_serializer serializer)
{
    struct buf slashed = {0};
    struct buf quoted = {0};

    if (serializer == ENVELOPE_PHP) {
        php_addslashes(&slashed, buf_bytes(plain));
        buf_clear(plain);
        buf_append(plain, buf_bytes(&slashed));
    }
    json_quote_php_mended(&quoted, buf_bytes(plain));
    buf_append(escaped, bytes_slice(buf_bytes(&quoted), 1, quoted.len - 2));
    buf_free(&slashed);
    buf_free(&quoted);
}

struct envelope_template *envelope_template_new(const struct envelope_format *format)
{
    struct envelope_template *template = xcalloc(1, sizeof(*template));
    struct pieces *plain = &template->plain;
    struct pieces *escaped = &template->escaped;

    template->serializer = format->serializer;
    template->redis_serialized = format->redis_serialized;
    template->metadata_headers = format->metadata_headers;
    template->fixed_is_utf8 = bytes_is_utf8(format->message_class) && bytes_is_utf8(format->bus);
    template->second = INT64_MIN;
    escape_table_fill(&template->header_table, ESCAPE_JSON);
    switch (format->serializer) {
    case ENVELOPE_PHP:
        escape_table_fill(&template->body_table, ESCAPE_SLASHES_JSON);
        php_pieces(plain, format);
        break;
    case ENVELOPE_JSON:
        escape_table_fill(&template->body_table, ESCAPE_JSON_JSON);
        json_pieces(plain);
        json_headers(&template->headers, format);
        break;
    }
    escape_piece(&plain->start, &escaped->start, format->serializer);
    escape_piece(&plain->open, &escaped->open, format->serializer);
    escape_piece(&plain->between, &escaped->between, format->serializer);
    escape_piece(&plain->finish, &escaped->finish, format->serializer);
    return template;
}

static void free_pieces(struct pieces *pieces)
{
    buf_free(&pieces->start);
    buf_free(&pieces->open);
    buf_free(&pieces->between);
    buf_free(&pieces->finish);
}

void envelope_template_free(struct envelope_template *template)
{
    if (template == NULL)
        return;
    free_pieces(&template->plain);
    free_pieces(&template->escaped);
    buf_free(&template->headers);
    buf_free(&template->all_headers);
    buf_free(&template->topic);
    buf_free(&template->payload);
    buf_free(&template->body);
    free(template);
}

/* Appends the time of receipt. The date is formatted once a second, only the microseconds for
 * each message. */
static void append_received_at(struct envelope_template *template, struct buf *out, int64_t us)
{
    int64_t second = us / 1000000;
    int64_t rest = us % 1000000;

    if (second != template->second) {
        clock_format_us(second * 1000000, template->date);
        template->second = second;
    }
    for (int i = CLOCK_TEXT_SIZE - 2; i > CLOCK_TEXT_SIZE - 8; i--) {
        template->date[i] = (char)('0' + rest % 10);
        rest /= 10;
    }
    buf_append(out, (struct bytes){template->date, CLOCK_TEXT_SIZE - 1});
    buf_append_char(out, 'Z');
}

static void append_metadata(struct envelope_template *template, struct buf *out,
                            const struct envelope_message *message)
{
    if (out->len > 1)
        buf_append_char(out, ',');
    buf_append(out, BYTES("\"" ENVELOPE_HEADER_ID "\":\""));
    char *start = buf_reserve(out, message->id.len * 6 + ESCAPE_SLACK);
    char *end = escape_put(start, &template->header_table, message->id);
    out->len += (size_t)(end - start);
    buf_append(out, BYTES("\",\"" ENVELOPE_HEADER_RECEIVED_AT "\":\""));
    append_received_at(template, out, message->received_us);
    buf_append(out, BYTES("\",\"" ENVELOPE_HEADER_QOS "\":\""));
    buf_append_char(out, (char)('0' + message->qos));
    buf_append(out, BYTES("\",\"" ENVELOPE_HEADER_RETAIN "\":\""));
    buf_append_char(out, message->retained ? '1' : '0');
    buf_append_char(out, '"');
}

/* Adds the headers for a payload or topic that is not UTF-8, which JSON can't hold. *topic
 * becomes a replacement that JSON can hold. The payload becomes base64 in envelope_encode. */
static void mend_for_json(struct envelope_template *template, struct bytes *topic,
                          struct bytes payload)
{
    if (!bytes_is_utf8(payload))
        json_member_text(&template->all_headers, BYTES(ENVELOPE_HEADER_ENCODING), BYTES("base64"));
    if (!bytes_is_utf8(*topic)) {
        buf_clear(&template->topic);
        base64_encode(&template->topic, *topic);
        json_member_text(&template->all_headers, BYTES(ENVELOPE_HEADER_TOPIC),
                         buf_bytes(&template->topic));
        buf_clear(&template->topic);
        json_make_utf8(&template->topic, *topic);
        *topic = buf_bytes(&template->topic);
    }
}

/* Writes the whole body in base64 into template->body. */
static void encode_base64_body(struct envelope_template *template, struct bytes topic,
                               struct bytes payload)
{
    const struct pieces *plain = &template->plain;
    struct buf *serialized = &template->payload;

    buf_clear(serialized);
    buf_append(serialized, buf_bytes(&plain->start));
    buf_append_u64(serialized, topic.len);
    buf_append(serialized, buf_bytes(&plain->open));
    php_addslashes(serialized, topic);
    buf_append(serialized, buf_bytes(&plain->between));
    buf_append_u64(serialized, payload.len);
    buf_append(serialized, buf_bytes(&plain->open));
    php_addslashes(serialized, payload);
    buf_append(serialized, buf_bytes(&plain->finish));
    buf_clear(&template->body);
    base64_encode(&template->body, buf_bytes(serialized));
}

/* Writes this message's headers, with braces, into template->all_headers. *topic becomes a topic
 * that JSON can hold. */
static void build_headers(struct envelope_template *template,
                          const struct envelope_message *message, struct bytes *topic)
{
    struct buf *out = &template->all_headers;

    buf_clear(out);
    if (template->serializer == ENVELOPE_PHP && !template->metadata_headers) {
        buf_append(out, BYTES("[]"));
        return;
    }
    buf_append_char(out, '{');
    buf_append(out, buf_bytes(&template->headers));
    if (template->metadata_headers)
        append_metadata(template, out, message);
    if (template->serializer == ENVELOPE_JSON)
        mend_for_json(template, topic, message->payload);
    buf_append_char(out, '}');
}

static size_t digits_len(size_t number)
{
    size_t len = 1;

    while (number >= 10) {
        number /= 10;
        len++;
    }
    return len;
}

static char *put(char *to, struct bytes bytes)
{
    memcpy(to, bytes.data, bytes.len);
    return to + bytes.len;
}

static char *put_buf(char *to, const struct buf *buf)
{
    if (buf->len == 0)
        return to;
    return put(to, buf_bytes(buf));
}

/* Returns the length of the text that put_body writes. */
static size_t body_len(const struct envelope_template *template, struct bytes topic,
                       struct bytes payload)
{
    const struct pieces *pieces = &template->escaped;
    size_t len = pieces->start.len + pieces->between.len + pieces->finish.len;

    if (template->serializer == ENVELOPE_PHP)
        len += digits_len(topic.len) + digits_len(payload.len) + 2 * pieces->open.len;
    return len + escape_len(&template->body_table, topic) +
           escape_len(&template->body_table, payload);
}

static char *put_text(char *to, const struct envelope_template *template, struct bytes text)
{
    if (template->serializer == ENVELOPE_PHP) {
        to = bytes_put_digits(to, text.len);
        to = put_buf(to, &template->escaped.open);
    }
    return escape_put(to, &template->body_table, text);
}

static char *put_body(char *to, const struct envelope_template *template, struct bytes topic,
                      struct bytes payload)
{
    const struct pieces *pieces = &template->escaped;

    to = put_buf(to, &pieces->start);
    to = put_text(to, template, topic);
    to = put_buf(to, &pieces->between);
    to = put_text(to, template, payload);
    return put_buf(to, &pieces->finish);
}

static bool needs_base64_body(const struct envelope_template *template, struct bytes topic,
                              struct bytes payload)
{
    return template->serializer == ENVELOPE_PHP &&
           !(template->fixed_is_utf8 && bytes_is_utf8(topic) && bytes_is_utf8(payload));
}

static const struct bytes BEFORE_BODY = BYTES("{\"body\":\"");
static const struct bytes BEFORE_HEADERS = BYTES("\",\"headers\":");

static bool needs_base64_payload(const struct envelope_template *template, struct bytes payload)
{
    return template->serializer == ENVELOPE_JSON && !bytes_is_utf8(payload);
}

/* Appends the value, whose JSON is `len` bytes long. base64: the body is template->body. */
static void append_entry(const struct envelope_template *template, struct bytes topic,
                         struct bytes payload, bool base64, size_t len, struct buf *out)
{
    /* Besides `len`: `s:<at most 20 digits>:"`, `";` and the garbage of escape_put. */
    char *start = buf_reserve(out, len + 26 + ESCAPE_SLACK);
    char *to = start;

    if (template->redis_serialized) {
        to = put(to, BYTES("s:"));
        to = bytes_put_digits(to, len);
        to = put(to, BYTES(":\""));
    }
    to = put(to, BEFORE_BODY);
    if (base64)
        to = escape_put(to, &template->header_table, buf_bytes(&template->body));
    else
        to = put_body(to, template, topic, payload);
    to = put(to, BEFORE_HEADERS);
    to = put_buf(to, &template->all_headers);
    *to++ = '}';
    if (template->redis_serialized)
        to = put(to, BYTES("\";"));
    out->len += (size_t)(to - start);
}

size_t envelope_encode(struct envelope_template *template, const struct envelope_message *message,
                       size_t limit, struct buf *out)
{
    struct bytes topic = message->topic;
    struct bytes payload = message->payload;
    size_t len = BEFORE_BODY.len + BEFORE_HEADERS.len + 1;
    bool base64_body = needs_base64_body(template, topic, payload);
    bool base64_payload = needs_base64_payload(template, payload);

    if ((base64_body || base64_payload) && base64_len(payload.len) > limit)
        return base64_len(payload.len);
    build_headers(template, message, &topic);
    if (base64_payload) {
        buf_clear(&template->payload);
        base64_encode(&template->payload, payload);
        payload = buf_bytes(&template->payload);
    }
    if (base64_body) {
        encode_base64_body(template, topic, payload);
        len += escape_len(&template->header_table, buf_bytes(&template->body));
    } else {
        len += body_len(template, topic, payload);
    }
    len += template->all_headers.len;

    size_t value_len = template->redis_serialized ? len + 6 + digits_len(len) : len;
    if (value_len <= limit)
        append_entry(template, topic, payload, base64_body, len, out);
    return value_len;
}
