#include "common/client/failure_admin.h"

#include "common/base/alloc.h"
#include "common/base/buf.h"
#include "common/client/failure_pg.h"
#include "common/client/failure_store.h"
#include "common/wire/dsn.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ALL_OF_IT "9223372036854775807"
#define TAKE_MS   9000 /* below FAILURE_PG_STATEMENT_MS */

struct failure_admin {
    void *stream; /* FAILURE_STREAM's; NULL: it is a table, and the rest is set */
    struct failure_pg *pg;
    struct failure_pg_sql sql;
    char *queue_name;
    char *begin; /* a transaction that one operator at a time has for these rows */
};

static int open_table(struct failure_admin *admin, const struct settings_failure *settings,
                      struct error *err)
{
    int result = failure_pg_sql_make(&admin->sql, settings->table, err);

    char *rows = xasprintf("%s %s", settings->table, settings->queue_name);
    admin->queue_name = xstrdup(settings->queue_name);
    admin->begin = failure_pg_sql_begin(rows, TAKE_MS);
    free(rows);
    if (result == 0 && failure_pg_new(&admin->pg, settings->dsn, settings->timezone, err) < 0)
        result = error_wrap(err, "[failure] dsn (DATABASE_URL)");
    return result;
}

int failure_admin_new(struct failure_admin **admin, const struct settings_failure *settings,
                      struct error *err)
{
    struct failure_admin *made;

    int result = failure_check(settings, err);
    if (result < 0)
        return result;
    made = xcalloc(1, sizeof(*made));
    if (dsn_is_redis(settings->dsn))
        result = FAILURE_STREAM.new(&made->stream, settings, err);
    else
        result = open_table(made, settings, err);
    if (result < 0) {
        failure_admin_free(made);
        return result;
    }
    *admin = made;
    return 0;
}

void failure_admin_free(struct failure_admin *admin)
{
    if (admin == NULL)
        return;
    if (admin->stream != NULL)
        FAILURE_STREAM.free(admin->stream);
    failure_pg_free(admin->pg);
    failure_pg_sql_free(&admin->sql);
    free(admin->queue_name);
    free(admin->begin);
    free(admin);
}

bool failure_admin_is_id(const struct failure_admin *admin, struct bytes id)
{
    uint64_t number;

    if (admin->stream != NULL)
        return failure_stream_is_id(id);
    return bytes_to_u64(id, &number) && number <= INT64_MAX && (id.data[0] != '0' || id.len == 1);
}

static bool answered(const struct failure_pg_answer *answer, const char *sqlstate)
{
    return strcmp(answer->sqlstate, sqlstate) == 0;
}

static int tell(const struct failure_pg_answer *answer, struct error *err)
{
    if (err != NULL)
        *err = answer->err;
    return -(int)answer->err.code;
}

/* Asking a table that is not there would be an error in the server's log. */
static int look_for_table(struct failure_admin *admin, bool *exists, struct error *err)
{
    struct failure_pg_answer answer;

    if (failure_pg_run(admin->pg, admin->sql.exists, NULL, 0, &answer) < 0)
        return tell(&answer, err);
    *exists = answer.number != 0;
    return 0;
}

/* PostgreSQL's array of numbers: "{1,2}". They were ids before. */
static char *array_of(const struct bytes *ids, size_t len)
{
    struct buf array = {0};

    buf_append_char(&array, '{');
    for (size_t i = 0; i < len; i++) {
        if (i > 0)
            buf_append_char(&array, ',');
        buf_append(&array, ids[i]);
    }
    buf_append_char(&array, '}');
    return buf_take_text(&array);
}

struct reading {
    failure_visit *visit;
    void *context;
};

static bool give(void *context, const struct bytes *columns)
{
    const struct reading *reading = context;
    char guard[64];
    uint64_t size = 0;

    (void)bytes_to_u64(columns[FAILURE_PG_SIZE], &size);
    snprintf(guard, sizeof(guard), "%.*s-%.*s", BYTES_ARG(columns[FAILURE_PG_ID]),
             BYTES_ARG(columns[FAILURE_PG_WRITTEN_US]));
    const struct failure_message message = {
        .id = columns[FAILURE_PG_ID],
        .body = columns[FAILURE_PG_BODY],
        .headers = columns[FAILURE_PG_HEADERS],
        .size = (size_t)size,
        .failed_us = columns[FAILURE_PG_CREATED_US].len > 0
                         ? strtoll(columns[FAILURE_PG_CREATED_US].data, NULL, 10)
                         : 0,
        .taken = bytes_equal_text(columns[FAILURE_PG_TAKEN], "t"),
        .guard = bytes_of(guard),
    };
    return reading->visit(reading->context, &message);
}

static int list_rows(struct failure_admin *admin, const struct failure_query *query,
                     failure_visit *visit, void *context, struct error *err)
{
    char *ids = query->ids != NULL ? array_of(query->ids, query->ids_len) : NULL;
    char since[24], until[24], limit[24], body_most[24];
    const char *values[] = {admin->queue_name,
                            since,
                            until,
                            ids,
                            query->limit > 0 ? limit : NULL,
                            query->without_body ? "-1" : body_most};
    const char *sql = query->newest_first ? admin->sql.list_newest : admin->sql.list_oldest;
    struct reading reading = {visit, context};
    struct failure_pg_answer answer = {0};
    bool exists = false;

    snprintf(since, sizeof(since), "%" PRId64, query->since_us);
    snprintf(until, sizeof(until), "%" PRId64, query->until_us);
    snprintf(limit, sizeof(limit), "%" PRId64, query->limit);
    snprintf(body_most, sizeof(body_most), "%" PRId64,
             query->body_most > 0 ? query->body_most : INT64_MAX);
    int result = look_for_table(admin, &exists, err);
    if (result == 0 && exists) {
        (void)failure_pg_rows(admin->pg, sql, values, 6, give, &reading, &answer);
        if (!answered(&answer, "42P01")) /* undefined_table: it has just been dropped */
            result = tell(&answer, err);
    }
    free(ids);
    return result;
}

int failure_admin_list(struct failure_admin *admin, const struct failure_query *query,
                       failure_visit *visit, void *context, struct error *err)
{
    return admin->stream != NULL ? failure_stream_list(admin->stream, query, visit, context, err)
                                 : list_rows(admin, query, visit, context, err);
}

static int lock_rows(struct failure_admin *admin, const struct failure_wanted *wanted,
                     failure_visit *visit, void *context, struct error *err)
{
    char *ids = array_of(wanted->ids, wanted->len);
    const char *values[] = {admin->queue_name, ids, wanted->taken_too ? "t" : "f",
                            wanted->without_body ? "-1" : ALL_OF_IT};
    struct reading reading = {visit, context};
    struct failure_pg_answer answer;
    int result = failure_pg_run(admin->pg, admin->begin, NULL, -1, &answer);

    if (answered(&answer, "55P03")) /* lock_not_available */
        error_set(&answer.err, ERR_UNREACHABLE,
                  "another `failed retry` or `failed remove` has rows in hand, and does not go on: "
                  "wait for its end, or end it");
    if (result == 0)
        result = failure_pg_rows(admin->pg, admin->sql.take, values, 4, give, &reading, &answer);
    free(ids);
    if (result < 0)
        failure_pg_close(admin->pg);
    return result < 0 ? tell(&answer, err) : 0;
}

int failure_admin_take(struct failure_admin *admin, const struct failure_wanted *wanted,
                       failure_visit *visit, void *context, struct error *err)
{
    return admin->stream != NULL ? failure_stream_take(admin->stream, wanted, visit, context, err)
                                 : lock_rows(admin, wanted, visit, context, err);
}

/* Over a new connection and without the transaction, where the one with the locks was lost: what was sent must go all
 * the same. */
static int commit(struct failure_admin *admin, const char *array, int64_t *removed,
                  struct failure_pg_answer *answer)
{
    const char *values[] = {admin->queue_name, array};
    int result = failure_pg_run(admin->pg, admin->sql.remove, values, 2, answer);

    if (result == -ERR_UNREACHABLE) {
        failure_pg_close(admin->pg);
        result = failure_pg_run(admin->pg, admin->sql.remove, values, 2, answer);
    }
    if (result < 0)
        return result;
    *removed = answer->number;
    return failure_pg_run(admin->pg, "COMMIT", NULL, -1, answer);
}

static int remove_rows(struct failure_admin *admin, const struct bytes *ids, size_t len,
                       int64_t *removed, struct error *err)
{
    char *array = array_of(ids, len);
    struct failure_pg_answer answer;
    int result = commit(admin, array, removed, &answer);

    free(array);
    if (result < 0)
        failure_pg_close(admin->pg);
    return result < 0 ? tell(&answer, err) : 0;
}

int failure_admin_settle(struct failure_admin *admin, const struct bytes *ids, size_t len,
                         int64_t *removed, struct error *err)
{
    return admin->stream != NULL ? failure_stream_remove(admin->stream, ids, len, removed, err)
                                 : remove_rows(admin, ids, len, removed, err);
}
