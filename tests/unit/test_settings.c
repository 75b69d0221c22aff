/* Where values come from, and which goes before which. */
#include "tests/unit/settings_case.h"

#include <unistd.h>

static const char *origin_of(const struct settings *settings, size_t view_index, const char *key)
{
    const struct setting_view view = settings_view(settings, view_index);

    return settings_origin(settings, setting_find(view.section, bytes_of(key)), &view);
}

static void test_defaults_hold_without_file_and_environment(void **state)
{
    (void)state;
    struct settings *settings = NULL;
    struct buf faults = {0};
    assert_int_equal(settings_load(&settings, NULL, false, &faults), 0);
    assert_string_equal(settings->mqtt.host, "127.0.0.1");
    assert_int_equal(settings->mqtt.port, 1883);
    assert_string_equal(settings->mqtt.topics, "#");
    assert_int_equal(settings->mqtt.qos, 1);
    assert_false(settings->mqtt.tls);
    assert_true(settings->mqtt.tls_verify);
    assert_int_equal(settings->mqtt.session_expiry_ms, 86400000);
    assert_int_equal(settings->spool.size, 256 << 20);
    assert_int_equal(settings->transports_len, 1);
    assert_string_equal(settings->transports[0].name, "async");
    assert_string_equal(settings->transports[0].dsn, "redis://127.0.0.1:6379/messages");
    assert_string_equal(settings->transports[0].message_class, "App\\Message\\MqttMessage");
    assert_int_equal(settings->worker.count, 2);
    assert_int_equal(settings->retry.delay_ms, 1000);
    assert_true(settings->retry.multiplier == 2.0 && settings->retry.jitter == 0.1);
    assert_string_equal(settings->failure.dsn, "");
    assert_string_equal(settings->http.listen, "127.0.0.1:9080");
    assert_int_equal(settings->supervisor.stop_timeout_ms, 10000);
    assert_int_equal(settings->consumers_len, 0);
    assert_string_equal(origin_of(settings, 0, "host"), "default");
    settings_free(settings);
    buf_free(&faults);
}

static void test_the_file_goes_before_the_default(void **state)
{
    (void)state;
    struct settings *settings = load("[mqtt]\nhost = broker\n  port: 1884\n\n[spool]\nsize=1G\n");
    assert_string_equal(settings->mqtt.host, "broker");
    assert_int_equal(settings->mqtt.port, 1884);
    assert_int_equal(settings->spool.size, 1 << 30);
    assert_string_equal(origin_of(settings, 0, "host"), "x.ini:2");
    assert_string_equal(origin_of(settings, 0, "port"), "x.ini:3");
    assert_string_equal(origin_of(settings, 1, "size"), "x.ini:6");
    settings_free(settings);
}

static void test_the_environment_goes_before_the_file(void **state)
{
    (void)state;
    setenv("MQTT_HOST", "other", 1);
    setenv("MESSENGER_TRANSPORT_DSN", "redis://redis/x", 1);
    setenv("WORKER_COUNT", "7", 1);
    struct settings *settings =
        load("[mqtt]\nhost = broker\n[transport:async]\ndsn = redis://a/b\n");
    assert_string_equal(settings->mqtt.host, "other");
    assert_string_equal(settings->transports[0].dsn, "redis://redis/x");
    assert_int_equal(settings->worker.count, 7);
    assert_string_equal(origin_of(settings, 0, "host"), "environment MQTT_HOST");
    settings_free(settings);
}

static void test_an_empty_variable_counts_as_not_set(void **state)
{
    (void)state;
    setenv("MQTT_HOST", "", 1);
    setenv("MQTT_PORT", "", 1);
    setenv("MQTT_PASSWORD_FILE", "", 1);
    struct settings *settings = load("[mqtt]\nhost = broker\n");
    assert_string_equal(settings->mqtt.host, "broker");
    assert_int_equal(settings->mqtt.port, 1883);
    settings_free(settings);
}

static const char *dsn_of(enum setting_section section)
{
    return section == SETTING_TRANSPORT ? "redis://h/x" : "postgresql://h/x";
}

/* Each variable of the table reaches its own field. */
static void test_every_variable_is_honoured(void **state)
{
    (void)state;
    size_t tried = 0;
    for (size_t i = 0; i < SETTINGS_TABLE_LEN; i++) {
        const struct setting *row = &SETTINGS_TABLE[i];
        const char *value = row->type == SETTING_TEXT     ? "example"
                            : row->type == SETTING_CHOICE ? "json"
                            : row->type == SETTING_BOOL   ? "yes"
                                                          : "2";

        if (!row->env)
            continue;
        value = strcmp(row->key, "listen") == 0       ? "0.0.0.0:80"
                : strcmp(row->key, "dsn") == 0        ? dsn_of(row->section)
                : strcmp(row->key, "database") == 0   ? dsn_of(row->section)
                : strcmp(row->key, "level") == 0      ? "debug"
                : strcmp(row->key, "options") == 0    ? "--limit=3"
                : strcmp(row->key, "transports") == 0 ? ", async"
                : strstr(row->key, "url")             ? "https://hub/x"
                                                      : value;
        setenv(row->env, value, 1);
        struct settings *settings = load("[mqtt]\nusername = u\n");
        for (size_t j = 0; j < settings_views_len(settings); j++) {
            const struct setting_view view = settings_view(settings, j);
            struct buf expected = {0};

            if (view.section != row->section)
                continue;
            buf_printf(&expected, "environment %s", row->env);
            assert_string_equal(settings_origin(settings, row, &view), buf_text(&expected));
            buf_clear(&expected);
            setting_format(row, view.base, &expected);
            assert_string_equal(buf_text(&expected), value);
            buf_free(&expected);
            tried++;
        }
        settings_free(settings);
        unsetenv(row->env);
    }
    assert_true(tried >= 20);
}

static void test_port_is_8883_with_tls_unless_given(void **state)
{
    (void)state;
    static const char *const YES[] = {"yes", "TRUE", "1", "on", "On"};
    static const char *const NO[] = {"no", "false", "0", "off"};
    for (size_t i = 0; i < LENGTH_OF(YES); i++) {
        setenv("MQTT_TLS", YES[i], 1);
        struct settings *settings = load("");
        assert_true(settings->mqtt.tls);
        assert_int_equal(settings->mqtt.port, 8883);
        settings_free(settings);
        settings = load("[mqtt]\nport = 1883\n");
        assert_int_equal(settings->mqtt.port, 1883);
        settings_free(settings);
    }
    for (size_t i = 0; i < LENGTH_OF(NO); i++) {
        setenv("MQTT_TLS", NO[i], 1);
        struct settings *settings = load("");
        assert_false(settings->mqtt.tls);
        assert_int_equal(settings->mqtt.port, 1883);
        settings_free(settings);
    }
}

static void test_a_consumer_begins_as_mqtt_with_its_own_session(void **state)
{
    (void)state;
    setenv("MQTT_HOST", "broker", 1);
    struct settings *settings = load("[consumer:garden]\ntopics = garden/#\nqos = 2\n"
                                     "[mqtt]\nclient_id = b\nreceive_maximum = 20\ntls = yes\n"
                                     "[consumer:plain]\ntls = no\ntopics = p/#\n");
    assert_int_equal(settings->consumers_len, 2);
    const struct settings_mqtt *garden = &settings->consumers[0];
    const struct settings_mqtt *plain = &settings->consumers[1];
    assert_string_equal(garden->name, "garden");
    assert_string_equal(garden->host, "broker");
    assert_string_equal(garden->client_id, "b-garden");
    assert_string_equal(garden->topics, "garden/#");
    assert_int_equal(garden->qos, 2);
    assert_int_equal(garden->receive_maximum, 20);
    assert_int_equal(garden->port, 8883);
    assert_int_equal(plain->port, 1883);
    assert_int_equal(settings->mqtt.qos, 1);
    assert_string_equal(origin_of(settings, 1, "host"), "[mqtt]");
    assert_string_equal(origin_of(settings, 1, "qos"), "x.ini:3");
    assert_string_equal(origin_of(settings, 1, "keepalive"), "default");
    settings_free(settings);
}

static void test_further_transports_follow_async(void **state)
{
    (void)state;
    struct settings *settings = load("[transport:high]\ndsn = redis://h/high\n[transport:async]\n"
                                     "serializer = json\n[worker]\ntransports = high, async\n");
    assert_int_equal(settings->transports_len, 2);
    assert_string_equal(settings->transports[0].name, "async");
    assert_int_equal(settings->transports[0].serializer, ENVELOPE_JSON);
    assert_string_equal(settings->transports[1].name, "high");
    assert_int_equal(settings->transports[1].serializer, ENVELOPE_PHP);
    assert_ptr_equal(settings_transport(settings, BYTES("high")), &settings->transports[1]);
    assert_null(settings_transport(settings, BYTES("hig")));
    settings_free(settings);
}

static void test_units_of_durations_and_sizes(void **state)
{
    (void)state;
    struct settings *settings = load(
        "[retry]\ndelay = 250ms\nmax_delay = 2h\n[mercure]\ntimeout = 5m\nconnect_timeout=0003 s\n"
        "[supervisor]\nstop_timeout = 0\n[spool]\nsize = 2097152\nretain=64K\n"
        "[transport:async]\nmax_entry = 3m\n[mqtt]\nsession_expiry = 2d\n");
    assert_int_equal(settings->retry.delay_ms, 250);
    assert_int_equal(settings->retry.max_delay_ms, 7200000);
    assert_int_equal(settings->mercure.timeout_ms, 300000);
    assert_int_equal(settings->mercure.connect_timeout_ms, 3000);
    assert_int_equal(settings->supervisor.stop_timeout_ms, 0);
    assert_int_equal(settings->spool.size, 2097152);
    assert_int_equal(settings->spool.retain, 65536);
    assert_int_equal(settings->transports[0].max_entry, 3 << 20);
    assert_int_equal(settings->mqtt.session_expiry_ms, 2 * 86400000);
    settings_free(settings);
}

static void test_worker_count_auto_is_the_number_of_cores(void **state)
{
    (void)state;
    setenv("WORKER_COUNT", "Auto", 1);
    struct settings *settings = load("");
    assert_in_range(settings->worker.count, 1, 200);
    settings_free(settings);
}

static void test_words_are_read_in_any_case(void **state)
{
    (void)state;
    setenv("LOG_LEVEL", "WARNING", 1);
    struct settings *settings = load("[mercure]\njwt_algorithm = hs512\n");
    assert_int_equal(settings->log.level, LOG_LEVEL_WARNING);
    assert_int_equal(settings->mercure.jwt_algorithm, JWT_HS512);
    settings_free(settings);
}

static void test_log_defaults_follow_app_env_and_terminal(void **state)
{
    (void)state;
    setenv("APP_ENV", "prod", 1);
    struct settings *settings = load("");
    assert_int_equal(settings->log.format, LOG_FORMAT_JSON);
    assert_string_equal(settings->log.file, "");
    settings_free(settings);
    setenv("APP_ENV", "dev", 1);
    settings = load("");
    assert_string_equal(settings->log.file, "var/log/mqtt.log");
    assert_int_equal(settings->log.format,
                     isatty(STDERR_FILENO) ? LOG_FORMAT_LINE : LOG_FORMAT_JSON);
    settings_free(settings);
    setenv("LOG_FORMAT", "line", 1);
    settings = load("[log]\nfile =\n");
    assert_int_equal(settings->log.format, LOG_FORMAT_LINE);
    assert_string_equal(settings->log.file, "");
    settings_free(settings);
}

static void test_public_url_is_url_unless_given(void **state)
{
    (void)state;
    setenv("MERCURE_URL", "http://hub/.well-known/mercure", 1);
    struct settings *settings = load("");
    assert_string_equal(settings->mercure.public_url, "http://hub/.well-known/mercure");
    settings_free(settings);
    setenv("MERCURE_PUBLIC_URL", "https://example.org/hub", 1);
    settings = load("");
    assert_string_equal(settings->mercure.public_url, "https://example.org/hub");
    settings_free(settings);
}

static void test_paths_depend_on_who_runs_it(void **state)
{
    (void)state;
    setenv("XDG_STATE_HOME", "/x/state", 1);
    struct settings *settings = load("");
    bool root = geteuid() == 0;
    assert_string_equal(settings->supervisor.state_dir,
                        root ? "/var/lib/mqtt-bridge" : "/x/state/mqtt-bridge");
    assert_string_equal(settings->supervisor.socket, root ? "/var/lib/mqtt-bridge/control.sock"
                                                          : "/x/state/mqtt-bridge/control.sock");
    settings_free(settings);
    settings = load("[supervisor]\nstate_dir = /a\n");
    assert_string_equal(settings->supervisor.socket, "/a/control.sock");
    settings_free(settings);
    settings = load("[supervisor]\nstate_dir = /a\nsocket = /b\n");
    assert_string_equal(settings->supervisor.state_dir, "/a");
    assert_string_equal(settings->supervisor.socket, "/b");
    settings_free(settings);
}

static void test_http_is_off_with_an_empty_listen_or_off(void **state)
{
    (void)state;
    struct settings *settings = load("[http]\nlisten =\n");
    assert_string_equal(settings->http.listen, "");
    settings_free(settings);
    setenv("HTTP_LISTEN", "off", 1);
    settings = load("");
    assert_string_equal(settings->http.listen, "");
    settings_free(settings);
}

static void test_comments_spaces_and_line_ends_do_not_count(void **state)
{
    (void)state;
    struct settings *settings =
        load("\xef\xbb\xbf; first\r\n[ mqtt ] ; the broker\r\n\t host =  broker\t; here\r\n"
             "# second\r\nstatus_topic = a;b\r\n[spool]\n[mqtt]\nqos = 0");
    assert_string_equal(settings->mqtt.host, "broker");
    assert_string_equal(settings->mqtt.status_topic, "a;b");
    assert_int_equal(settings->mqtt.qos, 0);
    settings_free(settings);
}

static void test_the_first_sign_separates_key_and_value(void **state)
{
    (void)state;
    struct settings *settings = load("[mqtt]\nhost: a\nstatus_topic = b:c=d\nusername =;u\n");
    assert_string_equal(settings->mqtt.host, "a");
    assert_string_equal(settings->mqtt.status_topic, "b:c=d");
    assert_string_equal(settings->mqtt.username, ";u");
    settings_free(settings);
}

static void test_long_lines_are_read_whole(void **state)
{
    (void)state;
    struct buf ini = {0};
    buf_append_text(&ini, "[mqtt]\ntopics = ");
    for (int i = 0; i < 4000; i++)
        buf_printf(&ini, "t%d/# ", i);
    buf_append_text(&ini, "\nqos = 2\n");
    struct settings *settings = load(buf_text(&ini));
    assert_true(strlen(settings->mqtt.topics) > 20000);
    assert_non_null(strstr(settings->mqtt.topics, "t3999/#"));
    assert_int_equal(settings->mqtt.qos, 2);
    settings_free(settings);
    buf_free(&ini);
}

static void test_secrets_are_masked(void **state)
{
    (void)state;
    setenv("MESSENGER_TRANSPORT_DSN", "redis://u:p@redis/m?auth=pw", 1);
    struct buf shown = {0};
    struct settings *settings = load("[mercure]\njwt_secret = hush\n");
    setting_format_masked(setting_find(SETTING_MERCURE, BYTES("jwt_secret")), &settings->mercure,
                          &shown);
    setting_format_masked(setting_find(SETTING_MERCURE, BYTES("jwt")), &settings->mercure, &shown);
    setting_format_masked(setting_find(SETTING_TRANSPORT, BYTES("dsn")), &settings->transports[0],
                          &shown);
    assert_string_equal(buf_text(&shown), "***redis://u:***@redis/m?auth=***");
    settings_free(settings);
    buf_free(&shown);
}

static void test_the_settings_table_has_unique_fields_and_variables(void **state)
{
    (void)state;
    for (size_t i = 0; i < SETTINGS_TABLE_LEN; i++) {
        const struct setting *row = &SETTINGS_TABLE[i];

        assert_ptr_equal(setting_find(row->section, bytes_of(row->key)), row);
        assert_non_null(row->standard);
        assert_true(strlen(row->description) > 5);
        assert_true((row->type == SETTING_CHOICE) == (row->words != NULL));
        for (size_t j = 0; j < i; j++) {
            bool same_field = row->section == SETTINGS_TABLE[j].section &&
                              row->offset == SETTINGS_TABLE[j].offset;
            bool same_variable =
                row->env && SETTINGS_TABLE[j].env && strcmp(row->env, SETTINGS_TABLE[j].env) == 0;

            assert_false(same_field);
            assert_false(same_variable);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_defaults_hold_without_file_and_environment),
        TEST(test_the_file_goes_before_the_default),
        TEST(test_the_environment_goes_before_the_file),
        TEST(test_an_empty_variable_counts_as_not_set),
        TEST(test_every_variable_is_honoured),
        TEST(test_port_is_8883_with_tls_unless_given),
        TEST(test_a_consumer_begins_as_mqtt_with_its_own_session),
        TEST(test_further_transports_follow_async),
        TEST(test_units_of_durations_and_sizes),
        TEST(test_worker_count_auto_is_the_number_of_cores),
        TEST(test_words_are_read_in_any_case),
        TEST(test_log_defaults_follow_app_env_and_terminal),
        TEST(test_public_url_is_url_unless_given),
        TEST(test_paths_depend_on_who_runs_it),
        TEST(test_http_is_off_with_an_empty_listen_or_off),
        TEST(test_comments_spaces_and_line_ends_do_not_count),
        TEST(test_the_first_sign_separates_key_and_value),
        TEST(test_long_lines_are_read_whole),
        TEST(test_secrets_are_masked),
        TEST(test_the_settings_table_has_unique_fields_and_variables),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
