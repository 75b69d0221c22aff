#include "common/client/redis.h"

#include "common/base/alloc.h"
#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/client/redis_requests.h"
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

/* What hiredis reads at a time, and what a drained read buffer may keep. */
#define READ_SIZE       16384
#define READ_BUFFER_MAX (1024 * 1024)

struct redis {
    char *place;
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
    struct redis_requests requests;
    bool timed_out; /* the last connection, for want of an answer */
};

struct redis *redis_new(const char *place, int64_t timeout_ms, redis_broken *broken, void *context)
{
    struct redis *redis = xcalloc(1, sizeof(*redis));

    redis->place = xstrdup(place);
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
    redis_close(redis, "closed");
    resolve_free(redis->resolve);
    buf_free(&redis->waiting);
    redis_requests_free(&redis->requests);
    free(redis->place);
    free(redis);
}

static int take_over(struct redis *redis, redisContext *hiredis, struct error *err)
{
    if (hiredis == NULL || hiredis->err != 0) {
        error_set(err, ERR_UNREACHABLE, "%s: %s", redis->place,
                  hiredis != NULL ? hiredis->errstr : "out of memory");
        if (hiredis != NULL)
            redisFree(hiredis);
        return -ERR_UNREACHABLE;
    }
    fcntl(hiredis->fd, F_SETFD, FD_CLOEXEC);
    hiredis->reader->maxbuf = READ_BUFFER_MAX;
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

/* As hiredis has it, which would look for IPv6 only where there is no IPv4. */
static void put_ipv4_first(struct resolve_answer *addresses)
{
    struct resolve_answer sorted = {0};

    for (int with_colon = 0; with_colon <= 1; with_colon++)
        for (size_t i = 0; i < addresses->len; i++)
            if ((strchr(addresses->address[i], ':') != NULL) == (with_colon == 1))
                memcpy(sorted.address[sorted.len++], addresses->address[i], RESOLVE_ADDRESS_SIZE);
    memcpy(addresses->address, sorted.address, sizeof(sorted.address));
}

static int connect_first(struct redis *redis, struct error *err)
{
    redis->looking_up = false;
    redis->tried = 0;
    redis->connect_by_ms = clock_monotonic_ms() + redis->timeout_ms;
    if (redis->addresses.len == 0)
        return error_set(err, ERR_UNREACHABLE, "%s: %s", redis->place, redis->addresses.text);
    put_ipv4_first(&redis->addresses);
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
    redis_requests_oldest(&redis->requests)->silent_since_ms = clock_monotonic_ms();
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
    size_t standing = redis->requests.count;

    if (redis->hiredis != NULL)
        redisFree(redis->hiredis);
    redis->hiredis = NULL;
    redis->looking_up = false;
    clear_waiting(redis);
    for (; standing > 0; standing--) {
        struct redis_request request = redis_requests_pop(&redis->requests);

        if (request.done != NULL)
            request.done(request.context, NULL, err);
    }
    if (redis->broken != NULL)
        redis->broken(redis->context, err);
}

void redis_close(struct redis *redis, const char *why)
{
    struct error err;

    if (!redis_is_open(redis))
        return;
    error_set(&err, ERR_UNREACHABLE, "%s: %s", redis->place, why);
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
    if (!redis_is_open(redis)) {
        struct error err;

        error_set(&err, ERR_UNREACHABLE, "%s: not connected", redis->place);
        if (done != NULL)
            done(context, NULL, &err);
        return;
    }
    if (!is_established(redis))
        buf_append(&redis->waiting, resp);
    else if (redisAppendFormattedCommand(redis->hiredis, resp.data, resp.len) != REDIS_OK)
        abort(); /* only for want of memory */
    redis_requests_push(&redis->requests, (struct redis_request){done, context, 0, extra_ms});
    if (redis->requests.count == 1)
        begin_time(redis);
}

void redis_send(struct redis *redis, const struct bytes *arguments, size_t count, int64_t extra_ms,
                redis_replied *done, void *context)
{
    struct buf resp = {0};

    buf_append_char(&resp, '*');
    buf_append_u64(&resp, count);
    buf_append(&resp, BYTES("\r\n"));
    for (size_t i = 0; i < count; i++) {
        buf_append_char(&resp, '$');
        buf_append_u64(&resp, arguments[i].len);
        buf_append(&resp, BYTES("\r\n"));
        buf_append(&resp, arguments[i]);
        buf_append(&resp, BYTES("\r\n"));
    }
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
    if (redis->requests.count == 0)
        return -1;
    const struct redis_request *oldest = redis_requests_oldest(&redis->requests);
    return oldest->silent_since_ms + redis->timeout_ms + oldest->extra_ms;
}

int64_t redis_deadline_ms(const struct redis *redis)
{
    return redis_is_open(redis) ? give_up_ms(redis) : -1;
}

static void break_for(struct redis *redis, const char *why)
{
    struct error err;

    error_set(&err, ERR_UNREACHABLE, "%s: %s", redis->place, why);
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

    error_set(&err, ERR_UNREACHABLE, "%s: %s", redis->place, why);
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
    if (redis->requests.count > 0)
        begin_time(redis);
    return true;
}

static void answer(struct redis *redis, const redisReply *reply)
{
    struct redis_request request = redis_requests_pop(&redis->requests);
    struct error err;

    /* The next one's time begins when it is at the head: it may have stood behind a blocking read. */
    if (redis->requests.count > 0)
        begin_time(redis);
    if (request.done == NULL)
        return;
    if (reply->type == REDIS_REPLY_ERROR) {
        error_set(&err, redis_classify(redis_text(reply)), "%s: %.*s", redis->place,
                  BYTES_ARG(redis_text(reply)));
        request.done(request.context, reply, &err);
    } else {
        request.done(request.context, reply, NULL);
    }
}

static void read_replies(struct redis *redis)
{
    void *reply = NULL;

    for (;;) {
        size_t before = redis->hiredis->reader->len;

        if (redisBufferRead(redis->hiredis) != REDIS_OK) {
            break_for(redis, redis->hiredis->errstr);
            return;
        }
        if (redis->hiredis->reader->len - before < READ_SIZE)
            break;
    }
    /* An answer that is coming in is not late, however long it is. */
    if (redis->requests.count > 0)
        begin_time(redis);
    while (redis->hiredis != NULL) {
        if (redisGetReplyFromReader(redis->hiredis, &reply) != REDIS_OK) {
            break_for(redis, redis->hiredis->errstr);
            return;
        }
        if (reply == NULL)
            return;
        if (redis->requests.count == 0) {
            freeReplyObject(reply);
            break_for(redis, "answered what was not asked");
            return;
        }
        answer(redis, reply);
        freeReplyObject(reply);
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

enum error_code redis_classify(struct bytes text)
{
    static const char *const PASSING[] = {"LOADING",   "READONLY",    "MASTERDOWN", "OOM",
                                          "BUSY ",     "TRYAGAIN",    "MISCONF",    "NOREPLICAS",
                                          "UNBLOCKED", "CLUSTERDOWN", "NOSCRIPT"};
    for (size_t i = 0; i < sizeof(PASSING) / sizeof(PASSING[0]); i++)
        if (bytes_starts_with(text, bytes_of(PASSING[i])))
            return ERR_UNREACHABLE;
    return ERR_REFUSED;
}
