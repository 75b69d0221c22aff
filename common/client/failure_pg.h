/* One connection to PostgreSQL and one statement on it at a time; each call blocks. Used by failure, in a
 * thread beside the loop. One thread at a time.
 *
 * libpq looks names up, tries every address of every host for FAILURE_PG_CONNECT_S, and passes over a host that
 * takes no rows (a standby, a primary that was demoted) unless the DSN sets target_session_attrs itself. A
 * statement that has no answer within FAILURE_PG_STATEMENT_MS is given up, and the connection with it. */
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
    char sqlstate[6]; /* "" if the server did not say one */
    int64_t number;   /* the first row's first column, if it is a number */
    struct error err; /* set if the statement failed; begins with the server's address */
};

/* dsn: Doctrine's URL. timezone: of its sessions; NULL: the server's own. Connects to nothing yet. -ERR_USAGE. */
MUST_CHECK int failure_pg_new(struct failure_pg **pg, const char *dsn, const char *timezone,
                              struct error *err);
void failure_pg_free(struct failure_pg *pg);
/* Closes the connection, and so rolls back; the next statement makes a new one. */
void failure_pg_close(struct failure_pg *pg);

/* Connects first, if there is no connection; -ERR_UNREACHABLE once, if it was lost within a transaction. values ($1, $2, ...) are texts, NUL-terminated. count -1: no values,
 * and sql may be several statements, which are one transaction. Returns 0, -ERR_UNREACHABLE (also: shutting
 * down, no room, a deadlock) or -ERR_REFUSED. */
int failure_pg_run(struct failure_pg *pg, const char *sql, const char *const *values, int count,
                   struct failure_pg_answer *answer);

/* One row: its columns as texts, SQL's NULL as BYTES_NONE, valid during the call. False: no more are wanted. */
typedef bool failure_pg_row(void *context, const struct bytes *columns);
/* The same for a statement whose rows are wanted, as they come in: one is held at a time. The time-out is about
 * silence. Where no more are wanted the connection is closed, and the result is 0. */
int failure_pg_rows(struct failure_pg *pg, const char *sql, const char *const *values, int count,
                    failure_pg_row *row, void *context, struct failure_pg_answer *answer);

#endif
