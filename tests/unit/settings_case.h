/* What the tests of the settings share: a clean environment for each test, and loading from a text. */
#ifndef TESTS_UNIT_SETTINGS_CASE_H
#define TESTS_UNIT_SETTINGS_CASE_H

#include "common/settings/settings_table.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* No variable that a setting listens to. */
static int clean_environment(void **state)
{
    (void)state;
    for (size_t i = 0; i < SETTINGS_TABLE_LEN; i++) {
        char file_name[128];

        if (SETTINGS_TABLE[i].env) {
            snprintf(file_name, sizeof(file_name), "%s_FILE", SETTINGS_TABLE[i].env);
            unsetenv(SETTINGS_TABLE[i].env);
            unsetenv(file_name);
        }
    }
    static const char *const PROXIES[] = {"http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy",
                                          "ALL_PROXY",  "no_proxy",    "NO_PROXY"};
    for (size_t i = 0; i < LENGTH_OF(PROXIES); i++)
        unsetenv(PROXIES[i]);
    unsetenv("container");
    unsetenv("KUBERNETES_SERVICE_HOST");
    unsetenv("BRIDGE_TEST");
    unsetenv("BRIDGE_TEST_FILE");
    unsetenv("XDG_STATE_HOME");
    unsetenv("XDG_RUNTIME_DIR");
    setenv("HOME", "/home/bridge", 1);
    return 0;
}

/* The settings of an ini, which must be good. */
static inline struct settings *load(const char *ini)
{
    struct settings *settings = NULL;
    struct buf faults = {0};

    if (settings_load_text(&settings, "x.ini", bytes_of(ini), false, &faults) < 0)
        fail_msg("%s", buf_text(&faults));
    assert_int_equal(faults.len, 0);
    buf_free(&faults);
    return settings;
}

/* The faults of an ini must be exactly these lines. */
static inline void expect_faults(const char *ini, const char *expected)
{
    struct settings *settings = NULL;
    struct buf faults = {0};
    int result = settings_load_text(&settings, "x.ini", bytes_of(ini), false, &faults);

    assert_string_equal(buf_text(&faults), expected);
    assert_int_equal(result, -ERR_USAGE);
    assert_null(settings);
    buf_free(&faults);
}

#define TEST(function) cmocka_unit_test_setup(function, clean_environment)

#endif
