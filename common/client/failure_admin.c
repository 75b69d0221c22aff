#include "common/client/failure_admin.h"

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/client/failure_pg.h"
#include "common/client/failure_sql.h"
#include "common/wire/dsn.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>

struct failure_admin {
    const struct settings_failure *settings;
    struct failure_sql sql;
    struct failure_pg *pg;
    int64_t timeout_ms; /* of all statements of a question together */
    int64_t until_ms;
};

int failure_admin_new(struct failure_admin **admin, const struct settings_failure *settings,
                      struct error *err)
{
    struct failure_admin *made = xcalloc(1, sizeof(*made));
    int result;

    made->settings = settings;
    result = failure_sql_make(&made->sql, settings->table, err);
    if (result == 0)
        result = failure_pg_new(&made->pg, settings->dsn, err);
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
    failure_pg_free(admin->pg);
    failure_sql_free(&admin->sql);
    free(admin);
}

static int give_up_late(struct failure_admin *admin, struct error *err)
{
    struct buf place = {0};

    failure_pg_break(admin->pg);
    dsn_redacted(&place, admin->settings->dsn);
    int result = error_set(err, ERR_UNREACHABLE, "%s: no answer within %lld ms", buf_text(&place),
                           (long long)admin->timeout_ms);
    buf_free(&place);
    return result;
}

/* Runs to the statement's end or until time is up; *number gets what it selects. */
static int ask_number(struct failure_admin *admin, const char *sql, const char *const *values,
                      int count, int64_t *number, struct error *err)
{
    struct failure_pg *pg = admin->pg;
    struct failure_pg_outcome outcome;

    failure_pg_run(pg, sql, values, count);
    while (!failure_pg_process(pg, &outcome)) {
        struct pollfd waiting = {.fd = failure_pg_fd(pg), .events = failure_pg_events(pg)};
        int64_t deadline_ms = failure_pg_deadline_ms(pg);
        int64_t now_ms = clock_monotonic_ms();

        if (now_ms >= admin->until_ms)
            return give_up_late(admin, err);
        if (deadline_ms > admin->until_ms)
            deadline_ms = admin->until_ms;
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
static int count_rows(struct failure_admin *admin, int64_t *count, struct error *err)
{
    const char *values[] = {admin->settings->queue_name};
    int64_t tables = 0;

    int result = ask_number(admin, admin->sql.exists, NULL, 0, &tables, err);
    if (result == 0)
        *count = 0;
    if (result == 0 && tables > 0)
        result = ask_number(admin, admin->sql.count, values, 1, count, err);
    return result;
}

int failure_admin_count(struct failure_admin *admin, int64_t timeout_ms, int64_t *count,
                        struct error *err)
{
    admin->timeout_ms = timeout_ms;
    admin->until_ms = clock_monotonic_ms() + timeout_ms;
    return count_rows(admin, count, err);
}
