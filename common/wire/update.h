/* The message document, and the Mercure publish form of an update. Pure. The document is described in docs/ROUTES.md.
 * The form is Mercure's (spec, section "Publication"), encoded as PHP's urlencode does it, in Symfony's field order. */
#ifndef COMMON_WIRE_UPDATE_H
#define COMMON_WIRE_UPDATE_H

#include "common/base/buf.h"
#include "common/base/error.h"

/* {"id":"…","topic":"…","payload":…,"receivedAt":"…Z"}. A strictly valid JSON payload is written unchanged, but
 * CR and LF in its white space become spaces, since SSE would split the line. Other UTF-8 becomes a string, and other
 * bytes base64 with "encoding":"base64". In a topic that is not UTF-8 each bad byte becomes U+FFFD. received_us 0: no
 * receivedAt. */
void update_document(struct buf *out, struct bytes id, struct bytes topic, struct bytes payload,
                     int64_t received_us);

/* As update_document, but the payload is always a string, also if it is JSON. */
void update_text_document(struct buf *out, struct bytes id, struct bytes topic,
                          struct bytes payload, int64_t received_us);

/* Empty (len 0) type and retry are left out; data is always sent. */
struct update {
    struct bytes topic;
    const struct bytes *alternates; /* further topics of the update */
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

/* Finds updates that every hub would refuse (400, 403: see hub_answer.h), without asking one. They have CR, LF or NUL
 * in id or type, or an empty topic. Or a topic or alternate holds /.well-known/mercure, or the form has more than 10
 * MiB - 1. The form's length is counted without making it. -ERR_REFUSED with the reason. */
MUST_CHECK int update_check(const struct update *update, struct error *err);

/* Checks the length only, before a document is made: a form is never shorter than topic and payload. */
MUST_CHECK int update_check_size(struct bytes topic, struct bytes payload, struct error *err);

#endif
