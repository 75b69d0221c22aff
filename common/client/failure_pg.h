/* One connection to PostgreSQL with one statement at a time, and the SQL for Doctrine's table. Each call blocks.
 * failure_table.c uses it, in a thread beside the loop. One thread at a time.
 *
 * libpq looks names up, and tries every address of every host for FAILURE_PG_CONNECT_S. It skips a host that takes no
 * rows (a standby, a primary that was demoted), unless the DSN sets target_session_attrs itself. A statement that has
 * no answer within FAILURE_PG_STATEMENT_MS is given up, and its connection closed.
 *
 * Source of the statements: symfony/doctrine-messenger 6.4, Connection and PostgreSqlConnection, with DBAL 3. */
#ifndef COMMON_CLIENT_FAILURE_PG_H
#define COMMON_CLIENT_FAILURE_PG_H

#include "common/base/bytes.h"
#include "common/base/error.h"

#include <stdbool.h>
#include <stdint.h>

#define FAILURE_PG_CONNECT_S    5
#define FAILURE_PG_STATEMENT_MS 10000
#define FAILURE_PG_COLUMNS_MAX  8

struct failure_pg;

struct failure_pg_answer {
    char sqlstate[6]; /* "" if the server gave none */
    int64_t number;   /* the first row's first column, if it is a number */
    struct error err; /* set if the statement failed; begins with the server's address */
};

/* dsn: Doctrine's URL. timezone: of the sessions; NULL: the server's own. Connects to nothing yet. -ERR_USAGE. */
MUST_CHECK int failure_pg_new(struct failure_pg **pg, const char *dsn, const char *timezone,
                              struct error *err);
void failure_pg_free(struct failure_pg *pg);
/* Closes the connection, and so rolls back; the next statement makes a new one. */
void failure_pg_close(struct failure_pg *pg);

/* Runs a statement; connects first if there is no connection. values ($1, $2, ...) are texts, NUL-terminated. count -1:
 * no values, and sql may be several statements, which are one transaction. Returns 0, -ERR_UNREACHABLE (also: shutting
 * down, no room, a deadlock) or -ERR_REFUSED. If the connection was lost within a transaction, the next call returns
 * -ERR_UNREACHABLE once. */
int failure_pg_run(struct failure_pg *pg, const char *sql, const char *const *values, int count,
                   struct failure_pg_answer *answer);

/* One row: its columns as texts, SQL's NULL as BYTES_NONE, valid during the call. False: no more are wanted. */
typedef bool failure_pg_row(void *context, const struct bytes *columns);
/* As failure_pg_run, and calls row for each row as it comes in: one is in memory at a time. The time-out measures
 * silence. If no more rows are wanted, the connection is closed and the result is 0. */
int failure_pg_rows(struct failure_pg *pg, const char *sql, const char *const *values, int count,
                    failure_pg_row *row, void *context, struct failure_pg_answer *answer);

/* The statements for Doctrine's table. */
struct failure_pg_sql {
    /* $1 body, $2 headers, $3 queue, $4 now ("YYYY-MM-DD HH:MM:SS", UTC), $5 the rows' zone */
    char *insert;
    /* $1 to $5 as insert, $6 available at. Inserts nothing if a row that is available at $6 or $7 has $8 in its
     * headers, or one of the last rows has $9. */
    char *insert_unless;
    char *setup;    /* makes table, index and trigger, in one transaction, one at a time */
    char *count_on; /* sets the next id above those of the rows */
    char *exists;   /* 1 if the table exists, else 0 */
    char *count;    /* $1 queue */
    /* $1 queue, $2 and $3 created from, before (µs, 0: ever), $4 ids (NULL: all), $5 limit (NULL: none).
     * $6 bodies of so many bytes at most. Columns: enum failure_pg_column. */
    char *list_newest;
    char *list_oldest;
    /* $1 queue, $2 ids, $3 also those that a worker has taken?, $4 bodies' bytes. Columns as for list_newest. */
    char *take;
    char *remove; /* $1 queue, $2 ids; gives the number of removed rows */
};

enum failure_pg_column {
    FAILURE_PG_ID,
    FAILURE_PG_HEADERS,
    FAILURE_PG_BODY,
    FAILURE_PG_SIZE, /* bytes of headers and body */
    FAILURE_PG_CREATED_US,
    FAILURE_PG_TAKEN,     /* by a worker */
    FAILURE_PG_WRITTEN_US /* the created time as written, whatever the session's zone */
};

/* table: a name, or schema.name, as Doctrine takes it without quotes. -ERR_USAGE. Pure. */
MUST_CHECK int failure_pg_sql_make(struct failure_pg_sql *sql, const char *table,
                                   struct error *err);
void failure_pg_sql_free(struct failure_pg_sql *sql);
/* The SQL that begins a transaction, of which there is one at a time for this identity. The statements of the
 * transaction see what is committed when they begin, whatever the database's default. The server gives up a statement
 * after timeout_ms. To be freed. */
char *failure_pg_sql_begin(const char *identity, int timeout_ms);

#endif
