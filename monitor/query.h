/* The query of GET /latest. Pure. */
#ifndef MONITOR_QUERY_H
#define MONITOR_QUERY_H

#include "common/base/bytes.h"
#include "common/base/error.h"

struct query {
    char *filter; /* an MQTT filter, the caller's to free; NULL: all topics */
    uint64_t cursor;
};

/* From its values as they were sent: the filter percent-encoded, with `+` for itself. NULL: not given. -ERR_USAGE: err says
 * which is none, and nothing is to be freed. */
MUST_CHECK int query_read(struct query *query, const char *filter, const char *cursor,
                          struct error *err);

#endif
