/* What is wrong is said with file, line, section, key and the nearest name; all of it in one run. */
#include "tests/unit/settings_case.h"

static void test_all_faults_are_reported_in_one_run_in_the_order_of_lines(void **state)
{
    (void)state;
    setenv("MQTT_QOS", "3", 1);
    expect_faults(
        "early = 1\n"
        "[mqtt]\n"
        "prot = 1883\n"
        "port = 99999\n"
        "port = 1883\n"
        "garbage\n"
        "[mqqt]\n"
        "whatever = not looked at\n"
        "[spool\n"
        "size = not looked at\n"
        "[worker]\n"
        "transports = asynk\n",
        "x.ini:1: early: stands before the first [section]\n"
        "x.ini:3: [mqtt] prot: unknown key; did you mean `port`?\n"
        "x.ini:4: [mqtt] port: must be a whole number from 1 to 65535, not `99999`\n"
        "x.ini:5: [mqtt] port: given twice, first in line 4\n"
        "x.ini:6: `garbage` is neither a [section] nor a key with its value (key = value)\n"
        "x.ini:7: [mqqt]: unknown section; did you mean `mqtt`?\n"
        "x.ini:9: `[spool`: a section's name ends with `]`\n"
        "x.ini:12: [worker] transports: there is no [transport:asynk]; did you mean `async`?\n"
        "environment MQTT_QOS: [mqtt] qos: must be a whole number from 0 to 2, not `3`\n");
}

static void test_unknown_keys_name_the_nearest_or_where_they_belong(void **state)
{
    (void)state;
    expect_faults("[mqtt]\ntopic = a\n",
                  "x.ini:2: [mqtt] topic: unknown key; did you mean `topics`?\n");
    expect_faults("[mqtt]\nHost = a\n",
                  "x.ini:2: [mqtt] Host: unknown key; did you mean `host`?\n");
    expect_faults("[mqtt]\nmax_retries = 1\n",
                  "x.ini:2: [mqtt] max_retries: unknown key; it belongs into [retry]\n");
    expect_faults("[mqtt]\nxyzzy = 1\n", "x.ini:2: [mqtt] xyzzy: unknown key\n");
    expect_faults("[consumer:a]\ntopics = a\nqoss = 1\n",
                  "x.ini:3: [consumer:a] qoss: unknown key; did you mean `qos`?\n");
}

static void test_no_character_is_cut_in_the_middle_and_no_control_is_shown(void **state)
{
    (void)state;
    expect_faults("[mqtt]\nport = "
                  "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaü\n",
                  "x.ini:2: [mqtt] port: must be a whole number from 1 to 65535, not "
                  "`aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa…`\n");
    expect_faults("[mqtt]\n\xc2\x9b"
                  "1m = 1\n",
                  "x.ini:2: [mqtt] ?1m: unknown key\n");
}

static void test_sections_with_wrong_names(void **state)
{
    (void)state;
    expect_faults("[consumr:a]\n",
                  "x.ini:1: [consumr:a]: unknown section; did you mean `consumer`?\n");
    expect_faults("[xyzzy]\n", "x.ini:1: [xyzzy]: unknown section\n");
    expect_faults("[transport]\n", "x.ini:1: [transport]: needs a name, as in [transport:async]\n");
    expect_faults("[consumer:]\n", "x.ini:1: [consumer:]: needs a name, as in [consumer:garden]\n");
    expect_faults("[mqtt:a]\n", "x.ini:1: [mqtt:a]: takes no name; write [mqtt]\n");
    expect_faults(
        "[consumer:a b]\n",
        "x.ini:1: [consumer:a b]: a name consists of letters, digits, `_`, `-` and `.`\n");
    expect_faults(
        "[consumer:abcdefghijklmnopqrstuvw]\n",
        "x.ini:1: [consumer:abcdefghijklmnopqrstuvw]: the name is longer than 22 characters\n");
    expect_faults("[environment]\napp_env = prod\n", "x.ini:1: [environment]: unknown section\n");
    expect_faults("[]\n", "x.ini:1: []: unknown section\n");
}

static void test_doubled_keys_are_found_across_a_reopened_section(void **state)
{
    (void)state;
    expect_faults("[mqtt]\nhost = a\n[spool]\n[mqtt]\nhost = b\n",
                  "x.ini:5: [mqtt] host: given twice, first in line 2\n");
}

static void test_bad_values_say_what_they_must_be(void **state)
{
    (void)state;
    static const struct {
        const char *section;
        const char *line;
        const char *text;
    } CASES[] = {
        {"mqtt", "port = 0", "port: must be a whole number from 1 to 65535, not `0`"},
        {"mqtt", "port = -1", "port: must be a whole number from 1 to 65535, not `-1`"},
        {"mqtt", "port = 0x10", "port: must be a whole number from 1 to 65535, not `0x10`"},
        {"mqtt", "port = 99999999999999999999",
         "port: must be a whole number from 1 to 65535, not `99999999999999999999`"},
        {"mqtt", "port =", "port: must be a whole number from 1 to 65535, and is empty"},
        {"mqtt", "qos = 1.0", "qos: must be a whole number from 0 to 2, not `1.0`"},
        {"mqtt", "tls = maybe", "tls: must be yes or no, not `maybe`"},
        {"mqtt", "tls =", "tls: must be yes or no, and is empty"},
        {"mqtt", "host =", "host: must not be empty"},
        {"mqtt", "host = \"a\"", "host: must be written without quotes around it"},
        {"mqtt", "host = a\tb", "host: must not hold a control character"},
        {"mqtt", "version = 4", "version: must be 5 or 3.1.1, not `4`"},
        {"mqtt", "keepalive = 30",
         "keepalive: must be a duration from 1s to 65535s, with its unit (ms, s, m, h or d), not "
         "`30`"},
        {"mqtt", "keepalive = 1w",
         "keepalive: must be a duration from 1s to 65535s (500ms, 30s, 5m, 2h, 1d), not `1w`"},
        {"mqtt", "keepalive = s",
         "keepalive: must be a duration from 1s to 65535s (500ms, 30s, 5m, 2h, 1d), not `s`"},
        {"mqtt", "keepalive = 500ms",
         "keepalive: must be a duration from 1s to 65535s, not `500ms`"},
        {"mqtt", "keepalive = 18446744073709551615d",
         "keepalive: must be a duration from 1s to 65535s, not `18446744073709551615d`"},
        {"mqtt", "server_uris = http://a",
         "server_uris: \"http://a\": must be mqtt://HOST:PORT or mqtts://HOST:PORT"},
        {"mqtt", "client_id = a\xff", "client_id: must be UTF-8, as MQTT has it"},
        {"mqtt", "MQTT_HOST = p",
         "MQTT_HOST: unknown key; in a file this variable is `host` of [mqtt]"},
        {"mqtt", "password = p", "password: needs a username with it"},
        {"mqtt", "cert_file = p", "cert_file: needs key_file with it"},
        {"mqtt", "reconnect_min = 2m", "reconnect_min: must not be more than reconnect_max"},
        {"mqtt", "sharing = x", "sharing: unknown key"},
        {"spool", "size = 10", "size: must be a size from 1M to 1024G, not `10`"},
        {"spool", "size = 5T",
         "size: must be a size from 1M to 1024G (4096, 64K, 256M, 1G), not `5T`"},
        {"spool", "retain = 256M", "retain: must be less than size"},
        {"spool", "sync = often", "sync: must be none, interval or always, not `often`"},
        {"retry", "jitter = 1.5", "jitter: must be a number from 0 to 1, not `1.5`"},
        {"retry", "jitter = nan", "jitter: must be a number from 0 to 1, not `nan`"},
        {"retry", "jitter = 1e-1", "jitter: must be a number from 0 to 1, not `1e-1`"},
        {"retry", "jitter = 0.1.2", "jitter: must be a number from 0 to 1, not `0.1.2`"},
        {"retry", "jitter = .", "jitter: must be a number from 0 to 1, not `.`"},
        {"retry", "multiplier = 0.5", "multiplier: must be a number from 1 to 1000, not `0.5`"},
        {"worker", "count = many",
         "count: must be auto or a whole number from 0 to 200, not `many`"},
        {"worker", "transports = ,", "transports: names no transport"},
        {"worker", "options = --limt=1",
         "options: `--limt=1` is no option of messenger:consume; did you mean `--limit`?"},
        {"mercure", "url = hub", "url: must begin with http:// or https:// and name a host"},
        {"mercure", "url = https://", "url: must begin with http:// or https:// and name a host"},
        {"failure", "table = a;drop",
         "table: must be a table's name: letters, digits and `_`, with a schema and a dot before "
         "it if "
         "need be"},
        {"http", "listen = 9080",
         "listen: must be an address and a port, such as 127.0.0.1:9080 or [::1]:9080, or `off`"},
        {"http", "listen = ::1:9080",
         "listen: must be an address and a port, such as 127.0.0.1:9080 or [::1]:9080, or `off`"},
        {"http", "listen = a:0",
         "listen: must be an address and a port, such as 127.0.0.1:9080 or [::1]:9080, or `off`"},
        {"supervisor", "state_dir = var", "state_dir: must be an absolute path"},
        {"supervisor", "socket = /run/control.sock\npid_file = /run/control.sock",
         "socket: must be another file than pid_file"},
        {"supervisor", "instance = a b",
         "instance: must be at most 64 letters, digits, `_`, `-` and `.`"},
        {"transport:b", "serializer = php", NULL},
    };
    for (size_t i = 0; i < LENGTH_OF(CASES); i++) {
        char ini[256];
        char expected[512];

        snprintf(ini, sizeof(ini), "[%s]\n%s\n", CASES[i].section, CASES[i].line);
        snprintf(expected, sizeof(expected), "x.ini:2: [%s] %s\n", CASES[i].section,
                 CASES[i].text ? CASES[i].text : "");
        expect_faults(ini,
                      CASES[i].text ? expected : "x.ini:1: [transport:b] dsn: must be given\n");
    }
}

static void test_a_secret_is_never_in_a_fault(void **state)
{
    (void)state;
    setenv("DATABASE_URL", "postgresql://u:hunter2@db/\x01", 1);
    setenv("MQTT_PASSWORD", "hunter2", 1);
    expect_faults(
        "[transport:async]\ndsn = \"redis://:hunter2@h\"\n",
        "x.ini:2: [transport:async] dsn: must be written without quotes around it\n"
        "environment DATABASE_URL: [failure] database: must not hold a control character\n"
        "environment MQTT_PASSWORD: [mqtt] password: needs a username with it\n");
}

#define NO_USER                                                                                    \
    "must hold no user or password: the hub takes a token, from jwt (MERCURE_JWT) or jwt_secret "  \
    "(MERCURE_JWT_SECRET)\n"

static void test_the_hubs_address_has_no_password(void **state)
{
    static const char *const GOOD[] = {"http://hub/@x", "http://hub?user=a@b", "https://hub:1#@"};
    static const char *const BAD[] = {"http://u:hunter2@hub/x", "https://hunter2@hub",
                                      "http:///u:hunter2@hub/", "http://u:hunter2@[::1]:80/"};
    char ini[256];

    (void)state;
    for (size_t i = 0; i < LENGTH_OF(GOOD); i++) {
        snprintf(ini, sizeof(ini), "[mercure]\nurl = %s\n", GOOD[i]);
        settings_free(load(ini));
    }
    for (size_t i = 0; i < LENGTH_OF(BAD); i++) {
        snprintf(ini, sizeof(ini), "[mercure]\nurl = %s\npublic_url = http://u:p@hub/\n", BAD[i]);
        expect_faults(ini,
                      "x.ini:2: [mercure] url: " NO_USER "x.ini:3: [mercure] public_url: " NO_USER);
        snprintf(ini, sizeof(ini), "[mercure]\nurl = %s\n", BAD[i]);
        expect_faults(ini, "x.ini:2: [mercure] url: " NO_USER);
    }
    setenv("MERCURE_URL", "http://hub/", 1);
    setenv("MERCURE_PUBLIC_URL", "https://u:hunter2@hub.example.org/", 1);
    expect_faults("", "environment MERCURE_PUBLIC_URL: [mercure] public_url: " NO_USER);
}

static void test_control_characters_do_not_reach_the_terminal(void **state)
{
    (void)state;
    expect_faults("[mqtt]\nport = a\x1b[31m\n\x1b[0m\n[\x1b]\n\x1bkey = 1\n",
                  "x.ini:2: [mqtt] port: must be a whole number from 1 to 65535, not `a?[31m`\n"
                  "x.ini:3: `?[0m` is neither a [section] nor a key with its value (key = value)\n"
                  "x.ini:4: [?]: unknown section\n");
}

static void test_consumers_must_differ_and_have_topics(void **state)
{
    (void)state;
    expect_faults(
        "[consumer:a]\n",
        "x.ini:1: [consumer:a] topics: must be given: a further consumer has filters of its own\n");
    expect_faults(
        "[consumer:a]\ntopics = a\nclient_id = mqtt-bridge\n",
        "x.ini:3: [consumer:a] client_id: is another consumer's as well: each would end the "
        "other's session\n");
}

static void test_a_section_of_another_version_is_unknown(void **state)
{
    (void)state;
    expect_faults("[plugin:a]\nmatch = a/#\n", "x.ini:1: [plugin:a]: unknown section\n");
}

static void test_a_file_that_cannot_be_read_is_a_fault(void **state)
{
    (void)state;
    struct settings *settings = NULL;
    struct buf faults = {0};
    assert_int_equal(settings_load(&settings, "/nowhere/x.ini", false, &faults), -ERR_USAGE);
    assert_string_equal(buf_text(&faults), "/nowhere/x.ini: No such file or directory\n");
    buf_clear(&faults);
    assert_int_equal(settings_load(&settings, "/proc", false, &faults), -ERR_USAGE);
    assert_string_equal(buf_text(&faults), "/proc: must be a regular file\n");
    buf_free(&faults);
}

static void test_binary_files_and_endless_lines_are_faults(void **state)
{
    (void)state;
    struct settings *settings = NULL;
    struct buf faults = {0};
    static const char BINARY[] = "[mqtt]\nhost = a\0b\nqos = 1\n";
    assert_int_equal(settings_load_text(&settings, "x.ini",
                                        (struct bytes){BINARY, sizeof(BINARY) - 1}, false, &faults),
                     -ERR_USAGE);
    assert_string_equal(buf_text(&faults), "x.ini:2: a NUL byte: this is no text file\n");
    buf_clear(&faults);
    struct buf ini = {0};
    buf_append_text(&ini, "[mqtt]\ntopics = ");
    for (int i = 0; i < 70000; i++)
        buf_append_char(&ini, 'x');
    buf_append_text(&ini, "\nqoss = 1\n");
    assert_int_equal(settings_load_text(&settings, "x.ini", buf_bytes(&ini), false, &faults),
                     -ERR_USAGE);
    assert_string_equal(buf_text(&faults),
                        "x.ini:2: the line is longer than 65534 bytes\n"
                        "x.ini:3: [mqtt] qoss: unknown key; did you mean `qos`?\n");
    buf_free(&ini);
    buf_free(&faults);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_all_faults_are_reported_in_one_run_in_the_order_of_lines),
        TEST(test_unknown_keys_name_the_nearest_or_where_they_belong),
        TEST(test_no_character_is_cut_in_the_middle_and_no_control_is_shown),
        TEST(test_sections_with_wrong_names),
        TEST(test_doubled_keys_are_found_across_a_reopened_section),
        TEST(test_bad_values_say_what_they_must_be),
        TEST(test_a_secret_is_never_in_a_fault),
        TEST(test_the_hubs_address_has_no_password),
        TEST(test_control_characters_do_not_reach_the_terminal),
        TEST(test_consumers_must_differ_and_have_topics),
        TEST(test_a_section_of_another_version_is_unknown),
        TEST(test_a_file_that_cannot_be_read_is_a_fault),
        TEST(test_binary_files_and_endless_lines_are_faults),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
