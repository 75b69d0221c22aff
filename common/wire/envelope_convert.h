/* A message under the other one of Symfony's two serializers: a transport and its failure transport may have different
 * ones, and PHP deletes what it can't decode.
 *
 *     of the envelope             under the other serializer
 *     topic, payload              as envelope_encode writes them
 *     stamps of Symfony's         written anew, as 6.4 does: bus name, stream id, error, failure transport, delay,
 *                                 redelivery, handled; without the exception's trace and the handler's result
 *     other stamps, JSON to PHP   stay headers, which PhpSerializer ignores; stamps again on the way back
 *     other stamps, PHP to JSON   left out
 *     other headers               stay
 *
 * Pure. */
#ifndef COMMON_WIRE_ENVELOPE_CONVERT_H
#define COMMON_WIRE_ENVELOPE_CONVERT_H

#include "common/wire/envelope.h"

/* *converted has the format's serializer, which is not the envelope's; it points into the arena. -ERR_FORMAT with what is
 * in the way: the message is not of the format's class, has other properties beside topic and payload, or one of
 * Symfony's stamps is not as Symfony writes it. */
MUST_CHECK int envelope_convert(struct envelope *converted, const struct envelope *envelope,
                                const struct envelope_format *format, struct arena *arena,
                                struct error *err);

#endif
