#include "common/client/failure_pg.h"

#include "common/base/alloc.h"
#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/wire/dsn.h"

#include <poll.h>
#include <postgresql/libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct failure_pg {
    struct buf conninfo; /* with the password */
    struct buf address;  /* without it */
    char *timezone;      /* of the session; NULL: the server's */
    PGconn *connection;  /* NULL: closed */
    failure_pg_row *row; /* takes the rows of the statement under way; NULL: nobody does */
    void *row_context;
};

static void ignore_notice(void *context, const PGresult *notice)
{
    (void)context;
    (void)notice;
}

/* Options that this libpq does not know are found before the first failure needs a row. */
static int check_conninfo(const char *conninfo, struct error *err)
{
    char *words = NULL;

    PQconninfoOption *options = PQconninfoParse(conninfo, &words);
    int result = 0;

    if (options == NULL)
        result = error_set(err, ERR_USAGE, "the PostgreSQL DSN: %s",
                           words != NULL ? words : "not understood");
    PQconninfoFree(options);
    PQfreemem(words);
    return result;
}

/* Of an option that is given twice libpq takes the last: the DSN's own target_session_attrs counts, its
 * connect_timeout does not. */
int failure_pg_new(struct failure_pg **pg, const char *dsn, const char *timezone, struct error *err)
{
    struct failure_pg *made = xcalloc(1, sizeof(*made));
    int result;

    buf_append_text(&made->conninfo, "client_encoding='UTF8' "
                                     "fallback_application_name='mqtt-bridge' "
                                     "target_session_attrs='read-write'");
    result = dsn_postgres_to_conninfo(&made->conninfo, dsn, NULL, err);
    buf_printf(&made->conninfo, " connect_timeout=%d", FAILURE_PG_CONNECT_S);
    if (result == 0)
        result = check_conninfo(buf_text(&made->conninfo), err);
    if (result < 0) {
        failure_pg_free(made);
        return result;
    }
    made->timezone = timezone != NULL ? xstrdup(timezone) : NULL;
    dsn_redacted(&made->address, dsn);
    buf_text(&made->address);
    *pg = made;
    return 0;
}

void failure_pg_close(struct failure_pg *pg)
{
    PQfinish(pg->connection);
    pg->connection = NULL;
}

void failure_pg_free(struct failure_pg *pg)
{
    if (pg == NULL)
        return;
    failure_pg_close(pg);
    explicit_bzero(pg->conninfo.data, pg->conninfo.capacity);
    buf_free(&pg->conninfo);
    buf_free(&pg->address);
    free(pg->timezone);
    free(pg);
}

/* libpq's messages end in a newline and may have several lines. The first fault is the one that is told. */
static void set_error(struct failure_pg *pg, struct error *err, enum error_code code,
                      const char *message)
{
    size_t len;

    if (err->code != ERR_NONE)
        return;
    error_set(err, code, "%s: %s", buf_text(&pg->address), message);
    len = strlen(err->text);
    while (len > 0 && err->text[len - 1] == '\n')
        err->text[--len] = '\0';
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)err->text[i] < ' ')
            err->text[i] = ' ';
}

static void fail_connection(struct failure_pg *pg, struct error *err, const char *message)
{
    set_error(pg, err, ERR_UNREACHABLE, message);
    failure_pg_close(pg);
}

/* Is this the server's state rather than the statement's fault? PostgreSQL's manual, appendix A. */
static bool may_pass(const char *sqlstate)
{
    static const char *const beginnings[] = {
        "08",    /* connection */
        "25006", /* read-only transaction: the primary was demoted; another host may be it now */
        "40",    /* transaction rolled back: serialization, deadlock */
        "53",    /* insufficient resources: disk full, too many connections */
        "55P03", /* lock not available */
        "57",    /* operator intervention: shut down, starting up, statement cancelled */
        "58",    /* system error */
    };

    for (size_t i = 0; i < sizeof(beginnings) / sizeof(beginnings[0]); i++)
        if (strncmp(sqlstate, beginnings[i], strlen(beginnings[i])) == 0)
            return true;
    return false;
}

/* Only the primary message: details quote the row. */
static void take_error(struct failure_pg *pg, const PGresult *result,
                       struct failure_pg_answer *answer)
{
    const char *sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    const char *message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);

    if (answer->err.code != ERR_NONE)
        return;
    if (sqlstate == NULL) { /* libpq's own: the connection broke */
        set_error(pg, &answer->err, ERR_UNREACHABLE, PQresultErrorMessage(result));
        return;
    }
    strncpy(answer->sqlstate, sqlstate, sizeof(answer->sqlstate) - 1);
    set_error(pg, &answer->err, may_pass(sqlstate) ? ERR_UNREACHABLE : ERR_REFUSED,
              message != NULL ? message : "no reason given");
}

/* False: no more rows are wanted. */
static bool give_row(struct failure_pg *pg, const PGresult *result)
{
    struct bytes columns[FAILURE_PG_COLUMNS_MAX] = {0};

    for (int i = 0; i < PQnfields(result) && i < FAILURE_PG_COLUMNS_MAX; i++)
        if (!PQgetisnull(result, 0, i))
            columns[i] =
                (struct bytes){PQgetvalue(result, 0, i), (size_t)PQgetlength(result, 0, i)};
    return pg->row == NULL || pg->row(pg->row_context, columns);
}

static void take_result(struct failure_pg *pg, const PGresult *result,
                        struct failure_pg_answer *answer)
{
    switch (PQresultStatus(result)) {
    case PGRES_COMMAND_OK:
    case PGRES_EMPTY_QUERY:
        return;
    case PGRES_SINGLE_TUPLE:
        if (!give_row(pg, result))
            failure_pg_close(pg);
        return;
    case PGRES_TUPLES_OK:
        if (PQntuples(result) > 0 && PQnfields(result) > 0)
            answer->number = strtoll(PQgetvalue(result, 0, 0), NULL, 10);
        return;
    default:
        take_error(pg, result, answer);
    }
}

static void set_timezone(struct failure_pg *pg, struct error *err)
{
    const char *values[] = {pg->timezone};
    PGresult *result = PQexecParams(pg->connection, "SELECT set_config('TimeZone', $1, false)", 1,
                                    NULL, values, NULL, NULL, 0);
    bool is_refused = PQresultErrorField(result, PG_DIAG_SQLSTATE) != NULL;
    bool is_set = PQresultStatus(result) == PGRES_TUPLES_OK;

    PQclear(result);
    if (is_set)
        return;
    if (is_refused)
        set_error(pg, err, ERR_REFUSED, "[failure] timezone is none that the server knows");
    fail_connection(pg, err, PQerrorMessage(pg->connection));
}

static void connect_to_any(struct failure_pg *pg, struct error *err)
{
    pg->connection = PQconnectdb(buf_text(&pg->conninfo));
    if (pg->connection == NULL)
        abort(); /* only for want of memory */
    PQsetNoticeReceiver(pg->connection, ignore_notice, NULL);
    if (PQstatus(pg->connection) == CONNECTION_OK && pg->timezone != NULL)
        set_timezone(pg, err);
    if (pg->connection == NULL)
        return;
    /* A statement must not block in a send either: the time-out is ours. */
    if (PQstatus(pg->connection) != CONNECTION_OK || PQsetnonblocking(pg->connection, 1) < 0)
        fail_connection(pg, err, PQerrorMessage(pg->connection));
}

static bool wait_for(struct failure_pg *pg, short events, int64_t deadline_ms)
{
    struct pollfd waiting = {.fd = PQsocket(pg->connection), .events = events};

    return poll(&waiting, 1, clock_poll_timeout(deadline_ms, clock_monotonic_ms())) != 0;
}

/* A server that was stopped while we had nothing to say has closed the connection since: behind its last
 * words comes the end. */
static void close_if_stale(struct failure_pg *pg)
{
    while (pg->connection != NULL && wait_for(pg, POLLIN, 0))
        if (!PQconsumeInput(pg->connection) || PQstatus(pg->connection) != CONNECTION_OK)
            failure_pg_close(pg);
}

/* What the transaction has done so far is rolled back: over a new connection COMMIT would seem to succeed. */
static bool is_lost_within_transaction(struct failure_pg *pg)
{
    bool within = pg->connection != NULL && PQtransactionStatus(pg->connection) != PQTRANS_IDLE;

    close_if_stale(pg);
    return within && pg->connection == NULL;
}

/* Sends what is not sent yet, and takes all results. */
static void finish_statement(struct failure_pg *pg, struct failure_pg_answer *answer)
{
    int64_t deadline_ms = clock_monotonic_ms() + FAILURE_PG_STATEMENT_MS;
    char late[80];

    for (;;) {
        int unsent = PQflush(pg->connection);

        if (!PQconsumeInput(pg->connection) || unsent < 0) {
            fail_connection(pg, &answer->err, PQerrorMessage(pg->connection));
            return;
        }
        while (!PQisBusy(pg->connection)) {
            PGresult *result = PQgetResult(pg->connection);

            if (result == NULL)
                return;
            take_result(pg, result, answer);
            PQclear(result);
            if (pg->connection == NULL)
                return;
            deadline_ms = clock_monotonic_ms() + FAILURE_PG_STATEMENT_MS;
        }
        if (wait_for(pg, unsent > 0 ? POLLIN | POLLOUT : POLLIN, deadline_ms))
            continue;
        snprintf(late, sizeof(late), "no answer within %d s to a statement",
                 FAILURE_PG_STATEMENT_MS / 1000);
        fail_connection(pg, &answer->err, late);
        return;
    }
}

int failure_pg_rows(struct failure_pg *pg, const char *sql, const char *const *values, int count,
                    failure_pg_row *row, void *context, struct failure_pg_answer *answer)
{
    pg->row = row;
    pg->row_context = context;
    int result = failure_pg_run(pg, sql, values, count, answer);
    pg->row = NULL;
    return result;
}

int failure_pg_run(struct failure_pg *pg, const char *sql, const char *const *values, int count,
                   struct failure_pg_answer *answer)
{
    int sent;

    *answer = (struct failure_pg_answer){0};
    if (is_lost_within_transaction(pg)) {
        set_error(pg, &answer->err, ERR_UNREACHABLE, "the connection broke within a transaction");
        return -ERR_UNREACHABLE;
    }
    if (pg->connection == NULL)
        connect_to_any(pg, &answer->err);
    if (pg->connection == NULL)
        return -(int)answer->err.code;
    if (count < 0)
        sent = PQsendQuery(pg->connection, sql);
    else
        sent = PQsendQueryParams(pg->connection, sql, count, NULL, values, NULL, NULL, 0);
    if (sent && pg->row != NULL)
        sent = PQsetSingleRowMode(pg->connection);
    if (sent)
        finish_statement(pg, answer);
    else
        fail_connection(pg, &answer->err, PQerrorMessage(pg->connection));
    if (pg->connection != NULL && PQstatus(pg->connection) != CONNECTION_OK)
        failure_pg_close(pg);
    return -(int)answer->err.code;
}
