#include "common/client/failure_pg.h"

#include "common/base/alloc.h"
#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/client/failure_hosts.h"
#include "common/wire/dsn.h"

#include <poll.h>
#include <postgresql/libpq-fe.h>
#include <stdlib.h>
#include <string.h>

enum pg_state {
    PG_CLOSED,
    PG_LOOKING_UP, /* the hosts' names */
    PG_CONNECTING,
    PG_IDLE,
    PG_RUNNING,
};

struct failure_pg {
    struct buf conninfo; /* with the password */
    struct buf place;    /* without it */
    struct failure_hosts *hosts;
    PGconn *connection;
    enum pg_state state;
    short events;
    int64_t deadline_ms;
    const char *sql; /* NULL: nothing is asked for */
    const char *const *values;
    int count;
    struct failure_pg_outcome outcome; /* grows while results come */
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

int failure_pg_new(struct failure_pg **pg, const char *dsn, struct error *err)
{
    struct failure_pg *made = xcalloc(1, sizeof(*made));
    int result;

    made->deadline_ms = -1;
    buf_append_text(&made->conninfo,
                    "client_encoding='UTF8' fallback_application_name='mqtt-bridge'");
    result = dsn_postgres_to_conninfo(&made->conninfo, dsn, err);
    if (result == 0)
        result = check_conninfo(buf_text(&made->conninfo), err);
    if (result < 0) {
        failure_pg_free(made);
        return result;
    }
    made->hosts = failure_hosts_new(buf_text(&made->conninfo));
    dsn_redacted(&made->place, dsn);
    *pg = made;
    return 0;
}

static void close_connection(struct failure_pg *pg)
{
    PQfinish(pg->connection);
    pg->connection = NULL;
    pg->state = PG_CLOSED;
}

/* A host that accepted and said nothing until now has had its turn. */
static void abandon_connection(struct failure_pg *pg)
{
    if (pg->state == PG_CONNECTING)
        failure_hosts_rotate(pg->hosts);
    close_connection(pg);
}

void failure_pg_break(struct failure_pg *pg)
{
    abandon_connection(pg);
    pg->sql = NULL;
    pg->deadline_ms = -1;
}

void failure_pg_free(struct failure_pg *pg)
{
    if (pg == NULL)
        return;
    close_connection(pg);
    failure_hosts_free(pg->hosts);
    explicit_bzero(pg->conninfo.data, pg->conninfo.capacity);
    buf_free(&pg->conninfo);
    buf_free(&pg->place);
    free(pg);
}

/* libpq's messages end in a newline and may have several lines. */
static void set_error(struct failure_pg *pg, enum error_code code, const char *message)
{
    struct error *err = &pg->outcome.err;
    size_t len;

    pg->outcome.result = error_set(err, code, "%s: %s", buf_text(&pg->place), message);
    len = strlen(err->text);
    while (len > 0 && err->text[len - 1] == '\n')
        err->text[--len] = '\0';
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)err->text[i] < ' ')
            err->text[i] = ' ';
}

/* Is this the server's state rather than the statement's fault? PostgreSQL's manual, appendix A. */
static bool may_pass(const char *sqlstate)
{
    static const char *const beginnings[] = {
        "08",    /* connection */
        "25006", /* read-only: a standby, until it is promoted */
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

static void fail_connection(struct failure_pg *pg, const char *message)
{
    set_error(pg, ERR_UNREACHABLE, message);
    close_connection(pg);
}

/* Only the primary message: details quote the row. */
static void take_error(struct failure_pg *pg, const PGresult *result)
{
    const char *sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    const char *message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);

    if (pg->outcome.result < 0)
        return;
    if (sqlstate == NULL) { /* libpq's own: the connection broke */
        set_error(pg, ERR_UNREACHABLE, PQresultErrorMessage(result));
        return;
    }
    strncpy(pg->outcome.sqlstate, sqlstate, sizeof(pg->outcome.sqlstate) - 1);
    set_error(pg, may_pass(sqlstate) ? ERR_UNREACHABLE : ERR_REFUSED,
              message != NULL ? message : "no reason given");
}

static void take_result(struct failure_pg *pg, const PGresult *result)
{
    switch (PQresultStatus(result)) {
    case PGRES_COMMAND_OK:
    case PGRES_EMPTY_QUERY:
        return;
    case PGRES_TUPLES_OK:
        if (PQntuples(result) > 0 && PQnfields(result) > 0)
            pg->outcome.number = strtoll(PQgetvalue(result, 0, 0), NULL, 10);
        return;
    default:
        take_error(pg, result);
    }
}

/* Hosts whose names are not known in time are left out. */
static void connect_start(struct failure_pg *pg)
{
    char why[200];

    pg->connection = failure_hosts_connect(pg->hosts, buf_text(&pg->conninfo), why);
    if (pg->connection == NULL) {
        fail_connection(pg, why);
        return;
    }
    PQsetNoticeReceiver(pg->connection, ignore_notice, NULL);
    pg->state = PG_CONNECTING;
    pg->events = POLLOUT;
    pg->deadline_ms = clock_monotonic_ms() + FAILURE_PG_CONNECT_MS;
    if (PQstatus(pg->connection) == CONNECTION_BAD)
        fail_connection(pg, PQerrorMessage(pg->connection));
}

static void look_up_go_on(struct failure_pg *pg)
{
    if (failure_hosts_process(pg->hosts) || clock_monotonic_ms() >= pg->deadline_ms)
        connect_start(pg);
}

static void look_up_start(struct failure_pg *pg)
{
    failure_hosts_ask(pg->hosts);
    pg->state = PG_LOOKING_UP;
    pg->events = POLLIN;
    pg->deadline_ms = clock_monotonic_ms() + FAILURE_PG_CONNECT_MS;
    look_up_go_on(pg); /* there may be nothing to look up */
}

static bool is_ready(const struct failure_pg *pg, short events)
{
    struct pollfd waiting = {.fd = PQsocket(pg->connection), .events = events};

    return poll(&waiting, 1, 0) > 0;
}

static void connect_go_on(struct failure_pg *pg)
{
    /* PQconnectPoll may block on a socket that is not ready. */
    if (!is_ready(pg, pg->events))
        return;
    switch (PQconnectPoll(pg->connection)) {
    case PGRES_POLLING_READING:
        pg->events = POLLIN;
        return;
    case PGRES_POLLING_WRITING:
        pg->events = POLLOUT;
        return;
    case PGRES_POLLING_OK:
        PQsetnonblocking(pg->connection, 1);
        pg->state = PG_IDLE;
        return;
    case PGRES_POLLING_FAILED:
    case PGRES_POLLING_ACTIVE:
        fail_connection(pg, PQerrorMessage(pg->connection));
        return;
    }
}

static void send_statement(struct failure_pg *pg)
{
    int sent;

    if (pg->count < 0)
        sent = PQsendQuery(pg->connection, pg->sql);
    else
        sent =
            PQsendQueryParams(pg->connection, pg->sql, pg->count, NULL, pg->values, NULL, NULL, 0);
    pg->state = PG_RUNNING;
    pg->events = POLLIN | POLLOUT; /* a large row does not fit into the socket at once */
    pg->deadline_ms = clock_monotonic_ms() + FAILURE_PG_STATEMENT_MS;
    if (!sent)
        fail_connection(pg, PQerrorMessage(pg->connection));
}

/* True when the last result has come. */
static bool read_results(struct failure_pg *pg)
{
    int unsent = PQflush(pg->connection);

    pg->events = unsent > 0 ? POLLIN | POLLOUT : POLLIN;
    if (!PQconsumeInput(pg->connection) || unsent < 0) {
        if (pg->outcome.result == 0)
            set_error(pg, ERR_UNREACHABLE, PQerrorMessage(pg->connection));
        close_connection(pg);
        return true;
    }
    while (!PQisBusy(pg->connection)) {
        PGresult *result = PQgetResult(pg->connection);

        if (result == NULL) {
            pg->state = PG_IDLE;
            return true;
        }
        take_result(pg, result);
        PQclear(result);
    }
    return false;
}

/* A server that was stopped while we had nothing to say has closed the connection since: behind its last
 * words comes the end. */
static void close_if_stale(struct failure_pg *pg)
{
    while (pg->state == PG_IDLE && is_ready(pg, POLLIN))
        if (!PQconsumeInput(pg->connection) || PQstatus(pg->connection) != CONNECTION_OK)
            close_connection(pg);
}

void failure_pg_run(struct failure_pg *pg, const char *sql, const char *const *values, int count)
{
    if (pg->sql != NULL)
        abort();
    pg->sql = sql;
    pg->values = values;
    pg->count = count;
    pg->outcome = (struct failure_pg_outcome){0};
    close_if_stale(pg);
    if (pg->state == PG_IDLE)
        send_statement(pg);
    else
        look_up_start(pg);
}

static bool is_over(struct failure_pg *pg)
{
    switch (pg->state) {
    case PG_CLOSED:
        return true;
    case PG_LOOKING_UP:
        look_up_go_on(pg);
        return pg->state == PG_CLOSED;
    case PG_CONNECTING:
        connect_go_on(pg);
        if (pg->state == PG_IDLE)
            send_statement(pg);
        return pg->state == PG_CLOSED;
    case PG_RUNNING:
        return read_results(pg);
    case PG_IDLE:
        return true;
    }
    return true;
}

static void give_up_late(struct failure_pg *pg)
{
    bool connecting = pg->state == PG_CONNECTING;
    char message[80];

    snprintf(message, sizeof(message), "no answer within %d s %s",
             (connecting ? FAILURE_PG_CONNECT_MS : FAILURE_PG_STATEMENT_MS) / 1000,
             connecting ? "while connecting" : "to a statement");
    set_error(pg, ERR_UNREACHABLE, message);
    abandon_connection(pg);
}

bool failure_pg_process(struct failure_pg *pg, struct failure_pg_outcome *outcome)
{
    if (pg->sql == NULL)
        return false;
    if (!is_over(pg)) {
        if (clock_monotonic_ms() < pg->deadline_ms)
            return false;
        give_up_late(pg);
    }
    if (pg->connection != NULL && PQstatus(pg->connection) != CONNECTION_OK)
        close_connection(pg);
    pg->sql = NULL;
    pg->deadline_ms = -1;
    *outcome = pg->outcome;
    return true;
}

int failure_pg_fd(const struct failure_pg *pg)
{
    if (pg->state == PG_LOOKING_UP)
        return failure_hosts_fd(pg->hosts);
    return pg->sql != NULL && pg->connection != NULL ? PQsocket(pg->connection) : -1;
}

short failure_pg_events(const struct failure_pg *pg)
{
    return pg->events;
}

int64_t failure_pg_deadline_ms(const struct failure_pg *pg)
{
    if (pg->sql == NULL)
        return -1;
    return pg->state == PG_CLOSED ? 0 : pg->deadline_ms;
}
