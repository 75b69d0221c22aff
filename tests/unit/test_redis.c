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
    struct dsn_redis dsn;
    struct redis *redis;
    int answers;
    int broken;
    char why[256];  /* it broke */
    char said[256]; /* the last error answer */
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

    fixture->answers += reply != NULL;
    if (reply != NULL && err != NULL)
        snprintf(fixture->said, sizeof(fixture->said), "%s", err->text);
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
    char text[64];
    struct error err;

    assert_non_null(fixture);
    fixture->listener = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(fixture->listener, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
    assert_int_equal(bind(fixture->listener, (struct sockaddr *)&address, len), 0);
    assert_int_equal(listen(fixture->listener, 1), 0);
    assert_int_equal(getsockname(fixture->listener, (struct sockaddr *)&address, &len), 0);
    fixture->redis = redis_new("test", TIMEOUT_MS, on_broken, fixture);
    snprintf(text, sizeof(text), "redis://127.0.0.1:%d", ntohs(address.sin_port));
    assert_int_equal(dsn_redis_parse(&fixture->dsn, text, &err), 0);
    assert_int_equal(redis_open_dsn(fixture->redis, &fixture->dsn, &err), 0);
    accept_peer(fixture);
    *state = fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;

    redis_free(fixture->redis);
    dsn_redis_free(&fixture->dsn);
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

static void test_unsent_output_may_begin_with_a_zero_byte(void **state)
{
    struct fixture *fixture = *state;

    send_bytes(fixture, LARGE, 0);
    turn(fixture); /* the socket takes a part of it */
    assert_int_equal(redis_events(fixture->redis), POLLIN | POLLOUT);
}

/* At most so many bytes a second, from start_ms on. */
static size_t allowed(int64_t start_ms, size_t rate)
{
    return (size_t)(clock_monotonic_ms() - start_ms) * rate / 1000;
}

static void assert_given_up(const struct fixture *fixture)
{
    assert_int_equal(fixture->broken, 1);
    assert_non_null(strstr(fixture->why, "no answer in time"));
    assert_true(redis_timed_out(fixture->redis));
}

static void test_a_request_may_take_as_long_as_its_caller_says(void **state)
{
    struct fixture *fixture = *state;
    int64_t start_ms = clock_monotonic_ms();

    redis_send_formatted(fixture->redis, BYTES("PING\r\n"), 2 * TIMEOUT_MS, on_answer, fixture);
    while (fixture->broken == 0)
        turn(fixture);
    assert_given_up(fixture);
    assert_in_range(clock_monotonic_ms() - start_ms, 3 * TIMEOUT_MS, 6 * TIMEOUT_MS);
}

/* The error text of the server comes while we still write: the caller gets that text. */
static void test_an_error_sent_before_a_hang_up_amid_a_request_is_reported(void **state)
{
    struct fixture *fixture = *state;
    static const char words[] = "-ERR Protocol error: invalid bulk length\r\n";

    send_bytes(fixture, LARGE, 'x');
    turn(fixture);
    assert_int_equal(send(fixture->peer, words, strlen(words), 0), (ssize_t)strlen(words));
    close(fixture->peer); /* with much unread: the connection is reset */
    fixture->peer = -1;
    redis_process(fixture->redis, POLLOUT); /* as if poll had looked before that */
    while (fixture->broken == 0)
        turn(fixture);
    assert_int_equal(fixture->answers, 1);
    assert_string_equal(fixture->said, "test: ERR Protocol error: invalid bulk length");
}

static void test_an_answer_that_comes_slowly_is_waited_for(void **state)
{
    struct fixture *fixture = *state;
    int64_t start_ms = clock_monotonic_ms();
    static char data[1000];
    size_t given = 0;

    memset(data, 'x', sizeof(data));
    send_bytes(fixture, 100, 'x');
    assert_int_equal(send(fixture->peer, "$1000000\r\n", 10, 0), 10);
    while (given < 1000000 && fixture->broken == 0) {
        turn(fixture);
        while (given < 1000000 && given < allowed(start_ms, 1000000)) {
            assert_int_equal(send(fixture->peer, data, sizeof(data), 0), sizeof(data));
            given += sizeof(data);
        }
    }
    assert_int_equal(send(fixture->peer, "\r\n", 2, 0), 2);
    while (fixture->answers == 0 && fixture->broken == 0)
        turn(fixture);
    assert_string_equal(fixture->why, "");
}

static void test_a_frozen_peer_is_disconnected_also_amid_a_request(void **state)
{
    struct fixture *fixture = *state;
    int64_t until_ms = clock_monotonic_ms() + 10000;

    send_bytes(fixture, LARGE, 'x');
    while (fixture->broken == 0 && clock_monotonic_ms() < until_ms)
        turn(fixture);
    assert_given_up(fixture);
}

/* The kernel of the peer goes on taking small ones for as long as the test would wait. */
static void test_sending_more_requests_does_not_extend_the_answer_timeout(void **state)
{
    struct fixture *fixture = *state;
    int64_t start_ms = clock_monotonic_ms();
    int size = 200000;

    setsockopt(fixture->peer, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
    for (size_t sent = 0; fixture->broken == 0 && sent < 400; turn(fixture)) {
        if (sent >= allowed(start_ms, 40))
            continue;
        send_bytes(fixture, 10, 'x');
        sent++;
    }
    assert_given_up(fixture);
}

static void test_errors_within_a_script_mean_what_they_say(void **state)
{
    static const struct {
        const char *text;
        enum error_code code;
    } rows[] = {
        {"OOM command not allowed when used memory > 'maxmemory'.", ERR_UNREACHABLE},
        {"ERR Error running script (call to f_3d2c): @user_script:10: @user_script: 10: -OOM "
         "command "
         "not allowed when used memory > 'maxmemory'.",
         ERR_UNREACHABLE},
        {"ERR Error running script (call to f_3d2c): @user_script:7: -READONLY You can't write "
         "against a read only replica.",
         ERR_UNREACHABLE},
        {"ERR Error running script (call to f_3d2c): @user_script:7: @user_script: 7: -MISCONF "
         "Redis "
         "is configured to save RDB snapshots",
         ERR_UNREACHABLE},
        {"ERR Error running script (call to f_3d2c): @user_script:7: WRONGTYPE Operation against a "
         "key holding the wrong kind of value",
         ERR_REFUSED},
        {"ERR Error running script (call to f_3d2c): @user_script:1: @user_script: 1: The user "
         "executing the script can't run this command or subcommand",
         ERR_REFUSED},
        {"ERR Error running script (call to f_3d2c):", ERR_REFUSED},
        {"ERR no OOM", ERR_REFUSED},
        {"", ERR_REFUSED},
    };

    (void)state;
    for (size_t i = 0; i < LENGTH_OF(rows); i++)
        if (redis_classify(bytes_of(rows[i].text)) != rows[i].code)
            fail_msg("%s", rows[i].text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_errors_within_a_script_mean_what_they_say),
        cmocka_unit_test_setup_teardown(test_a_request_may_take_as_long_as_its_caller_says, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(
            test_an_error_sent_before_a_hang_up_amid_a_request_is_reported, setup, teardown),
        cmocka_unit_test_setup_teardown(test_an_answer_that_comes_slowly_is_waited_for, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_a_frozen_peer_is_disconnected_also_amid_a_request,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_sending_more_requests_does_not_extend_the_answer_timeout, setup, teardown),
        cmocka_unit_test_setup_teardown(test_unsent_output_may_begin_with_a_zero_byte, setup,
                                        teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
