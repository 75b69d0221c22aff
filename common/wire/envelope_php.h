/* The PhpSerializer body of an envelope. Inside common/wire only. Pure. */
#ifndef COMMON_WIRE_ENVELOPE_PHP_H
#define COMMON_WIRE_ENVELOPE_PHP_H

#include "common/wire/envelope.h"
#include "common/wire/php.h"

/* The serialize() text in a body: base64 undone, if it is in base64, and slashes stripped. */
MUST_CHECK int envelope_php_text(struct bytes *text, struct bytes body, struct arena *arena);

/* Fills topic, payload, message_class, properties and retry_count. */
MUST_CHECK int envelope_php_decode(struct envelope *envelope, struct bytes text, struct error *err);

/* The reverse of envelope_php_text. */
void envelope_php_body(struct buf *body, struct bytes text);

/* `s:5:"topic";` and the like: a property's key as its visibility in the class has it. */
void envelope_php_key(struct buf *out, enum envelope_visibility visibility, struct bytes class,
                      const char *name);

/* Positions a reader at the Envelope object's first pair; *pairs follow. */
MUST_CHECK int envelope_php_begin(struct php_reader *reader, size_t *pairs);

#endif
