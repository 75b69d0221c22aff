/* What Redis gives at most. A consumer group reads entries, acknowledges and deletes them, 256 at a time. The next read
 * goes out together with the acknowledgement of the last.
 *
 *     build/tests/bench/stream_drain PORT STREAM GROUP COUNT       at 127.0.0.1
 *
 * Prints {"messages": …, "seconds": …}, then waits to be ended, so that its CPU time can be read. */
#include "common/base/clock.h"

#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BATCH   256
#define ID_SIZE 48

struct drain {
    redisContext *redis;
    const char *stream;
    const char *group;
    char ids[BATCH][ID_SIZE];
    size_t ids_len;
};

static _Noreturn void die(const char *text)
{
    fprintf(stderr, "stream_drain: %s\n", text);
    exit(1);
}

static redisReply *next_reply(struct drain *drain)
{
    void *reply = NULL;

    if (redisGetReply(drain->redis, &reply) != REDIS_OK)
        die(drain->redis->errstr);
    if (((redisReply *)reply)->type == REDIS_REPLY_ERROR)
        die(((redisReply *)reply)->str);
    return reply;
}

static void ask(struct drain *drain)
{
    redisAppendCommand(drain->redis, "XREADGROUP GROUP %s bench COUNT %d STREAMS %s >",
                       drain->group, BATCH, drain->stream);
}

/* Keeps the ids of what was read. */
static void take(struct drain *drain)
{
    redisReply *reply = next_reply(drain);

    drain->ids_len = 0;
    if (reply->type == REDIS_REPLY_ARRAY && reply->elements == 1) {
        const redisReply *rows = reply->element[0]->element[1];

        for (size_t i = 0; i < rows->elements && i < BATCH; i++)
            snprintf(drain->ids[drain->ids_len++], ID_SIZE, "%s",
                     rows->element[i]->element[0]->str);
    }
    freeReplyObject(reply);
}

static void append_ids(struct drain *drain, const char *head[], int head_len)
{
    const char *arguments[BATCH + 3];

    memcpy(arguments, head, (size_t)head_len * sizeof(*head));
    for (size_t i = 0; i < drain->ids_len; i++)
        arguments[(size_t)head_len + i] = drain->ids[i];
    redisAppendCommandArgv(drain->redis, head_len + (int)drain->ids_len, arguments, NULL);
}

int main(int argc, char **argv)
{
    static struct drain drain;
    size_t done = 0;

    if (argc != 5) {
        fprintf(stderr, "usage: stream_drain PORT STREAM GROUP COUNT\n");
        return 2;
    }
    size_t wanted = strtoul(argv[4], NULL, 10);
    drain.stream = argv[2];
    drain.group = argv[3];
    drain.redis = redisConnect("127.0.0.1", atoi(argv[1]));
    if (drain.redis == NULL || drain.redis->err != 0)
        die("no connection");

    int64_t start = clock_monotonic_us();
    ask(&drain);
    take(&drain);
    while (drain.ids_len > 0) {
        append_ids(&drain, (const char *[]){"XACK", drain.stream, drain.group}, 3);
        append_ids(&drain, (const char *[]){"XDEL", drain.stream}, 2);
        ask(&drain);
        done += drain.ids_len;
        freeReplyObject(next_reply(&drain));
        freeReplyObject(next_reply(&drain));
        take(&drain);
    }
    if (done != wanted)
        die("the stream held another number of entries");
    printf("{\"messages\": %zu, \"seconds\": %.6f}\n", done,
           (double)(clock_monotonic_us() - start) / 1e6);
    fflush(stdout);
    pause();
    return 0;
}
