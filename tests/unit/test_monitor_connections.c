#include "monitor/connections.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void expect_bound(const char *address)
{
    struct error err = {0};
    char *bound;
    size_t host_len = strlen(address) - 1;
    int fd;

    assert_int_equal(connections_listen(&fd, address, &bound, &err), 0);
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
    assert_true(connections_listen(&fd, "[::1]:0", &bound, &err) < 0);
    assert_non_null(strstr(err.text, "[::1]:0"));
}

static void test_a_port_in_use_is_an_error_that_names_it(void **state)
{
    struct error err = {0};
    char *bound;
    int first;
    int second;

    (void)state;
    assert_int_equal(connections_listen(&first, "127.0.0.1:0", &bound, &err), 0);
    assert_int_equal(connections_listen(&second, bound, &(char *){NULL}, &err), -ERR_SYSTEM);
    assert_non_null(strstr(err.text, bound));
    assert_non_null(strstr(err.text, "in use"));
    free(bound);
    close(first);
}

static struct connections connections;

static int begin(void **state)
{
    (void)state;
    connections.len = 0;
    return 0;
}

static int add(int fd, const char *address, int64_t now_ms)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};

    if (inet_pton(AF_INET, address, &v4.sin_addr) == 1)
        return connections_add(&connections, fd, (struct sockaddr *)&v4, now_ms);
    assert_int_equal(inet_pton(AF_INET6, address, &v6.sin6_addr), 1);
    return connections_add(&connections, fd, (struct sockaddr *)&v6, now_ms);
}

static void test_at_the_share_of_an_address_its_oldest_connection_makes_room(void **state)
{
    (void)state;
    assert_int_equal(add(1000, "10.0.0.2", 0), -1);
    for (int fd = 0; fd < CONNECTIONS_PER_ADDRESS; fd++)
        assert_int_equal(add(fd, "10.0.0.1", 100 - fd), -1);
    assert_int_equal(add(500, "10.0.0.1", 200), CONNECTIONS_PER_ADDRESS - 1);
    assert_int_equal(add(501, "10.0.0.1", 200), CONNECTIONS_PER_ADDRESS - 2);
}

static void test_at_the_limit_the_oldest_of_the_busiest_address_makes_room(void **state)
{
    char address[INET_ADDRSTRLEN] = "10.0.0.";
    int fd = 0;

    (void)state;
    for (; fd < CONNECTIONS_MAX - 1; fd++) {
        address[7] = (char)('1' + fd % 5); /* five addresses, all within their share */
        address[8] = '\0';
        assert_int_equal(add(fd, address, fd == 8 ? 0 : 1000), -1);
    }
    assert_int_equal(add(fd++, "10.0.0.4", 1000), -1);
    assert_int_equal(add(fd++, "10.9.9.9", 1000), 8); /* 8 % 5 = 3: it is of 10.0.0.4 */
    assert_int_equal(connections.len, CONNECTIONS_MAX);
}

static void test_an_ipv6_network_counts_as_one_address(void **state)
{
    char address[INET6_ADDRSTRLEN] = "2001:db8:0:1::a0";

    (void)state;
    for (int fd = 0; fd < CONNECTIONS_PER_ADDRESS; fd++) {
        address[15] = (char)('0' + fd % 10);
        assert_int_equal(add(fd, address, fd), -1);
    }
    assert_int_equal(add(500, "2001:db8:0:2::1", 500), -1);
    assert_int_equal(add(501, "2001:db8:0:1:ffff::1", 500), 0);
}

static void test_a_mapped_address_is_the_ipv4_address(void **state)
{
    (void)state;
    for (int fd = 0; fd < CONNECTIONS_PER_ADDRESS; fd++)
        assert_int_equal(add(fd, "10.0.0.1", fd), -1);
    assert_int_equal(add(500, "::ffff:10.0.0.2", 500), -1);
    assert_int_equal(add(501, "::ffff:10.0.0.1", 500), 0);
}

static void test_a_whole_request_has_one_deadline(void **state)
{
    (void)state;
    add(1, "10.0.0.1", 1000);
    add(2, "10.0.0.1", 2000);
    assert_int_equal(connections_deadline(&connections), 1000 + CONNECTION_REQUEST_MS);
    assert_int_equal(connections_take_overdue(&connections, 999 + CONNECTION_REQUEST_MS), -1);
    assert_int_equal(connections_take_overdue(&connections, 1000 + CONNECTION_REQUEST_MS), 1);
    assert_int_equal(connections_take_overdue(&connections, 1000 + CONNECTION_REQUEST_MS), -1);
    assert_int_equal(connections_deadline(&connections), 2000 + CONNECTION_REQUEST_MS);
}

static void test_an_answer_and_the_next_request_have_deadlines_of_their_own(void **state)
{
    (void)state;
    add(1, "10.0.0.1", 0);
    connections_answer(&connections, 1, true, 5000);
    assert_int_equal(connections_deadline(&connections), 5000 + CONNECTION_ANSWER_MS);
    connections_answer(&connections, 1, false, 9000);
    assert_int_equal(connections_deadline(&connections), 9000 + CONNECTION_REQUEST_MS);
}

static void test_a_connection_that_is_forgotten_is_passed_over(void **state)
{
    (void)state;
    add(1, "10.0.0.1", 0);
    connections_remove(&connections, 1);
    connections_remove(&connections, 1);
    connections_answer(&connections, 1, true, 0);
    assert_int_equal(connections.len, 0);
    assert_int_equal(connections_deadline(&connections), -1);
}

#define TEST(name) cmocka_unit_test_setup(name, begin)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_port_0_becomes_the_port_that_is_bound),
        cmocka_unit_test(test_an_ipv6_address_is_bound_or_named_where_there_is_none),
        cmocka_unit_test(test_a_port_in_use_is_an_error_that_names_it),
        TEST(test_at_the_share_of_an_address_its_oldest_connection_makes_room),
        TEST(test_at_the_limit_the_oldest_of_the_busiest_address_makes_room),
        TEST(test_an_ipv6_network_counts_as_one_address),
        TEST(test_a_mapped_address_is_the_ipv4_address),
        TEST(test_a_whole_request_has_one_deadline),
        TEST(test_an_answer_and_the_next_request_have_deadlines_of_their_own),
        TEST(test_a_connection_that_is_forgotten_is_passed_over),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
