/* Rows into the failure transport: Doctrine's table `messenger_messages` in PostgreSQL, without blocking.
 *
 * The connection is opened at the first use, the table made if it is missing (auto_setup, as Doctrine
 * 6.4 makes it) and rows go one at a time. One thread.
 *
 * A body that no text column takes (NUL, not UTF-8) is stored as its base64, which PHP's reader
 * decodes; headers like that are refused.
 *
 * A row that is looked for becomes available at its entry's time, to some seconds: there it is found with
 * Doctrine's index, however many rows there are. (Where that is still to come, at a time long past.)
 * A server that does not answer is given up after 5 s while its
 * name is looked up, 5 s while connecting and 10 s for a statement. */
#ifndef COMMON_CLIENT_FAILURE_H
#define COMMON_CLIENT_FAILURE_H

#include "common/base/bytes.h"
#include "common/base/error.h"
#include "common/base/settings.h"

struct failure;

struct failure_row {
    struct bytes body;
    struct bytes headers;
    /* If set, the row is only written when none of this entry has `look_for` in its headers: it may have
     * been written by a worker that died before it acknowledged, or is being written by one that took the
     * entry over. Looking and writing are one step for all who look for the same. */
    struct bytes look_for;
    int64_t entry_us; /* then: when the entry was made, unix; the same for all who write its row */
};

/* result 0: committed (or found); else -ERR_UNREACHABLE (waiting may help: nothing was written, or it
 * can't be told: look_for next time) or -ERR_REFUSED (the database said no), with err. */
typedef void failure_written(void *context, int result, const struct error *err);

/* -ERR_USAGE names the setting: no dsn, one that is not PostgreSQL's, a table that is no name. */
MUST_CHECK int failure_new(struct failure **failure, const struct settings_failure *settings,
                           struct error *err);
void failure_free(struct failure *failure);
bool failure_is_busy(const struct failure *failure);
/* Not while busy. The row's bytes are copied. written is called from failure_process, once. */
void failure_write(struct failure *failure, const struct failure_row *row, failure_written *written,
                   void *context);

int failure_fd(const struct failure *failure);              /* -1: none now; ask again each turn */
short failure_events(const struct failure *failure);        /* POLLIN, POLLOUT */
int64_t failure_deadline_ms(const struct failure *failure); /* monotonic; -1: none */
void failure_process(struct failure *failure); /* after poll, or when the deadline is past */

#endif
