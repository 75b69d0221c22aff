/* The failure transport: Doctrine's table `messenger_messages` in PostgreSQL, or a stream in Redis, as the DSN says. A
 * worker writes rows (struct failure), an operator lists, takes and removes them (struct failure_admin, below).
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

/* The failed messages, for an operator: list, take and remove them. Blocking, for the command line and for
 * a thread of the monitor's.
 *
 *     failure_admin_take(admin, &wanted, visit, context, &err);         locked, each given to visit
 *     ... send them on ...
 *     failure_admin_settle(admin, sent, sent_len, &removed, &err);      those go, the others are free again
 *
 * Where they lie is the DSN's business: an id is a text that nobody looks into, and whoever asks sees no table
 * and no stream.
 *
 * In Doctrine's table taking is a transaction, which one operator at a time has for a queue: who passed over what another
 * sends would send later messages of a topic before them. What messenger:consume has in hand is passed over (FOR UPDATE
 * SKIP LOCKED), and a process that dies gives its rows back. messenger:failed:retry ID locks nothing
 * before it handles a row (Symfony's Connection::find): beside that, a row may be handled twice.
 * In a stream nothing can be locked. What a consumer of the group has pending is passed over; two operators may take
 * the same, and the guard under which they send makes it one message; an entry that messenger:consume reads between
 * taking and settling is handled twice.
 * One thread at a time. */
#define FAILURE_TAKEN_S 86400 /* a worker that took a row and has not settled it since is dead */

struct failure_admin;

struct failure_message {
    struct bytes id;
    struct bytes
        body; /* as the transport has them: failed_read and envelope_decode_parts read both */
    struct bytes headers;
    size_t size;        /* of both, whether they were asked for or not */
    int64_t failed_us;  /* when it came here, unix */
    bool taken;         /* a worker of PHP's has it in hand, or died with it (FAILURE_TAKEN_S) */
    struct bytes guard; /* id and time: no other message has both, whoever gets the id again */
};

struct failure_query {
    int64_t since_us;        /* came here then or later; 0: ever */
    int64_t until_us;        /* came here before then; 0: ever */
    const struct bytes *ids; /* NULL: all */
    size_t ids_len;
    int64_t limit; /* 0: none */
    bool newest_first;
    bool without_body; /* the headers alone */
    int64_t body_most; /* larger bodies are not read; 0: all are */
};

/* The bytes are valid during the call. False: no more are wanted. */
typedef bool failure_visit(void *context, const struct failure_message *message);

/* Connects to nothing yet. -ERR_USAGE names the setting. */
MUST_CHECK int failure_admin_new(struct failure_admin **admin,
                                 const struct settings_failure *settings, struct error *err);
void failure_admin_free(struct failure_admin *admin);
/* Could a message have that id, as it is listed? */
bool failure_admin_is_id(const struct failure_admin *admin, struct bytes id);

/* Results: 0, -ERR_UNREACHABLE (waiting may help), -ERR_REFUSED. A table that is not there yet is empty. */
/* In the order in which they came here, or the reverse. */
MUST_CHECK int failure_admin_list(struct failure_admin *admin, const struct failure_query *query,
                                  failure_visit *visit, void *context, struct error *err);

struct failure_wanted {
    const struct bytes *ids;
    size_t len;
    bool taken_too; /* whatever a worker of PHP's has in hand */
    bool without_body;
};

/* Locks those of the ids that are there and free, until failure_admin_settle or failure_admin_free, and gives
 * each to visit, in no order. */
MUST_CHECK int failure_admin_take(struct failure_admin *admin, const struct failure_wanted *wanted,
                                  failure_visit *visit, void *context, struct error *err);
/* Removes these of what was taken and frees the others. After an error it can't be told: what was removed is
 * gone, or still there and free. */
MUST_CHECK int failure_admin_settle(struct failure_admin *admin, const struct bytes *ids,
                                    size_t len, int64_t *removed, struct error *err);

/* What the failure transport is kept in: functions that block, one at a time, in a thread beside the loop where
 * failure_write calls them. For failure*.c only. */
struct failure_store {
    /* timezone: of the times that are listed; NULL: none are. Connects to nothing yet. -ERR_USAGE names the setting. */
    int (*new)(void **state, const struct settings_failure *settings, const char *timezone,
               struct error *err);
    void (*free)(void *state);
    /* As failure_take, failure_count and failure_set_up say them. */
    int (*write)(void *state, const struct failure_row *row, struct error *err);
    int (*count)(void *state, int64_t *count, struct error *err);
    int (*set_up)(void *state, int64_t *made, struct error *err);
    /* As failure_admin_... say them. */
    bool (*is_id)(struct bytes id);
    int (*list)(void *state, const struct failure_query *query, failure_visit *visit, void *context,
                struct error *err);
    int (*take)(void *state, const struct failure_wanted *wanted, failure_visit *visit,
                void *context, struct error *err);
    int (*settle)(void *state, const struct bytes *ids, size_t len, int64_t *removed,
                  struct error *err);
};

extern const struct failure_store FAILURE_TABLE;  /* failure_table.c: PostgreSQL */
extern const struct failure_store FAILURE_STREAM; /* failure_stream.c: Redis */

#endif
