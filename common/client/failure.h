/* The failure transport: Doctrine's table `messenger_messages` in PostgreSQL, or a stream in Redis, as the DSN says. A
 * worker writes rows (struct failure); an operator lists, takes and removes them (struct failure_admin, below).
 *
 *     failure_write(failure, &row, &err);
 *     while (!failure_take(failure, &result, &err))
 *         poll failure_fd for POLLIN
 *
 * Writing a row is one blocking job in a thread beside the caller's loop (common/base/offload.h). The job connects if
 * there is no connection. It makes the table if that is missing (auto_setup, as Doctrine 6.4 makes it). Then it
 * searches for the row, inserts it and commits. One row is written at a time; the connection is kept. One thread calls
 * these functions.
 *
 * A body that no text column takes (NUL, not UTF-8) is stored as base64, which PHP's reader decodes; such headers are
 * refused. Characters that the database's own encoding lacks (`€` in LATIN1) are written in ASCII: JSON with escapes,
 * any other body as base64.
 *
 * A row that may be searched for gets a time of availability near its entry's time. So the row is found with Doctrine's
 * index, however many rows there are. (A row whose entry has a time in the future gets a time long past.) A server that
 * does not answer is disconnected after the time-outs of failure_pg.h. */
#ifndef COMMON_CLIENT_FAILURE_H
#define COMMON_CLIENT_FAILURE_H

#include "common/base/bytes.h"
#include "common/base/error.h"
#include "common/settings/settings.h"

#define FAILURE_ROWS_SEARCHED 1000

struct failure;

struct failure_row {
    struct bytes body;
    struct bytes headers;
    /* If set, the row is only written if no row of this entry has `dedupe_key` in its headers. Such a row may come from a
     * worker that died before it acknowledged, or from one that claimed the entry. Search and insertion are one step
     * for all workers with an equal dedupe_key. */
    struct bytes dedupe_key;
    /* If set, the row is only written if none of the last FAILURE_ROWS_SEARCHED rows has `identity` in its headers. A
     * row with it is another copy of the message. There is no index to search more of them. Workers of this version
     * never write two rows of one identity at once. */
    struct bytes identity;
    /* With dedupe_key: when the entry was made, unix. Every worker that writes this entry's row gives this time. */
    int64_t entry_us;
};

/* -ERR_USAGE names the setting: no dsn, one that is not PostgreSQL's, a table that is no name. */
MUST_CHECK int failure_new(struct failure **failure, const struct settings_failure *settings,
                           struct error *err);
/* Does not wait: a row under way may or may not be committed. The thread frees its memory. */
void failure_free(struct failure *failure);

/* Begins to write the row, whose bytes are copied. Call it only if no row is under way. Errors, with nothing begun:
 * -ERR_REFUSED (headers that no text column takes), -ERR_UNREACHABLE (no thread could be started: waiting may help). */
MUST_CHECK int failure_write(struct failure *failure, const struct failure_row *row,
                             struct error *err);
int failure_fd(const struct failure *failure); /* POLLIN: the row is done; -1: none is under way */
/* True once for each row. *result is 0 (committed, or found), or with err -ERR_REFUSED (by the database) or
 * -ERR_UNREACHABLE (waiting may help). After -ERR_UNREACHABLE the row may have been written: set dedupe_key the next
 * time. */
bool failure_take(struct failure *failure, int *result, struct error *err);

/* For programs that may block (the monitor, the command line): counts the rows of the settings' queue, 0 if there is no
 * table yet. -ERR_UNREACHABLE (also: no answer within timeout_ms), -ERR_REFUSED. A count that is given up goes on in
 * its thread; the next call waits for its end and uses its connection. Not for a struct failure that rows are written
 * with. */
MUST_CHECK int failure_count(struct failure *failure, int64_t timeout_ms, int64_t *count,
                             struct error *err);
/* For such programs too: makes the table, or stream and group, if missing, whatever auto_setup says. *made: 0 it
 * existed, 1 the table, or the group alone, was made, 2 stream and group. */
MUST_CHECK int failure_set_up(struct failure *failure, int64_t timeout_ms, int64_t *made,
                              struct error *err);

/* The failed messages, for an operator: list, take and remove them. Blocking, for the command line and for
 * a thread of the monitor's.
 *
 *     admin->store->take(admin->state, &wanted, visit, context, &err);      locks them, gives each to visit
 *     ... send them on ...
 *     admin->store->settle(admin->state, sent, sent_len, &removed, &err);   removes these, unlocks the others
 *
 * The DSN says where the messages lie. The caller sees neither table nor stream: an id is an opaque text.
 *
 * In Doctrine's table, taking is a transaction that one operator at a time may have for a queue. Two at once could send
 * the messages of a topic out of order. Rows that messenger:consume has in hand are skipped (FOR UPDATE SKIP LOCKED),
 * and the rows of a process that dies are free again. messenger:failed:retry ID locks nothing before it handles a row
 * (Symfony's Connection::find): while it runs, a row may be handled twice.
 * In a stream nothing can be locked. Entries that a consumer of the group has pending are skipped. Two operators may
 * take one entry: the guard under which they send makes it one message. An entry that messenger:consume reads between
 * taking and settling is handled twice.
 * One thread at a time. */
struct failure_admin {
    const struct failure_store *store;
    void *state;
};

/* Connects to nothing yet. -ERR_USAGE names the setting. */
MUST_CHECK int failure_admin_new(struct failure_admin **admin,
                                 const struct settings_failure *settings, struct error *err);
void failure_admin_free(struct failure_admin *admin);

#define FAILURE_TAKEN_S 86400 /* a worker that took a row and has not settled it since is dead */

struct failure_message {
    struct bytes id;
    struct bytes body; /* body and headers as stored, for failed_read and envelope_decode_parts */
    struct bytes headers;
    size_t size;        /* bytes of body and headers, also if they were not asked for */
    int64_t failed_us;  /* when it came into the failure transport, unix */
    bool taken;         /* a PHP worker has it in hand, or died with it (FAILURE_TAKEN_S) */
    struct bytes guard; /* id and time, which are unique together even if the id is used again */
};

struct failure_query {
    int64_t since_us;        /* only messages that came then or later; 0: all */
    int64_t until_us;        /* only messages that came before then; 0: all */
    const struct bytes *ids; /* NULL: all */
    size_t ids_len;
    int64_t limit; /* 0: none */
    bool newest_first;
    bool without_body; /* the headers alone */
    int64_t body_most; /* larger bodies are not read; 0: all are */
};

/* The bytes are valid during the call. False: no more are wanted. */
typedef bool failure_visit(void *context, const struct failure_message *message);

struct failure_wanted {
    const struct bytes *ids;
    size_t len;
    bool taken_too; /* also messages that a PHP worker has in hand */
    bool without_body;
};

/* The storage of the failure transport: functions that block, called one at a time. For failure_write they run in a
 * thread beside the loop. Results: 0, -ERR_UNREACHABLE (waiting may help), -ERR_REFUSED. */
struct failure_store {
    /* timezone: of the times that are listed; NULL: nothing is listed. Connects to nothing yet. -ERR_USAGE names the
     * setting. */
    MUST_CHECK int (*new)(void **state, const struct settings_failure *settings,
                          const char *timezone, struct error *err);
    void (*free)(void *state);
    /* See failure_take, failure_count and failure_set_up. */
    MUST_CHECK int (*write)(void *state, const struct failure_row *row, struct error *err);
    MUST_CHECK int (*count)(void *state, int64_t *count, struct error *err);
    MUST_CHECK int (*set_up)(void *state, int64_t *made, struct error *err);

    /* True if a message could have that id. */
    bool (*is_id)(struct bytes id);
    /* Lists messages in the order in which they came, or the reverse. A table that does not exist yet is empty. */
    MUST_CHECK int (*list)(void *state, const struct failure_query *query, failure_visit *visit,
                           void *context, struct error *err);
    /* Locks the messages of these ids that exist and are free, until settle or free. Gives each to visit, in no
     * order. */
    MUST_CHECK int (*take)(void *state, const struct failure_wanted *wanted, failure_visit *visit,
                           void *context, struct error *err);
    /* Removes these of the taken messages, and unlocks the others. After an error it is unknown whether they were
     * removed; none is locked any more. */
    MUST_CHECK int (*settle)(void *state, const struct bytes *ids, size_t len, int64_t *removed,
                             struct error *err);
};

extern const struct failure_store FAILURE_TABLE;  /* failure_table.c: PostgreSQL */
extern const struct failure_store FAILURE_STREAM; /* failure_stream.c: Redis */

#endif
