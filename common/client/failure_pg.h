/* One connection to PostgreSQL that never blocks, and one statement on it at a time. Used by failure and
 * failure_admin. One thread.
 *
 *     failure_pg_run(pg, sql, values, count);      connects first, if there is no connection
 *     while (!failure_pg_process(pg, &outcome))
 *         poll failure_pg_fd for failure_pg_events until failure_pg_deadline_ms */
#ifndef COMMON_CLIENT_FAILURE_PG_H
#define COMMON_CLIENT_FAILURE_PG_H

#include "common/base/error.h"

#include <stdbool.h>
#include <stdint.h>

#define FAILURE_PG_CONNECT_MS   5000 /* for the name, and for connecting */
#define FAILURE_PG_STATEMENT_MS 10000

struct failure_pg;

struct failure_pg_outcome {
    int result; /* 0, -ERR_UNREACHABLE (also: shutting down, no room, a deadlock), -ERR_REFUSED */
    char sqlstate[6]; /* "" if the server did not say one */
    int64_t number;   /* the first row's first column, if it is a number */
    struct error err; /* begins with the server's address */
};

/* dsn: Doctrine's URL. Connects to nothing yet. -ERR_USAGE. */
MUST_CHECK int failure_pg_new(struct failure_pg **pg, const char *dsn, struct error *err);
void failure_pg_free(struct failure_pg *pg); /* breaks off what is running */
/* Closes the connection, and so rolls back; the next statement makes a new one. One that runs is given up and
 * has no outcome, but look-ups go on, and the next statement uses their answers. */
void failure_pg_break(struct failure_pg *pg);

/* sql and the values ($1, $2, ...: text, NUL-terminated) must stay until the outcome. count -1: no
 * values, and sql may be several statements, which are one transaction. Not while one is running. */
void failure_pg_run(struct failure_pg *pg, const char *sql, const char *const *values, int count);
bool failure_pg_process(struct failure_pg *pg,
                        struct failure_pg_outcome *outcome); /* true: it is over */

int failure_pg_fd(const struct failure_pg *pg);
short failure_pg_events(const struct failure_pg *pg);
int64_t failure_pg_deadline_ms(const struct failure_pg *pg); /* -1: nothing is running */

#endif
