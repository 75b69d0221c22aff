/* What the settings mean to the codecs; its findings one by one are in test_check.c. */
#include "tests/unit/settings_case.h"

#include "common/wire/settings_verify.h"

#include <unistd.h>

#define HUB "[mercure]\nurl = http://hub/\njwt_secret = 0123456789abcdef0123456789abcdef\n"

/* Loads the ini from a file with the verifier; its faults must be exactly these. */
static void expect_all(const char *ini, const char *expected)
{
    char path[] = "/tmp/verify-XXXXXX";
    struct settings *settings = NULL;
    struct buf faults = {0};
    int fd = mkstemp(path);
    assert_true(fd >= 0 && write(fd, ini, strlen(ini)) == (ssize_t)strlen(ini));
    close(fd);
    int result = settings_load_verified(&settings, path, settings_verify, &faults);
    unlink(path);
    char *text = strdup(buf_text(&faults));
    for (char *at; (at = strstr(text, path)) != NULL;) {
        memmove(at + 1, at + strlen(path), strlen(at + strlen(path)) + 1);
        *at = '@';
    }
    assert_string_equal(text, expected);
    assert_int_equal(result, expected[0] ? -ERR_USAGE : 0);
    free(text);
    buf_free(&faults);
    settings_free(settings);
}

static void test_good_settings_pass(void **state)
{
    (void)state;
    expect_all(HUB "[failure]\ndsn = postgresql://u:p@db/x\n", "");
}

static void test_faults_of_form_and_of_meaning_come_in_one_run_in_the_files_order(void **state)
{
    (void)state;
    expect_all(HUB "[mqtt]\nport = 0\ntopics = a/#/b\n[failure]\ndsn = mysql://u:hunter2@h/x\n"
                   "[worker]\ncount = many\n",
               "@:5: [mqtt] port: must be a whole number from 1 to 65535, not `0`\n"
               "@:6: [mqtt] topics: the MQTT filter \"a/#/b\" is not valid: `#` is only allowed "
               "alone in the last level\n"
               "@:8: [failure] dsn (DATABASE_URL): the failure transport is kept in PostgreSQL, "
               "not in mysql\n"
               "@:10: [worker] count: must be auto or a whole number from 0 to 200, not `many`\n");
}

static void test_a_variable_is_named_as_the_origin(void **state)
{
    (void)state;
    setenv("MQTT_TOPICS", "a//#/", 1);
    setenv("MESSENGER_TRANSPORT_DSN", "amqp://mq/x", 1);
    struct settings *settings = load(HUB);
    struct buf faults = {0};
    settings_verify(settings, &faults);
    assert_non_null(strstr(buf_text(&faults), "environment MQTT_TOPICS: [mqtt] topics: "));
    assert_non_null(
        strstr(buf_text(&faults), "environment MESSENGER_TRANSPORT_DSN: [transport:async] dsn: "));
    buf_free(&faults);
    settings_free(settings);
}

static void test_every_consumer_is_looked_at(void **state)
{
    (void)state;
    expect_all(HUB "[consumer:garden]\ntopics = +a\n",
               "@:5: [consumer:garden] topics: the MQTT filter \"+a\" is not valid: `+` must fill "
               "its level\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_good_settings_pass),
        TEST(test_faults_of_form_and_of_meaning_come_in_one_run_in_the_files_order),
        TEST(test_a_variable_is_named_as_the_origin),
        TEST(test_every_consumer_is_looked_at),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
