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
#ifndef COMMON_CLIENT_FAILURE_ADMIN_H
#define COMMON_CLIENT_FAILURE_ADMIN_H

#include "common/base/bytes.h"
#include "common/base/error.h"
#include "common/settings/settings.h"

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

#endif
