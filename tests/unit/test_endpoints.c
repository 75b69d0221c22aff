#include "consumer/mqtt/endpoints.h"

#include "common/wire/mqtt_codes.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

static struct settings_mqtt make_settings(const char *uris, bool tls)
{
    return (struct settings_mqtt){.host = (char *)"broker",
                                  .port = tls ? 8883 : 1883,
                                  .tls = tls,
                                  .version = MQTT_VERSION_5,
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

static void wait(struct endpoints *endpoints)
{
    struct pollfd ready = endpoints_poll(endpoints);

    assert_int_equal(poll(&ready, 1, 20000), 1);
}

static enum endpoints_answer start(struct endpoints *endpoints)
{
    enum endpoints_answer answer;
    char why[160];

    endpoints_start(endpoints);
    while ((answer = endpoints_take(endpoints, why)) == ENDPOINTS_LOOKS_UP)
        wait(endpoints);
    assert_int_equal(endpoints_poll(endpoints).fd, -1);
    return answer;
}

static void check(struct endpoints *endpoints, const char *uri, const char *name)
{
    assert_int_equal(start(endpoints), ENDPOINTS_KNOWS);
    assert_string_equal(endpoints_current(endpoints)->uri, uri);
    assert_string_equal(endpoints_current(endpoints)->name, name);
}

static void test_host_port_and_tls_are_one_server(void **state)
{
    (void)state;
    for (int tls = 0; tls < 2; tls++) {
        struct settings_mqtt settings = make_settings(tls ? " " : "", tls == 1);

        settings.host = (char *)"127.0.0.1";
        struct endpoints *endpoints = make(settings);
        check(endpoints, tls ? "ssl://127.0.0.1:8883" : "tcp://127.0.0.1:1883",
              tls ? "127.0.0.1:8883" : "127.0.0.1:1883");
        assert_true(endpoints_next(endpoints, false));
        endpoints_free(endpoints);
    }
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

static void test_codes_have_a_text_for_their_version(void **state)
{
    (void)state;
    assert_string_equal(mqtt_codes_text(4, 4), "bad user name or password");
    assert_string_equal(mqtt_codes_text(5, 0x86), "bad user name or password");
    assert_string_equal(mqtt_codes_text(5, 0x8e), "session taken over");
    assert_non_null(strstr(mqtt_codes_hint(4, 4), "MQTT_PASSWORD"));
    assert_string_equal(mqtt_codes_text(5, 0xfe), "no reason that is known");
    assert_string_equal(mqtt_codes_text(4, 99), "no reason that is known");
}

static void test_servers_are_tried_in_turn_and_a_round_ends_with_the_last(void **state)
{
    struct endpoints *endpoints = make_list("127.0.0.1:1, [::1]:2 127.0.0.1:3");

    (void)state;
    check(endpoints, "tcp://127.0.0.1:1", "127.0.0.1:1");
    assert_false(endpoints_next(endpoints, false));
    check(endpoints, "tcp://[::1]:2", "[::1]:2");
    assert_false(endpoints_next(endpoints, true));
    check(endpoints, "tcp://127.0.0.1:3", "127.0.0.1:3");
    assert_true(endpoints_next(endpoints, false));
    endpoints_begin_round(endpoints);
    check(endpoints, "tcp://127.0.0.1:1", "127.0.0.1:1");
    assert_false(endpoints_next(endpoints, false));
    endpoints_free(endpoints);
}

static void test_a_name_is_looked_up_and_with_tls_the_library_gets_it(void **state)
{
    struct endpoints *endpoints = make_list("mqtts://localhost:3 localhost:4");

    (void)state;
    assert_int_equal(start(endpoints), ENDPOINTS_KNOWS);
    assert_string_equal(endpoints_current(endpoints)->uri, "ssl://localhost:3");
    assert_string_equal(endpoints_current(endpoints)->address, "127.0.0.1");
    assert_false(endpoints_next(endpoints, false));
    assert_int_equal(start(endpoints), ENDPOINTS_KNOWS);
    assert_string_equal(endpoints_current(endpoints)->uri, "tcp://127.0.0.1:4");
    const char *address = endpoints_current(endpoints)->name;
    assert_int_equal(strncmp(address, "localhost:4", strlen("localhost:4")), 0);
    endpoints_free(endpoints);
}

static void test_a_name_without_an_address_fails_and_the_next_server_follows(void **state)
{
    struct endpoints *endpoints = make_list("bad..name:1 127.0.0.1:2");

    (void)state;
    assert_int_equal(start(endpoints), ENDPOINTS_FAILS);
    assert_false(endpoints_next(endpoints, false));
    check(endpoints, "tcp://127.0.0.1:2", "127.0.0.1:2");
    endpoints_free(endpoints);
}

/* A port of loopback that is bound, and listens if wanted. */
static int bind_port(bool listens, char uri[64])
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    assert_int_equal(bind(fd, (struct sockaddr *)&address, size), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &size), 0);
    if (listens)
        assert_int_equal(listen(fd, 1), 0);
    snprintf(uri, 64, "127.0.0.1:%d", ntohs(address.sin_port));
    return fd;
}

static void test_a_probe_distinguishes_an_open_port_from_a_closed_one(void **state)
{
    (void)state;
    for (int listens = 0; listens < 2; listens++) {
        char uri[64];
        int fd = bind_port(listens == 1, uri);
        struct endpoints *endpoints = make_list(uri);

        for (int times = 0; times < 2; times++) {
            start(endpoints);
            endpoints_probe(endpoints);
            wait(endpoints);
            assert_int_equal(endpoints_probed(endpoints), listens ? 0 : ECONNREFUSED);
            assert_int_equal(endpoints_poll(endpoints).fd, -1);
        }
        endpoints_probe(endpoints);
        endpoints_free(endpoints); /* while it is open */
        close(fd);
    }
}

static void test_a_probe_without_an_answer_has_timed_out(void **state)
{
    char uri[64];
    int fd = bind_port(true, uri), waiting[3];
    struct endpoints *endpoints = make_list(uri);

    (void)state;
    start(endpoints);
    for (size_t i = 0; i < 3; i++) { /* more than its backlog: no further SYN is answered */
        endpoints_probe(endpoints);
        waiting[i] = dup(endpoints_poll(endpoints).fd);
    }
    endpoints_probe(endpoints);
    assert_int_equal(endpoints_probed(endpoints), ETIMEDOUT);
    for (size_t i = 0; i < 3; i++)
        close(waiting[i]);
    endpoints_free(endpoints);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_host_port_and_tls_are_one_server),
        cmocka_unit_test(test_a_bad_uri_is_an_error_that_names_it),
        cmocka_unit_test(test_codes_have_a_text_for_their_version),
        cmocka_unit_test(test_servers_are_tried_in_turn_and_a_round_ends_with_the_last),
        cmocka_unit_test(test_a_name_is_looked_up_and_with_tls_the_library_gets_it),
        cmocka_unit_test(test_a_name_without_an_address_fails_and_the_next_server_follows),
        cmocka_unit_test(test_a_probe_distinguishes_an_open_port_from_a_closed_one),
        cmocka_unit_test(test_a_probe_without_an_answer_has_timed_out),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
