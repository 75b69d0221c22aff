/* The options of a Redis DSN, as Symfony's Redis transport has them. Used by dsn alone. Pure. */
#ifndef COMMON_WIRE_DSN_OPTIONS_H
#define COMMON_WIRE_DSN_OPTIONS_H

#include "common/wire/dsn.h"

/* Fills dsn from a query (hosts of `host[...]` are appended to what it has). Every option that the
 * transport does not know is named in one error, with the nearest that it does know. */
MUST_CHECK int dsn_options_read(struct dsn_redis *dsn, struct bytes query, struct error *err);

#endif
