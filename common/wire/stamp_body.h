/* The two halves of stamp_failure, one a serializer. Inside common/wire only. */
#ifndef COMMON_WIRE_STAMP_BODY_H
#define COMMON_WIRE_STAMP_BODY_H

#include "common/wire/stamp.h"

/* In the order in which they are added. */
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
/* The headers object with the stamps added. */
MUST_CHECK int stamp_json_headers(struct buf *out, struct bytes headers,
                                  const struct stamp_failure *failure, struct error *err);

#endif
