/* What the settings mean to the codecs that will use them, and what it takes to publish. */
#include "tests/unit/settings_case.h"

#define HUB "[mercure]\nurl = http://hub/\njwt_secret = 0123456789abcdef0123456789abcdef\n"

/* The faults of an ini that is to publish must be exactly these lines. */
static void expect(const char *ini, const char *expected)
{
    struct settings *settings = NULL;
    struct buf faults = {0};
    int result = settings_load_text(&settings, "x.ini", bytes_of(ini), true, &faults);

    assert_string_equal(buf_text(&faults), expected);
    assert_int_equal(result, expected[0] ? -ERR_USAGE : 0);
    buf_free(&faults);
    settings_free(settings);
}

static void expect_notices(const char *ini, const char *expected)
{
    struct settings *settings = NULL;
    struct buf faults = {0};

    assert_int_equal(settings_load_text(&settings, "x.ini", bytes_of(ini), true, &faults), 0);
    assert_string_equal(buf_text(&settings->notices), expected);
    settings_free(settings);
}

static void test_a_page_that_anybody_may_read_is_a_notice(void **state)
{
    const char *const quiet[] = {
        "listen = 127.0.0.1:9080",
        "listen = localhost:9080",
        "listen = [::1]:9080",
        "listen = off",
        "listen =",
        "listen = 0.0.0.0:9080\ntoken_file = /run/token",
    };

    (void)state;
    for (size_t i = 0; i < LENGTH_OF(quiet); i++) {
        char ini[256];

        snprintf(ini, sizeof(ini), HUB "[http]\n%s\n", quiet[i]);
        expect_notices(ini, "");
    }
    expect_notices(HUB "[http]\nlisten = [::]:9080\n",
                   "x.ini:5: [http] listen: whoever reaches [::]:9080 reads status, metrics and "
                   "last values: set token_file, or listen on 127.0.0.1\n");
}

static void test_a_secret_that_everybody_knows_is_a_notice(void **state)
{
    (void)state;
    expect_notices(
        "[mercure]\nurl = http://hub/\njwt_secret = !ChangeThisMercureHubJWTSecretKey!\n",
        "x.ini:3: [mercure] jwt_secret: is the example of Mercure's documentation: "
        "everybody knows it, and can publish to the hub\n");
}

static void test_http_hosts_are_bare_names(void **state)
{
    (void)state;
    expect_notices(HUB "[http]\nhosts = a.example, b-2_c *\n", "");
    expect(
        HUB "[http]\nhosts = ok, http://x\n",
        "x.ini:5: [http] hosts: `http://x` is no name, such as bridge.example.org: without a port "
        "or `http://`\n");
}

static void test_good_settings_pass(void **state)
{
    (void)state;
    expect(HUB "[failure]\ndsn = postgresql://u:p@db/x\n", "");
}

static void test_faults_of_form_and_of_meaning_come_in_one_run_in_the_files_order(void **state)
{
    (void)state;
    expect(HUB "[mqtt]\nport = 0\ntopics = a/#/b\n[failure]\ndsn = mysql://u:hunter2@h/x\n"
               "[worker]\ncount = many\n",
           "x.ini:5: [mqtt] port: must be a whole number from 1 to 65535, not `0`\n"
           "x.ini:6: [mqtt] topics: the MQTT filter \"a/#/b\" is not valid: `#` is only allowed "
           "alone in the last level\n"
           "x.ini:8: [failure] dsn (DATABASE_URL): the failure transport is kept in PostgreSQL or "
           "Redis, not in mysql; leave it empty to go without one\n"
           "x.ini:10: [worker] count: must be auto or a whole number from 0 to 200, not `many`\n");
}

static void test_a_variable_is_named_as_the_origin(void **state)
{
    (void)state;
    setenv("MQTT_TOPICS", "a//#/", 1);
    setenv("MESSENGER_TRANSPORT_DSN", "amqp://mq/x", 1);
    expect(
        HUB,
        "environment MQTT_TOPICS: [mqtt] topics: the MQTT filter \"a//#/\" is not valid: `#` is "
        "only allowed alone in the last level\n"
        "environment MESSENGER_TRANSPORT_DSN: [transport:async] dsn: amqp:// is another transport: "
        "the bridge takes part in one in Redis, redis://HOST:6379/messages\n");
}

static void test_bad_topics_are_faults(void **state)
{
    (void)state;
    expect(HUB "[mqtt]\ntopics = a, b/#/c\nstatus_topic = a/+\n",
           "x.ini:5: [mqtt] topics: the MQTT filter \"b/#/c\" is not valid: `#` is only allowed "
           "alone in the last level\n"
           "x.ini:6: [mqtt] status_topic: the MQTT topic \"a/+\" holds a wildcard\n");
    expect(HUB "[mqtt]\ntopics = ,\n", "x.ini:5: [mqtt] topics: names no topic filter\n");
}

static void test_bad_addresses_and_dsns_are_faults(void **state)
{
    (void)state;
    expect(HUB "[mqtt]\nserver_uris = tcp://a:1 ssl://b:x\n",
           "x.ini:5: [mqtt] server_uris: \"ssl://b:x\": the port must be 1 to 65535\n");
    expect(HUB "[transport:async]\ndsn = redis://h/m?nonsense=1\n",
           "x.ini:5: [transport:async] dsn: Invalid option(s) \"nonsense\" passed to the Redis "
           "Messenger transport\n");
    expect(HUB "[transport:async]\ndsn = redis://a,b/m\n",
           "x.ini:5: [transport:async] dsn: on a Redis Cluster the stream's name needs a hash tag, "
           "which keeps its delayed set in the same slot: write {m}\n");
}

static void test_a_hub_is_needed_by_those_who_publish(void **state)
{
    (void)state;
    settings_free(load(""));
    expect("[worker]\ncount = 0\n", "");
    expect(
        "",
        "[mercure] url: is needed (MERCURE_URL): where the workers publish\n"
        "[mercure] has neither a jwt (MERCURE_JWT) nor a jwt_secret (MERCURE_JWT_SECRET): the hub "
        "takes no update without one\n");
}

static void test_topics_of_every_consumer_are_checked(void **state)
{
    (void)state;
    expect(HUB "[consumer:garden]\ntopics = +a\n",
           "x.ini:5: [consumer:garden] topics: the MQTT filter \"+a\" is not valid: `+` must fill "
           "its level\n");
}

static void test_a_queue_is_not_read_twice(void **state)
{
    static const char *const same[] = {
        "[worker]\ntransports = async, async\n",
        "[transport:low]\ndsn = redis://127.0.0.1:6379/messages\n[worker]\ntransports = async "
        "low\n",
        "[transport:low]\ndsn = redis://u:p@127.0.0.1/messages/symfony\n[worker]\ntransports = "
        "low async\n",
    };
    static const char *const different[] = {
        "[transport:low]\ndsn = redis://127.0.0.1/low\n[worker]\ntransports = async low\n",
        "[transport:low]\ndsn = redis://127.0.0.1/messages/other\n[worker]\ntransports = async "
        "low\n",
        "[transport:low]\ndsn = redis://127.0.0.1/messages?dbindex=1\n[worker]\ntransports = async "
        "low\n",
    };

    (void)state;
    for (size_t i = 0; i < LENGTH_OF(same); i++) {
        struct settings *settings = NULL;
        struct buf faults = {0};

        assert_int_equal(settings_load_text(&settings, "x.ini", bytes_of(same[i]), false, &faults),
                         -ERR_USAGE);
        assert_non_null(strstr(buf_text(&faults), "[worker] transports: `"));
        buf_free(&faults);
    }
    for (size_t i = 0; i < LENGTH_OF(different); i++)
        settings_free(load(different[i]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_good_settings_pass),
        TEST(test_a_page_that_anybody_may_read_is_a_notice),
        TEST(test_a_secret_that_everybody_knows_is_a_notice),
        TEST(test_http_hosts_are_bare_names),
        TEST(test_faults_of_form_and_of_meaning_come_in_one_run_in_the_files_order),
        TEST(test_a_variable_is_named_as_the_origin),
        TEST(test_bad_topics_are_faults),
        TEST(test_bad_addresses_and_dsns_are_faults),
        TEST(test_a_hub_is_needed_by_those_who_publish),
        TEST(test_a_queue_is_not_read_twice),
        TEST(test_topics_of_every_consumer_are_checked),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
