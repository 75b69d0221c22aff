/* One stream entry: Symfony Messenger's envelope around MqttMessage(topic, payload), in the field `message`:
 * envelope_encode.c writes it, envelope.c reads it, envelope_convert.c changes its serializer.
 *
 * Source: Symfony's PhpSerializer and Serializer, and the Redis transport's Connection; their own bytes
 * are in tests/vectors (5.4, 6.4, 7.4), the layers in docs/WIRE.md. Pure; a template belongs to one
 * thread. */
#ifndef COMMON_WIRE_ENVELOPE_H
#define COMMON_WIRE_ENVELOPE_H

#include "common/base/arena.h"
#include "common/base/buf.h"
#include "common/base/error.h"

/* Names on the wire. */
#define ENVELOPE_CLASS             "Symfony\\Component\\Messenger\\Envelope"
#define ENVELOPE_STAMP_CLASS(name) "Symfony\\Component\\Messenger\\Stamp\\" name
#define ENVELOPE_STAMP_HEADER      "X-Message-Stamp-"

#define ENVELOPE_HEADER_ID          "X-Mqtt-Id"
#define ENVELOPE_HEADER_RECEIVED_AT "X-Mqtt-Received-At"
#define ENVELOPE_HEADER_QOS         "X-Mqtt-Qos"
#define ENVELOPE_HEADER_RETAIN      "X-Mqtt-Retain"
#define ENVELOPE_HEADER_ENCODING    "X-Mqtt-Encoding" /* "base64": of the JSON body's payload */
#define ENVELOPE_HEADER_TOPIC       "X-Mqtt-Topic"    /* base64 of a topic that is not UTF-8 */
#define ENVELOPE_HEADER_RAW         "X-Mqtt-Raw"      /* the payload is an entry's raw value: */
#define ENVELOPE_RAW_MESSAGE        "1"               /* of its only field `message` */
#define ENVELOPE_RAW_FIELDS         "fields"       /* of all its fields: envelope_fields_encode */
#define ENVELOPE_HEADER_ENTRY       "X-Mqtt-Entry" /* name of the entry that a failed row comes from */
#define ENVELOPE_HEADER_REDRIVEN    "X-Mqtt-Redriven" /* id of the failed message it was sent from */

enum envelope_serializer { ENVELOPE_PHP, ENVELOPE_JSON };
enum envelope_visibility { ENVELOPE_PUBLIC, ENVELOPE_PROTECTED, ENVELOPE_PRIVATE };

/* The settings' word for it: "php" or "json". */
const char *envelope_serializer_name(enum envelope_serializer serializer);

/* The form of messages that the application expects. */
struct envelope_format {
    enum envelope_serializer serializer;
    enum envelope_visibility visibility;
    struct bytes message_class; /* App\Message\MqttMessage */
    struct bytes bus;           /* messenger.bus.default */
    bool redis_serialized; /* DSN option serializer=1: the JSON is wrapped as s:<len>:"...";  */
    bool metadata_headers; /* X-Mqtt-... beside PHP's own bytes */
};

/* A message on its way in. id is `<spool_id>-<sequence>`; the last five are written as X-Mqtt-Id,
 * X-Mqtt-Received-At (2026-11-24T10:00:00.123456Z), X-Mqtt-Qos, X-Mqtt-Retain when the format has
 * metadata_headers. */
struct envelope_message {
    struct bytes topic;
    struct bytes payload;
    struct bytes id;
    int64_t received_us;
    int qos;
    bool retained;
};

/* Prepares everything that does not change between messages. The format is copied. */
struct envelope_template *envelope_template_new(const struct envelope_format *format);
void envelope_template_free(struct envelope_template *template);

/* Appends the field's value and returns its length. If that exceeds the limit, nothing is appended.
 * A payload whose base64 alone exceeds the limit is not encoded: the base64's length is returned. Doesn't allocate once
 * `out` is large enough.
 *
 * Any bytes can be sent. NUL and control characters are no special case (json_encode writes \u0000). Bytes that are not
 * UTF-8 can't be in JSON. Under ENVELOPE_PHP the whole body is then base64, as Symfony writes it. Under ENVELOPE_JSON
 * Symfony refuses such a message; here the payload is base64, with the header X-Mqtt-Encoding: base64. In a topic each
 * bad byte becomes U+FFFD, and the header X-Mqtt-Topic has the original topic as base64. */
size_t envelope_encode(struct envelope_template *template, const struct envelope_message *message,
                       size_t limit, struct buf *out);

/* A decoded entry. The bytes point into `value` or into the arena. */
struct envelope {
    enum envelope_serializer serializer;
    struct bytes body;    /* the body as the transport stores it, and as a table row has it */
    struct bytes headers; /* the headers' raw JSON text: `[]` or `{...}` */
    struct bytes topic;
    struct bytes payload;
    struct bytes mqtt_id; /* X-Mqtt-Id, or empty (PHP dispatched it) */
    int64_t received_us;  /* X-Mqtt-Received-At, or 0 */
    int64_t retry_count;  /* of the last RedeliveryStamp; 0 without */
    struct bytes message_class;
    size_t properties; /* number of the message's properties, topic and payload included */
    bool raw; /* X-Mqtt-Raw: payload is an entry that could not be decoded (stamp_undecodable) */
    bool raw_fields; /* raw, and payload has all fields of the entry (envelope_fields_encode) */
    bool redriven;   /* X-Mqtt-Redriven: it came from the failure transport (stamp_redriven) */
};

/* The value is that of the field `message`, or a list of all fields (envelope_fields_encode), of which `message`, or
 * else `body` with `headers`, is read. Accepts both Redis forms (wrapped or bare JSON), both serializers, any property
 * visibility, base64 bodies, and body and headers of failed rows. -ERR_FORMAT with what is wrong. */
MUST_CHECK int envelope_decode(struct envelope *envelope, struct bytes value, struct arena *arena,
                               struct error *err);
/* Decodes an envelope from a body and a headers text (a row of messenger_messages). */
MUST_CHECK int envelope_decode_parts(struct envelope *envelope, struct bytes body,
                                     struct bytes headers, struct arena *arena, struct error *err);
/* "2026-11-24T10:00:00.123456Z" in µs since 1970; 0 if it is not of that form. */
int64_t envelope_time(struct bytes text);
/* The reverse of envelope_decode_parts: writes the field's value from a body and a headers text. -ERR_FORMAT: the
 * body is not UTF-8, or the headers are no JSON. */
MUST_CHECK int envelope_join(struct buf *value, struct bytes body, struct bytes headers,
                             bool redis_serialized, struct error *err);

/* All fields of a stream entry as one value, for entries with more than the field `message` that Symfony writes. It is
 * PHP's serialized list of XADD's arguments, names and values in turns:
 *
 *     a:4:{i:0;s:6:"device";i:1;s:7:"probe-7";i:2;s:4:"temp";i:3;s:4:"21.5";}
 *
 * Any bytes can be stored, and `XADD <stream> * ...unserialize($payload)` restores the entry. An only field `message`
 * whose value begins like such a list is written in this form too. So a value that begins like a list always is one. */
bool envelope_fields_is_list(struct bytes value);
void envelope_fields_encode(struct buf *out, const struct bytes *words, size_t len);
/* The reverse of envelope_fields_encode: allocates the list, which the caller frees; its bytes point into the value.
 * -ERR_FORMAT: the value begins as a list, but is malformed. */
MUST_CHECK int envelope_fields_words(struct bytes **words, size_t *len, struct bytes value);

/* The fields that Messenger reads; data NULL: there is no such field. If a name comes twice the last counts, as in
 * PHP. */
struct envelope_fields {
    struct bytes message;
    struct bytes body;    /* since Symfony 8.2, instead of `message` */
    struct bytes headers; /* together with `body` */
};

/* -ERR_FORMAT as envelope_fields_words. The bytes point into the value. */
MUST_CHECK int envelope_fields_decode(struct envelope_fields *fields, struct bytes value);

/* Converts a message to the other one of Symfony's two serializers. A transport and its failure transport may have
 * different ones, and PHP deletes messages that it can't decode.
 *
 *     of the envelope             under the other serializer
 *     topic, payload              as envelope_encode writes them
 *     stamps of Symfony's         written anew, as 6.4 does: bus name, stream id, error, failure transport, delay,
 *                                 redelivery, handled; without the exception's trace and the handler's result
 *     other stamps, JSON to PHP   stay headers, which PhpSerializer ignores; stamps again on the way back
 *     other stamps, PHP to JSON   left out
 *     other headers               stay
 *
 * *converted has the format's serializer, which must differ from the envelope's; it points into the arena. -ERR_FORMAT
 * with the reason: another class than the format's, properties beside topic and payload, or a stamp that is not as
 * Symfony writes it. */
MUST_CHECK int envelope_convert(struct envelope *converted, const struct envelope *envelope,
                                const struct envelope_format *format, struct arena *arena,
                                struct error *err);

/* The PhpSerializer's body, for the other codecs of common/wire. */
struct php_reader;

/* The serialize() text of a body, with base64 decoded, if it is base64, and slashes stripped. */
MUST_CHECK int envelope_php_text(struct bytes *text, struct bytes body, struct arena *arena);
/* The reverse of envelope_php_text. */
void envelope_php_body(struct buf *body, struct bytes text);
/* Appends a property's key for its visibility in the class, as `s:5:"topic";`. */
void envelope_php_key(struct buf *out, enum envelope_visibility visibility, struct bytes class,
                      const char *name);
/* Positions a reader at the Envelope object's first pair; *pairs follow. */
MUST_CHECK int envelope_php_begin(struct php_reader *reader, size_t *pairs);

#endif
