#include "common/wire/mqtt_codes.h"
#include "consumer/mqtt/servers.h"
#include "consumer/spool/spool_path.h"

#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct settings_mqtt make_settings(const char *uris, bool tls)
{
    return (struct settings_mqtt){.host = (char *)"broker",
                                  .port = tls ? 8883 : 1883,
                                  .tls = tls,
                                  .version = (char *)"5",
                                  .server_uris = (char *)uris};
}

static void test_host_port_and_tls_are_one_server(void **state)
{
    static const char *const NONE[] = {"", " "};
    struct servers servers;
    struct error err = {0};

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct settings_mqtt settings = make_settings(NONE[i], i == 1);

        assert_int_equal(servers_read(&servers, &settings, &err), 0);
        assert_int_equal(servers.len, 1);
        assert_string_equal(servers.at[0].address.uri,
                            i == 1 ? "ssl://broker:8883" : "tcp://broker:1883");
        servers_free(&servers);
    }
}

static void test_a_list_keeps_its_order(void **state)
{
    struct settings_mqtt settings = make_settings("b:1, a:2 c:3", false);
    struct servers servers;
    struct error err;

    (void)state;
    assert_int_equal(servers_read(&servers, &settings, &err), 0);
    assert_int_equal(servers.len, 3);
    assert_string_equal(servers.at[0].address.place, "b:1");
    assert_string_equal(servers.at[1].address.place, "a:2");
    assert_string_equal(servers.at[2].address.place, "c:3");
    servers_free(&servers);
}

static void test_a_bad_uri_is_an_error_that_names_it(void **state)
{
    struct settings_mqtt settings = make_settings("tcp://a:1, ws://x:80", false);
    struct servers servers;
    struct error err;

    (void)state;
    assert_int_equal(servers_read(&servers, &settings, &err), -ERR_USAGE);
    assert_non_null(strstr(err.text, "server_uris: \"ws://x:80\""));
}

#define HOUR_MS (3600 * INT64_C(1000))

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

static void test_3_1_1_in_the_settings_stays_whatever_the_server_does(void **state)
{
    struct settings_mqtt settings = make_settings("a, b", false);
    struct servers servers;
    struct error err;

    (void)state;
    settings.version = (char *)"3.1.1";
    assert_int_equal(servers_read(&servers, &settings, &err), 0);
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(server_version(&servers.at[1], 0), 4);
        server_hung_up(&servers.at[1], 0);
        server_refused_3_1_1(&servers.at[1]);
    }
    servers_free(&servers);
}

static void test_each_server_has_its_own_version(void **state)
{
    struct settings_mqtt settings = make_settings("a, b", false);
    struct servers servers;
    struct error err;

    (void)state;
    assert_int_equal(servers_read(&servers, &settings, &err), 0);
    server_refused_5(&servers.at[0], 0);
    assert_int_equal(server_version(&servers.at[0], 0), 4);
    assert_int_equal(server_version(&servers.at[1], 0), 5);
    servers_free(&servers);
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

static void test_a_client_id_becomes_one_folder_s_name(void **state)
{
    static const struct {
        const char *client_id, *place;
    } CASES[] = {{"mqtt-bridge", "/s/spool/mqtt-bridge"},
                 {"a.b_C9", "/s/spool/a.b_C9"},
                 {"../../etc", "/s/spool/%2E.%2F..%2Fetc"},
                 {".", "/s/spool/%2E"},
                 {"\xc3\xa9 %", "/s/spool/%C3%A9%20%25"}};
    struct settings settings = {.supervisor = {.state_dir = (char *)"/s"}};

    (void)state;
    for (size_t i = 0; i < sizeof(CASES) / sizeof(CASES[0]); i++) {
        char *place = spool_client_path(&settings, CASES[i].client_id);

        assert_string_equal(place, CASES[i].place);
        free(place);
    }
}

static void test_a_spool_lies_in_the_folder_of_its_client_id(void **state)
{
    struct settings settings = {.supervisor = {.state_dir = (char *)"/s"}};
    char *place = spool_path(&settings, "a b", "redis://h:6379/messages");

    (void)state;
    assert_string_equal(place, "/s/spool/a%20b/redis%3A%2F%2Fh%3A6379%2Fmessages");
    free(place);
}

static char *place_of(size_t first_len, const char *end)
{
    struct settings settings = {.supervisor = {.state_dir = (char *)"/s"}};
    char client_id[200];

    memset(client_id, '+', first_len);
    strcpy(client_id + first_len, end);
    return spool_client_path(&settings, client_id);
}

static void test_a_client_id_too_long_for_a_folder_s_name_gets_one_of_its_own(void **state)
{
    const size_t above = strlen("/s/spool/");
    char *longest = place_of(85, ""), *a = place_of(127, "a"), *b = place_of(127, "b");

    (void)state;
    assert_int_equal(strlen(longest) - above, NAME_MAX);
    assert_null(strchr(longest, '~'));
    assert_int_equal(strlen(a) - above, NAME_MAX);
    assert_string_equal(a + above + NAME_MAX - 17, "~94201dfd691c6717");
    assert_string_not_equal(a, b);
    free(longest);
    free(a);
    free(b);
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
        cmocka_unit_test(test_3_1_1_in_the_settings_stays_whatever_the_server_does),
        cmocka_unit_test(test_each_server_has_its_own_version),
        cmocka_unit_test(test_codes_are_said_in_words_for_their_version),
        cmocka_unit_test(test_a_client_id_becomes_one_folder_s_name),
        cmocka_unit_test(test_a_spool_lies_in_the_folder_of_its_client_id),
        cmocka_unit_test(test_a_client_id_too_long_for_a_folder_s_name_gets_one_of_its_own),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
