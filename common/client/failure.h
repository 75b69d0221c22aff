/* Rows into the failure transport: Doctrine's table `messenger_messages` in PostgreSQL.
 *
 *     failure_write(failure, &row, &err);
 *     while (!failure_take(failure, &result, &err))
 *         poll failure_fd for POLLIN
 *
 * A row is one blocking job in a thread beside the caller's loop (common/base/offload.h): connect if there is
 * no connection, make the table if it is missing (auto_setup, as Doctrine 6.4 makes it), look, insert, commit.
 * One row at a time; the connection is kept for the next. One thread calls these functions.
 *
 * A body that no text column takes (NUL, not UTF-8) is stored as its base64, which PHP's reader
 * decodes; headers like that are refused. What the database's own encoding can't hold (`€` in LATIN1) is
 * written in ASCII: JSON with escapes, any other body as base64.
 *
 * A row that is looked for becomes available at its entry's time, to some seconds: there it is found with
 * Doctrine's index, however many rows there are. (Where that is still to come, at a time long past.)
 * A server that does not answer is given up: failure_pg.h has the time-outs. */
#ifndef COMMON_CLIENT_FAILURE_H
#define COMMON_CLIENT_FAILURE_H

#include "common/base/bytes.h"
#include "common/base/error.h"
#include "common/settings/settings.h"

#define FAILURE_ROWS_LOOKED_THROUGH 1000

struct failure;

struct failure_row {
    struct bytes body;
    struct bytes headers;
    /* If set, the row is only written when none of this entry has `look_for` in its headers: it may have
     * been written by a worker that died before it acknowledged, or is being written by one that took the
     * entry over. Looking and writing are one step for all who look for the same. */
    struct bytes look_for;
    /* If set, the row is only written when none of the last FAILURE_ROWS_LOOKED_THROUGH rows has `identity` in its
     * headers: that row is another copy of the message. There is no index for more. Workers of this version
     * never write two with one identity at the same time. */
    struct bytes identity;
    /* look_for: when the entry was made, unix; the same for all who write its row */
    int64_t entry_us;
};

/* -ERR_USAGE names the setting: no dsn, one that is not PostgreSQL's, a table that is no name. */
MUST_CHECK int failure_new(struct failure **failure, const struct settings_failure *settings,
                           struct error *err);
/* Does not wait: a row under way is committed or not, and the thread frees what it holds. */
void failure_free(struct failure *failure);

/* Begins to write the row, whose bytes are copied. Not while one is under way. Fails with nothing begun:
 * -ERR_REFUSED (headers that no text column takes), -ERR_UNREACHABLE (no thread: waiting may help). */
MUST_CHECK int failure_write(struct failure *failure, const struct failure_row *row,
                             struct error *err);
int failure_fd(const struct failure *failure); /* POLLIN: the row is done; -1: none is under way */
/* True once a row: *result is 0 (committed, or found), -ERR_UNREACHABLE (waiting may help: nothing was written,
 * or it can't be told: look_for next time) or -ERR_REFUSED (the database said no), with err. */
bool failure_take(struct failure *failure, int *result, struct error *err);

/* For programs that may wait (the monitor, the command line): the rows of the settings' queue, 0 if there is no table
 * yet. -ERR_UNREACHABLE (also: no answer within timeout_ms), -ERR_REFUSED. A question that is given up goes on in its
 * thread: the next one waits for its end and uses its connection. Not on one that rows are written with. */
MUST_CHECK int failure_count(struct failure *failure, int64_t timeout_ms, int64_t *count,
                             struct error *err);
/* Likewise: makes the table, or stream and group, if it is missing, whatever auto_setup says. *made: 0 it was there, 1 the
 * table, or the group alone, 2 stream and group. */
MUST_CHECK int failure_set_up(struct failure *failure, int64_t timeout_ms, int64_t *made,
                              struct error *err);

#endif
