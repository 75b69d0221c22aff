/* Reads a failed message for an operator: the message, and the content of its stamps.
 *
 * More lenient than envelope.h, since the failure transport is the whole application's. A message of another class
 * has no topic and no payload. A message that can't be decoded can still be listed, shown and removed. Reads both
 * serializers, as Symfony 5.4 to 7.4 and ours write them. Pure. */
#ifndef COMMON_WIRE_FAILED_H
#define COMMON_WIRE_FAILED_H

#include "common/wire/envelope.h"

#define FAILED_PROPERTIES_MAX 8

enum failed_kind {
    FAILED_OTHER,
    FAILED_TEXT, /* under JSON a time as well */
    FAILED_NUMBER,
    FAILED_TIME,
};

/* A stamp of any class. Values are texts: strings without quotes, dates as written, with their zone if that is not UTC,
 * numbers, `true`; nested values are `…`. */
struct failed_stamp {
    struct bytes class; /* Symfony\Component\Messenger\Stamp\RedeliveryStamp */
    struct {
        struct bytes name;
        enum failed_kind kind;
        struct bytes value;
    } properties[FAILED_PROPERTIES_MAX];
    size_t len;
};

typedef void failed_visit(void *context, const struct failed_stamp *stamp);

struct failed {
    struct envelope envelope; /* serializer, body, headers; other members only if is_message */
    bool is_message;          /* it has a topic and a payload */
    bool is_readable;         /* it is an envelope of Symfony's */
    struct bytes class;       /* of the message; empty: unknown */
    struct bytes error_class; /* of the last ErrorDetailsStamp */
    struct bytes error;       /* empty: none */
    struct bytes transport;   /* of the last SentToFailureTransportStamp; empty: none */
    struct bytes entry;       /* X-Mqtt-Entry; empty: PHP wrote it */
    struct error why;         /* !is_message: what is wrong with it */
};

/* The bytes point into body, headers or the arena. visit (may be NULL) is called for each stamp, class by class. */
void failed_read(struct failed *failed, struct bytes body, struct bytes headers,
                 failed_visit *visit, void *context, struct arena *arena);

/* What went wrong with the message: the error's text, or what is known instead. */
struct bytes failed_reason(const struct failed *failed);

/* When the message came, unix µs, from the headers: X-Mqtt-Received-At, else the entry's id; 0: unknown. Orders the
 * messages of a topic. */
int64_t failed_came_us(struct bytes headers, struct arena *arena);

#endif
