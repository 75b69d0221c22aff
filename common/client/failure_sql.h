/* What PostgreSQL is told about Doctrine's table. Used by failure. Pure.
 *
 * Source: symfony/doctrine-messenger 6.4, Connection and PostgreSqlConnection, with DBAL 3. */
#ifndef COMMON_CLIENT_FAILURE_SQL_H
#define COMMON_CLIENT_FAILURE_SQL_H

#include "common/base/error.h"

struct failure_sql {
    /* $1 body, $2 headers, $3 queue, $4 now ("YYYY-MM-DD HH:MM:SS", UTC), $5 the rows' zone */
    char *insert;
    /* ... $6 available at; not if a row's headers have $8, there or at $7, or one of the last rows'
     * headers $9 */
    char *insert_unless;
    char *setup;    /* table, index, trigger; in one transaction, one at a time */
    char *count_on; /* the next id is above those of the rows */
    char *exists;   /* 1 if the table is there, else 0 */
    char *count;    /* $1 queue */
    /* $1 queue, $2 and $3 created from, before (µs, 0: ever), $4 ids (NULL: all), $5 how many (NULL: all), $6 bodies
     * of so many bytes at most.
     * Columns: id, headers, body, size of both, created (µs), whether a worker has taken it, created as it stands
     * there (µs), whatever the session's zone. */
    char *list_newest;
    char *list_oldest;
    char *
        take; /* $1 queue, $2 ids, $3 those that a worker has taken too?, $4 likewise. The same columns */
    char *remove; /* $1 queue, $2 ids; how many went */
};

/* table: a name, or schema.name, as Doctrine takes it without quotes. -ERR_USAGE. */
MUST_CHECK int failure_sql_make(struct failure_sql *sql, const char *table, struct error *err);
void failure_sql_free(struct failure_sql *sql);
/* A transaction that only one at a time has for this identity, and whose statements see what is committed
 * when they begin, whatever the database's default. It is not waited for when its asker has gone. Free it. */
char *failure_sql_begin(const char *identity, int timeout_ms);

#endif
