/* A connection to a peer that the test plays itself: what is sent, and when silence is given up. */
#include "common/base/clock.h"
#include "common/client/redis.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define TIMEOUT_MS 300
#define LARGE      (8 * 1024 * 1024)

struct fixture {
    int listener;
    int peer;
    struct redis *redis;
    int answers;
    int broken;
    char why[256];
};

static void on_broken(void *context, const struct error *err)
{
    struct fixture *fixture = context;

    fixture->broken++;
    snprintf(fixture->why, sizeof(fixture->why), "%s", err->text);
}

static void on_answer(void *context, const redisReply *reply, const struct error *err)
{
    struct fixture *fixture = context;

    (void)err;
    fixture->answers += reply != NULL;
}

static void turn(struct fixture *fixture)
{
    struct pollfd poll_fd = {.fd = redis_fd(fixture->redis),
                             .events = redis_events(fixture->redis)};

    if (poll(&poll_fd, 1, 5) <= 0)
        poll_fd.revents = 0;
    redis_process(fixture->redis, poll_fd.revents);
}

static void accept_peer(struct fixture *fixture)
{
    struct pollfd poll_fd = {.fd = fixture->listener, .events = POLLIN};

    while (poll(&poll_fd, 1, 0) == 0)
        turn(fixture);
    fixture->peer = accept(fixture->listener, NULL, NULL);
    assert_true(fixture->peer >= 0);
    while (redis_events(fixture->redis) == POLLOUT) /* it connects */
        turn(fixture);
}

static int setup(void **state)
{
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);
    int size = 65536;
    struct error err;

    assert_non_null(fixture);
    fixture->listener = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(fixture->listener, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
    assert_int_equal(bind(fixture->listener, (struct sockaddr *)&address, len), 0);
    assert_int_equal(listen(fixture->listener, 1), 0);
    assert_int_equal(getsockname(fixture->listener, (struct sockaddr *)&address, &len), 0);
    fixture->redis = redis_new("test", TIMEOUT_MS, on_broken, fixture);
    assert_int_equal(redis_open(fixture->redis, "127.0.0.1", ntohs(address.sin_port), NULL, &err),
                     0);
    accept_peer(fixture);
    *state = fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;

    redis_free(fixture->redis);
    close(fixture->peer);
    close(fixture->listener);
    free(fixture);
    return 0;
}

static void send_bytes(struct fixture *fixture, size_t len, int byte)
{
    char *data = malloc(len);

    assert_non_null(data);
    memset(data, byte, len);
    redis_send_formatted(fixture->redis, (struct bytes){data, len}, 0, on_answer, fixture);
    free(data);
}

static void test_what_is_left_to_send_may_begin_with_a_zero_byte(void **state)
{
    struct fixture *fixture = *state;

    send_bytes(fixture, LARGE, 0);
    turn(fixture); /* the socket takes a part of it */
    assert_int_equal(redis_events(fixture->redis), POLLIN | POLLOUT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_what_is_left_to_send_may_begin_with_a_zero_byte, setup,
                                        teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
