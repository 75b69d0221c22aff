#include "common/client/redis.h"

#include "common/base/alloc.h"
#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/client/resolve.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>
#include <utlist.h>

/* What hiredis reads at a time, and what a drained read buffer may keep. */
#define READ_SIZE       16384
#define READ_BUFFER_MAX (1024 * 1024)
#define SMALL_MAX       64 /* ids and names: kept beyond a budget */

struct request {
    redis_replied *done;
    void *context;
    int64_t silent_since_ms; /* of the oldest */
    int64_t extra_ms;
    struct redis_budget *budget; /* NULL: all is kept */
    struct request *next;        /* utlist.h */
    struct request *prev;
};

struct redis {
    char *address;
    int64_t timeout_ms;
    redis_broken *broken;
    void *context;
    redisContext *hiredis; /* NULL: closed, or looking_up */
    bool looking_up;
    bool connecting;
    int64_t give_up_ms;      /* the look-up, or the connection to the address at hand */
    struct resolve *resolve; /* of the host that was opened last, or NULL */
    int port;
    struct resolve_answer addresses; /* of a UNIX socket: none */
    size_t tried;                    /* of them */
    int64_t connect_by_ms;           /* to any of them */
    struct buf waiting;              /* RESP that was sent before there is a connection */
    struct request *requests;        /* not answered yet, the oldest first */
    redisReply *reply;               /* of the callback that runs */
    struct redis_budget *next_budget;
    redisReplyObjectFunctions functions; /* hiredis' own, but for create_string */
    void *(*plain_string)(const redisReadTask *, char *, size_t);
    bool timed_out; /* the last connection, for want of an answer */
};

struct redis *redis_new(const char *address, int64_t timeout_ms, redis_broken *broken,
                        void *context)
{
    struct redis *redis = xcalloc(1, sizeof(*redis));

    redis->address = xstrdup(address);
    redis->timeout_ms = timeout_ms;
    redis->broken = broken;
    redis->context = context;
    return redis;
}

void redis_free(struct redis *redis)
{
    if (redis == NULL)
        return;
    redis->broken = NULL;
    redis_close(redis, ERR_UNREACHABLE, "closed");
    resolve_free(redis->resolve);
    buf_free(&redis->waiting);
    free(redis->address);
    free(redis);
}

static bool is_beyond(struct redis_budget *budget, size_t len)
{
    if (budget->used && len > budget->left) {
        budget->left = 0; /* nothing behind it either: they keep their order */
        return true;
    }
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
        !is_beyond(budget, len))
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

static int take_over(struct redis *redis, redisContext *hiredis, struct error *err)
{
    if (hiredis == NULL || hiredis->err != 0) {
        error_set(err, ERR_UNREACHABLE, "%s: %s", redis->address,
                  hiredis != NULL ? hiredis->errstr : "out of memory");
        if (hiredis != NULL)
            redisFree(hiredis);
        return -ERR_UNREACHABLE;
    }
    fcntl(hiredis->fd, F_SETFD, FD_CLOEXEC);
    hiredis->reader->maxbuf = READ_BUFFER_MAX;
    redis->functions = *hiredis->reader->fn;
    redis->plain_string = redis->functions.createString;
    redis->functions.createString = create_string;
    hiredis->reader->fn = &redis->functions;
    hiredis->reader->privdata = redis;
    redis->hiredis = hiredis;
    redis->connecting = true;
    return 0;
}

/* To the first of the addresses left that is not impossible at once; if there is none, err is the last
 * one's, or stays. The time is shared evenly among those that are left. */
static int connect_next(struct redis *redis, struct error *err)
{
    while (redis->tried < redis->addresses.len) {
        const char *address = redis->addresses.address[redis->tried];
        int64_t now_ms = clock_monotonic_ms();
        int64_t left = (int64_t)(redis->addresses.len - redis->tried);

        redis->tried++;
        redis->give_up_ms = now_ms + (redis->connect_by_ms - now_ms) / left;
        if (take_over(redis, redisConnectNonBlock(address, redis->port), err) == 0)
            return 0;
    }
    return -ERR_UNREACHABLE;
}

static int connect_first(struct redis *redis, struct error *err)
{
    redis->looking_up = false;
    redis->tried = 0;
    redis->connect_by_ms = clock_monotonic_ms() + redis->timeout_ms;
    if (redis->addresses.len == 0)
        return error_set(err, ERR_UNREACHABLE, "%s: %s", redis->address, redis->addresses.text);
    resolve_put_ipv4_first(&redis->addresses);
    return connect_next(redis, err);
}

static int open_host(struct redis *redis, const char *host, int port, struct error *err)
{
    if (redis->resolve == NULL || strcmp(resolve_host(redis->resolve), host) != 0) {
        resolve_free(redis->resolve);
        redis->resolve = resolve_new(host);
    }
    redis->port = port;
    resolve_ask(redis->resolve);
    if (resolve_take(redis->resolve, &redis->addresses))
        return connect_first(redis, err);
    redis->looking_up = true;
    return 0;
}

int redis_open(struct redis *redis, const char *host, int port, const char *path, struct error *err)
{
    redis->give_up_ms = clock_monotonic_ms() + redis->timeout_ms;
    redis->timed_out = false;
    redis->addresses.len = 0;
    redis->tried = 0;
    if (path != NULL)
        return take_over(redis, redisConnectUnixNonBlock(path), err);
    return open_host(redis, host, port, err);
}

/* The oldest request's time begins, or begins anew. */
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
    free(oldest);
    return request;
}

/* AUTH may be in it. */
static void clear_waiting(struct redis *redis)
{
    if (redis->waiting.data != NULL)
        explicit_bzero(redis->waiting.data, redis->waiting.len);
    buf_free(&redis->waiting);
}

/* Callbacks may send anew (they find the connection closed and are answered at once) but the requests
 * that stood when it broke are answered first and once. */
static void break_connection(struct redis *redis, const struct error *err)
{
    const struct request *last = redis->requests != NULL ? redis->requests->prev : NULL;

    if (redis->hiredis != NULL)
        redisFree(redis->hiredis);
    redis->hiredis = NULL;
    redis->looking_up = false;
    clear_waiting(redis);
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

bool redis_is_open(const struct redis *redis)
{
    return redis->hiredis != NULL || redis->looking_up;
}

static bool is_established(const struct redis *redis)
{
    return redis->hiredis != NULL && !redis->connecting;
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
    if (!is_established(redis))
        buf_append(&redis->waiting, resp);
    else if (redisAppendFormattedCommand(redis->hiredis, resp.data, resp.len) != REDIS_OK)
        abort(); /* only for want of memory */
    struct request *request = xmalloc(sizeof(*request));
    *request =
        (struct request){.done = done, .context = context, .extra_ms = extra_ms, .budget = budget};
    DL_APPEND(redis->requests, request);
    if (redis->requests == request)
        begin_time(redis);
}

void redis_write_count(struct buf *resp, size_t count)
{
    buf_append_char(resp, '*');
    buf_append_u64(resp, count);
    buf_append(resp, BYTES("\r\n"));
}

void redis_write_argument(struct buf *resp, struct bytes argument)
{
    buf_append_char(resp, '$');
    buf_append_u64(resp, argument.len);
    buf_append(resp, BYTES("\r\n"));
    buf_append(resp, argument);
    buf_append(resp, BYTES("\r\n"));
}

void redis_send(struct redis *redis, const struct bytes *arguments, size_t count, int64_t extra_ms,
                redis_replied *done, void *context)
{
    struct buf resp = {0};

    redis_write_count(&resp, count);
    for (size_t i = 0; i < count; i++)
        redis_write_argument(&resp, arguments[i]);
    redis_send_formatted(redis, buf_bytes(&resp), extra_ms, done, context);
    buf_free(&resp);
}

void redis_format(struct buf *resp, const char *format, va_list arguments)
{
    char *command = NULL;
    int len = redisvFormatCommand(&command, format, arguments);

    if (len < 0)
        abort(); /* for want of memory, or the format is none */
    buf_append(resp, (struct bytes){command, (size_t)len});
    redisFreeCommand(command);
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

bool redis_timed_out(const struct redis *redis)
{
    return redis->timed_out;
}

int redis_fd(const struct redis *redis)
{
    if (redis->looking_up)
        return resolve_fd(redis->resolve);
    return redis->hiredis != NULL ? redis->hiredis->fd : -1;
}

/* Not by its first byte, which may be a payload's zero. */
static size_t output_len(const struct redis *redis)
{
    return redis->hiredis->obuf != NULL ? sdslen(redis->hiredis->obuf) : 0;
}

short redis_events(const struct redis *redis)
{
    if (redis->looking_up)
        return POLLIN;
    if (redis->hiredis == NULL)
        return 0;
    if (redis->connecting)
        return POLLOUT;
    return output_len(redis) > 0 ? POLLIN | POLLOUT : POLLIN;
}

/* When it is given up. */
static int64_t give_up_ms(const struct redis *redis)
{
    if (!is_established(redis))
        return redis->give_up_ms;
    const struct request *oldest = redis->requests;
    if (oldest == NULL)
        return -1;
    return oldest->silent_since_ms + redis->timeout_ms + oldest->extra_ms;
}

int64_t redis_deadline_ms(const struct redis *redis)
{
    return redis_is_open(redis) ? give_up_ms(redis) : -1;
}

static void break_for(struct redis *redis, const char *why)
{
    struct error err;

    error_set(&err, ERR_UNREACHABLE, "%s: %s", redis->address, why);
    break_connection(redis, &err);
}

/* What still lies in our kernel must not go on for the successor of this connection to wait behind. */
static void give_up_answer(struct redis *redis)
{
    struct linger at_once = {.l_onoff = 1};

    redis->timed_out = true;
    setsockopt(redis->hiredis->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
    break_for(redis, "no answer in time");
}

static void look_up(struct redis *redis)
{
    struct error err;

    if (!resolve_take(redis->resolve, &redis->addresses)) {
        if (clock_monotonic_ms() >= redis->give_up_ms)
            break_for(redis, "the host's name could not be looked up in time");
        return;
    }
    if (connect_first(redis, &err) < 0)
        break_connection(redis, &err);
}

/* On to the host's next address, if it has one. */
static void fail_connecting(struct redis *redis, const char *why)
{
    struct error err;

    error_set(&err, ERR_UNREACHABLE, "%s: %s", redis->address, why);
    redisFree(redis->hiredis);
    redis->hiredis = NULL;
    if (connect_next(redis, &err) < 0)
        break_connection(redis, &err);
}

/* false: not there, or no longer. */
static bool finish_connecting(struct redis *redis)
{
    int fault = 0;
    socklen_t len = sizeof(fault);
    int on = 1;

    if (getsockopt(redis->hiredis->fd, SOL_SOCKET, SO_ERROR, &fault, &len) < 0)
        fault = errno;
    if (fault != 0) {
        fail_connecting(redis, strerror(fault));
        return false;
    }
    /* Not for a UNIX socket, where it fails and does not matter. */
    setsockopt(redis->hiredis->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    redis->connecting = false;
    if (redis->waiting.len > 0 && redisAppendFormattedCommand(redis->hiredis, redis->waiting.data,
                                                              redis->waiting.len) != REDIS_OK)
        abort(); /* only for want of memory */
    clear_waiting(redis);
    /* Requests given while it connected have been waiting for it, not for the server. */
    begin_time(redis);
    return true;
}

static void answer(struct redis *redis, const redisReply *reply)
{
    struct request request = take_oldest(redis);
    struct error err;

    /* The next one's time begins when it is at the head: it may have stood behind a blocking read. */
    begin_time(redis);
    if (request.done == NULL)
        return;
    if (reply->type == REDIS_REPLY_ERROR) {
        error_set(&err, redis_classify(redis_text(reply)), "%s: %.*s", redis->address,
                  BYTES_ARG(redis_text(reply)));
        request.done(request.context, reply, &err);
    } else {
        request.done(request.context, reply, NULL);
    }
}

redisReply *redis_keep_reply(struct redis *redis)
{
    redisReply *reply = redis->reply;

    redis->reply = NULL;
    return reply;
}

static void answer_all(struct redis *redis)
{
    void *reply = NULL;

    while (redis->hiredis != NULL) {
        if (redisGetReplyFromReader(redis->hiredis, &reply) != REDIS_OK) {
            break_for(redis, redis->hiredis->errstr);
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

/* What was read is taken apart every now and then, so that not all of a large answer lies in the buffer. */
static void read_replies(struct redis *redis)
{
    bool more = true;

    while (more && redis->hiredis != NULL) {
        size_t before = redis->hiredis->reader->len;

        if (redisBufferRead(redis->hiredis) != REDIS_OK) {
            break_for(redis, redis->hiredis->errstr);
            return;
        }
        more = redis->hiredis->reader->len - before == READ_SIZE;
        if (more && redis->hiredis->reader->len < READ_BUFFER_MAX)
            continue;
        /* An answer that is coming in is not late, however long it is. */
        begin_time(redis);
        answer_all(redis);
    }
}

/* A server that refuses what is being written says why and hangs up: that answer first. */
static void write_requests(struct redis *redis)
{
    char why[sizeof(redis->hiredis->errstr)];
    int done = 0;

    if (redisBufferWrite(redis->hiredis, &done) == REDIS_OK)
        return;
    memcpy(why, redis->hiredis->errstr, sizeof(why));
    redis->hiredis->err = 0;
    read_replies(redis);
    if (redis->hiredis != NULL)
        break_for(redis, why);
}

void redis_process(struct redis *redis, short revents)
{
    if (redis->looking_up) {
        look_up(redis);
        return;
    }
    if (redis->hiredis == NULL)
        return;
    if (redis->connecting && (revents & (POLLOUT | POLLERR | POLLHUP)) != 0 &&
        !finish_connecting(redis))
        return;
    if (!redis->connecting && (revents & (POLLIN | POLLERR | POLLHUP)) != 0)
        read_replies(redis);
    if (redis->hiredis == NULL)
        return;
    int64_t now_ms = clock_monotonic_ms();
    int64_t deadline_ms = give_up_ms(redis);
    if (deadline_ms >= 0 && now_ms >= deadline_ms) {
        if (redis->connecting)
            fail_connecting(redis, "connection timed out");
        else
            give_up_answer(redis);
        return;
    }
    if (!redis->connecting && output_len(redis) > 0)
        write_requests(redis);
}

struct bytes redis_inner_error(struct bytes text)
{
    static const struct bytes where = BYTES("@user_script:");
    const char *found;

    if (!bytes_starts_with(text, BYTES("ERR Error running script")))
        return text;
    while ((found = memmem(text.data, text.len, where.data, where.len)) != NULL)
        text = bytes_slice(text, (size_t)(found - text.data) + where.len, text.len);
    while (text.len > 0 && strchr("0123456789 :-", text.data[0]) != NULL)
        text = bytes_slice(text, 1, text.len);
    return text;
}

enum error_code redis_classify(struct bytes text)
{
    static const char *const PASSING[] = {"LOADING",   "READONLY",    "MASTERDOWN", "OOM",
                                          "BUSY ",     "TRYAGAIN",    "MISCONF",    "NOREPLICAS",
                                          "UNBLOCKED", "CLUSTERDOWN", "NOSCRIPT"};
    struct bytes error = redis_inner_error(text);

    for (size_t i = 0; i < sizeof(PASSING) / sizeof(PASSING[0]); i++)
        if (bytes_starts_with(error, bytes_of(PASSING[i])))
            return ERR_UNREACHABLE;
    return ERR_REFUSED;
}
