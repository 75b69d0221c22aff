/* What `check` finds beyond the settings' own form, and how it reaches a broker. */
#include "tests/unit/settings_case.h"

#include "cli/check.h"
#include "cli/check_broker.h"

#define GOOD                                                                                       \
    "[mercure]\nurl = http://hub/\njwt_secret = 0123456789abcdef0123456789abcdef\n"                \
    "[failure]\ndsn = postgresql://u:p@db/x\n"

static void expect(const char *ini, const char *warnings)
{
    struct settings *settings = load(ini);
    struct check_report report = {0};

    check_settings(settings, &report);
    assert_string_equal(buf_text(&report.faults), "");
    assert_string_equal(buf_text(&report.warnings), warnings);
    check_report_free(&report);
    settings_free(settings);
}

static void test_good_settings_have_no_fault_or_warning(void **state)
{
    (void)state;
    expect(GOOD, "");
}

static void test_a_key_that_cannot_be_used_is_a_fault(void **state)
{
    struct settings *settings = load("[mercure]\nurl = http://hub/\njwt_algorithm = RS256\n"
                                     "jwt_key_file = /nowhere\n");
    struct check_report report = {0};

    (void)state;
    check_settings(settings, &report);
    assert_string_equal(buf_text(&report.faults),
                        "x.ini:4: [mercure] jwt_key_file /nowhere: No such "
                        "file or directory\n");
    check_report_free(&report);
    settings_free(settings);
}

static void test_valid_but_weak_settings_are_warnings(void **state)
{
    (void)state;
    expect(
        "[mercure]\nurl = http://hub/\njwt_secret = !ChangeThisMercureHubJWTSecretKey!\n"
        "topic_template = all\nca_file = /nowhere\n[mqtt]\nqos = 0\n"
        "[transport:async]\ndsn = redis://h/m?stream_max_entries=10\n",
        "x.ini:7: [mqtt] qos: QoS 0: the broker keeps no message for us while we are away\n"
        "x.ini:9: [transport:async] dsn: stream_max_entries: Redis drops the oldest messages, read "
        "or "
        "not, when there are more than that\n"
        "[failure] dsn: is empty (DATABASE_URL): a message whose retries are used up has nowhere "
        "to "
        "go\n"
        "x.ini:5: [mercure] ca_file: /nowhere: No such file or directory\n"
        "x.ini:4: [mercure] topic_template: has no {topic}: every update has the same topic\n");
}

static void test_a_redis_dsn_with_weak_or_useless_tls_is_a_warning(void **state)
{
    (void)state;
    expect(GOOD "[transport:async]\ndsn = rediss://h/m?ssl[cafile]=/nowhere\n",
           "x.ini:7: [transport:async] dsn: /nowhere: No such file or directory\n");
    expect(GOOD "[transport:async]\ndsn = redis://h/m?ssl[cafile]=/nowhere\n",
           "x.ini:7: [transport:async] dsn: ssl[...] has no effect: TLS is what rediss:// says\n");
    expect(
        GOOD "[transport:async]\ndsn = rediss://h/m?ssl[verify_peer]=0\n",
        "x.ini:7: [transport:async] dsn: ssl[verify_peer] is off: whoever is on the way can pose "
        "as Redis and read the password\n");
    expect(
        GOOD "[transport:async]\ndsn = rediss://h/m?ssl[verify_peer_name]=0\n",
        "x.ini:7: [transport:async] dsn: ssl[verify_peer_name] is off: whoever has a certificate "
        "of the same authority can pose as Redis\n");
}

#define SERIALIZERS                                                                                \
    "[failure] serializer: is not set, and [transport:low] has serializer = json: PHP's failure "  \
    "transport must have the same serializer, or it deletes these rows; else set serializer = "    \
    "php here (`transport`: it has the same)\n"

static void test_a_failure_transport_of_another_serializer_is_a_warning(void **state)
{
    (void)state;
    expect(GOOD "[transport:low]\ndsn = redis://h/low\nserializer = json\n", SERIALIZERS);
    expect(GOOD "serializer = php\n[transport:low]\ndsn = redis://h/low\nserializer = json\n", "");
    expect(GOOD "serializer = transport\n[transport:low]\ndsn = redis://h/low\nserializer = json\n",
           "");
}

#define NO_IPV6                                                                                    \
    ": the MQTT library compares no certificate with an IPv6 address: give the broker's name\n"

static void test_a_certificate_is_compared_with_no_ipv6_address(void **state)
{
    (void)state;
    expect(GOOD "[mqtt]\ntls = yes\nhost = ::1\n", "x.ini:8: [mqtt] host" NO_IPV6);
    expect(GOOD "[mqtt]\nserver_uris = tcp://[::1]:1, ssl://[::1]:2\n",
           "x.ini:7: [mqtt] server_uris" NO_IPV6);
    expect(GOOD "[mqtt]\nserver_uris = tcp://[::1]:1, ssl://h:2\n", "");
    expect(GOOD "[mqtt]\nhost = ::1\n", "");
    expect(GOOD "[mqtt]\ntls = yes\nhost = 127.0.0.1\n", "");
}

static void test_overlapping_consumers_are_a_warning(void **state)
{
    (void)state;
    expect(GOOD "[mqtt]\ntopics = garden/#\n[consumer:a]\ntopics = house/#, garden/+/temp\n"
                "[consumer:b]\ntopics = cellar/#\n",
           "x.ini:9: [consumer:a] topics: `garden/+/temp` overlaps with a filter of [mqtt]: both "
           "consumers dispatch what both match\n");
}

static void test_filters_that_overlap_in_part_are_a_warning(void **state)
{
    (void)state;
    expect(GOOD "[mqtt]\ntopics = a/+ +/b\n",
           "x.ini:7: [mqtt] topics: `a/+` and `+/b` overlap: the broker may send twice what both "
           "match, and each copy is a message of its own\n");
    expect(GOOD "[mqtt]\ntopics = a/# a/b c\n", "");
}

#define EMPTY                                                                                      \
    ": such a message goes to the failure transport; a text beside the placeholder mends it\n"

static void test_an_update_topic_that_can_be_empty_is_a_warning(void **state)
{
    static const struct {
        const char *route;
        const char *warnings;
    } rows[] = {
        {"match = a/+/#\ntopic = {2}\n", "x.ini:8: [route:r] topic: is empty for `a/x`" EMPTY},
        {"match = b/+/c, a/#\ntopic = {level:3}{level:-3}\n",
         "x.ini:8: [route:r] topic: is empty for `a`" EMPTY},
        {"match = /#\ntopic = {1:uri}\n", "x.ini:8: [route:r] topic: is empty for `/`" EMPTY},
        {"match = a/#\npublish = batch\nbatch_topic = {1}\n",
         "x.ini:9: [route:r] batch_topic: is empty for `a`" EMPTY},
        {"match = a/#\npublish = batch\ntopic = {1}\nbatch_topic = all\n", ""},
        {"match = #\ntopic = {1}\n", ""},
        {"match = a/#\ntopic = all/{1}\n", ""},
        {"match = a/+/#\ntopic = {level:2}\n", ""},
        {"match = a/+\ntopic = {1}\n", ""},
        {"match = a/#\ntopic = {1}\ndrop = yes\n", ""},
        {"match = a/#\ntopic = {topic}\nalternates = {1}\n", ""},
        {"match = a/#\ntopic = {1}\nhandler = h\n[handler:h]\ncommand = /bin/cat\n", ""},
        {"match = a/#\n[mercure]\ntopic_template = {level:2}\n",
         "[mercure] topic_template: [route:r] topic: is empty for `a`" EMPTY
         "x.ini:9: [mercure] topic_template: is empty for `x`" EMPTY},
    };

    (void)state;
    for (size_t i = 0; i < LENGTH_OF(rows); i++) {
        struct buf ini = {0};

        buf_printf(&ini, GOOD "[route:r]\n%s[worker]\ncount = 1\n", rows[i].route);
        expect(buf_text(&ini), rows[i].warnings);
        buf_free(&ini);
    }
}

static void test_the_checks_client_id_is_its_own_and_short_enough_for_a_broker(void **state)
{
    static const struct {
        const char *client_id;
        const char *expected;
    } CASES[] = {
        {"mqtt-bridge", "mqtt-bridge-check-abcde"},
        {"a", "a-check-abcde"},
        {"mqtt-bridge-garden", "mqtt-bridge-check-abcde"},
        {"123456789\xc3\xa9\xc3\xa9", "123456789\xc3\xa9-check-abcde"},
        {"1234567890\xc3\xa9x", "1234567890-check-abcde"},
        {"a-consumer-with-a-name-of-40-characters-", "a-consumer-with-a-name-of-40-check-abcde"},
    };
    char client_id[CHECK_BROKER_CLIENT_ID_SIZE];
    (void)state;
    for (size_t i = 0; i < LENGTH_OF(CASES); i++) {
        check_broker_client_id(CASES[i].client_id, 0x123456789abcde, client_id);
        assert_string_equal(client_id, CASES[i].expected);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_good_settings_have_no_fault_or_warning),
        TEST(test_a_key_that_cannot_be_used_is_a_fault),
        TEST(test_valid_but_weak_settings_are_warnings),
        TEST(test_a_redis_dsn_with_weak_or_useless_tls_is_a_warning),
        TEST(test_a_failure_transport_of_another_serializer_is_a_warning),
        TEST(test_a_certificate_is_compared_with_no_ipv6_address),
        TEST(test_overlapping_consumers_are_a_warning),
        TEST(test_filters_that_overlap_in_part_are_a_warning),
        TEST(test_an_update_topic_that_can_be_empty_is_a_warning),
        TEST(test_the_checks_client_id_is_its_own_and_short_enough_for_a_broker),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
