#include "consumer/mqtt/endpoints.h"

#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static struct endpoints *make(const char *uris)
{
    struct settings_mqtt settings = {.version = (char *)"5", .server_uris = (char *)uris};
    struct endpoints *dial = NULL;
    struct error err = {0};

    if (endpoints_new(&dial, &settings, &err) < 0)
        fail_msg("%s: %s", uris, err.text);
    return dial;
}

static enum endpoints_answer start(struct endpoints *dial)
{
    struct pollfd wait = {.events = POLLIN};
    enum endpoints_answer answer;
    char why[160];

    endpoints_start(dial);
    while ((answer = endpoints_take(dial, why)) == ENDPOINTS_LOOKS_UP) {
        wait.fd = endpoints_fd(dial);
        assert_int_equal(poll(&wait, 1, 20000), 1);
    }
    assert_int_equal(endpoints_fd(dial), -1);
    return answer;
}

static void check(struct endpoints *dial, const char *uri, const char *target)
{
    assert_int_equal(start(dial), ENDPOINTS_KNOWS);
    assert_string_equal(endpoints_uri(dial), uri);
    assert_string_equal(endpoints_target(dial), target);
}

static void test_servers_come_in_turn_and_a_round_ends_with_the_last(void **state)
{
    struct endpoints *dial = make("127.0.0.1:1 [::1]:2");

    (void)state;
    check(dial, "tcp://127.0.0.1:1", "127.0.0.1:1");
    assert_false(endpoints_next(dial));
    check(dial, "tcp://[::1]:2", "[::1]:2");
    assert_true(endpoints_next(dial));
    endpoints_begin_round(dial);
    check(dial, "tcp://127.0.0.1:1", "127.0.0.1:1");
    endpoints_same_server(dial);
    check(dial, "tcp://127.0.0.1:1", "127.0.0.1:1");
    endpoints_free(dial);
}

static void test_a_name_is_looked_up_but_with_tls_left_to_the_library(void **state)
{
    struct endpoints *dial = make("mqtts://localhost:3 localhost:4");

    (void)state;
    check(dial, "ssl://localhost:3", "localhost:3");
    assert_false(endpoints_next_server(dial));
    check(dial, "tcp://127.0.0.1:4", "127.0.0.1:4");
    assert_int_equal(strncmp(endpoints_place(dial), "localhost:4", strlen("localhost:4")), 0);
    endpoints_free(dial);
}

static void test_a_name_without_an_address_fails_and_the_next_server_follows(void **state)
{
    struct endpoints *dial = make("bad..name:1 127.0.0.1:2");

    (void)state;
    assert_int_equal(start(dial), ENDPOINTS_FAILS);
    assert_false(endpoints_next(dial));
    check(dial, "tcp://127.0.0.1:2", "127.0.0.1:2");
    endpoints_free(dial);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_servers_come_in_turn_and_a_round_ends_with_the_last),
        cmocka_unit_test(test_a_name_is_looked_up_but_with_tls_left_to_the_library),
        cmocka_unit_test(test_a_name_without_an_address_fails_and_the_next_server_follows),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
