/* All fields of a stream entry as one value, where it is more than the one field `message` that Symfony writes:
 * PHP's serialized list of what XADD was given, names and values in turns,
 *
 *     a:4:{i:0;s:6:"device";i:1;s:7:"probe-7";i:2;s:4:"temp";i:3;s:4:"21.5";}
 *
 * Any bytes go into it and come out of it, and `XADD <stream> * ...unserialize($payload)` restores the entry. A
 * `message` alone that begins as such a list does is written in this form, too: what begins like that is one.
 * Pure. */
#ifndef COMMON_WIRE_FIELDS_H
#define COMMON_WIRE_FIELDS_H

#include "common/base/buf.h"
#include "common/base/error.h"

/* What Messenger reads; data NULL: there is no such field. Of two with one name the last counts, as in PHP. */
struct fields {
    struct bytes message;
    struct bytes body;    /* since Symfony 8.2, where there is no `message` */
    struct bytes headers; /* beside `body` */
};

bool fields_is_list(struct bytes value);
void fields_encode(struct buf *out, const struct bytes *words, size_t len);
/* The reverse of fields_encode: allocates the list, which is the caller's to free; its bytes point into the value.
 * -ERR_FORMAT: it only begins as a list. */
MUST_CHECK int fields_words(struct bytes **words, size_t *len, struct bytes value);
/* -ERR_FORMAT likewise. The bytes point into the value. */
MUST_CHECK int fields_decode(struct fields *fields, struct bytes value);

#endif
