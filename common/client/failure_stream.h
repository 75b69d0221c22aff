/* What an operator does with a failure transport in Redis. For failure_admin.c only, which has what the calls mean;
 * `state` is FAILURE_STREAM's (failure_store.h). */
#ifndef COMMON_CLIENT_FAILURE_STREAM_H
#define COMMON_CLIENT_FAILURE_STREAM_H

#include "common/client/failure_admin.h"

/* "1764467168000-0", as Redis writes it. */
bool failure_stream_is_id(struct bytes id);
MUST_CHECK int failure_stream_list(void *state, const struct failure_query *query,
                                   failure_visit *visit, void *context, struct error *err);
MUST_CHECK int failure_stream_take(void *state, const struct failure_wanted *wanted,
                                   failure_visit *visit, void *context, struct error *err);
/* XACK and XDEL. */
MUST_CHECK int failure_stream_remove(void *state, const struct bytes *ids, size_t len,
                                     int64_t *removed, struct error *err);

#endif
