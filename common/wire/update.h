/* What is published: the message document, and the Mercure publish form. Pure.
 * Source: DESIGN "what the handler publishes" is restated in docs/ARCHITECTURE.md; the form is Mercure's
 * (spec, section "Publication"), encoded as PHP's urlencode does it, in Symfony's field order. */
#ifndef COMMON_WIRE_UPDATE_H
#define COMMON_WIRE_UPDATE_H

#include "common/base/buf.h"
#include "common/base/error.h"

/* {"id":"…","topic":"…","payload":…,"receivedAt":"…Z"}: payload as the JSON bytes it is when that is
 * strictly valid JSON, else a string when it is UTF-8, else base64 with "encoding":"base64". A topic
 * that is not UTF-8 has U+FFFD in place of each bad byte. received_us 0: no receivedAt.
 * CR and LF that stand as white space in a JSON payload become spaces: SSE would split the line. */
void update_document(struct buf *out, struct bytes id, struct bytes topic, struct bytes payload,
                     int64_t received_us);

/* The same, but a payload that is JSON is a string too: its very bytes. */
void update_text_document(struct buf *out, struct bytes id, struct bytes topic,
                          struct bytes payload, int64_t received_us);

/* Empty (len 0) type and retry are left out; data is always sent. */
struct update {
    struct bytes topic;
    const struct bytes *alternates; /* further topics, under which it is received as well */
    size_t alternates_len;
    struct bytes data;
    bool private_update;
    struct bytes id;
    struct bytes type;
    struct bytes retry;
};

/* Appends application/x-www-form-urlencoded: topic, its alternates, data, private=on, id, type, retry. */
void update_form(struct buf *out, const struct update *update);

/* PHP's urlencode: letters, digits and -_. kept, space is +, all else %XX. */
void update_urlencode(struct buf *out, struct bytes text);

/* topic_encoding = uri: percent-encodes all but unreserved characters and `/`. */
void update_encode_topic(struct buf *out, struct bytes topic);

/* Would the hub refuse it whoever asks? (400, 403: see hub_answer.h.) Cheaper than asking:
 * CR, LF or NUL in id or type, a topic or alternate that holds /.well-known/mercure, an empty topic, a form of more
 * than 10 MiB - 1, which is counted and not made. -ERR_REFUSED with the reason. */
MUST_CHECK int update_check(const struct update *update, struct error *err);

/* The same of its length alone, before there is a document: no form is shorter than what it is made of. */
MUST_CHECK int update_check_size(struct bytes topic, struct bytes payload, struct error *err);

#endif
