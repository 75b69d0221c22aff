#include "common/client/redis_connect.h"

#include "common/base/clock.h"

#include <inttypes.h>
#include <poll.h>
#include <stdio.h>

int64_t redis_dsn_timeout_ms(const struct dsn_redis *dsn)
{
    return dsn->timeout_s > 0 ? (int64_t)(dsn->timeout_s * 1000) : REDIS_TIMEOUT_MS;
}

/* AUTH or SELECT said no: there is no use in a connection without it. */
static void check_welcome(void *context, const redisReply *reply, const struct error *err)
{
    struct redis *redis = context;
    char why[200];

    if (reply == NULL || err == NULL)
        return;
    snprintf(why, sizeof(why), "%.*s", BYTES_ARG(redis_text(reply)));
    redis_close(redis, err->code, why);
}

static void send_auth(struct redis *redis, const struct dsn_redis *dsn)
{
    if (dsn->user != NULL && dsn->user[0] != '\0')
        redis_command(redis, 0, check_welcome, redis, "AUTH %s %s", dsn->user, dsn->password);
    else
        redis_command(redis, 0, check_welcome, redis, "AUTH %s", dsn->password);
}

int redis_open_dsn(struct redis *redis, const struct dsn_redis *dsn, struct error *err)
{
    if (dsn->tls)
        return error_set(err, ERR_USAGE,
                         "rediss:// (TLS) is not supported by this build: use redis://");
    if (dsn->cluster || dsn->hosts_len > 1)
        return error_set(err, ERR_USAGE,
                         "several Redis hosts (Cluster, Sentinel) are not supported yet: name one");
    int result = dsn->path != NULL
                     ? redis_open(redis, NULL, 0, dsn->path, err)
                     : redis_open(redis, dsn->hosts[0].host, dsn->hosts[0].port, NULL, err);
    if (result < 0)
        return result;
    if (dsn->password != NULL)
        send_auth(redis, dsn);
    if (dsn->dbindex != 0)
        redis_command(redis, 0, check_welcome, redis, "SELECT %" PRId64, (int64_t)dsn->dbindex);
    return 0;
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

    redis_send(redis, arguments, count, 0, call_answered, &call);
    while (!call.answered) {
        struct pollfd poll_fd = {.fd = redis_fd(redis), .events = redis_events(redis)};
        int timeout = clock_poll_timeout(redis_deadline_ms(redis), clock_monotonic_ms());

        if (poll(&poll_fd, 1, timeout) <= 0)
            poll_fd.revents = 0;
        redis_process(redis, poll_fd.revents);
    }
    if (call.reply == NULL && err != NULL)
        *err = call.err;
    return call.reply;
}

void redis_reply_free(redisReply *reply)
{
    freeReplyObject(reply);
}
