/* Settings on their way to a child process. */
#include "tests/unit/settings_case.h"

static struct settings *unpack(const struct buf *packed)
{
    struct settings *settings = NULL;
    struct error err = {0};

    if (settings_unpack(&settings, buf_bytes(packed), &err) < 0)
        fail_msg("%s", err.text);
    return settings;
}

static const char *const PROCESSES[] = {"consumer", "consumer:a", "worker", "monitor"};
#define PROCESSES_LEN LENGTH_OF(PROCESSES)

static void expect_same(const struct settings *settings, const char *process)
{
    struct buf packed = {0};
    struct buf again = {0};

    settings_pack(settings, process, &packed);
    struct settings *copy = unpack(&packed);
    settings_pack(copy, process, &again);
    assert_true(bytes_equal(buf_bytes(&packed), buf_bytes(&again)));
    if (strcmp(process, "worker") == 0)
        assert_memory_equal(&copy->worker.consume, &settings->worker.consume,
                            sizeof(settings->worker.consume));
    settings_free(copy);
    buf_free(&packed);
    buf_free(&again);
}

/* A value for the row that is not its default. */
static const char *other_value(const struct setting *row)
{
    switch (row->type) {
    case SETTING_TEXT:
        return "a = b\n:; \"ü\" 12:x";
    case SETTING_NUMBER:
    case SETTING_COUNT:
        return strcmp(row->standard, "2") == 0 ? "1" : "2";
    case SETTING_REAL:
        return row->minimum > 0 ? "3.14159" : "0.3333";
    case SETTING_BOOL:
        return strcmp(row->standard, "yes") == 0 ? "no" : "yes";
    case SETTING_DURATION:
        return "12345ms";
    case SETTING_SIZE:
        return "1234567";
    case SETTING_CHOICE:
        return strcmp(row->standard, row->words[0].text) == 0 ? row->words[1].text
                                                              : row->words[0].text;
    }
    return NULL;
}

static void test_every_key_survives_the_way_to_a_child(void **state)
{
    (void)state;
    for (size_t i = 0; i < SETTINGS_TABLE_LEN; i++) {
        const struct setting *row = &SETTINGS_TABLE[i];
        struct settings *settings =
            load("[consumer:a]\ntopics = a\n[transport:b]\ndsn = redis://h/b\n");

        for (size_t j = 0; j < settings_views_len(settings); j++) {
            const struct setting_view view = settings_view(settings, j);
            struct buf value = {0};
            struct error err = {0};

            if (view.section != row->section || strcmp(row->key, "options") == 0)
                continue;
            buf_append_text(&value, other_value(row));
            for (size_t k = 0; k < value.len && !(row->flags & SETTING_SECRET); k++)
                value.data[k] = value.data[k] == '\n' ? ' ' : value.data[k];
            if (setting_parse(row, view.base, buf_bytes(&value), &err) < 0)
                fail_msg("%s: %s", row->key, err.text);
            buf_free(&value);
        }
        for (size_t j = 0; j < PROCESSES_LEN; j++)
            expect_same(settings, PROCESSES[j]);
        settings_free(settings);
    }
}

static struct settings *as_read_by(const char *process)
{
    setenv("MQTT_PASSWORD", "line\nline", 1);
    setenv("DATABASE_URL", "postgresql://u:p@h/d", 1);
    setenv("MERCURE_JWT_SECRET", "a secret of the hub, 32 bytes or more", 1);
    struct settings *settings =
        load("[mqtt]\nusername = u\nca_file = /ca\n"
             "[consumer:garden]\ntopics = g/#\ncert_file = /c\nkey_file = /k\n"
             "[retry]\njitter = 0.3\n[worker]\noptions = -l 5 -m 2M\n"
             "[transport:b]\ndsn = redis://h/b\n");
    struct buf packed = {0};
    settings_pack(settings, process, &packed);
    settings_free(settings);
    struct settings *copy = unpack(&packed);
    buf_free(&packed);
    return copy;
}

static void test_a_consumer_gets_the_broker_and_no_secret_of_others(void **state)
{
    (void)state;
    struct settings *copy = as_read_by("consumer");
    assert_string_equal(copy->mqtt.password, "line\nline");
    assert_string_equal(copy->transports[0].name, "async");
    assert_int_equal(copy->transports_len, 1);
    assert_int_equal(copy->consumers_len, 1);
    assert_string_equal(copy->consumers[0].client_id, "mqtt-bridge-garden");
    assert_string_equal(copy->consumers[0].password, "");
    assert_string_equal(copy->failure.dsn, "");
    assert_string_equal(copy->mercure.jwt_secret, "");
    settings_free(copy);
}

static void test_a_further_consumer_gets_its_own_section_alone(void **state)
{
    (void)state;
    struct settings *copy = as_read_by("consumer:garden");
    assert_int_equal(copy->consumers_len, 1);
    assert_string_equal(copy->consumers[0].name, "garden");
    assert_string_equal(copy->consumers[0].topics, "g/#");
    assert_string_equal(copy->consumers[0].password, "line\nline");
    assert_string_equal(copy->mqtt.password, "");
    settings_free(copy);
}

static void test_a_worker_gets_hub_and_database_and_not_the_broker(void **state)
{
    (void)state;
    struct settings *copy = as_read_by("worker");
    assert_true(copy->retry.jitter == 0.3);
    assert_int_equal(copy->worker.consume.limit, 5);
    assert_int_equal(copy->worker.consume.memory_limit, 2 << 20);
    assert_string_equal(copy->transports[1].dsn, "redis://h/b");
    assert_string_equal(copy->failure.dsn, "postgresql://u:p@h/d");
    assert_string_equal(copy->mercure.jwt_secret, "a secret of the hub, 32 bytes or more");
    assert_string_equal(copy->mqtt.password, "");
    assert_int_equal(copy->consumers_len, 0);
    settings_free(copy);
}

static void test_a_monitor_gets_no_secret_of_the_broker(void **state)
{
    (void)state;
    struct settings *copy = as_read_by("monitor");
    assert_string_equal(copy->mqtt.password, "");
    assert_string_equal(copy->consumers[0].password, "");
    assert_string_equal(copy->consumers[0].key_file, "");
    assert_int_equal(copy->transports_len, 1);
    assert_string_equal(copy->failure.dsn, "postgresql://u:p@h/d");
    settings_free(copy);
}

static void test_packed_settings_of_another_version_are_refused(void **state)
{
    (void)state;
    struct settings *settings = load("");
    struct settings *copy = NULL;
    struct buf packed = {0};
    struct error err = {0};
    settings_pack(settings, "consumer", &packed);
    char *hash = strchr(packed.data, '\n') - 1;
    *hash = *hash == '0' ? '1' : '0';
    assert_int_equal(settings_unpack(&copy, buf_bytes(&packed), &err), -ERR_FORMAT);
    assert_string_equal(err.text,
                        "the settings are of another version of the program: restart the service");
    assert_null(copy);
    settings_free(settings);
    buf_free(&packed);
}

static void test_cut_packed_settings_are_refused_and_damaged_ones_do_no_harm(void **state)
{
    (void)state;
    struct settings *settings = load("[consumer:garden]\ntopics = g/#\n");
    struct settings *copy = NULL;
    struct buf packed = {0};
    struct error err = {0};
    settings_pack(settings, "consumer", &packed);
    for (size_t len = 0; len < packed.len; len++) {
        assert_int_equal(settings_unpack(&copy, bytes_slice(buf_bytes(&packed), 0, len), &err),
                         -ERR_FORMAT);
    }
    buf_append_char(&packed, 'x');
    assert_int_equal(settings_unpack(&copy, buf_bytes(&packed), &err), -ERR_FORMAT);
    packed.len--;
    /* Any byte that is changed is either seen or changes one value within its range; nothing crashes. */
    for (size_t i = 0; i < packed.len; i++) {
        packed.data[i] = (char)(packed.data[i] ^ 1);
        if (settings_unpack(&copy, buf_bytes(&packed), &err) == 0)
            settings_free(copy);
        packed.data[i] = (char)(packed.data[i] ^ 1);
    }
    settings_free(settings);
    buf_free(&packed);
}

static void test_settings_that_mean_the_same_pack_alike(void **state)
{
    (void)state;
    struct settings *one = load("[retry]\ndelay = 60s\n");
    struct settings *two = load("[retry]\n; the same\ndelay = 1m\n[mqtt]\nqos = 2\n");
    for (size_t i = 0; i < PROCESSES_LEN; i++) {
        struct buf first = {0};
        struct buf second = {0};

        settings_pack(one, PROCESSES[i], &first);
        settings_pack(two, PROCESSES[i], &second);
        assert_int_equal(bytes_equal(buf_bytes(&first), buf_bytes(&second)),
                         strcmp(PROCESSES[i], "consumer") != 0);
        buf_free(&first);
        buf_free(&second);
    }
    settings_free(one);
    settings_free(two);
}

static void test_a_monitor_gets_the_certificates_whose_expiry_it_reports(void **state)
{
    (void)state;
    struct settings *copy = as_read_by("monitor");
    assert_string_equal(copy->mqtt.ca_file, "/ca");
    assert_string_equal(copy->consumers[0].name, "garden");
    assert_string_equal(copy->consumers[0].cert_file, "/c");
    settings_free(copy);
}

static void test_every_settings_key_has_a_program_that_reads_it(void **state)
{
    (void)state;
    for (size_t i = 0; i < SETTINGS_TABLE_LEN; i++)
        assert_int_not_equal(SETTINGS_TABLE[i].readers, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_every_key_survives_the_way_to_a_child),
        TEST(test_a_consumer_gets_the_broker_and_no_secret_of_others),
        TEST(test_a_further_consumer_gets_its_own_section_alone),
        TEST(test_a_worker_gets_hub_and_database_and_not_the_broker),
        TEST(test_a_monitor_gets_no_secret_of_the_broker),
        TEST(test_packed_settings_of_another_version_are_refused),
        TEST(test_cut_packed_settings_are_refused_and_damaged_ones_do_no_harm),
        TEST(test_settings_that_mean_the_same_pack_alike),
        TEST(test_a_monitor_gets_the_certificates_whose_expiry_it_reports),
        TEST(test_every_settings_key_has_a_program_that_reads_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
