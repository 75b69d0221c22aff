#include "common/settings/broker_address.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void expect(const char *text, bool tls, const char *uri, const char *host, const char *port)
{
    struct broker_address address;
    struct error err = {0};

    if (broker_address_read(&address, bytes_of(text), tls, &err) < 0)
        fail_msg("%s: %s", text, err.text);
    assert_string_equal(address.uri, uri);
    assert_string_equal(address.name, uri + strlen("tcp://"));
    assert_string_equal(address.host, host);
    assert_string_equal(address.port, port);
    assert_int_equal(address.tls, strncmp(uri, "ssl", 3) == 0);
    broker_address_free(&address);
}

static void test_scheme_and_port_may_be_left_out(void **state)
{
    (void)state;
    expect("other", false, "tcp://other:1883", "other", "1883");
    expect("other", true, "ssl://other:8883", "other", "8883");
    expect("other:99", false, "tcp://other:99", "other", "99");
    expect("other:99", true, "ssl://other:99", "other", "99");
}

static void test_the_scheme_has_the_last_word_on_tls(void **state)
{
    (void)state;
    expect("tcp://h:1", true, "tcp://h:1", "h", "1");
    expect("mqtt://other", true, "tcp://other:1883", "other", "1883");
    expect("mqtts://other", false, "ssl://other:8883", "other", "8883");
    expect("ssl://other:443", false, "ssl://other:443", "other", "443");
    expect("tls://other/", false, "ssl://other:8883", "other", "8883");
}

static void test_an_ipv6_address_stands_in_brackets(void **state)
{
    (void)state;
    expect("tcp://[::1]:1884", false, "tcp://[::1]:1884", "::1", "1884");
    expect("ssl://[::1]", false, "ssl://[::1]:8883", "::1", "8883");
}

static void test_a_malformed_broker_address_is_an_error_that_names_it(void **state)
{
    static const char *const BAD[] = {
        "ws://x:80", "x:0",     "x:65536",      "x:y",      "x:",          "mqtt://:1883",
        "tcp://",    "::1",     "fe80::1",      "::1:1883", "[::1",        "[]",
        "[]:1883",   "[::1]x",  "[[::1]]:1",    "]:5",      "x:1883:1884", "tcp:x:1",
        "x/path",    "x:1883/", "tcp://x/path", "x y",      "x,y",         "mqtt:///"};
    struct broker_address address;
    struct error err;

    (void)state;
    for (size_t i = 0; i < LENGTH_OF(BAD); i++) {
        assert_int_equal(broker_address_read(&address, bytes_of(BAD[i]), false, &err), -ERR_USAGE);
        assert_non_null(strstr(err.text, BAD[i]));
    }
}

static void test_a_password_in_an_address_is_refused_and_not_repeated(void **state)
{
    struct broker_address address;
    struct error err;

    (void)state;
    assert_int_equal(broker_address_read(&address, BYTES("mqtt://me:secret@x:1883"), false, &err),
                     -ERR_USAGE);
    assert_null(strstr(err.text, "secret"));
}

static void expect_own(const char *host, int port, bool tls, const char *uri, const char *bare)
{
    struct settings_mqtt settings = {.host = (char *)host, .port = port, .tls = tls};
    struct broker_address address;

    broker_address_of(&address, &settings);
    assert_string_equal(address.uri, uri);
    assert_string_equal(address.host, bare);
    broker_address_free(&address);
}

static void test_host_port_and_tls_of_the_settings_are_an_address(void **state)
{
    (void)state;
    expect_own("broker", 1883, false, "tcp://broker:1883", "broker");
    expect_own("broker", 8883, true, "ssl://broker:8883", "broker");
    expect_own("::1", 1883, false, "tcp://[::1]:1883", "::1");
    expect_own("[::1]", 1883, false, "tcp://[::1]:1883", "::1");
}

static void test_a_list_has_commas_or_white_space_between(void **state)
{
    struct bytes list = BYTES(" b:1, a:2\tc:3,"), text;

    (void)state;
    assert_true(bytes_next_item(&list, &text) && bytes_equal_text(text, "b:1"));
    assert_true(bytes_next_item(&list, &text) && bytes_equal_text(text, "a:2"));
    assert_true(bytes_next_item(&list, &text) && bytes_equal_text(text, "c:3"));
    assert_false(bytes_next_item(&list, &text));
    list = BYTES_NONE;
    assert_false(bytes_next_item(&list, &text));
}

static void expect_list(const char *server_uris, const char *expected)
{
    struct settings_mqtt settings = {
        .server_uris = (char *)server_uris, .host = (char *)"::1", .port = 8883, .tls = true};
    char *list = broker_address_list(&settings);

    assert_string_equal(list, expected);
    free(list);
}

static void test_the_list_is_of_host_port_and_tls_where_server_uris_name_none(void **state)
{
    (void)state;
    expect_list("a:1, ssl://b:2", "a:1, ssl://b:2");
    expect_list("", "ssl://[::1]:8883");
    expect_list(" ,\n", "ssl://[::1]:8883");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scheme_and_port_may_be_left_out),
        cmocka_unit_test(test_the_scheme_has_the_last_word_on_tls),
        cmocka_unit_test(test_an_ipv6_address_stands_in_brackets),
        cmocka_unit_test(test_a_malformed_broker_address_is_an_error_that_names_it),
        cmocka_unit_test(test_a_password_in_an_address_is_refused_and_not_repeated),
        cmocka_unit_test(test_host_port_and_tls_of_the_settings_are_an_address),
        cmocka_unit_test(test_a_list_has_commas_or_white_space_between),
        cmocka_unit_test(test_the_list_is_of_host_port_and_tls_where_server_uris_name_none),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
