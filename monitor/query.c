#include "monitor/query.h"

#include "common/wire/dsn.h"
#include "common/wire/topic.h"

#include <stdlib.h>

/* Filters that a broker would take, but for those of shared subscriptions. */
static int check_filter(const char *filter, struct error *err)
{
    if (bytes_starts_with(bytes_of(filter), BYTES("$share/")))
        return error_set(err, ERR_USAGE, "a filter without $share/ is needed");
    return topic_filter_check(bytes_of(filter), err);
}

int query_read(struct query *query, const char *filter, const char *cursor, struct error *err)
{
    struct error why;

    *query = (struct query){0};
    if (cursor != NULL && !bytes_to_u64(bytes_of(cursor), &query->cursor))
        return error_set(err, ERR_USAGE, "cursor: not that of an answer");
    if (filter == NULL)
        return 0;
    char *decoded = dsn_decode(bytes_of(filter), false);
    if (decoded == NULL)
        return error_set(err, ERR_USAGE, "filter: holds a NUL");
    if (check_filter(decoded, &why) < 0) {
        free(decoded);
        return error_set(err, ERR_USAGE, "filter: %s", why.text);
    }
    query->filter = decoded;
    return 0;
}
