#include "consumer/mqtt/tcp_probe.h"

#include <arpa/inet.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

/* A port of loopback that is bound, and listens if wanted. */
static int bind_port(bool listens, char place[64])
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    assert_int_equal(bind(fd, (struct sockaddr *)&address, size), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &size), 0);
    if (listens)
        assert_int_equal(listen(fd, 1), 0);
    snprintf(place, 64, "127.0.0.1:%d", ntohs(address.sin_port));
    return fd;
}

static struct tcp_probe_result ask(struct tcp_probe *probe, const char *place)
{
    struct tcp_probe_result result = {0};
    struct pollfd wait = {.events = POLLIN};

    assert_int_equal(tcp_probe_fd(probe), -1);
    assert_true(tcp_probe_ask(probe, place));
    assert_false(tcp_probe_ask(probe, place)); /* an open question is not asked twice */
    wait.fd = tcp_probe_fd(probe);
    assert_int_equal(poll(&wait, 1, 20000), 1);
    assert_true(tcp_probe_take(probe, &result));
    assert_false(tcp_probe_take(probe, &result)); /* each answer is given once */
    return result;
}

static void test_a_closed_port_is_refused_and_an_open_one_is_open(void **state)
{
    struct tcp_probe *probe = tcp_probe_new();
    char closed[64], open[64];
    int closed_fd = bind_port(false, closed), open_fd = bind_port(true, open);

    (void)state;
    struct tcp_probe_result result = ask(probe, closed);
    assert_int_equal(result.answer, TCP_PROBE_CLOSED);
    assert_string_equal(result.text, "Connection refused");
    assert_string_equal(result.address, "127.0.0.1");
    assert_int_equal(result.addresses, 1);
    assert_int_equal(ask(probe, open).answer, TCP_PROBE_OPEN);
    close(closed_fd);
    close(open_fd);
    tcp_probe_free(probe);
}

static void test_a_place_that_can_be_no_address_is_said(void **state)
{
    struct tcp_probe *probe = tcp_probe_new();

    (void)state;
    struct tcp_probe_result result = ask(probe, "[::1::]:1883");
    assert_int_equal(result.answer, TCP_PROBE_CLOSED);
    assert_true(strlen(result.text) > 0);
    assert_int_equal(result.addresses, 0);
    tcp_probe_free(probe);
}

static void test_it_may_be_freed_while_a_question_is_open(void **state)
{
    char open[64];
    int fd = bind_port(true, open);
    struct tcp_probe *probe = tcp_probe_new();

    (void)state;
    assert_true(tcp_probe_ask(probe, open));
    tcp_probe_free(probe);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_closed_port_is_refused_and_an_open_one_is_open),
        cmocka_unit_test(test_a_place_that_can_be_no_address_is_said),
        cmocka_unit_test(test_it_may_be_freed_while_a_question_is_open),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
