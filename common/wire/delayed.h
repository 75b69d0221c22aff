/* A member of the delayed set `<stream>__queue`: {"body":…,"headers":…,"uniqid":"…"}, bare JSON; its
 * score is the time it falls due, in ms. Source: Symfony's Redis transport, Connection::add. Pure. */
#ifndef COMMON_WIRE_DELAYED_H
#define COMMON_WIRE_DELAYED_H

#include "common/base/arena.h"
#include "common/base/buf.h"
#include "common/base/error.h"

/* uniqid makes members that are otherwise equal two: any short ASCII text. body and headers as in
 * struct envelope (headers is raw JSON). */
MUST_CHECK int delayed_encode(struct buf *member, struct bytes body, struct bytes headers,
                              struct bytes uniqid, struct error *err);

/* The stream entry's `message` value for a member: without uniqid, wrapped or not. */
MUST_CHECK int delayed_to_value(struct buf *value, struct bytes member, bool redis_serialized,
                                struct arena *arena, struct error *err);

#endif
