/* A Symfony Messenger queue in Redis: the stream, its consumer group, the delayed set, and our own keys. All commands
 * to Redis are here. When to reconnect, what to retry and what counts as done is the programs' business.
 *
 * One connection, non-blocking, one thread. Requests are answered in order, each by its callback, from
 * queue_process. When the connection breaks every outstanding callback runs with -ERR_UNREACHABLE.
 * Scripts and why they are scripts: docs/ARCHITECTURE.md, "Redis". Keys: all ours lie in the stream's
 * slot, under `{<stream>}__` (or the stream's own hash tag).
 *
 * Results: 0. -ERR_UNREACHABLE: waiting may help (connection lost, time-out, LOADING, READONLY, MASTERDOWN, OOM, BUSY).
 * -ERR_REFUSED: waiting does not help (WRONGTYPE, NOPERM, NOAUTH, WRONGPASS). -ERR_FENCED and -ERR_TOO_LARGE: append
 * only. */
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
bool stream_id_equals(struct stream_id id, struct stream_id other);
bool stream_id_is_behind(struct stream_id id, struct stream_id other);

/* The prefix of our own keys for the stream: "{messages}__". A stream's name with a hash tag is itself the prefix, so
 * that the keys lie in the stream's slot of a Cluster. To be freed. */
char *queue_prefix(const char *stream);

/* Parses the transport's DSN; connects to nothing yet. -ERR_USAGE names the fault. */
MUST_CHECK int queue_new(struct queue **queue, const struct settings_transport *transport,
                         struct error *err);
/* A queue for the consumer: queue_append is the only function with a script that may be called, so a connection loads
 * no other script. address NULL: the DSN's. Else "redis://host:6379/messages", as queue_address gives it; credentials
 * and options are those of the transport's DSN. */
MUST_CHECK int queue_new_to_append(struct queue **queue, const struct settings_transport *transport,
                                   const char *address, struct error *err);
void queue_free(struct queue *queue);
const struct dsn_redis *queue_dsn(const struct queue *queue);
const char *queue_address(const struct queue *queue); /* for logs: "redis://host:6379/messages" */

/* Begins to connect: authenticates, selects the database, loads the scripts. `connected` runs once, from
 * queue_process: 0, or negative with err. After a failure, and after a break, call it again when the
 * caller's back-off says so. */
typedef void queue_done(void *context, int result, const struct error *err);
typedef void queue_number_read(void *context, int result, int64_t number, const struct error *err);
void queue_connect(struct queue *queue, queue_done *connected, void *context);
void queue_disconnect(struct queue *queue); /* outstanding callbacks run with -ERR_UNREACHABLE */
bool queue_is_connected(const struct queue *queue);
const struct error *queue_last_error(const struct queue *queue); /* why the connection last ended */
bool queue_timed_out(const struct queue *queue);     /* it ended because no answer came in time */
int64_t queue_timeout_ms(const struct queue *queue); /* an answer is waited for so long */

/* For the caller's poll loop. fd is -1 while there is no connection. deadline: the oldest request is given
 * up then (a frozen server), monotonic ms, -1 none. Requests that may block (queue_read_new) don't count. */
int queue_fd(const struct queue *queue);
short queue_events(const struct queue *queue);
int64_t queue_deadline_ms(const struct queue *queue);
/* After poll, and at the deadline. revents as poll gave them, or 0. */
void queue_process(struct queue *queue, short revents);
/* For programs that may block: polls once, until the deadline at most, and processes what comes. */
void queue_wait_once(struct queue *queue);

/* How the transport's entries are written; free it with envelope_template_free. */
struct envelope_template *queue_envelope_new(const struct queue *queue,
                                             const struct settings_transport *transport);

/* GET of the spool's mark. mark is empty if there is none; valid during the callback. */
typedef void queue_mark_read(void *context, int result, struct bytes mark, const struct error *err);
void queue_read_mark(struct queue *queue, const char *spool_id, queue_mark_read *done,
                     void *context);

/* A batch of values under construction; zero-initialised is empty. Memory is kept between batches, unless it was a
 * large batch. */
struct queue_batch {
    struct buf resp;  /* the values as RESP bulk strings */
    struct buf value; /* scratch: encode a value here (buf_clear first), then queue_batch_add */
    size_t count;
};
void queue_batch_clear(struct queue_batch *batch);
void queue_batch_free(struct queue_batch *batch);
void queue_batch_add(struct queue_batch *batch); /* takes batch->value */

/* The append script: if the mark is still `expected` ("" : there is none), adds all values with XADD and sets the
 * mark to `next`; else -ERR_FENCED. All values are added or none. The batch may be empty, and may be cleared when
 * this returns. extra_ms: how much longer than the time-out the answer is waited for.
 * -ERR_TOO_LARGE: a value is larger than this server ever takes. After that, after NOSCRIPT and after the answers of a
 * replica (READONLY, MASTERDOWN) the connection is closed; after other errors it stays open. */
void queue_append(struct queue *queue, const char *spool_id, struct bytes expected,
                  struct bytes next, const struct queue_batch *batch, int64_t extra_ms,
                  queue_done *done, void *context);

/* Adds one value under an identity, once in seven days however often the function is called. number is 0 if the value
 * was added before, else 1. The mark does not matter. A list of fields (envelope_fields_encode), of at most
 * QUEUE_WORDS_MAX words, is added as those fields. -ERR_FULL: stream_max_entries would trim entries that a group still
 * needs. behind: the identity of the value that has to come first, or NULL. -ERR_FENCED: that value has not been
 * added. */
#define QUEUE_WORDS_MAX 4000
void queue_redrive(struct queue *queue, const char *id, const char *behind, struct bytes value,
                   queue_number_read *done, void *context);

/* What the delivery guarantee depends on, from CONFIG GET, INFO and the DSN. "" where the server does not say. */
struct queue_server {
    char version[32];
    char maxmemory_policy[32];
    char appendonly[8];
    char appendfsync[16];
    int64_t stream_max_entries; /* of the DSN */
};
void queue_ask_server(struct queue *queue);
const struct queue_server *queue_server(const struct queue *queue); /* NULL until Redis answers */

/* Last values: the newest message document of each topic. */

/* Last values lie in the hash `{<stream>}__latest`: topic -> document. Several workers write it, in any order: a
 * document replaces another only if it is newer. It is newer by the sequence of their common spool, else by the time
 * of receipt, else by the order of dispatch. Each topic above `limit` makes one go: of five drawn at random the one
 * received longest ago. Only what a page shows when it opens depends on this hash. */

/* pairs: a topic and its document, each added with queue_batch_add. limit: the most topics in the hash. The documents
 * are those of common/wire/update.h, with identities of ours. */
void queue_keep_latest(struct queue *queue, int64_t limit, const struct queue_batch *pairs,
                       queue_done *done, void *context);
/* Removes all last values. */
void queue_forget_latest(struct queue *queue, queue_done *done, void *context);

struct queue_latest {
    struct bytes topic;
    struct bytes document; /* data NULL: left out */
};

/* cursor: where to go on, 0 once all were seen. */
typedef void queue_latest_read(void *context, int result, uint64_t cursor,
                               const struct queue_latest *latest, size_t len,
                               const struct error *err);
/* Reads about `count` last values; cursor 0 begins. Every value that exists from the first call to the last comes, some
 * perhaps twice. Documents beyond `bytes` together are left out. */
void queue_scan_latest(struct queue *queue, uint64_t cursor, size_t count, size_t bytes,
                       queue_latest_read *done, void *context);

#endif
