#include "common/client/resolve.h"

#include "common/base/bytes.h"

#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static struct resolve_answer wait_for_answer(struct resolve *resolve)
{
    struct resolve_answer answer = {0};

    while (!resolve_take(resolve, &answer)) {
        struct pollfd wait = {.fd = resolve_fd(resolve), .events = POLLIN};

        assert_int_equal(poll(&wait, 1, 30000), 1);
    }
    return answer;
}

static void test_an_address_is_its_own_answer_at_once(void **state)
{
    static const char *const addresses[] = {"127.0.0.1", "::1", "10.1.2.3", "fe80::1"};
    struct resolve_answer answer;

    (void)state;
    for (size_t i = 0; i < LENGTH_OF(addresses); i++) {
        struct resolve *resolve = resolve_new(addresses[i]);

        assert_true(resolve_is_numeric(addresses[i]));
        assert_false(resolve_take(resolve, &answer));
        resolve_ask(resolve);
        assert_true(resolve_take(resolve, &answer));
        assert_int_equal(answer.len, 1);
        assert_string_equal(answer.address[0], addresses[i]);
        assert_int_equal(resolve_fd(resolve), -1);
        resolve_free(resolve);
    }
}

static void test_a_name_is_looked_up_as_often_as_it_is_asked(void **state)
{
    struct resolve *resolve = resolve_new("localhost");

    (void)state;
    assert_string_equal(resolve_host(resolve), "localhost");
    assert_false(resolve_is_numeric("localhost"));
    for (int i = 0; i < 3; i++) {
        struct resolve_answer answer, none;
        struct pollfd wait = {.events = POLLIN};
        bool found = false;

        resolve_ask(resolve);
        resolve_ask(resolve); /* an open question is not asked twice */
        answer = wait_for_answer(resolve);
        assert_true(answer.len > 0);
        for (size_t j = 0; j < answer.len; j++)
            found = found || strcmp(answer.address[j], "127.0.0.1") == 0 ||
                    strcmp(answer.address[j], "::1") == 0;
        assert_true(found);
        assert_false(resolve_take(resolve, &none));
        wait.fd = resolve_fd(resolve);
        assert_int_equal(poll(&wait, 1, 0), 0);
    }
    resolve_free(resolve);
}

/* No name server is asked for a name that can be none. */
static void test_a_name_without_an_address_says_why(void **state)
{
    char host[300];
    struct resolve *resolve;
    struct resolve_answer answer;

    (void)state;
    memset(host, 'a', sizeof(host) - 1);
    host[sizeof(host) - 1] = '\0';
    resolve = resolve_new(host);
    resolve_ask(resolve);
    answer = wait_for_answer(resolve);
    assert_int_equal(answer.len, 0);
    assert_true(strlen(answer.text) > 0);
    resolve_free(resolve);
}

static void test_a_resolver_may_be_freed_during_a_lookup(void **state)
{
    (void)state;
    for (int i = 0; i < 20; i++) {
        struct resolve *resolve = resolve_new("localhost");

        resolve_ask(resolve);
        resolve_free(resolve);
    }
}

static void test_ipv4_goes_first_and_keeps_its_order(void **state)
{
    struct resolve_answer answer = {4, {"::1", "10.0.0.2", "fe80::1", "10.0.0.1"}, ""};

    (void)state;
    resolve_put_ipv4_first(&answer);
    assert_int_equal(answer.len, 4);
    assert_string_equal(answer.address[0], "10.0.0.2");
    assert_string_equal(answer.address[1], "10.0.0.1");
    assert_string_equal(answer.address[2], "::1");
    assert_string_equal(answer.address[3], "fe80::1");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ipv4_goes_first_and_keeps_its_order),
        cmocka_unit_test(test_an_address_is_its_own_answer_at_once),
        cmocka_unit_test(test_a_name_is_looked_up_as_often_as_it_is_asked),
        cmocka_unit_test(test_a_name_without_an_address_says_why),
        cmocka_unit_test(test_a_resolver_may_be_freed_during_a_lookup),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
