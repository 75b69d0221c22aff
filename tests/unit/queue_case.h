/* A queue on a Redis of the test's own, and what its callbacks were told. */
#ifndef TESTS_UNIT_QUEUE_CASE_H
#define TESTS_UNIT_QUEUE_CASE_H

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/client/queue_group.h"
#include "common/client/redis.h"

#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define SPOOL "00112233445566778899aabbccddeeff"

struct fixture {
    char dir[64];
    char dsn[200];
    pid_t server;
    struct queue *queue;
    struct redis *redis; /* to look behind the queue's back */
    struct dsn_redis parsed;
    struct settings_transport transport;
};

/* What a callback was told. */
struct queue_answer {
    int calls;
    int result;
    int64_t number;
    char text[256];
    struct stream_id ids[64];
    struct stream_id next;
    uint32_t deliveries[64];
    bool gone[64];
    size_t len;
};

static inline bool answers(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    bool connected = connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0;
    close(fd);
    return connected;
}

static inline void start_server(struct fixture *fixture)
{
    char path[96];

    snprintf(fixture->dir, sizeof(fixture->dir), "/tmp/test-queue-XXXXXX");
    assert_non_null(mkdtemp(fixture->dir));
    snprintf(path, sizeof(path), "%s/redis.sock", fixture->dir);
    snprintf(fixture->dsn, sizeof(fixture->dsn), "redis://%s", path);
    fixture->server = fork();
    if (fixture->server == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        execlp("redis-server", "redis-server", "--port", "0", "--unixsocket", path, "--dir",
               fixture->dir, "--save", "", "--loglevel", "warning", "--logfile", "redis.log",
               (char *)NULL);
        fprintf(stderr, "redis-server: %s; install it with: make deps\n", strerror(errno));
        _exit(127);
    }
    for (int i = 0; i < 1000 && !answers(path); i++)
        usleep(10000);
    assert_true(answers(path));
}

static inline void stop_server(struct fixture *fixture)
{
    char command[128];

    kill(fixture->server, SIGKILL);
    waitpid(fixture->server, NULL, 0);
    snprintf(command, sizeof(command), "rm -r %s", fixture->dir);
    assert_int_equal(system(command), 0);
}

static inline void turn(struct queue *queue)
{
    struct pollfd poll_fd = {.fd = queue_fd(queue), .events = queue_events(queue)};
    int timeout = clock_poll_timeout(queue_deadline_ms(queue), clock_monotonic_ms());

    if (poll(&poll_fd, 1, timeout < 0 || timeout > 1000 ? 1000 : timeout) <= 0)
        poll_fd.revents = 0;
    queue_process(queue, poll_fd.revents);
}

static inline void wait_for(struct queue *queue, const struct queue_answer *answer)
{
    int64_t deadline = clock_monotonic_ms() + 10000;

    while (answer->calls == 0 && clock_monotonic_ms() < deadline)
        turn(queue);
    assert_int_equal(answer->calls, 1);
}

static inline void wait_until_closed(struct queue *queue)
{
    int64_t deadline = clock_monotonic_ms() + 10000;

    while (queue_is_connected(queue) && clock_monotonic_ms() < deadline)
        turn(queue);
    assert_false(queue_is_connected(queue));
}

static inline void on_done(void *context, int result, const struct error *err)
{
    struct queue_answer *answer = context;

    answer->calls++;
    answer->result = result;
    snprintf(answer->text, sizeof(answer->text), "%s", err != NULL ? err->text : "");
}

static inline void on_number(void *context, int result, int64_t number, const struct error *err)
{
    on_done(context, result, err);
    ((struct queue_answer *)context)->number = number;
}

static inline void on_entries(void *context, int result, const struct queue_entry *entries,
                              size_t len, const struct error *err)
{
    struct queue_answer *answer = context;

    on_done(context, result, err);
    answer->len = len;
    for (size_t i = 0; i < len && i < 64; i++) {
        answer->ids[i] = entries[i].id;
        answer->deliveries[i] = entries[i].deliveries;
        answer->gone[i] = entries[i].value.data == NULL;
    }
    if (len > 0)
        snprintf(answer->text, sizeof(answer->text), "%.*s", BYTES_ARG(entries[0].value));
}

static inline void connect_queue(struct fixture *fixture, struct queue **queue)
{
    struct queue_answer answer = {0};
    struct error err;

    assert_int_equal(queue_new(queue, &fixture->transport, &err), 0);
    queue_connect(*queue, on_done, &answer);
    wait_for(*queue, &answer);
    assert_int_equal(answer.result, 0);
}

static inline int setup(void **state)
{
    struct fixture *fixture = xcalloc(1, sizeof(*fixture));
    struct error err;

    start_server(fixture);
    fixture->transport = (struct settings_transport){.name = (char *)"async", .dsn = fixture->dsn};
    fixture->redis = redis_new("test", 5000, NULL, NULL);
    assert_int_equal(dsn_redis_parse(&fixture->parsed, fixture->dsn, &err), 0);
    assert_int_equal(redis_open_dsn(fixture->redis, &fixture->parsed, &err), 0);
    connect_queue(fixture, &fixture->queue);
    *state = fixture;
    return 0;
}

static inline int teardown(void **state)
{
    struct fixture *fixture = *state;

    queue_free(fixture->queue);
    redis_free(fixture->redis);
    dsn_redis_free(&fixture->parsed);
    stop_server(fixture);
    free(fixture);
    return 0;
}

/* A command of words, its answer as a number (an integer, or a string's or list's length). */
static inline int64_t command(struct fixture *fixture, const char *line)
{
    char *copy = xstrdup(line);
    struct bytes words[16];
    size_t count = 0;
    char *rest = NULL;
    struct error err = {0};

    for (char *word = strtok_r(copy, " ", &rest); word != NULL; word = strtok_r(NULL, " ", &rest))
        words[count++] = bytes_of(word);
    redisReply *reply = redis_call(fixture->redis, words, count, &err);
    free(copy);
    if (reply == NULL)
        fail_msg("%s: %s", line, err.text);
    int64_t number = reply->type == REDIS_REPLY_INTEGER ? reply->integer
                     : reply->type == REDIS_REPLY_ARRAY ? (int64_t)reply->elements
                                                        : (int64_t)reply->len;
    redis_reply_free(reply);
    return number;
}

static inline int append(struct fixture *fixture, const char *expected, const char *next,
                         int values)
{
    struct queue_batch batch = {0};
    struct queue_answer answer = {0};

    for (int i = 0; i < values; i++) {
        buf_clear(&batch.value);
        buf_printf(&batch.value, "value %d", i);
        queue_batch_add(&batch);
    }
    queue_append(fixture->queue, SPOOL, bytes_of(expected), bytes_of(next), &batch, 0, on_done,
                 &answer);
    queue_batch_free(&batch);
    wait_for(fixture->queue, &answer);
    return answer.result;
}

static inline void make_group(struct fixture *fixture)
{
    struct queue_answer answer = {0};

    queue_create_group(fixture->queue, on_done, &answer);
    wait_for(fixture->queue, &answer);
    assert_int_equal(answer.result, 0);
}

static inline struct queue_answer read_new(struct fixture *fixture, const char *consumer,
                                           size_t count)
{
    struct queue_answer answer = {0};

    queue_read_new(fixture->queue, consumer, count, SIZE_MAX, 0, on_entries, &answer);
    wait_for(fixture->queue, &answer);
    return answer;
}

#define WITH_REDIS(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

#endif
