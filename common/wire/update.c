#include "common/wire/update.h"

#include "common/base/clock.h"
#include "common/wire/base64.h"
#include "common/wire/json.h"

#include <string.h>

#define FORM_LENGTH_MAX    (10 * 1024 * 1024 - 1)
#define HUB_PATH           "/.well-known/mercure"
#define ESCAPED_LENGTH_MAX 3

static void quote_lossy(struct buf *out, struct bytes text)
{
    struct buf repaired = {0};

    if (bytes_is_utf8(text)) {
        json_quote(out, text);
        return;
    }
    json_make_utf8(&repaired, text);
    json_quote(out, buf_bytes(&repaired));
    buf_free(&repaired);
}

static void append_payload(struct buf *out, struct bytes payload, bool as_text)
{
    buf_append(out, BYTES(",\"payload\":"));
    if (!as_text && json_is_valid(payload)) {
        json_to_line(out, payload);
    } else if (bytes_is_utf8(payload)) {
        json_quote(out, payload);
    } else {
        buf_append_char(out, '"');
        base64_encode(out, payload);
        buf_append(out, BYTES("\",\"encoding\":\"base64\""));
    }
}

static void append_document(struct buf *out, struct bytes id, struct bytes topic,
                            struct bytes payload, int64_t received_us, bool as_text)
{
    buf_append(out, BYTES("{\"id\":"));
    quote_lossy(out, id);
    buf_append(out, BYTES(",\"topic\":"));
    quote_lossy(out, topic);
    append_payload(out, payload, as_text);
    if (received_us > 0) {
        char time[CLOCK_TEXT_SIZE];

        clock_format_us(received_us, time);
        buf_append(out, BYTES(",\"receivedAt\":\""));
        buf_append_text(out, time);
        buf_append(out, BYTES("Z\""));
    }
    buf_append_char(out, '}');
}

void update_document(struct buf *out, struct bytes id, struct bytes topic, struct bytes payload,
                     int64_t received_us)
{
    append_document(out, id, topic, payload, received_us, false);
}

void update_text_document(struct buf *out, struct bytes id, struct bytes topic,
                          struct bytes payload, int64_t received_us)
{
    append_document(out, id, topic, payload, received_us, true);
}

/* The encoding of a byte. FORM_LETTER stays unchanged in a form and in a topic. */
enum form_byte {
    FORM_ESCAPED,
    FORM_LETTER,
    FORM_SPACE, /* + in a form, %20 in a topic */
    FORM_TILDE, /* %7E in a form, unchanged in a topic */
    FORM_SLASH, /* %2F in a form, unchanged in a topic */
};

static const unsigned char FORM_BYTES[256] = {
    ['0' ... '9'] = FORM_LETTER, ['A' ... 'Z'] = FORM_LETTER, ['a' ... 'z'] = FORM_LETTER,
    ['-'] = FORM_LETTER,         ['_'] = FORM_LETTER,         ['.'] = FORM_LETTER,
    [' '] = FORM_SPACE,          ['~'] = FORM_TILDE,          ['/'] = FORM_SLASH,
};

static char *write_escaped(char *to, unsigned char byte)
{
    static const char digits[] = "0123456789ABCDEF";

    to[0] = '%';
    to[1] = digits[byte >> 4];
    to[2] = digits[byte & 0xF];
    return to + 3;
}

static size_t urlencoded_len(struct bytes text)
{
    size_t escaped = 0;

    for (size_t i = 0; i < text.len; i++) {
        unsigned char kind = FORM_BYTES[(unsigned char)text.data[i]];

        escaped += kind != FORM_LETTER && kind != FORM_SPACE;
    }
    return text.len + (ESCAPED_LENGTH_MAX - 1) * escaped;
}

void update_urlencode(struct buf *out, struct bytes text)
{
    const unsigned char *from = (const unsigned char *)text.data;

    if (text.len == 0)
        return;
    /* The exact length is counted first: out keeps its memory, and three times a large payload
     * is too much. */
    char *to = buf_reserve(out, urlencoded_len(text));
    for (size_t i = 0; i < text.len; i++) {
        unsigned char kind = FORM_BYTES[from[i]];

        if (kind == FORM_LETTER)
            *to++ = (char)from[i];
        else if (kind == FORM_SPACE)
            *to++ = '+';
        else
            to = write_escaped(to, from[i]);
    }
    out->len = (size_t)(to - out->data);
}

void update_encode_topic(struct buf *out, struct bytes topic)
{
    if (topic.len == 0)
        return;
    char *to = buf_reserve(out, ESCAPED_LENGTH_MAX * topic.len);

    for (size_t i = 0; i < topic.len; i++) {
        unsigned char byte = (unsigned char)topic.data[i];
        unsigned char kind = FORM_BYTES[byte];

        if (kind == FORM_ESCAPED || kind == FORM_SPACE)
            to = write_escaped(to, byte);
        else
            *to++ = (char)byte;
    }
    out->len = (size_t)(to - out->data);
}

void update_form(struct buf *out, const struct update *update)
{
    buf_append(out, BYTES("topic="));
    update_urlencode(out, update->topic);
    for (size_t i = 0; i < update->alternates_len; i++) {
        buf_append(out, BYTES("&topic="));
        update_urlencode(out, update->alternates[i]);
    }
    buf_append(out, BYTES("&data="));
    update_urlencode(out, update->data);
    if (update->private_update)
        buf_append(out, BYTES("&private=on"));
    if (update->id.len > 0) {
        buf_append(out, BYTES("&id="));
        update_urlencode(out, update->id);
    }
    if (update->type.len > 0) {
        buf_append(out, BYTES("&type="));
        update_urlencode(out, update->type);
    }
    if (update->retry.len > 0) {
        buf_append(out, BYTES("&retry="));
        update_urlencode(out, update->retry);
    }
}

/* Returns the length of the form that update_form writes. */
static size_t form_len(const struct update *update)
{
    size_t len = strlen("topic=&data=") + urlencoded_len(update->topic);

    for (size_t i = 0; i < update->alternates_len; i++)
        len += strlen("&topic=") + urlencoded_len(update->alternates[i]);
    len += urlencoded_len(update->data);
    if (update->private_update)
        len += strlen("&private=on");
    if (update->id.len > 0)
        len += strlen("&id=") + urlencoded_len(update->id);
    if (update->type.len > 0)
        len += strlen("&type=") + urlencoded_len(update->type);
    if (update->retry.len > 0)
        len += strlen("&retry=") + urlencoded_len(update->retry);
    return len;
}

/* True if the form could be too long. Only then is the length counted, which reads every byte. */
static bool may_be_too_long(const struct update *update)
{
    size_t len = update->topic.len + update->data.len + update->id.len + update->type.len +
                 update->retry.len;

    for (size_t i = 0; i < update->alternates_len; i++)
        len += update->alternates[i].len;
    return len > FORM_LENGTH_MAX / (2 * ESCAPED_LENGTH_MAX);
}

static int check_topic(struct bytes topic, struct error *err)
{
    if (topic.len == 0)
        return error_set(err, ERR_REFUSED, "the update has an empty topic");
    if (memmem(topic.data, topic.len, HUB_PATH, strlen(HUB_PATH)) != NULL)
        return error_set(err, ERR_REFUSED, "the topic holds %s, which the hub keeps for itself",
                         HUB_PATH);
    return 0;
}

static bool breaks_lines(struct bytes text)
{
    for (size_t i = 0; i < text.len; i++)
        if (text.data[i] == '\r' || text.data[i] == '\n' || text.data[i] == '\0')
            return true;
    return false;
}

int update_check_size(struct bytes topic, struct bytes payload, struct error *err)
{
    if (topic.len + payload.len <= FORM_LENGTH_MAX)
        return 0;
    return error_set(err, ERR_REFUSED,
                     "topic and payload are %zu bytes long, more than the hub's limit of %d",
                     topic.len + payload.len, FORM_LENGTH_MAX);
}

int update_check(const struct update *update, struct error *err)
{
    uint64_t retry;
    int result = check_topic(update->topic, err);

    for (size_t i = 0; i < update->alternates_len && result == 0; i++)
        result = check_topic(update->alternates[i], err);
    if (result < 0)
        return result;
    if (breaks_lines(update->id))
        return error_set(err, ERR_REFUSED, "the update's id holds CR, LF or NUL");
    if (update->id.len > 0 && update->id.data[0] == '#')
        return error_set(err, ERR_REFUSED, "the update's id begins with #");
    if (breaks_lines(update->type))
        return error_set(err, ERR_REFUSED, "the update's type holds CR, LF or NUL");
    if (update->retry.len > 0 && !bytes_to_u64(update->retry, &retry))
        return error_set(err, ERR_REFUSED,
                         "the update's retry is not a whole number of milliseconds");
    size_t len = may_be_too_long(update) ? form_len(update) : 0;
    if (len > FORM_LENGTH_MAX)
        return error_set(err, ERR_REFUSED,
                         "the update is %zu bytes long, more than the hub's limit of %d", len,
                         FORM_LENGTH_MAX);
    return 0;
}
