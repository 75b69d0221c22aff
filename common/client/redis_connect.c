#include "common/client/redis_connect.h"

#include "common/base/clock.h"

#include <poll.h>

int64_t redis_dsn_timeout_ms(const struct dsn_redis *dsn)
{
    return dsn->timeout_s > 0 ? (int64_t)(dsn->timeout_s * 1000) : REDIS_TIMEOUT_MS;
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
