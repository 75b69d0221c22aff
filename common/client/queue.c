#include "common/client/queue.h"

#include "common/base/alloc.h"
#include "common/client/queue_internal.h"
#include "common/wire/envelope.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A large request may take as long as over a slow link. Appends have a limit that adapts: struct
 * dispatch_limit. */
#define LARGE_REQUEST          65536
#define SLOW_LINK_BYTES_PER_MS 16

/* Formats without snprintf, for speed: a worker formats one id for each message. */
void stream_id_format(struct stream_id id, char text[STREAM_ID_TEXT_SIZE])
{
    char *to = bytes_put_digits(text, id.ms);

    *to++ = '-';
    *bytes_put_digits(to, id.sequence) = '\0';
}

bool stream_id_parse(struct bytes text, struct stream_id *id)
{
    struct bytes ms, sequence;

    return bytes_split(text, '-', &ms, &sequence) && bytes_to_u64(ms, &id->ms) &&
           bytes_to_u64(sequence, &id->sequence);
}

bool stream_id_equals(struct stream_id id, struct stream_id other)
{
    return id.ms == other.ms && id.sequence == other.sequence;
}

bool stream_id_is_behind(struct stream_id id, struct stream_id other)
{
    return id.ms != other.ms ? id.ms > other.ms : id.sequence > other.sequence;
}

char *queue_prefix(const char *stream)
{
    const char *open = strchr(stream, '{');
    const char *close = open != NULL ? strchr(open, '}') : NULL;
    bool has_hash_tag = close != NULL && close > open + 1;

    return xasprintf(has_hash_tag ? "%s__" : "{%s}__", stream);
}

static void connection_broken(void *context, const struct error *err)
{
    struct queue *queue = context;

    queue_done *done = queue->connected_done;

    queue->connected = false;
    queue->last_error = *err;
    queue->connected_done = NULL;
    if (done != NULL)
        done(queue->connected_context, -(int)err->code, err);
}

/* Exchanges the parts of the DSNs that say where the stream is; credentials and options stay. */
static void swap_address(struct dsn_redis *one, struct dsn_redis *other)
{
    struct dsn_redis kept = *one;

    memcpy(one->hosts, other->hosts, sizeof(one->hosts));
    memcpy(other->hosts, kept.hosts, sizeof(kept.hosts));
    one->hosts_len = other->hosts_len;
    other->hosts_len = kept.hosts_len;
    one->path = other->path;
    other->path = kept.path;
    one->stream = other->stream;
    other->stream = kept.stream;
    one->sentinel_master = other->sentinel_master;
    other->sentinel_master = kept.sentinel_master;
    one->cluster = other->cluster;
    one->tls = other->tls;
    one->dbindex = other->dbindex;
}

static int read_dsn(struct dsn_redis *dsn, const char *text, const char *address, struct error *err)
{
    struct dsn_redis there;
    int result = dsn_redis_parse(dsn, text, err);

    if (result < 0 || address == NULL)
        return result;
    result = dsn_redis_parse(&there, address, err);
    if (result < 0) {
        dsn_redis_free(dsn);
        return result;
    }
    swap_address(dsn, &there);
    dsn_redis_free(&there);
    return 0;
}

static int make_queue(struct queue **queue, const struct settings_transport *transport,
                      const char *address, size_t scripts, struct error *err)
{
    struct queue *made = xcalloc(1, sizeof(*made));
    struct buf redacted = {0};

    if (read_dsn(&made->dsn, transport->dsn, address, err) < 0) {
        free(made);
        return error_wrap(err, "[transport:%s] dsn", transport->name);
    }
    dsn_redacted(&redacted, address != NULL ? address : transport->dsn);
    made->address = buf_take_text(&redacted);
    made->prefix = queue_prefix(made->dsn.stream);
    made->latest = xasprintf("%slatest", made->prefix);
    made->names = xasprintf("%sconsumers:%s", made->prefix, made->dsn.group);
    made->last = xasprintf("%slast:%s", made->prefix, made->dsn.group);
    made->since = xasprintf("%ssince:%s", made->prefix, made->dsn.group);
    made->delayed = xasprintf("%s__queue", made->dsn.stream);
    made->redis =
        redis_new(made->address, redis_dsn_timeout_ms(&made->dsn), connection_broken, made);
    made->scripts = scripts;
    for (size_t script = 0; script < scripts && made->dsn.cluster; script++)
        redis_prepare_aside(made->redis, "SCRIPT LOAD %s", QUEUE_SCRIPT_TEXT[script]);
    *queue = made;
    return 0;
}

int queue_new(struct queue **queue, const struct settings_transport *transport, struct error *err)
{
    return make_queue(queue, transport, NULL, QUEUE_SCRIPTS, err);
}

int queue_new_to_append(struct queue **queue, const struct settings_transport *transport,
                        const char *address, struct error *err)
{
    return make_queue(queue, transport, address, QUEUE_SCRIPT_APPEND + 1, err);
}

void queue_free(struct queue *queue)
{
    if (queue == NULL)
        return;
    queue->connected_done = NULL;
    redis_free(queue->redis);
    dsn_redis_free(&queue->dsn);
    free(queue->address);
    free(queue->latest);
    free(queue->prefix);
    free(queue->names);
    free(queue->last);
    free(queue->since);
    free(queue->delayed);
    free(queue);
}

const struct dsn_redis *queue_dsn(const struct queue *queue)
{
    return &queue->dsn;
}

const char *queue_address(const struct queue *queue)
{
    return queue->address;
}

static void script_loaded(void *context, const redisReply *reply, const struct error *err)
{
    struct queue *queue = context;

    if (err != NULL) {
        char why[200];

        if (reply == NULL)
            return; /* connection_broken reports it */
        snprintf(why, sizeof(why), "%.*s", BYTES_ARG(redis_text(reply)));
        redis_close(queue->redis, err->code, why);
        return;
    }
    snprintf(queue->sha[queue->scripts_loaded], sizeof(queue->sha[0]), "%.*s",
             BYTES_ARG(redis_text(reply)));
    queue->scripts_loaded++;
    if (queue->scripts_loaded < queue->scripts)
        return;
    queue_done *done = queue->connected_done;
    queue->connected = true;
    queue->connected_done = NULL;
    if (done != NULL)
        done(queue->connected_context, 0, NULL);
}

static void load_script(struct queue *queue, enum queue_script script, redis_replied *done,
                        void *context)
{
    redis_command(queue->redis, 0, done, context, "SCRIPT LOAD %s", QUEUE_SCRIPT_TEXT[script]);
}

void queue_connect(struct queue *queue, queue_done *connected, void *context)
{
    struct error err;

    queue_disconnect(queue);
    int result = redis_open_dsn(queue->redis, &queue->dsn, &err);
    if (result < 0) {
        queue->last_error = err;
        connected(context, result, &err);
        return;
    }
    queue->connected_done = connected;
    queue->connected_context = context;
    queue->scripts_loaded = 0;
    for (size_t script = 0; script < queue->scripts; script++)
        load_script(queue, (enum queue_script)script, script_loaded, queue);
}

void queue_disconnect(struct queue *queue)
{
    queue->connected_done = NULL;
    redis_close(queue->redis, ERR_UNREACHABLE, "closed");
}

/* Returns false even while the outstanding requests of a broken connection are answered. */
bool queue_is_connected(const struct queue *queue)
{
    return queue->connected && redis_is_open(queue->redis);
}

const struct error *queue_last_error(const struct queue *queue)
{
    return &queue->last_error;
}

bool queue_timed_out(const struct queue *queue)
{
    return redis_timed_out(queue->redis);
}

int64_t queue_timeout_ms(const struct queue *queue)
{
    return redis_dsn_timeout_ms(&queue->dsn);
}

int queue_fd(const struct queue *queue)
{
    return redis_fd(queue->redis);
}

short queue_events(const struct queue *queue)
{
    return redis_events(queue->redis);
}

int64_t queue_deadline_ms(const struct queue *queue)
{
    return redis_deadline_ms(queue->redis);
}

void queue_process(struct queue *queue, short revents)
{
    redis_process(queue->redis, revents);
}

void queue_wait_once(struct queue *queue)
{
    redis_wait(queue->redis);
}

/* A request is kept until the answer: a server without the script gets script and request again. */
struct eval_request {
    struct queue *queue;
    enum queue_script script;
    struct buf resp;
    int64_t extra_ms;
    bool repeated;
    redis_replied *done;
    void *context;
};

static bool has_forgotten(const redisReply *reply, const struct error *err)
{
    return err != NULL && reply != NULL && bytes_starts_with(redis_text(reply), BYTES("NOSCRIPT"));
}

static void evaluated(void *context, const redisReply *reply, const struct error *err)
{
    struct eval_request *request = context;
    struct queue *queue = request->queue;
    bool forgotten = has_forgotten(reply, err);

    if (forgotten && !request->repeated) {
        request->repeated = true;
        load_script(queue, request->script, NULL, NULL);
        redis_send_formatted(queue->redis, buf_bytes(&request->resp), request->extra_ms, evaluated,
                             request);
        return;
    }
    request->done(request->context, reply, err);
    buf_free(&request->resp);
    free(request);
    if (forgotten)
        redis_close(queue->redis, ERR_UNREACHABLE, "the server forgets our scripts");
}

static const char *sha_of(const struct queue *queue, enum queue_script script)
{
    if (script >= queue->scripts)
        abort(); /* a queue that may only append (queue_new_to_append) */
    return queue->sha[script];
}

void queue_begin_eval(const struct queue *queue, struct buf *resp, enum queue_script script,
                      size_t keys, size_t arguments)
{
    redis_write_count(resp, 3 + keys + arguments);
    redis_write_argument(resp, BYTES("EVALSHA"));
    redis_write_argument(resp, bytes_of(sha_of(queue, script)));
    redis_write_number(resp, (int64_t)keys);
}

void queue_eval_written(struct queue *queue, enum queue_script script, struct buf resp,
                        redis_replied *done, void *context)
{
    struct eval_request *request = xcalloc(1, sizeof(*request));

    *request = (struct eval_request){
        .queue = queue, .script = script, .resp = resp, .done = done, .context = context};
    if (request->resp.len >= LARGE_REQUEST)
        request->extra_ms = (int64_t)request->resp.len / SLOW_LINK_BYTES_PER_MS;
    redis_send_formatted(queue->redis, buf_bytes(&request->resp), request->extra_ms, evaluated,
                         request);
}

void queue_eval(struct queue *queue, enum queue_script script, redis_replied *done, void *context,
                int keys, const char *format, ...)
{
    char *whole = xasprintf("EVALSHA %s %d %s", sha_of(queue, script), keys, format);
    struct buf resp = {0};
    va_list arguments;

    va_start(arguments, format);
    redis_format(&resp, whole, arguments);
    va_end(arguments);
    free(whole);
    queue_eval_written(queue, script, resp, done, context);
}

struct queue_call *queue_call_new(struct queue_call call)
{
    struct queue_call *made = xmalloc(sizeof(*made));

    *made = call;
    return made;
}

struct queue_call queue_call_take(void *call)
{
    struct queue_call taken = *(struct queue_call *)call;

    free(call);
    return taken;
}

int queue_result(const struct error *err)
{
    return err != NULL ? -(int)err->code : 0;
}

void queue_answer_done(void *context, const redisReply *reply, const struct error *err)
{
    struct queue_call call = queue_call_take(context);

    (void)reply;
    if (call.done != NULL)
        call.done(call.context, queue_result(err), err);
}

void queue_answer_number(void *context, const redisReply *reply, const struct error *err)
{
    struct queue_call call = queue_call_take(context);

    call.number(call.context, queue_result(err), err == NULL ? reply->integer : 0, err);
}

/* Copies the value behind a name in a flat CONFIG GET answer. */
static void copy_config(const redisReply *reply, const char *name, char *out, size_t size)
{
    const redisReply *value = redis_member(reply, name);

    if (value != NULL)
        snprintf(out, size, "%s", value->str);
}

static void read_config(void *context, const redisReply *reply, const struct error *err)
{
    struct queue *queue = context;
    struct queue_server *server = &queue->server;

    if (err != NULL || reply->type != REDIS_REPLY_ARRAY)
        return; /* CONFIG is often forbidden: INFO has some of the values */
    copy_config(reply, "maxmemory-policy", server->maxmemory_policy,
                sizeof(server->maxmemory_policy));
    copy_config(reply, "appendonly", server->appendonly, sizeof(server->appendonly));
    copy_config(reply, "appendfsync", server->appendfsync, sizeof(server->appendfsync));
}

/* Copies the value of a line "name:value" of INFO, unless the value is known already. */
static void copy_info(const char *info, const char *name, char *out, size_t size)
{
    const char *at = out[0] == '\0' ? strstr(info, name) : NULL;

    if (at == NULL || (at != info && at[-1] != '\n'))
        return;
    at += strlen(name);
    snprintf(out, size, "%.*s", (int)strcspn(at, "\r\n"), at);
}

static void read_info(void *context, const redisReply *reply, const struct error *err)
{
    struct queue *queue = context;
    struct queue_server *server = &queue->server;
    char aof[2] = "";

    if (err == NULL && redis_is_string(reply)) {
        copy_info(reply->str, "redis_version:", server->version, sizeof(server->version));
        copy_info(reply->str, "maxmemory_policy:", server->maxmemory_policy,
                  sizeof(server->maxmemory_policy));
        copy_info(reply->str, "aof_enabled:", aof, sizeof(aof));
    }
    if (server->appendonly[0] == '\0' && aof[0] != '\0')
        snprintf(server->appendonly, sizeof(server->appendonly), "%s",
                 aof[0] == '1' ? "yes" : "no");
    server->stream_max_entries = queue->dsn.stream_max_entries;
    queue->server_is_known = reply != NULL;
}

void queue_ask_server(struct queue *queue)
{
    static const char *const NAMES[] = {"maxmemory-policy", "appendonly", "appendfsync"};

    /* Each CONFIG GET has one name, since several names need Redis 7. */
    for (size_t i = 0; i < 3; i++)
        redis_command(queue->redis, 0, read_config, queue, "CONFIG GET %s", NAMES[i]);
    redis_command(queue->redis, 0, read_info, queue, "INFO");
}

const struct queue_server *queue_server(const struct queue *queue)
{
    return queue->server_is_known ? &queue->server : NULL;
}

#define KEPT_BETWEEN_BATCHES (4 * 1024 * 1024)

struct envelope_template *queue_envelope_new(const struct queue *queue,
                                             const struct settings_transport *transport)
{
    struct envelope_format format = {
        .serializer = transport->serializer,
        .visibility = transport->properties,
        .message_class = bytes_of(transport->message_class),
        .bus = bytes_of(transport->bus),
        .redis_serialized = queue->dsn.redis_serialized,
        .metadata_headers = transport->metadata_headers,
    };

    return envelope_template_new(&format);
}

static void mark_read(void *context, const redisReply *reply, const struct error *err)
{
    struct queue_call call = queue_call_take(context);
    bool is_there = err == NULL && reply->type == REDIS_REPLY_STRING;

    call.mark(call.context, queue_result(err), is_there ? redis_text(reply) : BYTES_NONE, err);
}

void queue_read_mark(struct queue *queue, const char *spool_id, queue_mark_read *done,
                     void *context)
{
    struct queue_call *call = QUEUE_CALL(queue, context, .mark = done);

    redis_command(queue->redis, 0, mark_read, call, "GET %sspool:%s", queue->prefix, spool_id);
}

void queue_batch_clear(struct queue_batch *batch)
{
    if (batch->resp.capacity + batch->value.capacity > KEPT_BETWEEN_BATCHES)
        queue_batch_free(batch);
    buf_clear(&batch->resp);
    buf_clear(&batch->value);
    batch->count = 0;
}

void queue_batch_free(struct queue_batch *batch)
{
    buf_free(&batch->resp);
    buf_free(&batch->value);
    batch->count = 0;
}

void queue_batch_add(struct queue_batch *batch)
{
    redis_write_argument(&batch->resp, buf_bytes(&batch->value));
    batch->count++;
}

/* True if the error is permanent: this server accepts no value of that size. */
static bool is_refused_for_its_size(struct bytes text)
{
    static const char *const WORDS[] = {"invalid bulk length", "Elements are too large"};

    for (size_t i = 0; i < LENGTH_OF(WORDS); i++)
        if (memmem(text.data, text.len, WORDS[i], strlen(WORDS[i])) != NULL)
            return true;
    return false;
}

static void appended(void *context, const redisReply *reply, const struct error *err)
{
    struct queue_call call = queue_call_take(context);
    struct error told;

    if (err != NULL && reply != NULL && bytes_starts_with(redis_text(reply), BYTES("FENCED"))) {
        error_set(&told, ERR_FENCED, "%s: the mark is %.*s", call.queue->address,
                  BYTES_ARG(bytes_slice(redis_text(reply), 7, 60)));
        err = &told;
    } else if (err != NULL && reply != NULL && is_refused_for_its_size(redis_text(reply))) {
        told = *err;
        told.code = ERR_TOO_LARGE;
        err = &told;
    }
    call.done(call.context, queue_result(err), err);
    /* A later append must not overtake this one. So this one is not repeated: the connection is
     * closed and made anew. */
    if (has_forgotten(reply, err))
        redis_close(call.queue->redis, ERR_UNREACHABLE, "the server has forgotten our scripts");
}

void queue_append(struct queue *queue, const char *spool_id, struct bytes expected,
                  struct bytes next, const struct queue_batch *batch, int64_t extra_ms,
                  queue_done *done, void *context)
{
    struct queue_call *call = QUEUE_CALL(queue, context, .done = done);
    char *key = xasprintf("%sspool:%s", queue->prefix, spool_id);
    struct buf head = {0};

    queue_begin_eval(queue, &head, QUEUE_SCRIPT_APPEND, 2, 3 + batch->count);
    redis_write_argument(&head, bytes_of(queue->dsn.stream));
    redis_write_argument(&head, bytes_of(key));
    redis_write_argument(&head, expected);
    redis_write_argument(&head, next);
    redis_write_number(&head, queue->dsn.stream_max_entries);
    buf_append(&head, buf_bytes(&batch->resp));
    redis_send_formatted(queue->redis, buf_bytes(&head), extra_ms, appended, call);
    buf_free(&head);
    free(key);
}

static void redriven(void *context, const redisReply *reply, const struct error *err)
{
    const struct queue_call *call = context;
    struct bytes text = err != NULL && reply != NULL ? redis_text(reply) : BYTES_NONE;
    struct error told;

    if (bytes_starts_with(text, BYTES("FULL"))) {
        error_set(&told, ERR_FULL,
                  "%s: the stream keeps %" PRId64
                  " entries (`stream_max_entries`), and those wait to be handled: start workers",
                  call->queue->address, call->queue->dsn.stream_max_entries);
        err = &told;
    } else if (bytes_starts_with(text, BYTES("BEHIND"))) {
        error_set(&told, ERR_FENCED, "%s: what goes before it was refused", call->queue->address);
        err = &told;
    }
    queue_answer_number(context, reply, err);
}

static char *redrive_key(const struct queue *queue, const char *id)
{
    return xasprintf("%sredriven:%s", queue->prefix, id);
}

static void send_redrive(struct queue *queue, const char *id, const char *behind,
                         const struct bytes *words, size_t len, struct queue_call *call)
{
    char *key = redrive_key(queue, id);
    char *key_behind = behind != NULL ? redrive_key(queue, behind) : xstrdup(queue->dsn.stream);
    struct buf resp = {0};

    queue_begin_eval(queue, &resp, QUEUE_SCRIPT_REDRIVE, 3, 1 + len);
    redis_write_argument(&resp, bytes_of(queue->dsn.stream));
    redis_write_argument(&resp, bytes_of(key));
    redis_write_argument(&resp, bytes_of(key_behind));
    redis_write_number(&resp, queue->dsn.stream_max_entries);
    for (size_t i = 0; i < len; i++)
        redis_write_argument(&resp, words[i]);
    free(key);
    free(key_behind);
    queue_eval_written(queue, QUEUE_SCRIPT_REDRIVE, resp, redriven, call);
}

void queue_redrive(struct queue *queue, const char *id, const char *behind, struct bytes value,
                   queue_number_read *done, void *context)
{
    struct queue_call *call = QUEUE_CALL(queue, context, .number = done);
    struct bytes message[] = {BYTES("message"), value};
    struct bytes *words;
    size_t len;

    bool has_fields = envelope_fields_words(&words, &len, value) == 0 && len > 0;
    send_redrive(queue, id, behind, has_fields ? words : message, has_fields ? len : 2, call);
    free(words);
}

void queue_keep_latest(struct queue *queue, int64_t limit, const struct queue_batch *pairs,
                       queue_done *done, void *context)
{
    struct queue_call *call = QUEUE_CALL(queue, context, .done = done);
    struct buf resp = {0};

    queue_begin_eval(queue, &resp, QUEUE_SCRIPT_KEEP_LATEST, 1, 1 + pairs->count);
    redis_write_argument(&resp, bytes_of(queue->latest));
    redis_write_number(&resp, limit);
    buf_append(&resp, buf_bytes(&pairs->resp));
    queue_eval_written(queue, QUEUE_SCRIPT_KEEP_LATEST, resp, queue_answer_done, call);
}

void queue_forget_latest(struct queue *queue, queue_done *done, void *context)
{
    struct queue_call *call = QUEUE_CALL(queue, context, .done = done);

    redis_command(queue->redis, 0, queue_answer_done, call, "DEL %s", queue->latest);
}

static bool is_scan_answer(const redisReply *reply)
{
    return reply->type == REDIS_REPLY_ARRAY && reply->elements == 2 &&
           redis_is_string(reply->element[0]) && reply->element[1]->type == REDIS_REPLY_ARRAY;
}

static void answer_scan(void *context, const redisReply *reply, const struct error *err)
{
    struct queue_call call = queue_call_take(context);
    struct error told;
    uint64_t cursor = 0;

    if (err == NULL &&
        (!is_scan_answer(reply) || !bytes_to_u64(redis_text(reply->element[0]), &cursor))) {
        error_set(&told, ERR_REFUSED, "%s: HSCAN is answered with something else",
                  call.queue->address);
        err = &told;
    }
    if (err != NULL) {
        call.latest(call.context, queue_result(err), 0, NULL, 0, err);
        return;
    }
    const redisReply *list = reply->element[1];
    struct queue_latest *latest = xcalloc(list->elements / 2 + 1, sizeof(*latest));
    size_t len = 0;
    for (size_t i = 0; i + 1 < list->elements; i += 2)
        latest[len++] = (struct queue_latest){.topic = redis_text(list->element[i]),
                                              .document = redis_text(list->element[i + 1])};
    call.latest(call.context, 0, cursor, latest, len, NULL);
    free(latest);
}

void queue_scan_latest(struct queue *queue, uint64_t cursor, size_t count, size_t bytes,
                       queue_latest_read *done, void *context)
{
    struct queue_call *call = QUEUE_CALL(queue, context, .latest = done, .budget = {.left = bytes});

    redis_limit_next(queue->redis, &call->budget);
    redis_command(queue->redis, 0, answer_scan, call, "HSCAN %s %" PRIu64 " COUNT %lu",
                  queue->latest, cursor, (unsigned long)count);
}
