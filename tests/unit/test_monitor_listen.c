#include "monitor/listen.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void expect_bound(const char *address)
{
    struct error err = {0};
    char *bound;
    size_t host_len = strlen(address) - 1;
    int fd;

    assert_int_equal(listen_open(&fd, address, &bound, &err), 0);
    assert_memory_equal(bound, address, host_len);
    assert_true(strtol(bound + host_len, NULL, 10) > 0);
    free(bound);
    close(fd);
}

static void test_port_0_becomes_the_port_that_is_bound(void **state)
{
    (void)state;
    expect_bound("127.0.0.1:0");
}

/* A container may have no IPv6. */
static bool has_ipv6(void)
{
    const struct sockaddr_in6 loopback = {.sin6_family = AF_INET6,
                                          .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool bound = fd >= 0 && bind(fd, (const struct sockaddr *)&loopback, sizeof(loopback)) == 0;

    if (fd >= 0)
        close(fd);
    return bound;
}

static void test_an_ipv6_address_is_bound_or_named_where_there_is_none(void **state)
{
    struct error err = {0};
    char *bound;
    int fd;

    (void)state;
    if (has_ipv6()) {
        expect_bound("[::1]:0");
        return;
    }
    assert_true(listen_open(&fd, "[::1]:0", &bound, &err) < 0);
    assert_non_null(strstr(err.text, "[::1]:0"));
}

static void test_a_port_in_use_is_an_error_that_names_it(void **state)
{
    struct error err = {0};
    char *bound;
    int first;
    int second;

    (void)state;
    assert_int_equal(listen_open(&first, "127.0.0.1:0", &bound, &err), 0);
    assert_int_equal(listen_open(&second, bound, &(char *){NULL}, &err), -ERR_SYSTEM);
    assert_non_null(strstr(err.text, bound));
    assert_non_null(strstr(err.text, "in use"));
    free(bound);
    close(first);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_port_0_becomes_the_port_that_is_bound),
        cmocka_unit_test(test_an_ipv6_address_is_bound_or_named_where_there_is_none),
        cmocka_unit_test(test_a_port_in_use_is_an_error_that_names_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
