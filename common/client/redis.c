#include "common/client/redis.h"

#include "common/base/alloc.h"
#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/client/redis_dial.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#define READ_SIZE  16384
#define BUFFER_MAX (1024 * 1024) /* capacity that an empty buffer may keep */
#define SMALL_MAX  64            /* strings up to this size, as ids and names, are always kept */

struct request {
    redis_replied *done;
    void *context;
    int64_t silent_since_ms; /* start of the oldest request's time */
    int64_t extra_ms;
    struct redis_budget *budget; /* NULL: all values are kept */
    struct buf resp;             /* kept in a Cluster: after an ASK it is sent again */
    struct request *next;        /* utlist.h */
    struct request *prev;
};

struct redis {
    char *address;
    int64_t timeout_ms;
    redis_broken *broken;
    void *context;
    const struct dsn_redis *dsn; /* the DSN opened last */
    struct redis_dial *dial;     /* used while connecting; later socket is set */
    struct tls_socket *socket;
    redisReader *reader;
    struct buf output; /* also holds requests until the connection is made */
    size_t written;
    struct request *requests; /* outstanding requests, the oldest first */
    redisReply *reply;        /* the reply of the running callback */
    struct redis_budget *next_budget;
    redisReplyObjectFunctions functions; /* hiredis' functions, except create_string */
    void *(*plain_string)(const redisReadTask *, char *, size_t);
    bool timed_out; /* the last connection was closed because no answer came in time */

    struct redis *aside; /* the connection to the node of the last ASK */
    struct buf aside_address;
    struct buf prepared; /* requests that the node of an ASK gets first */
    size_t prepared_count;
    bool is_aside;
    bool asking; /* the oldest request was sent over `aside` */
};

int64_t redis_dsn_timeout_ms(const struct dsn_redis *dsn)
{
    return dsn->timeout_s > 0 ? (int64_t)(dsn->timeout_s * 1000) : REDIS_TIMEOUT_MS;
}

struct redis *redis_new(const char *address, int64_t timeout_ms, redis_broken *broken,
                        void *context)
{
    struct redis *redis = xcalloc(1, sizeof(*redis));

    redis->address = xstrdup(address);
    redis->timeout_ms = timeout_ms;
    redis->broken = broken;
    redis->context = context;
    redis->dial = redis_dial_new(timeout_ms);
    return redis;
}

void redis_free(struct redis *redis)
{
    if (redis == NULL)
        return;
    redis->broken = NULL;
    redis_close(redis, ERR_UNREACHABLE, "closed");
    redis_free(redis->aside);
    redis_dial_free(redis->dial);
    buf_free(&redis->output);
    buf_free(&redis->aside_address);
    buf_free(&redis->prepared);
    free(redis->address);
    free(redis);
}

/* Returns the entry whose list of fields holds the string; NULL in another kind of list, such as
 * that of HSCAN. */
static const void *entry_of(const redisReadTask *task)
{
    const redisReadTask *entry = task->parent != NULL ? task->parent->parent : NULL;

    return entry != NULL && entry->parent != NULL ? task->parent->obj : NULL;
}

static bool is_beyond(struct redis_budget *budget, const void *entry, size_t len)
{
    bool first = !budget->used || (entry != NULL && entry == budget->first);

    if (!first && len > budget->left) {
        budget->left = 0; /* keeps no later value either, so that the order holds */
        return true;
    }
    if (!budget->used)
        budget->first = entry;
    budget->used = true;
    budget->left -= len < budget->left ? len : budget->left;
    return false;
}

static void *create_string(const redisReadTask *task, char *text, size_t len)
{
    struct redis *redis = task->privdata;
    struct redis_budget *budget = redis->requests != NULL ? redis->requests->budget : NULL;
    char empty[] = "";

    if (budget == NULL || task->type != REDIS_REPLY_STRING || len <= SMALL_MAX ||
        !is_beyond(budget, entry_of(task), len))
        return redis->plain_string(task, text, len);
    redisReply *reply = redis->plain_string(task, empty, 0);
    if (reply != NULL) {
        free(reply->str);
        reply->str = NULL;
        reply->len = len;
    }
    return reply;
}

void redis_limit_next(struct redis *redis, struct redis_budget *budget)
{
    redis->next_budget = budget;
}

static void make_reader(struct redis *redis)
{
    redis->reader = redisReaderCreate();
    if (redis->reader == NULL)
        abort(); /* out of memory */
    redis->reader->maxbuf = BUFFER_MAX;
    redis->functions = *redis->reader->fn;
    redis->plain_string = redis->functions.createString;
    redis->functions.createString = create_string;
    redis->reader->fn = &redis->functions;
    redis->reader->privdata = redis;
}

/* Begins the oldest request's time, or begins that time again. */
static void begin_time(struct redis *redis)
{
    if (redis->requests != NULL)
        redis->requests->silent_since_ms = clock_monotonic_ms();
}

static struct request take_oldest(struct redis *redis)
{
    struct request *oldest = redis->requests;
    struct request request = *oldest;

    DL_DELETE(redis->requests, oldest);
    buf_free(&oldest->resp);
    free(oldest);
    return request;
}

/* Answers the outstanding requests first, and each once. Callbacks of these requests may send new
 * requests, which find the connection closed and are answered at once. */
static void break_connection(struct redis *redis, const struct error *err)
{
    const struct request *last = redis->requests != NULL ? redis->requests->prev : NULL;

    redis_dial_end(redis->dial);
    tls_socket_free(redis->socket);
    redis->socket = NULL;
    if (redis->reader != NULL)
        redisReaderFree(redis->reader);
    redis->reader = NULL;
    buf_free(&redis->output);
    redis->written = 0;
    redis->asking = false;
    if (redis->aside != NULL)
        redis_close(redis->aside, err->code, "closed");
    for (bool more = true; more && redis->requests != NULL;) {
        more = redis->requests != last;
        struct request request = take_oldest(redis);

        if (request.done != NULL)
            request.done(request.context, NULL, err);
    }
    if (redis->broken != NULL)
        redis->broken(redis->context, err);
}

void redis_close(struct redis *redis, enum error_code code, const char *why)
{
    struct error err;

    if (!redis_is_open(redis))
        return;
    error_set(&err, code, "%s: %s", redis->address, why);
    break_connection(redis, &err);
}

static void break_for(struct redis *redis, const char *why)
{
    redis_close(redis, ERR_UNREACHABLE, why);
}

bool redis_is_open(const struct redis *redis)
{
    return redis->socket != NULL || redis_dial_is_under_way(redis->dial);
}

static int note_opening(struct redis *redis, const struct dsn_redis *dsn, int result,
                        struct error *err)
{
    redis->dsn = dsn;
    redis->timed_out = false;
    if (result < 0)
        return error_wrap(err, "%s", redis->address);
    return 0;
}

int redis_open_dsn(struct redis *redis, const struct dsn_redis *dsn, struct error *err)
{
    return note_opening(redis, dsn, redis_dial_begin(redis->dial, dsn, err), err);
}

/* Appends to the output, and first removes the part that is already written. */
static void append_output(struct redis *redis, struct bytes resp)
{
    if (redis->written > redis->output.len / 2) {
        redis->output.len -= redis->written;
        memmove(redis->output.data, redis->output.data + redis->written, redis->output.len);
        redis->written = 0;
    }
    buf_append(&redis->output, resp);
}

void redis_send_formatted(struct redis *redis, struct bytes resp, int64_t extra_ms,
                          redis_replied *done, void *context)
{
    struct redis_budget *budget = redis->next_budget;

    redis->next_budget = NULL;
    if (!redis_is_open(redis)) {
        struct error err;

        error_set(&err, ERR_UNREACHABLE, "%s: not connected", redis->address);
        if (done != NULL)
            done(context, NULL, &err);
        return;
    }
    append_output(redis, resp);
    struct request *request = xmalloc(sizeof(*request));
    *request =
        (struct request){.done = done, .context = context, .extra_ms = extra_ms, .budget = budget};
    if (redis->dsn->cluster && !redis->is_aside)
        buf_append(&request->resp, resp);
    DL_APPEND(redis->requests, request);
    if (redis->requests == request)
        begin_time(redis);
}

void redis_command(struct redis *redis, int64_t extra_ms, redis_replied *done, void *context,
                   const char *format, ...)
{
    struct buf resp = {0};
    va_list arguments;

    va_start(arguments, format);
    redis_format(&resp, format, arguments);
    va_end(arguments);
    redis_send_formatted(redis, buf_bytes(&resp), extra_ms, done, context);
    buf_free(&resp);
}

redisReply *redis_keep_reply(struct redis *redis)
{
    redisReply *reply = redis->reply;

    redis->reply = NULL;
    return reply;
}

/* Answers the oldest request. The time of the next one begins now, since that one may have
 * waited behind a blocking read. */
static void finish_oldest(struct redis *redis, const redisReply *reply, const struct error *err)
{
    struct request request = take_oldest(redis);

    if (request.budget != NULL)
        request.budget->first = NULL;
    begin_time(redis);
    if (request.done != NULL)
        request.done(request.context, reply, err);
}

static void finish_with_error(struct redis *redis, const redisReply *reply)
{
    struct bytes said = redis_text(reply);
    bool moved = bytes_starts_with(said, BYTES("MOVED "));
    bool elsewhere = redis_is_elsewhere(said);
    struct error err;

    error_set(&err, redis_classify(said), "%s: %.*s", redis->address, BYTES_ARG(said));
    if (moved)
        redis_dial_note_moved(redis->dial, said);
    finish_oldest(redis, reply, &err);
    if (elsewhere)
        break_for(redis, moved ? "the slot has moved to another node" : "it is a replica");
}

static void finish(struct redis *redis, const redisReply *reply)
{
    if (reply->type == REDIS_REPLY_ERROR)
        finish_with_error(redis, reply);
    else
        finish_oldest(redis, reply, NULL);
}

/* Takes the answer of an ASK's node for the oldest request's. */
static void answered_aside(void *context, const redisReply *reply, const struct error *err)
{
    struct redis *redis = context;

    if (!redis->asking)
        return; /* the main connection was closed meanwhile */
    redis->asking = false;
    if (reply == NULL) {
        finish_oldest(redis, NULL, err);
        return;
    }
    redis->reply = redis_keep_reply(redis->aside);
    finish(redis, redis->reply);
    freeReplyObject(redis_keep_reply(redis));
}

void redis_prepare_aside(struct redis *redis, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    redis_format(&redis->prepared, format, arguments);
    va_end(arguments);
    redis->prepared_count++;
}

static int open_aside(struct redis *redis, struct bytes address, struct error *err)
{
    if (redis->aside == NULL) {
        redis->aside = redis_new(redis->address, redis->timeout_ms, NULL, NULL);
        redis->aside->is_aside = true;
    }
    if (redis_is_open(redis->aside) && bytes_equal(address, buf_bytes(&redis->aside_address)))
        return 0;
    redis_close(redis->aside, ERR_UNREACHABLE, "closed");
    buf_clear(&redis->aside_address);
    buf_append(&redis->aside_address, address);
    int result = redis_dial_begin_at(redis->aside->dial, redis->dsn, address, err);
    result = note_opening(redis->aside, redis->dsn, result, err);
    /* All prepared requests are written at once, and each is answered. */
    for (size_t i = 0; i < redis->prepared_count && result == 0; i++)
        redis_send_formatted(redis->aside, i == 0 ? buf_bytes(&redis->prepared) : BYTES_NONE, 0,
                             NULL, NULL);
    return result;
}

/* Sends the oldest request to the node of an ASK, which has the key already. */
static void ask_aside(struct redis *redis, struct bytes said)
{
    const struct request *request = redis->requests;
    struct error err;

    if (open_aside(redis, redis_dial_redirection(said), &err) < 0) {
        finish_oldest(redis, NULL, &err);
        return;
    }
    redis->asking = true;
    redis_command(redis->aside, 0, NULL, NULL, "ASKING");
    redis_limit_next(redis->aside, request->budget);
    redis_send_formatted(redis->aside, buf_bytes(&request->resp), request->extra_ms, answered_aside,
                         redis);
}

static void answer(struct redis *redis, const redisReply *reply)
{
    if (reply->type == REDIS_REPLY_ERROR && redis->requests->resp.len > 0 &&
        bytes_starts_with(redis_text(reply), BYTES("ASK ")))
        ask_aside(redis, redis_text(reply));
    else
        finish(redis, reply);
}

static void answer_all(struct redis *redis)
{
    void *reply = NULL;

    while (redis->socket != NULL && !redis->asking) {
        if (redisReaderGetReply(redis->reader, &reply) != REDIS_OK) {
            break_for(redis, redis->reader->errstr);
            return;
        }
        if (reply == NULL)
            return;
        if (redis->requests == NULL) {
            freeReplyObject(reply);
            break_for(redis, "answered what was not asked");
            return;
        }
        redis->reply = reply;
        answer(redis, reply);
        freeReplyObject(redis_keep_reply(redis));
    }
}

/* Reads at most BUFFER_MAX bytes, then answers replies. Returns false if no more bytes are there
 * for now. */
static bool read_some(struct redis *redis, struct error *err)
{
    char data[READ_SIZE];
    bool any = false, more;
    ssize_t len;

    do {
        len = tls_socket_read(redis->socket, data, sizeof(data), err);
        more = len > 0 && tls_socket_has_more(redis->socket, (size_t)len, sizeof(data));
        any = any || len > 0;
        if (len > 0 && redisReaderFeed(redis->reader, data, (size_t)len) != REDIS_OK)
            abort(); /* only if out of memory */
    } while (more && redis->reader->len < BUFFER_MAX);
    /* While an answer arrives it is not late, however long it is. */
    if (any)
        begin_time(redis);
    answer_all(redis);
    if (len < 0 && redis->socket != NULL && !redis->asking)
        redis_close(redis, err->code, err->text);
    return more;
}

static void read_replies(struct redis *redis)
{
    struct error err;

    while (redis->socket != NULL && !redis->asking)
        if (!read_some(redis, &err))
            break;
}

/* Writes the requests. A server that refuses a half-written request says why and closes: that
 * answer is read before the error is reported. */
static void write_requests(struct redis *redis)
{
    struct buf *output = &redis->output;
    struct error err;
    ssize_t len = 1;

    while (len > 0 && redis->written < output->len) {
        len = tls_socket_write(redis->socket,
                               bytes_slice(buf_bytes(output), redis->written, output->len), &err);
        if (len > 0)
            redis->written += (size_t)len;
    }
    if (len < 0) {
        read_replies(redis);
        redis_close(redis, err.code, err.text);
        return;
    }
    if (redis->written < output->len)
        return;
    redis->written = 0;
    buf_clear(output);
    if (output->capacity > BUFFER_MAX)
        buf_free(output);
}

bool redis_timed_out(const struct redis *redis)
{
    return redis->timed_out;
}

int redis_fd(const struct redis *redis)
{
    if (redis->asking)
        return redis_fd(redis->aside);
    return redis->socket != NULL ? tls_socket_fd(redis->socket) : redis_dial_fd(redis->dial);
}

static bool has_output(const struct redis *redis)
{
    return redis->written < redis->output.len;
}

short redis_events(const struct redis *redis)
{
    if (redis->asking)
        return redis_events(redis->aside);
    return redis->socket != NULL ? tls_socket_events(redis->socket, has_output(redis))
                                 : redis_dial_events(redis->dial);
}

int64_t redis_deadline_ms(const struct redis *redis)
{
    const struct request *oldest = redis->requests;

    if (redis->asking)
        return redis_deadline_ms(redis->aside);
    if (redis->socket == NULL)
        return redis_dial_deadline_ms(redis->dial);
    if (oldest == NULL)
        return -1;
    return oldest->silent_since_ms + redis->timeout_ms + oldest->extra_ms;
}

/* Closes with a reset: otherwise the next connection would wait until the server has read the
 * output that the kernel holds. */
static void break_overdue(struct redis *redis)
{
    redis->timed_out = true;
    tls_socket_drop_output(redis->socket);
    break_for(redis, "no answer in time");
}

static void dial(struct redis *redis)
{
    struct error err;
    int result = redis_dial_step(redis->dial, &err);

    if (result == 0)
        return;
    if (result < 0) {
        error_wrap(&err, "%s", redis->address);
        break_connection(redis, &err);
        return;
    }
    redis->socket = redis_dial_take(redis->dial);
    make_reader(redis);
    /* Requests given earlier have waited for the connection, not for an answer. */
    begin_time(redis);
}

void redis_process(struct redis *redis, short revents)
{
    if (redis->asking) {
        redis_process(redis->aside, revents);
        if (redis->asking)
            return;
        answer_all(redis); /* also answers the replies behind this one */
        read_replies(redis);
    } else if (redis->socket == NULL && redis_dial_is_under_way(redis->dial)) {
        dial(redis);
    } else if (redis->socket != NULL && tls_socket_may_read(redis->socket, revents)) {
        read_replies(redis);
    }
    if (redis->socket == NULL || redis->asking)
        return;
    int64_t deadline_ms = redis_deadline_ms(redis);
    if (deadline_ms >= 0 && clock_monotonic_ms() >= deadline_ms)
        break_overdue(redis);
    else if (has_output(redis))
        write_requests(redis);
}

void redis_wait(struct redis *redis)
{
    struct pollfd waiting = {.fd = redis_fd(redis), .events = redis_events(redis)};
    int timeout = clock_poll_timeout(redis_deadline_ms(redis), clock_monotonic_ms());

    if (poll(&waiting, 1, timeout) <= 0)
        waiting.revents = 0;
    redis_process(redis, waiting.revents);
}

struct call {
    struct redis *redis;
    bool answered;
    redisReply *reply;
    struct error err;
};

static void call_answered(void *context, const redisReply *reply, const struct error *err)
{
    struct call *call = context;

    (void)reply;
    call->answered = true;
    if (err != NULL)
        call->err = *err;
    else
        call->reply = redis_keep_reply(call->redis);
}

redisReply *redis_call(struct redis *redis, const struct bytes *arguments, size_t count,
                       struct error *err)
{
    struct call call = {.redis = redis};
    struct buf resp = {0};

    redis_write_count(&resp, count);
    for (size_t i = 0; i < count; i++)
        redis_write_argument(&resp, arguments[i]);
    redis_send_formatted(redis, buf_bytes(&resp), 0, call_answered, &call);
    buf_free(&resp);
    while (!call.answered)
        redis_wait(redis);
    if (call.reply == NULL && err != NULL)
        *err = call.err;
    return call.reply;
}

void redis_reply_free(redisReply *reply)
{
    freeReplyObject(reply);
}
