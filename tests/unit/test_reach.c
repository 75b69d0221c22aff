#include "consumer/reach.h"

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

static struct reach_result ask(struct reach *reach, const char *place)
{
    struct reach_result result = {0};
    struct pollfd wait = {.events = POLLIN};

    assert_int_equal(reach_fd(reach), -1);
    assert_true(reach_ask(reach, place));
    assert_false(reach_ask(reach, place)); /* an open question is not asked twice */
    wait.fd = reach_fd(reach);
    assert_int_equal(poll(&wait, 1, 20000), 1);
    assert_true(reach_take(reach, &result));
    assert_false(reach_take(reach, &result)); /* each answer is given once */
    return result;
}

static void test_a_closed_port_is_refused_and_an_open_one_is_open(void **state)
{
    struct reach *reach = reach_new();
    char closed[64], open[64];
    int closed_fd = bind_port(false, closed), open_fd = bind_port(true, open);

    (void)state;
    struct reach_result result = ask(reach, closed);
    assert_int_equal(result.answer, REACH_CLOSED);
    assert_string_equal(result.text, "Connection refused");
    assert_string_equal(result.address, "127.0.0.1");
    assert_int_equal(result.addresses, 1);
    assert_int_equal(ask(reach, open).answer, REACH_OPEN);
    close(closed_fd);
    close(open_fd);
    reach_free(reach);
}

static void test_a_place_that_can_be_no_address_is_said(void **state)
{
    struct reach *reach = reach_new();

    (void)state;
    struct reach_result result = ask(reach, "[::1::]:1883");
    assert_int_equal(result.answer, REACH_CLOSED);
    assert_true(strlen(result.text) > 0);
    assert_int_equal(result.addresses, 0);
    reach_free(reach);
}

static void test_it_may_be_freed_while_a_question_is_open(void **state)
{
    char open[64];
    int fd = bind_port(true, open);
    struct reach *reach = reach_new();

    (void)state;
    assert_true(reach_ask(reach, open));
    reach_free(reach);
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
