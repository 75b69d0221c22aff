/* The generated files are what the table says, and the commented ini is good as it stands. */
#include "tests/unit/settings_case.h"

#include "cli/manual.h"
#include "common/base/file.h"

/* The file, from `begin` on, is what is expected. */
static void expect_file(const char *path, const char *begin, struct buf *expected)
{
    struct buf file = {0};
    struct error err = {0};

    if (file_read(path, 1 << 20, &file, &err) < 0)
        fail_msg("%s (run from the top of the source tree; `make generate` writes it)", err.text);
    const char *generated = strstr(buf_text(&file), begin);
    if (!generated || strcmp(generated, buf_text(expected)) != 0)
        fail_msg("%s is not what the settings table says: run `make generate`", path);
    buf_free(&file);
    buf_free(expected);
}

static void test_the_ini_in_etc_is_generated_from_the_settings_table(void **state)
{
    (void)state;
    struct buf expected = {0};
    manual_template(&expected);
    expect_file("etc/mqtt-bridge.ini", "", &expected);
}

static void test_tables_of_settings_md_are_generated_from_the_settings_table(void **state)
{
    (void)state;
    struct buf expected = {0};
    manual_reference(&expected);
    expect_file("docs/SETTINGS.md", "## [", &expected);
}

static void expect_defaults(const char *ini)
{
    struct settings *plain = load("");
    struct settings *settings = load(ini);

    for (size_t i = 0; i < SETTINGS_TABLE_LEN; i++) {
        const struct setting *row = &SETTINGS_TABLE[i];

        for (size_t j = 0; j < settings_views_len(settings); j++) {
            const struct setting_view view = settings_view(settings, j);
            const struct setting_view other = settings_view(plain, j);
            struct buf value = {0};
            struct buf standard = {0};

            if (view.section != row->section || row->derived)
                continue;
            setting_format(row, view.base, &value);
            setting_format(row, other.base, &standard);
            assert_string_equal(buf_text(&value), buf_text(&standard));
            buf_free(&value);
            buf_free(&standard);
        }
    }
    settings_free(settings);
    settings_free(plain);
}

static void test_the_ini_has_the_defaults_as_it_stands_and_uncommented(void **state)
{
    (void)state;
    struct buf template = {0};
    struct buf uncommented = {0};
    manual_template(&template);
    expect_defaults(buf_text(&template));
    struct bytes rest = buf_bytes(&template);
    size_t keys = 0;
    bool example = false; /* in a section that is not there: until the next empty line */
    while (rest.len > 0) {
        struct bytes line;

        bytes_split(rest, '\n', &line, &rest);
        example = line.len > 0 && (example || bytes_starts_with(line, BYTES(";[")));
        if (line.len > 1 && line.data[0] == ';' && line.data[1] != ' ' && !example) {
            line = bytes_slice(line, 1, line.len - 1);
            keys++;
        }
        buf_append(&uncommented, line);
        buf_append_char(&uncommented, '\n');
    }
    assert_true(keys > 60);
    expect_defaults(buf_text(&uncommented));
    buf_free(&template);
    buf_free(&uncommented);
}

static void test_every_key_and_variable_is_documented(void **state)
{
    (void)state;
    struct buf template = {0};
    struct buf reference = {0};
    manual_template(&template);
    manual_reference(&reference);
    for (size_t i = 0; i < SETTINGS_TABLE_LEN; i++) {
        const struct setting *row = &SETTINGS_TABLE[i];
        char text[128];

        if (row->section != SETTING_ENVIRONMENT) {
            snprintf(text, sizeof(text), "\n;%s =", row->key);
            assert_non_null(strstr(buf_text(&template), text));
            snprintf(text, sizeof(text), "\n| `%s` | ", row->key);
            assert_non_null(strstr(buf_text(&reference), text));
        }
        if (row->env) {
            snprintf(text, sizeof(text), "| `%s` | ", row->env);
            assert_non_null(strstr(buf_text(&reference), text));
        }
    }
    buf_free(&template);
    buf_free(&reference);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_the_ini_in_etc_is_generated_from_the_settings_table),
        TEST(test_tables_of_settings_md_are_generated_from_the_settings_table),
        TEST(test_the_ini_has_the_defaults_as_it_stands_and_uncommented),
        TEST(test_every_key_and_variable_is_documented),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
