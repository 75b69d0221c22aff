/* Adds to an envelope the stamps that Symfony Messenger adds when a message failed, byte for byte as 6.4 writes them
 * (tests/vectors: retry-1.delayed, failed-*). 7.4 differs only in the order of RedeliveryStamp's two properties under
 * the PHP serializer; 5.4 to 7.4 read this form.
 *
 * Unknown stamps stay byte for byte. Only PHP's reference numbers (r:N; R:N;) to values behind an insertion are
 * raised by the number of inserted values. New stamp classes are added at the end of the list, further stamps of a
 * class at the end of that class's list. The order is: TransportMessageIdStamp (replaces the old one, as by Symfony's
 * receivers), ErrorDetailsStamp (only if it differs from the last one), SentToFailureTransportStamp, DelayStamp,
 * RedeliveryStamp. Our own headers stay unchanged. Pure. */
#ifndef COMMON_WIRE_STAMP_H
#define COMMON_WIRE_STAMP_H

#include "common/wire/envelope.h"
#include "common/wire/stamp_form.h"

struct stamp_failure {
    struct bytes exception_class; /* "RuntimeException" */
    int64_t exception_code;
    struct bytes exception_message; /* cut by the caller; under JSON, bad UTF-8 becomes U+FFFD */
    struct bytes stream_id;         /* TransportMessageIdStamp; empty: none */
    int64_t delay_ms;               /* DelayStamp; 0 for the failure transport */
    int64_t retry_count;            /* RedeliveryStamp; 0 for the failure transport */
    int64_t now_us;                 /* RedeliveryStamp's time, wall clock */
    struct bytes receiver;          /* SentToFailureTransportStamp's name; empty for a retry */
    struct bytes entry;             /* header X-Mqtt-Entry, the entry's name; empty: none */
    struct bytes identity;          /* X-Mqtt-Id for an envelope that has none; empty: none */
    struct bytes redriven;          /* used by stamp_redriven; empty for a failure */
};

/* Writes the new body and headers text. Both buffers are cleared first; the envelope must not point into them.
 * -ERR_FORMAT: nothing can be added to the existing stamps. They have a reference to the replaced stamp, or references
 * beside a class with a serialization of its own. The caller can use stamp_undecodable. */
MUST_CHECK int stamp_failure(struct buf *body, struct buf *headers, const struct envelope *envelope,
                             const struct stamp_failure *failure, struct error *err);

/* Prepares a failed message to be sent to its stream again. SentToFailureTransportStamp is removed: Symfony sends no
 * envelope with that stamp to the failure transport, and would lose it. RedeliveryStamp(0) is added last, from which
 * retries are counted. The header X-Mqtt-Redriven becomes `failed_id`, and X-Mqtt-Entry is removed. All else stays as
 * stamp_failure leaves it; errors are those of stamp_failure. Topic and payload are not read. */
MUST_CHECK int stamp_redriven(struct buf *body, struct buf *headers,
                              const struct envelope *envelope, struct bytes failed_id,
                              int64_t now_us, struct error *err);

/* Wraps a stream entry that can't be decoded into an envelope that PHP can show and this program can restore. It is a
 * MqttMessage with topic "$undecodable", the entry's value as payload, and the failure's stamps. The header
 * X-Mqtt-Raw is 1, or `fields` for a list of all fields; envelope_decode_parts then sets `raw`. The format's
 * message_class must not be empty. */
void stamp_undecodable(struct buf *body, struct buf *headers, const struct envelope_format *format,
                       struct bytes value, const struct stamp_failure *failure);

/* Shared by stamp.c, which has the JSON serializer's half, and stamp_php.c, of the classes below STAMP_CLASSES. */

/* Appends this failure's stamp. */
void stamp_write_failure(struct buf *out, enum envelope_serializer serializer,
                         enum stamp_class which, const struct stamp_failure *failure);

/* True if this failure adds a stamp of that class (provided that the last ErrorDetailsStamp differs). */
bool stamp_is_due(enum stamp_class which, const struct stamp_failure *failure);

/* True if all stamps of that class are removed. */
bool stamp_goes(enum stamp_class which, const struct stamp_failure *failure);

/* How many stamps of that class, those behind the first, are removed before this failure's is added to `count`. Of the
 * two classes that a retry adds, Symfony keeps the first stamp and the last nine (withLimitedHistory in
 * EventListener/SendFailedMessageForRetryListener.php). There the list moves to the end; here it stays. */
size_t stamp_surplus(enum stamp_class which, const struct stamp_failure *failure, size_t count);

/* text: from envelope_php_text. The new text, without slashes and base64, goes to out. */
MUST_CHECK int stamp_php_text(struct buf *out, struct bytes text,
                              const struct stamp_failure *failure, struct error *err);

#endif
