#include "consumer/mqtt/endpoints.h"

#include "common/wire/mqtt_codes.h"

#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define HOUR_MS (3600 * INT64_C(1000))

static struct settings_mqtt make_settings(const char *uris, bool tls)
{
    return (struct settings_mqtt){.host = (char *)"broker",
                                  .port = tls ? 8883 : 1883,
                                  .tls = tls,
                                  .version = (char *)"5",
                                  .server_uris = (char *)uris};
}

static struct endpoints *make(struct settings_mqtt settings)
{
    struct endpoints *endpoints = NULL;
    struct error err = {0};

    if (endpoints_new(&endpoints, &settings, &err) < 0)
        fail_msg("%s: %s", settings.server_uris, err.text);
    return endpoints;
}

static struct endpoints *make_list(const char *uris)
{
    return make(make_settings(uris, false));
}

/* Servers ---------------------------------------------------------------------------------------- */

static void test_host_port_and_tls_are_one_server(void **state)
{
    (void)state;
    for (int tls = 0; tls < 2; tls++) {
        struct endpoints *endpoints = make(make_settings(tls ? " " : "", tls == 1));

        assert_int_equal(endpoints_count(endpoints), 1);
        assert_string_equal(endpoints_at(endpoints, 0)->address.uri,
                            tls ? "ssl://broker:8883" : "tcp://broker:1883");
        endpoints_free(endpoints);
    }
}

static void test_a_list_keeps_its_order(void **state)
{
    struct endpoints *endpoints = make_list("b:1, a:2 c:3");

    (void)state;
    assert_int_equal(endpoints_count(endpoints), 3);
    assert_string_equal(endpoints_at(endpoints, 0)->address.place, "b:1");
    assert_string_equal(endpoints_at(endpoints, 1)->address.place, "a:2");
    assert_string_equal(endpoints_at(endpoints, 2)->address.place, "c:3");
    endpoints_free(endpoints);
}

static void test_a_bad_uri_is_an_error_that_names_it(void **state)
{
    struct settings_mqtt settings = make_settings("tcp://a:1, ws://x:80", false);
    struct endpoints *endpoints = NULL;
    struct error err;

    (void)state;
    assert_int_equal(endpoints_new(&endpoints, &settings, &err), -ERR_USAGE);
    assert_non_null(strstr(err.text, "server_uris: \"ws://x:80\""));
}

/* Versions --------------------------------------------------------------------------------------- */

static void test_a_server_that_refused_5_gets_3_1_1_for_an_hour(void **state)
{
    struct server server = {.wants_5 = true};

    (void)state;
    assert_int_equal(server_version(&server, 1000), 5);
    server_refused_5(&server, 1000);
    assert_int_equal(server_version(&server, 1000), 4);
    assert_int_equal(server_version(&server, 999 + HOUR_MS), 4);
    assert_int_equal(server_version(&server, 1000 + HOUR_MS), 5);
    server_refused_5(&server, 1000 + HOUR_MS);
    assert_int_equal(server_version(&server, 1001 + HOUR_MS), 4);
}

static void test_a_server_that_refused_both_versions_is_asked_for_5_again(void **state)
{
    struct server server = {.wants_5 = true};

    (void)state;
    server_refused_5(&server, 0);
    server_refused_3_1_1(&server);
    assert_int_equal(server_version(&server, 1), 5);
}

static void test_two_hang_ups_in_a_row_get_3_1_1_once(void **state)
{
    static const int VERSIONS[] = {5, 5, 4, 5, 5, 4};
    struct server server = {.wants_5 = true};

    (void)state;
    for (size_t i = 0; i < sizeof(VERSIONS) / sizeof(VERSIONS[0]); i++) {
        assert_int_equal(server_version(&server, 0), VERSIONS[i]);
        server_hung_up(&server, 0);
    }
    server_hung_up(&server, 0);
    server_did_not_hang_up(&server);
    server_hung_up(&server, 0);
    assert_int_equal(server_version(&server, 0), 5);
}

static void test_a_server_that_has_accepted_5_never_gets_3_1_1(void **state)
{
    struct server server = {.wants_5 = true, .accepted_5 = true};

    (void)state;
    for (int i = 0; i < 5; i++) {
        server_hung_up(&server, 0);
        assert_int_equal(server_version(&server, 0), 5);
    }
}

static void test_3_1_1_in_the_settings_stays_whatever_the_server_does(void **state)
{
    struct settings_mqtt settings = make_settings("a, b", false);

    (void)state;
    settings.version = (char *)"3.1.1";
    struct endpoints *endpoints = make(settings);
    struct server *server = endpoints_at(endpoints, 1);
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(server_version(server, 0), 4);
        server_hung_up(server, 0);
        server_refused_3_1_1(server);
    }
    endpoints_free(endpoints);
}

static void test_codes_are_said_in_words_for_their_version(void **state)
{
    (void)state;
    assert_string_equal(mqtt_code_text(4, 4), "bad user name or password");
    assert_string_equal(mqtt_code_text(5, 0x86), "bad user name or password");
    assert_string_equal(mqtt_code_text(5, 0x8e), "session taken over");
    assert_non_null(strstr(mqtt_code_hint(4, 4), "MQTT_PASSWORD"));
    assert_string_equal(mqtt_code_text(5, 0xfe), "no reason that is known");
    assert_string_equal(mqtt_code_text(4, 99), "no reason that is known");
}

/* Attempts --------------------------------------------------------------------------------------- */

static enum endpoints_answer start(struct endpoints *endpoints)
{
    struct pollfd wait = {.events = POLLIN};
    enum endpoints_answer answer;
    char why[160];

    endpoints_start(endpoints);
    while ((answer = endpoints_take(endpoints, why)) == ENDPOINTS_LOOKS_UP) {
        wait.fd = endpoints_fd(endpoints);
        assert_int_equal(poll(&wait, 1, 20000), 1);
    }
    assert_int_equal(endpoints_fd(endpoints), -1);
    return answer;
}

static void check(struct endpoints *endpoints, const char *uri, const char *target)
{
    assert_int_equal(start(endpoints), ENDPOINTS_KNOWS);
    assert_string_equal(endpoints_current(endpoints)->uri, uri);
    assert_string_equal(endpoints_current(endpoints)->target, target);
}

static void test_servers_come_in_turn_and_a_round_ends_with_the_last(void **state)
{
    struct endpoints *endpoints = make_list("127.0.0.1:1 [::1]:2");

    (void)state;
    check(endpoints, "tcp://127.0.0.1:1", "127.0.0.1:1");
    assert_false(endpoints_next(endpoints));
    check(endpoints, "tcp://[::1]:2", "[::1]:2");
    assert_true(endpoints_next(endpoints));
    endpoints_begin_round(endpoints);
    check(endpoints, "tcp://127.0.0.1:1", "127.0.0.1:1");
    endpoints_same_server(endpoints);
    check(endpoints, "tcp://127.0.0.1:1", "127.0.0.1:1");
    endpoints_free(endpoints);
}

static void test_a_name_is_looked_up_but_with_tls_left_to_the_library(void **state)
{
    struct endpoints *endpoints = make_list("mqtts://localhost:3 localhost:4");

    (void)state;
    check(endpoints, "ssl://localhost:3", "localhost:3");
    assert_false(endpoints_next_server(endpoints));
    check(endpoints, "tcp://127.0.0.1:4", "127.0.0.1:4");
    const char *place = endpoints_current(endpoints)->place;
    assert_int_equal(strncmp(place, "localhost:4", strlen("localhost:4")), 0);
    endpoints_free(endpoints);
}

static void test_a_name_without_an_address_fails_and_the_next_server_follows(void **state)
{
    struct endpoints *endpoints = make_list("bad..name:1 127.0.0.1:2");

    (void)state;
    assert_int_equal(start(endpoints), ENDPOINTS_FAILS);
    assert_false(endpoints_next(endpoints));
    check(endpoints, "tcp://127.0.0.1:2", "127.0.0.1:2");
    endpoints_free(endpoints);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_host_port_and_tls_are_one_server),
        cmocka_unit_test(test_a_list_keeps_its_order),
        cmocka_unit_test(test_a_bad_uri_is_an_error_that_names_it),
        cmocka_unit_test(test_a_server_that_refused_5_gets_3_1_1_for_an_hour),
        cmocka_unit_test(test_a_server_that_refused_both_versions_is_asked_for_5_again),
        cmocka_unit_test(test_two_hang_ups_in_a_row_get_3_1_1_once),
        cmocka_unit_test(test_a_server_that_has_accepted_5_never_gets_3_1_1),
        cmocka_unit_test(test_3_1_1_in_the_settings_stays_whatever_the_server_does),
        cmocka_unit_test(test_codes_are_said_in_words_for_their_version),
        cmocka_unit_test(test_servers_come_in_turn_and_a_round_ends_with_the_last),
        cmocka_unit_test(test_a_name_is_looked_up_but_with_tls_left_to_the_library),
        cmocka_unit_test(test_a_name_without_an_address_fails_and_the_next_server_follows),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
