/* Adds to an envelope what Symfony Messenger adds when a message failed, byte for byte as 6.4 and 7.x
 * write it (tests/vectors/[67].4/.../retry-1.delayed, failed-*); 5.4 reads that form too.
 *
 * Unknown stamps survive byte for byte, except that PHP reference numbers (r:N; R:N;) behind an
 * insertion are raised by the number of values inserted before them. New stamp classes go at the end
 * of the list, further stamps of a class that is there at the end of its own list. ErrorDetailsStamp
 * is added only if it differs from the last one. TransportMessageIdStamp replaces the former one, as
 * Symfony's receivers do. Pure. */
#ifndef COMMON_WIRE_STAMP_H
#define COMMON_WIRE_STAMP_H

#include "common/wire/envelope.h"

struct stamp_failure {
    struct bytes exception_class; /* "RuntimeException" */
    int64_t exception_code;
    struct bytes exception_message; /* cut and made UTF-8 by the caller */
    struct bytes stream_id;         /* TransportMessageIdStamp; empty: none */
    int64_t delay_ms;               /* DelayStamp; 0 for the failure transport */
    int64_t retry_count;            /* RedeliveryStamp; 0 for the failure transport */
    int64_t now_us;                 /* RedeliveryStamp's time, wall clock */
    struct bytes receiver;          /* SentToFailureTransportStamp's name; empty for a retry */
    struct bytes entry;             /* header X-Mqtt-Entry (which entry this was); empty: none */
};

/* Writes the new body and headers text (both buffers are cleared first). */
MUST_CHECK int stamp_failure(struct buf *body, struct buf *headers, const struct envelope *envelope,
                             const struct stamp_failure *failure, struct error *err);

/* A stream entry that can't be decoded, as an envelope that PHP can show and ours can restore: a
 * MqttMessage with topic "$undecodable" whose payload is the entry's field as it was, the header
 * X-Mqtt-Raw: 1, and the failure's stamps. */
void stamp_undecodable(struct buf *body, struct buf *headers, const struct envelope_format *format,
                       struct bytes value, const struct stamp_failure *failure);

#endif
