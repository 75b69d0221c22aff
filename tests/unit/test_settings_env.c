/* Secrets in files, and variables within ini values. */
#include "tests/unit/settings_case.h"

#include "common/settings/settings_internal.h"

#include <unistd.h>

static char secret_path[] = "/tmp/mqtt-bridge-secret-XXXXXX";

static void write_secret(const char *data, size_t len)
{
    FILE *file = fopen(secret_path, "w");

    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, len, file), len);
    assert_int_equal(fclose(file), 0);
}

static void test_every_secret_may_come_from_a_file(void **state)
{
    (void)state;
    size_t tried = 0;
    write_secret("redis://u:p w@h/x\r\n\n", 20);
    for (size_t i = 0; i < SETTINGS_TABLE_LEN; i++) {
        const struct setting *row = &SETTINGS_TABLE[i];
        char name[128];

        if (!row->env)
            continue;
        bool secret = (row->flags & (SETTING_SECRET | SETTING_DSN)) != 0;
        const char *value =
            row->section == SETTING_FAILURE ? "postgresql://u:p w@h/x" : "redis://u:p w@h/x";
        write_secret("", 0);
        write_secret(value, strlen(value));
        snprintf(name, sizeof(name), "%s_FILE", row->env);
        setenv(name, secret_path, 1);
        struct settings *settings = load("[mqtt]\nusername = u\n");
        for (size_t j = 0; j < settings_views_len(settings); j++) {
            const struct setting_view view = settings_view(settings, j);

            if (view.section == row->section && secret) {
                assert_string_equal(*setting_text(row, view.base), value);
                assert_non_null(strstr(settings_origin(settings, row, &view), name));
                tried++;
            } else if (view.section == row->section) {
                assert_null(strstr(settings_origin(settings, row, &view), name));
            }
        }
        settings_free(settings);
        unsetenv(name);
    }
    assert_int_equal(tried, 7);
}

static void test_a_secret_and_its_file_together_are_a_fault(void **state)
{
    (void)state;
    setenv("MERCURE_JWT_SECRET", "a", 1);
    setenv("MERCURE_JWT_SECRET_FILE", "/b", 1);
    expect_faults(
        "", "[mercure] jwt_secret: MERCURE_JWT_SECRET and MERCURE_JWT_SECRET_FILE are both set: "
            "give one of them\n");
}

static void test_a_secret_file_that_cannot_be_read_is_a_fault(void **state)
{
    (void)state;
    setenv("MERCURE_JWT_SECRET_FILE", "/nowhere", 1);
    expect_faults("", "[mercure] jwt_secret: MERCURE_JWT_SECRET_FILE: /nowhere: No such file or "
                      "directory\n");
    write_secret("a\0b", 3);
    setenv("MERCURE_JWT_SECRET_FILE", secret_path, 1);
    char expected[256];
    snprintf(expected, sizeof(expected),
             "MERCURE_JWT_SECRET_FILE %s: [mercure] jwt_secret: must not hold a NUL byte\n",
             secret_path);
    expect_faults("", expected);
}

static void test_variables_expand_in_ini_values(void **state)
{
    (void)state;
    setenv("BRIDGE_TEST", "garden", 1);
    struct settings *settings =
        load("[mqtt]\ntopics = ${BRIDGE_TEST}/#, x/${BRIDGE_TEST}\n"
             "host = ${BRIDGE_NONE:-fallback}.org\nstatus_topic = $${a}$b{c}\n"
             "username = ${BRIDGE_NONE:-}\nclient_id = ${BRIDGE_TEST:-x}\n");
    assert_string_equal(settings->mqtt.topics, "garden/#, x/garden");
    assert_string_equal(settings->mqtt.host, "fallback.org");
    assert_string_equal(settings->mqtt.status_topic, "${a}$b{c}");
    assert_string_equal(settings->mqtt.username, "");
    assert_string_equal(settings->mqtt.client_id, "garden");
    settings_free(settings);
}

static void test_an_empty_variable_expands_to_its_default(void **state)
{
    (void)state;
    setenv("BRIDGE_TEST", "", 1);
    struct settings *settings = load("[mqtt]\nhost = ${BRIDGE_TEST:-fallback}\n");
    assert_string_equal(settings->mqtt.host, "fallback");
    settings_free(settings);
}

static void test_a_variable_that_is_not_set_is_a_fault(void **state)
{
    (void)state;
    expect_faults(
        "[mqtt]\nhost = ${BRIDGE_TEST}\n",
        "x.ini:2: [mqtt] host: the variable BRIDGE_TEST is not set (${BRIDGE_TEST:-…} would "
        "give it a default)\n");
}

static void test_malformed_references_are_faults(void **state)
{
    (void)state;
    expect_faults("[mqtt]\nhost = ${BRIDGE\n",
                  "x.ini:2: [mqtt] host: `${` without `}` (write `$${` for `${`)\n");
    static const char *const BAD[] = {"${}", "${1A}", "${A B}", "${A:x}", "${:-x}"};
    for (size_t i = 0; i < LENGTH_OF(BAD); i++) {
        char ini[64];

        snprintf(ini, sizeof(ini), "[mqtt]\nhost = %s\n", BAD[i]);
        expect_faults(
            ini, "x.ini:2: [mqtt] host: `${` must be followed by a variable's name and `}` (write "
                 "`$${` for `${`)\n");
    }
}

static void test_a_reference_inside_a_variables_value_is_a_fault(void **state)
{
    (void)state;
    setenv("BRIDGE_TEST", "${HOME}", 1);
    expect_faults(
        "[mqtt]\nhost = ${BRIDGE_TEST}\n",
        "x.ini:2: [mqtt] host: BRIDGE_TEST refers to another variable (`$`), which nobody "
        "has replaced: `docker run --env-file` does not; write the value itself\n");
}

static void test_a_secret_key_expands_from_a_file(void **state)
{
    (void)state;
    write_secret("hush\n", 5);
    setenv("BRIDGE_TEST_FILE", secret_path, 1);
    struct settings *settings = load("[mqtt]\nusername = u\npassword = <${BRIDGE_TEST}>\n");
    assert_string_equal(settings->mqtt.password, "<hush>");
    settings_free(settings);
    expect_faults(
        "[mqtt]\nusername = ${BRIDGE_TEST}\n",
        "x.ini:2: [mqtt] username: the variable BRIDGE_TEST is not set (${BRIDGE_TEST:-…} "
        "would give it a default)\n");
}

static void test_a_consumer_called_async_reads_no_variable(void **state)
{
    (void)state;
    setenv("MQTT_TOPICS", "house/#", 1);
    struct settings *settings = load("[consumer:async]\ntopics = garden/#\n");
    assert_string_equal(settings->mqtt.topics, "house/#");
    assert_string_equal(settings->consumers[0].topics, "garden/#");
    settings_free(settings);
}

/* What Kubernetes sets for a Service called `mqtt`, `my-broker`, `redis`. */
static void test_a_port_variable_that_kubernetes_sets_is_ignored_with_a_notice(void **state)
{
    (void)state;
    setenv("MQTT_PORT", "tcp://10.0.0.1:1883", 1);
    setenv("MY_BROKER_PORT", "tcp://[fd00::1]:1883", 1);
    setenv("REDIS_PORT", "tcp://10.0.0.2:6379", 1);
    struct settings *settings =
        load("[transport:async]\ndsn = redis://redis:${REDIS_PORT:-6380}/messages\n"
             "[consumer:b]\ntopics = b\nport = ${MY_BROKER_PORT:-1884}\n");
    assert_int_equal(settings->mqtt.port, 1883);
    assert_int_equal(settings->consumers[0].port, 1884);
    assert_string_equal(settings->transports[0].dsn, "redis://redis:6380/messages");
    assert_non_null(strstr(buf_text(&settings->notices),
                           "environment MQTT_PORT: passed over: `tcp://10.0.0.1:1883` is no port "
                           "but what Kubernetes sets for a Service called `mqtt`; "
                           "`enableServiceLinks: false`"));
    assert_non_null(strstr(buf_text(&settings->notices), "a Service called `my-broker`"));
    assert_non_null(strstr(buf_text(&settings->notices), "a Service called `redis`"));
    settings_free(settings);
    unsetenv("MY_BROKER_PORT");
    unsetenv("REDIS_PORT");
}

static void test_a_port_variable_not_like_those_of_kubernetes_is_a_fault(void **state)
{
    (void)state;
    setenv("MQTT_PORT", "tcp://broker:1883", 1);
    expect_faults("", "environment MQTT_PORT: [mqtt] port: must be a whole number from 1 to 65535, "
                      "not `tcp://broker:1883`\n");
}

/* A Service NAME sets NAME_PORT, NAME_SERVICE_... and NAME_PORT_...: another variable of that form needs
 * the same care. */
static void test_only_mqtt_port_has_a_name_that_kubernetes_may_set(void **state)
{
    (void)state;
    for (size_t i = 0; i < SETTINGS_TABLE_LEN; i++) {
        const char *name = SETTINGS_TABLE[i].env;

        if (!name || strcmp(name, "MQTT_PORT") == 0)
            continue;
        assert_null(strstr(name, "_SERVICE_"));
        assert_null(strstr(name, "_PORT_"));
        assert_true(strlen(name) < 5 || strcmp(name + strlen(name) - 5, "_PORT") != 0);
    }
}

static int make_secret_file(void **state)
{
    (void)state;
    int fd = mkstemp(secret_path);
    return fd < 0 ? -1 : close(fd);
}

static int remove_secret_file(void **state)
{
    (void)state;
    return unlink(secret_path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_every_secret_may_come_from_a_file),
        TEST(test_a_secret_and_its_file_together_are_a_fault),
        TEST(test_a_secret_file_that_cannot_be_read_is_a_fault),
        TEST(test_variables_expand_in_ini_values),
        TEST(test_an_empty_variable_expands_to_its_default),
        TEST(test_a_variable_that_is_not_set_is_a_fault),
        TEST(test_malformed_references_are_faults),
        TEST(test_a_reference_inside_a_variables_value_is_a_fault),
        TEST(test_a_secret_key_expands_from_a_file),
        TEST(test_a_consumer_called_async_reads_no_variable),
        TEST(test_a_port_variable_that_kubernetes_sets_is_ignored_with_a_notice),
        TEST(test_a_port_variable_not_like_those_of_kubernetes_is_a_fault),
        TEST(test_only_mqtt_port_has_a_name_that_kubernetes_may_set),
    };

    return cmocka_run_group_tests(tests, make_secret_file, remove_secret_file);
}
