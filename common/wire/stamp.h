/* Adds to an envelope what Symfony Messenger adds when a message failed, byte for byte as 6.4 writes it
 * (tests/vectors: retry-1.delayed, failed-*). 7.4's differs in one thing, the order of RedeliveryStamp's
 * two properties under the PHP serializer; 5.4 to 7.4 read this form.
 *
 * Unknown stamps survive byte for byte, except that PHP's reference numbers (r:N; R:N;) to values
 * behind an insertion are raised by what was inserted. New stamp classes go at the end of the list,
 * further stamps of a class that is there at the end of its own list, and in this order:
 * TransportMessageIdStamp (in place of the former one, as Symfony's receivers do), ErrorDetailsStamp
 * (only if it differs from the last one), SentToFailureTransportStamp, DelayStamp, RedeliveryStamp.
 * Our own headers stay as they are. Pure. */
#ifndef COMMON_WIRE_STAMP_H
#define COMMON_WIRE_STAMP_H

#include "common/wire/envelope.h"

struct stamp_failure {
    struct bytes exception_class; /* "RuntimeException" */
    int64_t exception_code;
    struct bytes
        exception_message;  /* cut by the caller; under JSON, U+FFFD for what is not UTF-8 */
    struct bytes stream_id; /* TransportMessageIdStamp; empty: none */
    int64_t delay_ms;       /* DelayStamp; 0 for the failure transport */
    int64_t retry_count;    /* RedeliveryStamp; 0 for the failure transport */
    int64_t now_us;         /* RedeliveryStamp's time, wall clock */
    struct bytes receiver;  /* SentToFailureTransportStamp's name; empty for a retry */
    struct bytes entry;     /* header X-Mqtt-Entry (which entry this was); empty: none */
    struct bytes identity;  /* X-Mqtt-Id of an envelope that has none; empty: none */
    struct bytes redriven;  /* stamp_redriven's; empty: it failed */
};

/* Writes the new body and headers text (both buffers are cleared first; the envelope must not point into
 * them). -ERR_FORMAT: the stamps there are can't be added to (a reference to the replaced stamp, or
 * references beside a class with a serialization of its own); the caller's way out is
 * stamp_undecodable. */
MUST_CHECK int stamp_failure(struct buf *body, struct buf *headers, const struct envelope *envelope,
                             const struct stamp_failure *failure, struct error *err);

/* A failed message for its stream, to be handled anew: SentToFailureTransportStamp goes, since Symfony sends no
 * envelope that has one to the failure transport again, and loses it; RedeliveryStamp(0) comes last, from which
 * retries are counted; the header X-Mqtt-Redriven is `failed_id`, and X-Mqtt-Entry goes. All else stays as
 * stamp_failure leaves it, with the same errors; topic and payload are not looked at. */
MUST_CHECK int stamp_redriven(struct buf *body, struct buf *headers,
                              const struct envelope *envelope, struct bytes failed_id,
                              int64_t now_us, struct error *err);

/* A stream entry that can't be decoded, as an envelope that PHP can show and ours can restore: a MqttMessage with
 * topic "$undecodable" whose payload is the entry's value as it was, the header X-Mqtt-Raw (1, or `fields` for a list
 * of all fields), and the failure's stamps. envelope_decode_parts sets `raw` for it. The format's message_class is not
 * empty. */
void stamp_undecodable(struct buf *body, struct buf *headers, const struct envelope_format *format,
                       struct bytes value, const struct stamp_failure *failure);

/* Between stamp.c, which has the JSON serializer's half, and stamp_php.c. Classes are in the order in which they are added. */
enum stamp_class {
    STAMP_MESSAGE_ID,
    STAMP_ERROR,
    STAMP_SENT,
    STAMP_DELAY,
    STAMP_REDELIVERY,
    STAMP_CLASSES,
};

extern const struct bytes STAMP_NAMES[STAMP_CLASSES];

/* Which one a class name is, or STAMP_CLASSES. */
enum stamp_class stamp_class_of(struct bytes name);

/* Does this failure add one (the last ErrorDetailsStamp being another)? */
bool stamp_is_due(enum stamp_class which, const struct stamp_failure *failure);

/* Do all stamps of that class go? */
bool stamp_goes(enum stamp_class which, const struct stamp_failure *failure);

/* How many stamps of that class go, those behind the first, before this failure's is added to `count`: of
 * the two that a retry adds Symfony keeps the first and the last nine (withLimitedHistory in
 * EventListener/SendFailedMessageForRetryListener.php; there the list moves to the end, here it stays). */
size_t stamp_surplus(enum stamp_class which, const struct stamp_failure *failure, size_t count);

/* text: what envelope_php_text gives; the new text, slashes and base64 not yet put on, goes to out. */
MUST_CHECK int stamp_php_text(struct buf *out, struct bytes text,
                              const struct stamp_failure *failure, struct error *err);

#endif
