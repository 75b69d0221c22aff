#include "common/client/failure_admin.h"

#include "common/base/clock.h"
#include "common/client/failure_pg.h"
#include "common/client/failure_sql.h"

#include <poll.h>
#include <string.h>

/* Runs to the statement's end or for timeout_ms. */
static int wait_for_outcome(struct failure_pg *pg, int64_t timeout_ms,
                            struct failure_pg_outcome *outcome, struct error *err)
{
    int64_t until_ms = clock_monotonic_ms() + timeout_ms;

    while (!failure_pg_process(pg, outcome)) {
        struct pollfd waiting = {.fd = failure_pg_fd(pg), .events = failure_pg_events(pg)};
        int64_t deadline_ms = failure_pg_deadline_ms(pg);
        int64_t now_ms = clock_monotonic_ms();

        if (now_ms >= until_ms)
            return error_set(err, ERR_UNREACHABLE,
                             "the failure transport gave no answer within %lld ms",
                             (long long)timeout_ms);
        if (deadline_ms > until_ms)
            deadline_ms = until_ms;
        poll(&waiting, 1, clock_poll_timeout(deadline_ms, now_ms));
    }
    return 0;
}

static int count_rows(struct failure_pg *pg, const struct failure_sql *sql, const char *queue_name,
                      int64_t timeout_ms, int64_t *count, struct error *err)
{
    const char *values[] = {queue_name};
    struct failure_pg_outcome outcome;
    int result;

    failure_pg_run(pg, sql->count, values, 1);
    result = wait_for_outcome(pg, timeout_ms, &outcome, err);
    if (result < 0)
        return result;
    *count = outcome.number;
    if (outcome.result == 0 || strcmp(outcome.sqlstate, "42P01") == 0) /* undefined_table */
        return 0;
    if (err != NULL)
        *err = outcome.err;
    return outcome.result;
}

int failure_admin_count(const struct settings_failure *settings, int64_t timeout_ms, int64_t *count,
                        struct error *err)
{
    struct failure_sql sql = {0};
    struct failure_pg *pg = NULL;
    int result;

    result = failure_sql_make(&sql, settings->table, err);
    if (result == 0)
        result = failure_pg_new(&pg, settings->dsn, err);
    if (result == 0)
        result = count_rows(pg, &sql, settings->queue_name, timeout_ms, count, err);
    failure_pg_free(pg);
    failure_sql_free(&sql);
    return result;
}
