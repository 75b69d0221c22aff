/* What the failure transport is kept in, as failure.c and failure_admin.c need it: functions that block, called in a
 * thread beside the loop, one at a time. For failure*.c only. */
#ifndef COMMON_CLIENT_FAILURE_STORE_H
#define COMMON_CLIENT_FAILURE_STORE_H

#include "common/client/failure.h"
#include "common/client/failure_admin.h"

struct failure_store {
    /* Connects to nothing yet. -ERR_USAGE names the setting. */
    int (*new)(void **state, const struct settings_failure *settings, struct error *err);
    /* 0, -ERR_UNREACHABLE or -ERR_REFUSED, as failure_take and failure_count say them. */
    int (*write)(void *state, const struct failure_row *row, struct error *err);
    int (*count)(void *state, int64_t *count, struct error *err);
    /* Makes what is missing; *made as failure_set_up says it. */
    int (*set_up)(void *state, int64_t *made, struct error *err);
    void (*free)(void *state);
};

/* That the settings name one, and rightly. -ERR_USAGE names the setting. */
MUST_CHECK int failure_check(const struct settings_failure *settings, struct error *err);

extern const struct failure_store FAILURE_TABLE;  /* failure_table.c: PostgreSQL */
extern const struct failure_store FAILURE_STREAM; /* failure_stream.c: Redis */

/* What an operator does with one in Redis: failure_admin.h has what the calls mean; `state` is FAILURE_STREAM's. */
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
