#include "common/client/failure_pg.h"

#include "common/base/alloc.h"
#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/client/failure.h"
#include "common/wire/dsn.h"

#include <ctype.h>
#include <poll.h>
#include <postgresql/libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct failure_pg {
    struct buf conninfo; /* with the password */
    struct buf address;  /* without the password */
    char *timezone;      /* the session's time zone; NULL: the server's default */
    PGconn *connection;  /* NULL: closed */
    failure_pg_row *row; /* called for each row of the current statement; or NULL */
    void *row_context;
};

static void ignore_notice(void *context, const PGresult *notice)
{
    (void)context;
    (void)notice;
}

/* Checks the options at the start, not when the first row is written: this libpq may not know
 * all. */
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

/* Of an option that is given twice libpq takes the last. So the DSN overrides
 * target_session_attrs, and the bridge overrides connect_timeout. */
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

/* Fills err with the first line of libpq's message, which ends in a newline and may have several
 * lines. */
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

/* True if the error comes from the server's state, not from the statement. PostgreSQL's manual, appendix A. */
static bool may_pass(const char *sqlstate)
{
    static const char *const beginnings[] = {
        "08",    /* connection */
        "25006", /* read-only transaction: the primary was demoted, another host may be primary now */
        "40",    /* transaction rolled back: serialization, deadlock */
        "53",    /* insufficient resources: disk full, too many connections */
        "55P03", /* lock not available */
        "57",    /* operator intervention: shut down, starting up, statement cancelled */
        "58",    /* system error */
    };

    for (size_t i = 0; i < LENGTH_OF(beginnings); i++)
        if (strncmp(sqlstate, beginnings[i], strlen(beginnings[i])) == 0)
            return true;
    return false;
}

/* Only the primary message is kept, since details quote the row. */
static void take_error(struct failure_pg *pg, const PGresult *result,
                       struct failure_pg_answer *answer)
{
    const char *sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    const char *message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);

    if (answer->err.code != ERR_NONE)
        return;
    if (sqlstate == NULL) { /* an error of libpq: the connection broke */
        set_error(pg, &answer->err, ERR_UNREACHABLE, PQresultErrorMessage(result));
        return;
    }
    strncpy(answer->sqlstate, sqlstate, sizeof(answer->sqlstate) - 1);
    set_error(pg, &answer->err, may_pass(sqlstate) ? ERR_UNREACHABLE : ERR_REFUSED,
              message != NULL ? message : "no reason given");
}

/* Hands a row to the callback. Returns false if no more rows are wanted. */
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
        abort(); /* only if out of memory */
    PQsetNoticeReceiver(pg->connection, ignore_notice, NULL);
    if (PQstatus(pg->connection) == CONNECTION_OK && pg->timezone != NULL)
        set_timezone(pg, err);
    if (pg->connection == NULL)
        return;
    /* Non-blocking, so that the time-out also holds while a statement is sent. */
    if (PQstatus(pg->connection) != CONNECTION_OK || PQsetnonblocking(pg->connection, 1) < 0)
        fail_connection(pg, err, PQerrorMessage(pg->connection));
}

static bool wait_for(struct failure_pg *pg, short events, int64_t deadline_ms)
{
    struct pollfd waiting = {.fd = PQsocket(pg->connection), .events = events};

    return poll(&waiting, 1, clock_poll_timeout(deadline_ms, clock_monotonic_ms())) != 0;
}

/* Closes the connection if the server has closed it while idle: the waiting input then ends in
 * the close. */
static void close_if_stale(struct failure_pg *pg)
{
    while (pg->connection != NULL && wait_for(pg, POLLIN, 0))
        if (!PQconsumeInput(pg->connection) || PQstatus(pg->connection) != CONNECTION_OK)
            failure_pg_close(pg);
}

/* True if the connection broke within a transaction, which the server then rolled back. A COMMIT
 * over a new connection would seem to succeed. */
static bool is_lost_within_transaction(struct failure_pg *pg)
{
    bool within = pg->connection != NULL && PQtransactionStatus(pg->connection) != PQTRANS_IDLE;

    close_if_stale(pg);
    return within && pg->connection == NULL;
}

/* Sends the rest of the statement, and takes all results. */
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

#define IDENTIFIER_LENGTH_MAX 63
#define LOCK_SPACE            0x6D71 /* "mq": first number of the bridge's advisory locks */

static bool is_identifier(struct bytes name)
{
    if (name.len == 0 || name.len > IDENTIFIER_LENGTH_MAX || isdigit((unsigned char)name.data[0]))
        return false;
    for (size_t i = 0; i < name.len; i++) {
        unsigned char c = (unsigned char)name.data[i];

        if (!isalnum(c) && c != '_' && c != '$')
            return false;
    }
    return name.data[0] != '$';
}

/* Appends a quoted name in lower case, as PostgreSQL reads names without quotes. With quotes a
 * reserved word is allowed. */
static void append_name(struct buf *out, struct bytes schema, const char *prefix, struct bytes name)
{
    if (schema.len > 0) {
        append_name(out, BYTES_NONE, "", schema);
        buf_append_char(out, '.');
    }
    buf_printf(out, "\"%s", prefix);
    for (size_t i = 0; i < name.len; i++)
        buf_append_char(out, (char)tolower((unsigned char)name.data[i]));
    buf_append_char(out, '"');
}

/* Computes CRC-32 as PHP's crc32(), from which Doctrine makes the names of indexes. */
static unsigned crc32_of(const char *text)
{
    unsigned crc = ~0U;

    for (; *text != '\0'; text++) {
        crc ^= (unsigned char)*text;
        for (int bit = 0; bit < 8; bit++)
            crc = (crc >> 1) ^ (0xEDB88320U & (0U - (crc & 1)));
    }
    return ~crc;
}

static void append_index_name(struct buf *out, const char *table)
{
    static const char *const columns[] = {"queue_name", "available_at", "delivered_at", "id"};

    buf_printf(out, "idx_%x", crc32_of(table));
    for (size_t i = 0; i < LENGTH_OF(columns); i++)
        buf_printf(out, "%x", crc32_of(columns[i]));
}

/* The id is a serial, as in Doctrine's DBAL 2 and 3. They would turn an identity column into a
 * serial, and fail: its sequence has the name that they choose. DBAL 4 turns a serial into an
 * identity, which begins at 1 again: see count_on. */
static char *make_setup(const char *table, const char *quoted, const char *function)
{
    struct buf sql = {0};

    buf_printf(&sql, "SELECT pg_advisory_xact_lock(%d, %d);\n", LOCK_SPACE, (int)crc32_of(quoted));
    buf_printf(&sql,
               "CREATE TABLE IF NOT EXISTS %s ("
               "id BIGSERIAL NOT NULL, "
               "body TEXT NOT NULL, "
               "headers TEXT NOT NULL, "
               "queue_name VARCHAR(190) NOT NULL, "
               "created_at TIMESTAMP(0) WITHOUT TIME ZONE NOT NULL, "
               "available_at TIMESTAMP(0) WITHOUT TIME ZONE NOT NULL, "
               "delivered_at TIMESTAMP(0) WITHOUT TIME ZONE DEFAULT NULL, "
               "PRIMARY KEY (id));\n",
               quoted);
    buf_append_text(&sql, "CREATE INDEX IF NOT EXISTS ");
    append_index_name(&sql, table);
    buf_printf(&sql, " ON %s (queue_name, available_at, delivered_at, id);\n", quoted);
    buf_printf(&sql,
               "CREATE OR REPLACE FUNCTION %s() RETURNS TRIGGER AS $$\n"
               "    BEGIN\n"
               "        PERFORM pg_notify('%s', NEW.queue_name::text);\n"
               "        RETURN NEW;\n"
               "    END;\n"
               "$$ LANGUAGE plpgsql;\n",
               function, table);
    buf_printf(&sql, "DROP TRIGGER IF EXISTS notify_trigger ON %s;\n", quoted);
    buf_printf(&sql,
               "CREATE TRIGGER notify_trigger AFTER INSERT OR UPDATE ON %s "
               "FOR EACH ROW EXECUTE PROCEDURE %s();",
               quoted, function);
    return buf_take_text(&sql);
}

/* Converts a time in UTC into the rows' zone, $5. */
#define LOCAL(time) "(" time "::timestamp AT TIME ZONE 'UTC' AT TIME ZONE $5::text)"

static void make_statements(struct failure_pg_sql *sql, const char *quoted)
{
    static const char columns[] = "(body, headers, queue_name, created_at, available_at)";

    sql->insert = xasprintf(
        "INSERT INTO %s %s VALUES ($1, $2, $3, " LOCAL("$4") ", " LOCAL("$4") ")", quoted, columns);
    /* The search uses available_at, since that column has an index. */
    sql->insert_unless = xasprintf(
        "INSERT INTO %s %s SELECT $1::text, $2::text, $3::varchar, " LOCAL("$4") ", " LOCAL(
            "$6") " WHERE NOT EXISTS (SELECT 1 FROM %s WHERE queue_name = $3::varchar "
                  "AND available_at IN (" LOCAL("$6") ", " LOCAL(
                      "$7") ") "
                            "AND position($8::text IN headers) > 0) "
                            "AND ($9::text = '' OR NOT EXISTS (SELECT 1 FROM (SELECT queue_name, "
                            "headers "
                            "FROM %s ORDER BY id DESC LIMIT %d) AS latest WHERE queue_name = "
                            "$3::varchar "
                            "AND position($9::text IN headers) > 0))",
        quoted, columns, quoted, quoted, FAILURE_ROWS_SEARCHED);
    sql->count_on = xasprintf("SELECT setval(pg_get_serial_sequence('%s', 'id'), greatest((SELECT "
                              "max(id) FROM %s), 1))",
                              quoted, quoted);
    sql->exists = xasprintf("SELECT count(to_regclass('%s'))", quoted);
    sql->count = xasprintf("SELECT count(*) FROM %s WHERE queue_name = $1", quoted);
}

/* Selects times as numbers, whatever the columns' types are. A time without a zone is in the
 * session's zone, except in the last column. */
static char *admin_columns(int body_most, const char *taken)
{
    return xasprintf("id, headers, CASE WHEN octet_length(body) <= $%d::bigint THEN body END, "
                     "octet_length(body) + octet_length(headers), "
                     "floor(extract(epoch FROM created_at::timestamptz) * 1000000)::bigint, %s, "
                     "floor(extract(epoch FROM created_at) * 1000000)::bigint",
                     body_most, taken);
}

static void make_admin_statements(struct failure_pg_sql *sql, const char *quoted)
{
    char *taken = xasprintf("coalesce(extract(epoch FROM delivered_at::timestamptz) > "
                            "extract(epoch FROM now()) - %d, false)",
                            FAILURE_TAKEN_S);
    char *listed = admin_columns(6, taken);
    char *locked = admin_columns(4, taken);
    char *wanted = xasprintf("FROM %s WHERE queue_name = $1::varchar "
                             "AND ($2::bigint = 0 OR "
                             "extract(epoch FROM created_at::timestamptz) * 1000000 >= $2::bigint) "
                             "AND ($3::bigint = 0 OR "
                             "extract(epoch FROM created_at::timestamptz) * 1000000 < $3::bigint) "
                             "AND ($4::bigint[] IS NULL OR id = ANY ($4::bigint[]))",
                             quoted);

    sql->list_newest = xasprintf("SELECT %s %s ORDER BY id DESC LIMIT $5::bigint", listed, wanted);
    sql->list_oldest = xasprintf("SELECT %s %s ORDER BY id LIMIT $5::bigint", listed, wanted);
    sql->take =
        xasprintf("SELECT %s FROM %s WHERE queue_name = $1::varchar AND id = ANY ($2::bigint[]) "
                  "AND ($3::boolean OR NOT %s) FOR UPDATE SKIP LOCKED",
                  locked, quoted, taken);
    sql->remove = xasprintf("WITH gone AS (DELETE FROM %s WHERE queue_name = $1::varchar AND "
                            "id = ANY ($2::bigint[]) RETURNING 1) SELECT count(*) FROM gone",
                            quoted);
    free(taken);
    free(listed);
    free(locked);
    free(wanted);
}

int failure_pg_sql_make(struct failure_pg_sql *sql, const char *table, struct error *err)
{
    struct bytes schema = BYTES_NONE, name = bytes_of(table), head, tail;
    struct buf quoted = {0}, function = {0};

    bool has_schema = bytes_split(name, '.', &head, &tail);
    if (has_schema) {
        schema = head;
        name = tail;
    }
    if (!is_identifier(name) || (has_schema && !is_identifier(schema)))
        return error_set(
            err, ERR_USAGE,
            "[failure] table \"%.100s\" is no table's name: letters, digits and _, with "
            "an optional SCHEMA. in front",
            table);
    append_name(&quoted, schema, "", name);
    append_name(&function, schema, "notify_", name);
    make_statements(sql, buf_text(&quoted));
    make_admin_statements(sql, buf_text(&quoted));
    sql->setup = make_setup(table, buf_text(&quoted), buf_text(&function));
    buf_free(&quoted);
    buf_free(&function);
    return 0;
}

char *failure_pg_sql_begin(const char *identity, int timeout_ms)
{
    return xasprintf("BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL statement_timeout = %d; "
                     "SET LOCAL lock_timeout = %d; SELECT pg_advisory_xact_lock(%d, %d)",
                     timeout_ms, timeout_ms - 1000, LOCK_SPACE + 1, (int)crc32_of(identity));
}

void failure_pg_sql_free(struct failure_pg_sql *sql)
{
    free(sql->insert);
    free(sql->insert_unless);
    free(sql->setup);
    free(sql->count_on);
    free(sql->exists);
    free(sql->count);
    free(sql->list_newest);
    free(sql->list_oldest);
    free(sql->take);
    free(sql->remove);
    *sql = (struct failure_pg_sql){0};
}
