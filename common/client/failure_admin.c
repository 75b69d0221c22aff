#include "common/client/failure_admin.h"

#include "common/base/clock.h"
#include "common/client/failure_pg.h"
#include "common/client/failure_sql.h"
#include "common/wire/dsn.h"

#include <poll.h>
#include <string.h>

struct question {
    const struct settings_failure *settings;
    struct failure_pg *pg;
    int64_t timeout_ms; /* of all statements together */
    int64_t until_ms;
};

static int give_up_late(const struct question *question, struct error *err)
{
    struct buf place = {0};

    dsn_redacted(&place, question->settings->dsn);
    int result = error_set(err, ERR_UNREACHABLE, "%s: no answer within %lld ms", buf_text(&place),
                           (long long)question->timeout_ms);
    buf_free(&place);
    return result;
}

/* Runs to the statement's end or until time is up; *number gets what it selects. */
static int ask_number(const struct question *question, const char *sql, const char *const *values,
                      int count, int64_t *number, struct error *err)
{
    struct failure_pg *pg = question->pg;
    struct failure_pg_outcome outcome;

    failure_pg_run(pg, sql, values, count);
    while (!failure_pg_process(pg, &outcome)) {
        struct pollfd waiting = {.fd = failure_pg_fd(pg), .events = failure_pg_events(pg)};
        int64_t deadline_ms = failure_pg_deadline_ms(pg);
        int64_t now_ms = clock_monotonic_ms();

        if (now_ms >= question->until_ms)
            return give_up_late(question, err);
        if (deadline_ms > question->until_ms)
            deadline_ms = question->until_ms;
        poll(&waiting, 1, clock_poll_timeout(deadline_ms, now_ms));
    }
    *number = outcome.number;
    if (outcome.result == 0 || strcmp(outcome.sqlstate, "42P01") == 0) /* undefined_table */
        return 0;
    if (err != NULL)
        *err = outcome.err;
    return outcome.result;
}

/* Counting in a table that is not there yet would be an error in the server's log each time. */
static int count_rows(const struct question *question, const struct failure_sql *sql,
                      int64_t *count, struct error *err)
{
    const char *values[] = {question->settings->queue_name};
    int64_t tables = 0;

    int result = ask_number(question, sql->exists, NULL, 0, &tables, err);
    if (result == 0)
        *count = 0;
    if (result == 0 && tables > 0)
        result = ask_number(question, sql->count, values, 1, count, err);
    return result;
}

int failure_admin_count(const struct settings_failure *settings, int64_t timeout_ms, int64_t *count,
                        struct error *err)
{
    struct failure_sql sql = {0};
    struct question question = {.settings = settings,
                                .timeout_ms = timeout_ms,
                                .until_ms = clock_monotonic_ms() + timeout_ms};
    int result;

    result = failure_sql_make(&sql, settings->table, err);
    if (result == 0)
        result = failure_pg_new(&question.pg, settings->dsn, err);
    if (result == 0)
        result = count_rows(&question, &sql, count, err);
    failure_pg_free(question.pg);
    failure_sql_free(&sql);
    return result;
}
