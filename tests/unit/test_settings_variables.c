/* What container tools, Kubernetes, Symfony's recipes and people's .env files put into the variables. */
#include "tests/unit/settings_case.h"

#include "common/base/alloc.h"

static void expect_broker(const char *host, const char *bare, int port, bool tls)
{
    setenv("MQTT_HOST", host, 1);
    struct settings *settings = load("");
    assert_string_equal(settings->mqtt.host, bare);
    assert_int_equal(settings->mqtt.port, port);
    assert_int_equal(settings->mqtt.tls, tls);
    settings_free(settings);
}

static void test_scheme_and_port_are_taken_out_of_the_host(void **state)
{
    (void)state;
    expect_broker("mqtt://broker:1884", "broker", 1884, false);
    expect_broker("tcp://broker", "broker", 1883, false);
    expect_broker("mqtt://broker/", "broker", 1883, false);
    expect_broker("mqtts://broker", "broker", 8883, true);
    expect_broker("ssl://10.0.0.1:443", "10.0.0.1", 443, true);
    expect_broker("broker:1884", "broker", 1884, false);
    expect_broker("tcp://[::1]:1884", "::1", 1884, false);
    expect_broker("[::1]", "::1", 1883, false);
    expect_broker("::1", "::1", 1883, false);
}

static void test_host_and_port_may_say_the_same(void **state)
{
    (void)state;
    setenv("MQTT_PORT", "1884", 1);
    expect_broker("mqtt://broker:1884", "broker", 1884, false);
    expect_broker("mqtt://broker", "broker", 1884, false);
    setenv("MQTT_TLS", "yes", 1);
    expect_broker("mqtts://broker", "broker", 1884, true);
    expect_broker("broker", "broker", 1884, true);
}

static void test_a_host_that_contradicts_port_or_tls_is_a_fault(void **state)
{
    (void)state;
    setenv("MQTT_HOST", "mqtt://broker:1884", 1);
    setenv("MQTT_PORT", "1883", 1);
    expect_faults("", "environment MQTT_HOST: [mqtt] host: its port is 1884, but port (MQTT_PORT) "
                      "is 1883: give one of them\n");
    unsetenv("MQTT_PORT");
    setenv("MQTT_TLS", "yes", 1);
    expect_faults("", "environment MQTT_HOST: [mqtt] host: its scheme says no TLS, but tls "
                      "(MQTT_TLS) is yes: write mqtts://broker:1884\n");
}

static void test_a_host_that_can_never_be_reached_is_a_fault(void **state)
{
    static const char *const BAD[] = {"ws://broker:9001", "http://broker", "broker:99999",
                                      "broker/mqtt",      "a, b",          "broker main",
                                      "mqtt://"};

    (void)state;
    for (size_t i = 0; i < LENGTH_OF(BAD); i++) {
        struct settings *settings = NULL;
        struct buf faults = {0};

        setenv("MQTT_HOST", BAD[i], 1);
        assert_int_equal(settings_load_text(&settings, "x", BYTES(""), false, &faults), -ERR_USAGE);
        assert_non_null(strstr(buf_text(&faults), "environment MQTT_HOST: [mqtt] host: \""));
        buf_free(&faults);
    }
    setenv("MQTT_HOST", "mqtt://u:hunter2@broker", 1);
    expect_faults("", "environment MQTT_HOST: [mqtt] host: an address has no user in it: see "
                      "username and password\n");
}

static void test_a_further_consumer_may_have_its_own_address(void **state)
{
    (void)state;
    struct settings *settings =
        load("[mqtt]\nhost = mqtts://one:8884\n"
             "[consumer:same]\ntopics = a\n"
             "[consumer:other]\ntopics = b\nhost = mqtt://two:1884\n"
             "[consumer:third]\ntopics = c\nhost = mqtt://three\nport = 5\n");
    const struct settings_mqtt *same = &settings->consumers[0];
    const struct settings_mqtt *other = &settings->consumers[1];
    const struct settings_mqtt *third = &settings->consumers[2];
    assert_string_equal(same->host, "one");
    assert_int_equal(same->port, 8884);
    assert_true(same->tls);
    assert_string_equal(other->host, "two");
    assert_int_equal(other->port, 1884);
    assert_false(other->tls);
    assert_string_equal(third->host, "three");
    assert_int_equal(third->port, 5);
    settings_free(settings);
}

static void test_an_option_of_database_url_that_php_ignores_is_a_notice(void **state)
{
    (void)state;
    setenv("DATABASE_URL", "postgresql://u:hunter2@db/app?schema=public&sslmod=require", 1);
    struct settings *settings = load("");
    assert_string_equal(
        buf_text(&settings->notices),
        "environment DATABASE_URL: [failure] dsn: overlooked, as PHP does: the options "
        "`schema`, "
        "`sslmod` (did you mean `sslmode`?)\n");
    settings_free(settings);
}

static void assert_failure(const char *dsn, const char *queue, const char *table, bool auto_setup)
{
    struct settings *settings = load("[failure]\ntable = of_file\n");
    const struct settings_failure *failure = &settings->failure;

    assert_string_equal(failure->dsn, dsn);
    assert_string_equal(failure->queue_name, queue);
    assert_string_equal(failure->table, table);
    assert_int_equal(failure->auto_setup, auto_setup);
    settings_free(settings);
}

static void test_doctrine_s_dsn_is_a_table_of_database_url(void **state)
{
    (void)state;
    setenv("DATABASE_URL", "postgresql://u:p@h/d", 1);
    assert_failure("postgresql://u:p@h/d", "failed", "of_file", true);
    setenv("MESSENGER_FAILURE_TRANSPORT_DSN", "doctrine://default", 1);
    assert_failure("postgresql://u:p@h/d", "default", "of_file", true);
    setenv("MESSENGER_FAILURE_TRANSPORT_DSN",
           "doctrine://default?queue_name=q&table_name=s.t&auto_setup=0&redeliver_timeout=5", 1);
    assert_failure("postgresql://u:p@h/d", "q", "s.t", false);
    setenv("MESSENGER_FAILURE_TRANSPORT_DSN", "postgresql://other/x", 1);
    assert_failure("postgresql://other/x", "failed", "of_file", true);
    setenv("MESSENGER_FAILURE_TRANSPORT_DSN", "redis://h/broken", 1);
    assert_failure("redis://h/broken", "broken", "of_file", true);
}

static void test_a_failure_transport_that_can_not_be_is_named(void **state)
{
    static const struct {
        const char *dsn, *fault;
    } cases[] = {
        {"doctrine://default", "doctrine://default is what database (DATABASE_URL) names, which is "
                               "not set"},
        {"doctrine://other", "only the connection `default` is known, which DATABASE_URL names: "
                             "write postgresql:// for another"},
        {"doctrine://default?queue_nam=x",
         "doctrine:// has no option \"queue_nam\"; did you mean `queue_name`?"},
        {"redis://127.0.0.1:6379/messages",
         "is the stream of [transport:async]: failed messages would be read from it again; name "
         "another, such as /failed"},
    };

    (void)state;
    for (size_t i = 0; i < LENGTH_OF(cases); i++) {
        char *expected = xasprintf(
            "environment MESSENGER_FAILURE_TRANSPORT_DSN: [failure] dsn: %s\n", cases[i].fault);

        setenv("MESSENGER_FAILURE_TRANSPORT_DSN", cases[i].dsn, 1);
        expect_faults("", expected);
        free(expected);
    }
}

static void test_database_url_goes_before_a_database_of_the_file(void **state)
{
    (void)state;
    setenv("DATABASE_URL", "postgresql://u:p@h/d", 1);
    struct settings *settings = load("[failure]\ndsn = postgresql://of/file\n");
    assert_string_equal(settings->failure.dsn, "postgresql://u:p@h/d");
    assert_string_equal(buf_text(&settings->notices),
                        "environment DATABASE_URL: goes before `dsn` in x.ini:2\n");
    settings_free(settings);
    settings = load("[failure]\ndsn = redis://of/file\n");
    assert_string_equal(settings->failure.dsn, "redis://of/file");
    settings_free(settings);
}

static void test_quotes_and_white_space_around_a_value_are_taken_away(void **state)
{
    (void)state;
    setenv("MQTT_HOST", "\"broker\"\r", 1);
    setenv("MQTT_PORT", "'1884'", 1);
    setenv("LOG_LEVEL", "'WARN'", 1);
    setenv("MQTT_TOPICS", " a/#, b \t", 1);
    setenv("MQTT_USERNAME", "\"\"", 1);
    setenv("MQTT_PASSWORD", "''", 1);
    setenv("MESSENGER_TRANSPORT_DSN", "\"redis://redis:6379/messages\"", 1);
    struct settings *settings = load("");
    assert_string_equal(settings->mqtt.host, "broker");
    assert_int_equal(settings->mqtt.port, 1884);
    assert_int_equal(settings->log.level, LOG_LEVEL_WARNING);
    assert_string_equal(settings->mqtt.topics, "a/#, b");
    assert_string_equal(settings->mqtt.username, "");
    assert_string_equal(settings->mqtt.password, "");
    assert_string_equal(settings->transports[0].dsn, "redis://redis:6379/messages");
    assert_string_equal(settings_origin(settings, setting_find(SETTING_MQTT, BYTES("username")),
                                        &(struct setting_view){.base = &settings->mqtt}),
                        "default");
    settings_free(settings);
}

static void test_a_secret_with_quotes_white_space_or_a_reference_is_a_fault(void **state)
{
    static const struct {
        const char *value;
        const char *said;
    } CASES[] = {
        {"\"hunter2\"", "has quotes around it, which `docker run --env-file` keeps: write it "
                        "without, or put it into a file and name that by MERCURE_JWT_SECRET_FILE"},
        {"hunter2\r", "has white space around it, which `docker run --env-file` keeps: write it "
                      "without, or put it into a file and name that by MERCURE_JWT_SECRET_FILE"},
        {"${HUNTER2}", "refers to another variable (`$`), which nobody has replaced: `docker run "
                       "--env-file` does not; write the value itself"},
    };
    (void)state;
    for (size_t i = 0; i < LENGTH_OF(CASES); i++) {
        char expected[512];

        setenv("MERCURE_JWT_SECRET", CASES[i].value, 1);
        snprintf(expected, sizeof(expected), "[mercure] jwt_secret: MERCURE_JWT_SECRET %s\n",
                 CASES[i].said);
        expect_faults("", expected);
    }
    setenv("MERCURE_JWT_SECRET", "!ChangeThis${Mercure # Hub'JWTSecretKey!", 1);
    settings_free(load(""));
}

static void test_a_reference_or_a_comment_that_nobody_has_taken_out_is_a_fault(void **state)
{
    (void)state;
    setenv("MESSENGER_TRANSPORT_DSN", "redis://${REDIS_HOST}/messages", 1);
    expect_faults("", "[transport:async] dsn: MESSENGER_TRANSPORT_DSN refers to another variable "
                      "(`$`), which nobody has replaced: `docker run --env-file` does not; write "
                      "the value itself\n");
    setenv("MESSENGER_TRANSPORT_DSN", "redis://redis/messages # the queue", 1);
    expect_faults("", "[transport:async] dsn: MESSENGER_TRANSPORT_DSN has ` # ` in it: `docker run "
                      "--env-file` takes a comment for a part of the value; give it a line of its "
                      "own\n");
    unsetenv("MESSENGER_TRANSPORT_DSN");
    setenv("MQTT_TOPICS", "$share/g/a/#, $SYS/#, #", 1);
    settings_free(load(""));
}

static void test_the_public_url_may_be_a_path_and_no_url_holds_white_space(void **state)
{
    (void)state;
    setenv("MERCURE_PUBLIC_URL", "/.well-known/mercure", 1);
    settings_free(load("[mercure]\nurl = http://hub/.well-known/mercure\n"));
    setenv("MERCURE_PUBLIC_URL", "//hub/x", 1);
    expect_faults(
        "[mercure]\nurl = http://a b\n",
        "x.ini:2: [mercure] url: must not hold white space\n"
        "environment MERCURE_PUBLIC_URL: [mercure] public_url: must begin with http:// or "
        "https:// and name a host\n");
}

static void test_an_unread_variable_like_one_of_ours_gives_a_notice(void **state)
{
    static const char *const OTHERS[][2] = {{"MQTT_USER", "MQTT_USERNAME"},
                                            {"MQTT_CLIENTID", "MQTT_CLIENT_ID"},
                                            {"MQTT_BROKER_URL", "MQTT_HOST"},
                                            {"MERCURE_JWT_SECERT", "MERCURE_JWT_SECRET"},
                                            {"MQTT_HOST_FILE", "MQTT_HOST"}};

    (void)state;
    for (size_t i = 0; i < LENGTH_OF(OTHERS); i++) {
        char expected[128];

        setenv(OTHERS[i][0], "hunter2", 1);
        struct settings *settings = load("");
        snprintf(expected, sizeof(expected), "environment %s: is not read; did you mean %s?\n",
                 OTHERS[i][0], OTHERS[i][1]);
        assert_string_equal(buf_text(&settings->notices), expected);
        settings_free(settings);
        unsetenv(OTHERS[i][0]);
    }
}

static void test_unrelated_variables_give_no_notice(void **state)
{
    static const char *const OTHERS[] = {"MQTT_SERVICE_HOST",  "MQTT_PORT_1883_TCP", "MQTT_RETRIES",
                                         "MQTT_PASSWORD_FILE", "DATABASE_URI",       "MQTT_USER"};

    (void)state;
    setenv("MQTT_USERNAME", "u", 1);
    for (size_t i = 0; i < LENGTH_OF(OTHERS); i++)
        setenv(OTHERS[i], i == 3 ? "/dev/null" : "x", 1);
    struct settings *settings = load("");
    for (size_t i = 0; i < LENGTH_OF(OTHERS); i++)
        unsetenv(OTHERS[i]);
    assert_string_equal(buf_text(&settings->notices), "");
    settings_free(settings);
}

static void test_a_variable_that_overrides_the_file_gives_a_notice(void **state)
{
    (void)state;
    setenv("HTTP_LISTEN", "127.0.0.1:9081", 1);
    setenv("MQTT_QOS", "1", 1);
    struct settings *settings = load("[http]\nlisten = off\n[mqtt]\nqos = 1\n");
    assert_string_equal(buf_text(&settings->notices),
                        "environment HTTP_LISTEN: goes before `listen` in x.ini:2\n");
    settings_free(settings);
}

static void test_a_semicolon_that_may_begin_a_comment_in_a_secret_is_a_fault(void **state)
{
    static const char *const BAD[] = {"[mqtt]\nusername = u\npassword = hunter ;2",
                                      "[mqtt]\nusername = u\npassword = ;hunter2",
                                      "[mqtt]\nusername = u\npassword = hunter2 ; the broker's",
                                      "[transport:async]\n\ndsn = redis://u:1 ;2@redis/messages"};

    (void)state;
    for (size_t i = 0; i < LENGTH_OF(BAD); i++) {
        struct settings *settings = NULL;
        struct buf faults = {0};

        assert_int_equal(settings_load_text(&settings, "x", bytes_of(BAD[i]), false, &faults),
                         -ERR_USAGE);
        assert_non_null(strstr(buf_text(&faults), "x:3: ["));
        assert_non_null(strstr(buf_text(&faults), "` ;` begins a comment here"));
        assert_null(strstr(buf_text(&faults), "hunter"));
        buf_free(&faults);
    }
    settings_free(load("[mqtt]\nusername = u\npassword = hunter;2\nhost = h ; of mine\n"
                       "[transport:async]\ndsn = redis://u:1@redis/messages ; the queue\n"));
}

static void test_dev_has_no_log_file_in_a_container(void **state)
{
    static const char *const VARIABLES[] = {"container", "KUBERNETES_SERVICE_HOST"};

    (void)state;
    setenv("APP_ENV", "dev", 1);
    for (size_t i = 0; i < 2; i++) {
        setenv(VARIABLES[i], "x", 1);
        struct settings *settings = load("");
        assert_string_equal(settings->log.file, "");
        settings_free(settings);
        settings = load("[log]\nfile = /var/log/x\n");
        assert_string_equal(settings->log.file, "/var/log/x");
        settings_free(settings);
        unsetenv(VARIABLES[i]);
    }
    struct settings *settings = load("");
    assert_string_equal(settings->log.file, "var/log/mqtt.log");
    settings_free(settings);
}

static void expect_proxy_notice(const char *url, const char *variable)
{
    char start[64];

    setenv("MERCURE_URL", url, 1);
    struct settings *settings = load("");
    snprintf(start, sizeof(start), "environment %s: the hub", variable);
    if (variable[0] == '\0')
        assert_int_equal(settings->notices.len, 0);
    else
        assert_non_null(strstr(buf_text(&settings->notices), start));
    settings_free(settings);
}

static void test_a_proxy_that_is_used_for_the_hub_gives_a_notice(void **state)
{
    (void)state;
    setenv("HTTP_PROXY", "http://proxy:3128", 1); /* which libcurl does not take */
    expect_proxy_notice("http://hub.example.org:3000/x", "");
    unsetenv("HTTP_PROXY");
    setenv("http_proxy", "http://u:hunter2@proxy:3128", 1);
    expect_proxy_notice("http://hub.example.org:3000/x", "http_proxy");
    expect_proxy_notice("https://hub.example.org/x", "");
    setenv("ALL_PROXY", "socks5://proxy", 1);
    expect_proxy_notice("https://[::1]/x", "ALL_PROXY");
    setenv("NO_PROXY", "localhost, .Example.org ::1", 1);
    expect_proxy_notice("http://hub.example.org:3000/x", "");
    expect_proxy_notice("http://badexample.org/x", "http_proxy");
    expect_proxy_notice("https://[::1]/x", "");
    setenv("no_proxy", "10.0.0.0/9, fd00::/8, 10.0.0.0/x, 192.0.2.0/99", 1);
    expect_proxy_notice("http://10.127.255.255:3000/x", "");
    expect_proxy_notice("http://10.128.0.0/x", "http_proxy");
    expect_proxy_notice("http://192.0.2.1/x", "http_proxy");
    expect_proxy_notice("https://[fdff::1]/x", "");
    expect_proxy_notice("https://[fe80::1]/x", "ALL_PROXY");
    expect_proxy_notice("http://10.example.org/x", "http_proxy");
    setenv("no_proxy", "*", 1);
    expect_proxy_notice("http://badexample.org/x", "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_scheme_and_port_are_taken_out_of_the_host),
        TEST(test_host_and_port_may_say_the_same),
        TEST(test_a_host_that_contradicts_port_or_tls_is_a_fault),
        TEST(test_a_host_that_can_never_be_reached_is_a_fault),
        TEST(test_a_further_consumer_may_have_its_own_address),
        TEST(test_an_option_of_database_url_that_php_ignores_is_a_notice),
        TEST(test_doctrine_s_dsn_is_a_table_of_database_url),
        TEST(test_a_failure_transport_that_can_not_be_is_named),
        TEST(test_database_url_goes_before_a_database_of_the_file),
        TEST(test_quotes_and_white_space_around_a_value_are_taken_away),
        TEST(test_a_secret_with_quotes_white_space_or_a_reference_is_a_fault),
        TEST(test_a_reference_or_a_comment_that_nobody_has_taken_out_is_a_fault),
        TEST(test_the_public_url_may_be_a_path_and_no_url_holds_white_space),
        TEST(test_an_unread_variable_like_one_of_ours_gives_a_notice),
        TEST(test_unrelated_variables_give_no_notice),
        TEST(test_a_variable_that_overrides_the_file_gives_a_notice),
        TEST(test_a_semicolon_that_may_begin_a_comment_in_a_secret_is_a_fault),
        TEST(test_dev_has_no_log_file_in_a_container),
        TEST(test_a_proxy_that_is_used_for_the_hub_gives_a_notice),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
