/* A Symfony Messenger queue in Redis: the stream, its consumer group, the delayed set, and our own keys
 * beside them. Everything that Redis is told, and nothing but that: when to reconnect, what to retry and
 * what counts as done is the programs' business.
 *
 * One connection, non-blocking, one thread. Requests are answered in order, each by its callback, from
 * queue_process. When the connection breaks every outstanding callback runs with -ERR_UNREACHABLE.
 * Scripts and why they are scripts: docs/ARCHITECTURE.md, "Redis". Keys: all ours lie in the stream's
 * slot, under `{<stream>}__` (or the stream's own hash tag).
 *
 * Results: 0; -ERR_UNREACHABLE (connection lost, time-out, LOADING, READONLY, MASTERDOWN, OOM, BUSY:
 * waiting may help); -ERR_REFUSED (WRONGTYPE, NOPERM, NOAUTH, WRONGPASS: waiting does not help);
 * -ERR_FENCED and -ERR_TOO_LARGE (append only). */
#ifndef COMMON_CLIENT_QUEUE_H
#define COMMON_CLIENT_QUEUE_H

#include "common/base/buf.h"
#include "common/base/error.h"
#include "common/settings/settings.h"
#include "common/wire/dsn.h"
#include "common/wire/envelope.h"

struct queue;

struct stream_id {
    uint64_t ms;
    uint64_t sequence;
};
#define STREAM_ID_TEXT_SIZE 42
void stream_id_format(struct stream_id id, char text[STREAM_ID_TEXT_SIZE]);
bool stream_id_parse(struct bytes text, struct stream_id *id);
bool stream_id_is_behind(struct stream_id id, struct stream_id other);

/* What our own keys of the stream begin with: "{messages}__". A name with a hash tag is its own prefix, so that both fall
 * into one slot of a Cluster. Freed by the caller. */
char *queue_prefix(const char *stream);

/* Parses the transport's DSN; connects to nothing yet. -ERR_USAGE names the fault. */
MUST_CHECK int queue_new(struct queue **queue, const struct settings_transport *transport,
                         struct error *err);
/* The consumer's: nothing but queue_append may be asked that takes a script, so a connection loads no other. address NULL:
 * the DSN's; else "redis://host:6379/messages" as queue_address says it, with the credentials and options of the
 * transport's DSN: all that is known of it. */
MUST_CHECK int queue_new_to_append(struct queue **queue, const struct settings_transport *transport,
                                   const char *address, struct error *err);
void queue_free(struct queue *queue);
const struct dsn_redis *queue_dsn(const struct queue *queue);
const char *
queue_address(const struct queue *queue); /* "redis://host:6379/messages", for messages */

/* Begins to connect: authenticates, selects the database, loads the scripts. `connected` runs once, from
 * queue_process: 0, or negative with err. After a failure, and after a break, call it again when the
 * caller's back-off says so. */
typedef void queue_done(void *context, int result, const struct error *err);
typedef void queue_number_read(void *context, int result, int64_t number, const struct error *err);
void queue_connect(struct queue *queue, queue_done *connected, void *context);
void queue_disconnect(struct queue *queue); /* outstanding callbacks run with -ERR_UNREACHABLE */
bool queue_is_connected(const struct queue *queue);
const struct error *queue_last_error(const struct queue *queue); /* why the connection last ended */
bool queue_timed_out(const struct queue *queue);     /* that was for want of an answer in time */
int64_t queue_timeout_ms(const struct queue *queue); /* that is given up after so much silence */

/* For the caller's poll loop. fd is -1 while there is no connection. deadline: the oldest request is given
 * up then (a frozen server), monotonic ms, -1 none. Requests that may block (queue_read) don't count. */
int queue_fd(const struct queue *queue);
short queue_events(const struct queue *queue);
int64_t queue_deadline_ms(const struct queue *queue);
/* After poll, and at the deadline. revents as poll gave them, or 0. */
void queue_process(struct queue *queue, short revents);
/* Both, for who may wait: polls once, until the deadline at most, and processes what comes. */
void queue_wait_once(struct queue *queue);

/* The consumer's side ------------------------------------------------------------------------- */

/* How the transport's entries are written; free it with envelope_template_free. */
struct envelope_template *queue_envelope_new(const struct queue *queue,
                                             const struct settings_transport *transport);

/* GET of the spool's mark. mark is empty if there is none; valid during the callback. */
typedef void queue_mark_read(void *context, int result, struct bytes mark, const struct error *err);
void queue_read_mark(struct queue *queue, const char *spool_id, queue_mark_read *done,
                     void *context);

/* A batch of values under construction; zero-initialised is empty. Memory is kept between batches, but for
 * that of large ones. */
struct queue_batch {
    struct buf resp;  /* the values as RESP bulk strings */
    struct buf value; /* scratch: encode a value here (buf_clear first), then queue_batch_add */
    size_t count;
};
void queue_batch_clear(struct queue_batch *batch);
void queue_batch_free(struct queue_batch *batch);
void queue_batch_add(struct queue_batch *batch); /* takes batch->value */

/* The append script: if the mark is still `expected` ("" : there is none), XADD all values and set it to
 * `next`; else -ERR_FENCED. All or nothing, and once. batch may be cleared when this returns; it may be
 * empty. extra_ms: how much longer than the time-out the answer is waited for.
 * -ERR_TOO_LARGE: one of its values is larger than this server ever takes. After that, after NOSCRIPT and
 * after the answers of a replica (READONLY, MASTERDOWN) the connection is closed; after other errors it
 * stays. */
void queue_append(struct queue *queue, const char *spool_id, struct bytes expected,
                  struct bytes next, const struct queue_batch *batch, int64_t extra_ms,
                  queue_done *done, void *context);

/* Adds one value under an identity, once in seven days however often it is asked for: number is 0 if
 * it was done before, else 1. The mark does not matter. A list of fields (envelope_fields_encode), of
 * QUEUE_WORDS_MAX words at most, is added as these. -ERR_FULL: it would push out of the stream what waits there (stream_max_entries).
 * behind, unless NULL, is the identity of the one that goes before it: -ERR_FENCED while that has not been added. */
#define QUEUE_WORDS_MAX 4000
void queue_redrive(struct queue *queue, const char *id, const char *behind, struct bytes value,
                   queue_number_read *done, void *context);

/* What the guarantee in force depends on: CONFIG GET, INFO, the DSN. "" where the server does not say. */
struct queue_server {
    char version[32];
    char maxmemory_policy[32];
    char appendonly[8];
    char appendfsync[16];
    int64_t stream_max_entries; /* as the DSN has it */
};
void queue_ask_server(struct queue *queue);
const struct queue_server *queue_server(const struct queue *queue); /* NULL until it has answered */

/* Last values: the newest message document of each topic --------------------------------------------- */

/* They stand in the hash `{<stream>}__latest`: topic -> document. Workers write it, whichever comes first: a document takes
 * the place of another only if it is newer, by the sequence of their spool, else by the time of receipt, else by the order
 * of dispatch. Of more than `limit` topics some go: of five that are drawn at random the one that was received longest ago,
 * for each that is too many. Nothing depends on this hash but what a page shows when it opens. */

/* pairs: a topic and its document, each added with queue_batch_add; so many topics may there be. The documents are
 * those of common/wire/update.h, with identities of ours. */
void queue_keep_latest(struct queue *queue, int64_t limit, const struct queue_batch *pairs,
                       queue_done *done, void *context);
void queue_forget_latest(struct queue *queue, queue_done *done, void *context); /* all of them */

struct queue_latest {
    struct bytes topic;
    struct bytes document; /* data NULL: left out */
};

/* cursor: where to go on, 0 once all were seen. */
typedef void queue_latest_read(void *context, int result, uint64_t cursor,
                               const struct queue_latest *latest, size_t len,
                               const struct error *err);
/* About `count` of them; 0 begins. All that are there from the first call to the last come, some perhaps twice.
 * Documents beyond so many bytes together are left out. */
void queue_scan_latest(struct queue *queue, uint64_t cursor, size_t count, size_t bytes,
                       queue_latest_read *done, void *context);

#endif
