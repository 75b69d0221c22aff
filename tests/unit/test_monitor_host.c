#include "monitor/host.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

static bool allowed(const char *given, const char *hosts)
{
    return host_is_allowed(bytes_of(given), hosts, "bridge.lan:9080");
}

static void test_localhost_and_addresses_are_always_allowed(void **state)
{
    const char *const always[] = {"localhost",     "localhost:9080", "LocalHost.", "127.0.0.1",
                                  "10.1.2.3:9080", "[::1]",          "[::1]:9080", "[fe80::1]:80",
                                  "bridge.lan:80", "192.0.2.1:"};

    (void)state;
    for (size_t i = 0; i < sizeof always / sizeof always[0]; i++)
        if (!allowed(always[i], ""))
            fail_msg("%s is refused", always[i]);
}

static void test_other_names_must_be_listed(void **state)
{
    (void)state;
    assert_false(allowed("evil.example", ""));
    assert_false(allowed("evil.example:9080", "bridge.example"));
    assert_true(allowed("bridge.example:443", "bridge.example, mqtt-bridge"));
    assert_true(allowed("MQTT-Bridge", "bridge.example, mqtt-bridge"));
    assert_true(allowed("bridge.example.", "Bridge.Example"));
    assert_true(allowed("evil.example", "*"));
}

static void test_what_only_resembles_an_allowed_name_is_refused(void **state)
{
    const char *const never[] = {
        "",
        ":",
        ":9080",
        "localhost.evil.example",
        "localhost@",
        "127.0.0.1.evil.example",
        "evil.localhost",
        "xlocalhost",
        "127.1",
        "0x7f.0.0.1",
        "2130706433",
        "::1",
        "[::1",
        "[::1]9080",
        "[::1].evil.example",
        "[]",
        "[127.0]",
        "localhost:x",
        "localhost:99999",
        "localhost ",
        "local\thost",
        "localhost/",
        "bridge.example.evil",
        "localhost:80:80",
        "\xff",
        "[localhost.evil]",
        "bridge.example,",
    };

    (void)state;
    for (size_t i = 0; i < sizeof never / sizeof never[0]; i++)
        if (allowed(never[i], "bridge.example"))
            fail_msg("%s is allowed", never[i]);
}

static void test_only_the_name_of_a_well_formed_host_is_told(void **state)
{
    (void)state;
    assert_true(bytes_equal_text(host_name(BYTES("evil.example.:80")), "evil.example"));
    assert_true(bytes_equal_text(host_name(BYTES("[2001:db8::1]:80")), "2001:db8::1"));
    assert_int_equal(host_name(BYTES("a\x1b]0;x")).len, 0);
    assert_int_equal(host_name(BYTES("<b>")).len, 0);
    assert_int_equal(host_name(BYTES_NONE).len, 0);
}

static void test_a_name_that_is_too_long_for_one_is_none(void **state)
{
    char name[300];

    (void)state;
    memset(name, 'a', sizeof name);
    assert_int_equal(host_name((struct bytes){name, 253}).len, 253);
    assert_int_equal(host_name((struct bytes){name, 254}).len, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_localhost_and_addresses_are_always_allowed),
        cmocka_unit_test(test_other_names_must_be_listed),
        cmocka_unit_test(test_what_only_resembles_an_allowed_name_is_refused),
        cmocka_unit_test(test_only_the_name_of_a_well_formed_host_is_told),
        cmocka_unit_test(test_a_name_that_is_too_long_for_one_is_none),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
