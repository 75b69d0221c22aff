/* The failure transport in Redis: a queue, as Messenger's own transport has it. The queue's requests are waited for
 * here, one at a time; its connection is kept for the next. */
#include "common/client/failure_store.h"

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/client/queue_failed.h"
#include "common/client/queue_group.h"
#include "common/wire/base64.h"

#include <poll.h>
#include <stdlib.h>

struct failure_stream {
    struct queue *queue;
    bool answered;
    int result;
    int64_t number;
    struct error err;
};

/* A request to the queue, with take_number as its callback. */
typedef void send_request(struct failure_stream *stream, const void *what);

static int stream_new(void **state, const struct settings_failure *settings, struct error *err)
{
    const struct settings_transport transport = {.name = (char *)"failed", .dsn = settings->dsn};
    struct failure_stream *stream = xcalloc(1, sizeof(*stream));

    if (queue_new(&stream->queue, &transport, err) < 0) {
        free(stream);
        return -(int)err->code;
    }
    *state = stream;
    return 0;
}

static void stream_free(void *state)
{
    struct failure_stream *stream = state;

    queue_free(stream->queue);
    free(stream);
}

static void take_number(void *context, int result, int64_t number, const struct error *err)
{
    struct failure_stream *stream = context;

    stream->answered = true;
    stream->result = result;
    stream->number = number;
    if (result < 0)
        stream->err = *err;
}

static void take_done(void *context, int result, const struct error *err)
{
    take_number(context, result, 0, err);
}

static int wait_for_answer(struct failure_stream *stream)
{
    struct queue *queue = stream->queue;

    while (!stream->answered) {
        struct pollfd waiting = {.fd = queue_fd(queue), .events = queue_events(queue)};
        int timeout = clock_poll_timeout(queue_deadline_ms(queue), clock_monotonic_ms());

        poll(&waiting, 1, timeout);
        queue_process(queue, waiting.revents);
    }
    stream->answered = false;
    return stream->result;
}

static int ask_once(struct failure_stream *stream, send_request *send, const void *what)
{
    if (!queue_is_connected(stream->queue)) {
        queue_connect(stream->queue, take_done, stream);
        if (wait_for_answer(stream) < 0)
            return stream->result;
    }
    send(stream, what);
    return wait_for_answer(stream);
}

/* A kept connection may have broken since, which says nothing about the server now: it is asked again, which
 * doubles nothing. After a fault the next request looks for the server anew: it may be another one. */
static int ask(struct failure_stream *stream, send_request *send, const void *what,
               struct error *err)
{
    bool kept = queue_is_connected(stream->queue);
    int result = ask_once(stream, send, what);

    if (result < 0 && kept && !queue_is_connected(stream->queue) && !queue_timed_out(stream->queue))
        result = ask_once(stream, send, what);
    if (result == 0)
        return 0;
    queue_disconnect(stream->queue);
    *err = stream->err;
    if (err->code != ERR_UNREACHABLE)
        err->code = ERR_REFUSED;
    return -(int)err->code;
}

struct addition {
    struct bytes entry;
    struct bytes identity;
    struct bytes value;
};

static void send_addition(struct failure_stream *stream, const void *what)
{
    const struct addition *addition = what;

    queue_add_failed(stream->queue, addition->entry, addition->identity, addition->value,
                     take_number, stream);
}

static int encode(struct buf *value, const struct failure_row *row, bool redis_serialized,
                  struct error *err)
{
    struct buf body = {0};

    if (bytes_is_utf8(row->body))
        buf_append(&body, row->body);
    else
        base64_encode(&body, row->body); /* as PHP's reader takes it */
    int result = envelope_join(value, buf_bytes(&body), row->headers, redis_serialized, err);
    buf_free(&body);
    if (result < 0)
        err->code = ERR_REFUSED; /* the headers: no later try would change that */
    return result < 0 ? -ERR_REFUSED : 0;
}

static int stream_write(void *state, const struct failure_row *row, struct error *err)
{
    struct failure_stream *stream = state;
    struct buf value = {0};
    int result = encode(&value, row, queue_dsn(stream->queue)->redis_serialized, err);

    if (result == 0) {
        const struct addition addition = {row->look_for, row->identity, buf_bytes(&value)};

        result = ask(stream, send_addition, &addition, err);
    }
    buf_free(&value);
    return result;
}

static void send_question(struct failure_stream *stream, const void *what)
{
    (void)what;
    queue_count_failed(stream->queue, take_number, stream);
}

static int stream_count(void *state, int64_t *count, struct error *err)
{
    struct failure_stream *stream = state;
    int result = ask(stream, send_question, NULL, err);

    *count = result == 0 ? stream->number : 0;
    return result;
}

static void send_set_up(struct failure_stream *stream, const void *what)
{
    (void)what;
    queue_set_up(stream->queue, take_number, stream);
}

/* Stream and consumer group, as Symfony's setup makes them. */
static int stream_set_up(void *state, bool *made, struct error *err)
{
    struct failure_stream *stream = state;
    int result = ask(stream, send_set_up, NULL, err);

    *made = result == 0 && stream->number > 0;
    return result;
}

const struct failure_store FAILURE_STREAM = {.new = stream_new,
                                             .write = stream_write,
                                             .count = stream_count,
                                             .set_up = stream_set_up,
                                             .free = stream_free};
