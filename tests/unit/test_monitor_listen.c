#include "monitor/listen.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void assert_address(const char *text, const char *host, uint16_t port)
{
    struct listen_address address;
    struct error err = {0};

    if (listen_parse(&address, text, &err) < 0)
        fail_msg("%s", err.text);
    assert_string_equal(address.host, host);
    assert_int_equal(address.port, port);
}

static void assert_refused(const char *text, const char *part_of_error)
{
    struct listen_address address;
    struct error err = {0};

    assert_int_equal(listen_parse(&address, text, &err), -ERR_USAGE);
    if (strstr(err.text, part_of_error) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", err.text, part_of_error);
}

static void test_host_and_port_are_taken_apart(void **state)
{
    (void)state;
    assert_address("127.0.0.1:9080", "127.0.0.1", 9080);
    assert_address("localhost:0", "localhost", 0);
    assert_address("0.0.0.0:65535", "0.0.0.0", 65535);
    assert_address(":9080", "", 9080);
}

static void test_brackets_hold_an_ipv6_address(void **state)
{
    (void)state;
    assert_address("[::1]:9080", "::1", 9080);
    assert_address("[::]:80", "::", 80);
    assert_address("[fe80::1%eth0]:80", "fe80::1%eth0", 80);
}

static void test_an_ipv6_address_without_brackets_is_refused_with_an_example(void **state)
{
    (void)state;
    assert_refused("::1:9080", "[::1]:9080");
    assert_refused("fe80::1", "[::1]:9080");
}

static void test_what_is_no_address_is_refused(void **state)
{
    (void)state;
    assert_refused("9080", "HOST:PORT");
    assert_refused("localhost", "HOST:PORT");
    assert_refused("[::1]", "HOST:PORT");
    assert_refused("[::1]9080", "HOST:PORT");
    assert_refused("[]:9080", "HOST:PORT");
    assert_refused("[::1:9080", "HOST:PORT");
    assert_refused("localhost:", "port");
    assert_refused("localhost:http", "port");
    assert_refused("localhost:65536", "port");
    assert_refused("localhost:-1", "port");
    assert_refused("localhost: 80", "port");
}

static void test_a_host_name_that_is_too_long_is_refused(void **state)
{
    char text[LISTEN_HOST_SIZE + 8];

    (void)state;
    memset(text, 'a', sizeof text);
    strcpy(text + LISTEN_HOST_SIZE, ":80");
    assert_refused(text, "too long");
}

static void test_port_0_becomes_the_port_that_is_bound(void **state)
{
    struct listen_address address = {.host = "127.0.0.1", .port = 0};
    struct error err = {0};
    char bound[LISTEN_BOUND_SIZE];
    int fd;

    (void)state;
    assert_int_equal(listen_open(&fd, &address, bound, &err), 0);
    unsigned port = 0;
    assert_int_equal(sscanf(bound, "127.0.0.1:%u", &port), 1);
    assert_true(port > 0);
    close(fd);
}

static void test_a_port_in_use_is_an_error_that_names_it(void **state)
{
    struct listen_address address = {.host = "127.0.0.1", .port = 0};
    struct error err = {0};
    char bound[LISTEN_BOUND_SIZE];
    unsigned port = 0;
    int first;
    int second;

    (void)state;
    assert_int_equal(listen_open(&first, &address, bound, &err), 0);
    assert_int_equal(sscanf(bound, "127.0.0.1:%u", &port), 1);
    address.port = (uint16_t)port;
    assert_int_equal(listen_open(&second, &address, bound, &err), -ERR_SYSTEM);
    assert_non_null(strstr(err.text, "127.0.0.1"));
    assert_non_null(strstr(err.text, "in use"));
    close(first);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_host_and_port_are_taken_apart),
        cmocka_unit_test(test_brackets_hold_an_ipv6_address),
        cmocka_unit_test(test_an_ipv6_address_without_brackets_is_refused_with_an_example),
        cmocka_unit_test(test_what_is_no_address_is_refused),
        cmocka_unit_test(test_a_host_name_that_is_too_long_is_refused),
        cmocka_unit_test(test_port_0_becomes_the_port_that_is_bound),
        cmocka_unit_test(test_a_port_in_use_is_an_error_that_names_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
