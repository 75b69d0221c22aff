#include "common/wire/stamp_form.h"

#include "common/wire/json.h"
#include "common/wire/php.h"

const struct stamp_definition STAMPS[STAMPS_KNOWN] = {
    [STAMP_MESSAGE_ID] = {BYTES(ENVELOPE_STAMP_CLASS("TransportMessageIdStamp")),
                          {{"id", STAMP_FORM_CODE}}},
    [STAMP_ERROR] = {BYTES(ENVELOPE_STAMP_CLASS("ErrorDetailsStamp")),
                     {{"exceptionClass", STAMP_FORM_TEXT},
                      {"exceptionCode", STAMP_FORM_CODE},
                      {"exceptionMessage", STAMP_FORM_TEXT},
                      {"flattenException", STAMP_FORM_NULL}}},
    [STAMP_SENT] = {BYTES(ENVELOPE_STAMP_CLASS("SentToFailureTransportStamp")),
                    {{"originalReceiverName", STAMP_FORM_TEXT}}},
    [STAMP_DELAY] = {BYTES(ENVELOPE_STAMP_CLASS("DelayStamp")), {{"delay", STAMP_FORM_NUMBER}}},
    [STAMP_REDELIVERY] = {BYTES(ENVELOPE_STAMP_CLASS("RedeliveryStamp")),
                          {{"retryCount", STAMP_FORM_NUMBER}, {"redeliveredAt", STAMP_FORM_TIME}}},
    [STAMP_BUS_NAME] = {BYTES(ENVELOPE_STAMP_CLASS("BusNameStamp")),
                        {{"busName", STAMP_FORM_TEXT}}},
    [STAMP_HANDLED] = {BYTES(ENVELOPE_STAMP_CLASS("HandledStamp")),
                       {{"result", STAMP_FORM_NULL}, {"handlerName", STAMP_FORM_TEXT}}},
};

enum stamp_class stamp_class_of(struct bytes name)
{
    enum stamp_class which = 0;

    while (which < STAMPS_KNOWN && !bytes_equal(name, STAMPS[which].class))
        which++;
    return which;
}

static void write_php_time(struct buf *out, const struct stamp_value *value)
{
    struct bytes fraction = value->fraction.len > 1 ? value->fraction : BYTES(".000000");
    struct buf date = {0};

    buf_append(&date, bytes_slice(value->text, 0, 10));
    buf_append_char(&date, ' ');
    buf_append(&date, bytes_slice(value->text, 11, 8));
    buf_append(&date, fraction);
    php_write_time(out, buf_bytes(&date), value->zone.len > 0 ? value->zone : BYTES("UTC"),
                   value->is_offset);
    buf_free(&date);
}

static void write_php_value(struct buf *out, const struct stamp_value *value)
{
    switch (value->form) {
    case STAMP_FORM_TEXT:
        php_write_string(out, value->text);
        break;
    case STAMP_FORM_NUMBER:
        php_write_int(out, value->number);
        break;
    case STAMP_FORM_TIME:
        write_php_time(out, value);
        break;
    case STAMP_FORM_CODE:
    case STAMP_FORM_NULL:
        buf_append(out, BYTES("N;"));
        break;
    }
}

/* Writes RFC 3339. A zone's name follows behind a space, which PHP can read too. */
static void write_json_time(struct buf *out, const struct stamp_value *value)
{
    struct buf text = {0};

    buf_append(&text, bytes_slice(value->text, 0, 10));
    buf_append_char(&text, 'T');
    buf_append(&text, bytes_slice(value->text, 11, 8));
    if (value->zone.len == 0)
        buf_append(&text, BYTES("+00:00"));
    else if (!value->is_offset)
        buf_append_char(&text, ' ');
    buf_append(&text, value->zone);
    json_quote_php_mended(out, buf_bytes(&text));
    buf_free(&text);
}

static void write_json_value(struct buf *out, const struct stamp_value *value)
{
    switch (value->form) {
    case STAMP_FORM_TEXT:
        json_quote_php_mended(out, value->text);
        break;
    case STAMP_FORM_NUMBER:
        buf_printf(out, "%lld", (long long)value->number);
        break;
    case STAMP_FORM_TIME:
        write_json_time(out, value);
        break;
    case STAMP_FORM_CODE:
    case STAMP_FORM_NULL:
        buf_append(out, BYTES("null"));
        break;
    }
}

void stamp_write(struct buf *out, enum envelope_serializer serializer, enum stamp_class which,
                 const struct stamp_value *values)
{
    const struct stamp_definition *stamp = &STAMPS[which];
    size_t len = 0;

    while (len < STAMP_PROPERTIES_MAX && stamp->properties[len].name != NULL)
        len++;
    if (serializer == ENVELOPE_PHP)
        php_write_object(out, stamp->class, len);
    else
        buf_append_char(out, '{');
    for (size_t i = 0; i < len; i++) {
        const char *name = stamp->properties[i].name;

        switch (serializer) {
        case ENVELOPE_PHP:
            envelope_php_key(out, ENVELOPE_PRIVATE, stamp->class, name);
            write_php_value(out, &values[i]);
            break;
        case ENVELOPE_JSON:
            json_member(out, bytes_of(name));
            write_json_value(out, &values[i]);
            break;
        }
    }
    buf_append_char(out, '}');
}
