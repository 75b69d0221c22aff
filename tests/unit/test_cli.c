/* The command line: what is taken, what is refused and how that is said. */
#include "cli/cli.h"
#include "cli/manual.h"
#include "cli/verbs.h"
#include "common/settings/settings_table.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define WORDS_MAX 16

/* A command line read, and what was said on standard error meanwhile. */
struct run {
    struct cli cli;
    bool runs;
    int exit_code;
    char *argv[WORDS_MAX + 1];
    char *arguments[WORDS_MAX + 1];
    char text[256];
    char said[1024];
};

/* Where standard error goes meanwhile. */
static FILE *capture_begin(int *saved)
{
    FILE *file = tmpfile();

    assert_non_null(file);
    fflush(stderr);
    *saved = dup(STDERR_FILENO);
    dup2(fileno(file), STDERR_FILENO);
    return file;
}

static void capture_end(FILE *file, int saved, char *said, size_t size)
{
    fflush(stderr);
    dup2(saved, STDERR_FILENO);
    close(saved);
    rewind(file);
    said[fread(said, 1, size - 1, file)] = '\0';
    fclose(file);
}

static void read_line(struct run *run, const char *line)
{
    int argc = 0;
    int saved;

    memset(run, 0, sizeof(*run));
    run->cli.arguments = run->arguments;
    snprintf(run->text, sizeof(run->text), "mqtt-bridge %s", line);
    for (char *word = strtok(run->text, " "); word && argc < WORDS_MAX; word = strtok(NULL, " "))
        run->argv[argc++] = word;
    FILE *file = capture_begin(&saved);
    run->runs = cli_read(&run->cli, argc, run->argv, &run->exit_code);
    capture_end(file, saved, run->said, sizeof(run->said));
}

static void expect_refused(const char *line, const char *said)
{
    struct run run;

    read_line(&run, line);
    assert_string_equal(run.said, said);
    assert_false(run.runs);
    assert_int_equal(run.exit_code, CLI_USAGE);
}

static void test_without_a_verb_the_bridge_runs(void **state)
{
    struct run run;

    (void)state;
    read_line(&run, "");
    assert_true(run.runs);
    assert_string_equal(run.cli.verb->name, "run");
    assert_ptr_equal(run.cli.verb->run, verb_run);
}

static void test_every_verb_is_found_by_its_name(void **state)
{
    (void)state;
    for (size_t i = 0; i < VERBS_LEN; i++) {
        assert_ptr_equal(verbs_find(VERBS[i].name), &VERBS[i]);
        assert_non_null(VERBS[i].run);
        assert_true(VERBS[i].arguments_min <= VERBS[i].arguments_max);
        assert_true((VERBS[i].arguments[0] != '\0') == (VERBS[i].arguments_max > 0));
    }
    assert_null(verbs_find("nothing"));
}

static void test_config_comes_from_the_option_then_the_variable(void **state)
{
    struct run run;

    (void)state;
    setenv("MQTT_BRIDGE_CONFIG", "/variable.ini", 1);
    read_line(&run, "--config /option.ini check");
    assert_string_equal(run.cli.config, "/option.ini");
    read_line(&run, "check --config=/option.ini");
    assert_string_equal(run.cli.config, "/option.ini");
    read_line(&run, "check");
    assert_string_equal(run.cli.config, "/variable.ini");
    setenv("MQTT_BRIDGE_CONFIG", "", 1);
    read_line(&run, "check");
    if (run.cli.config)
        assert_string_equal(run.cli.config, CLI_DEFAULT_CONFIG);
    unsetenv("MQTT_BRIDGE_CONFIG");
}

static void test_options_and_arguments_may_be_mixed(void **state)
{
    struct run run;

    (void)state;
    read_line(&run, "--json restart worker:1 --config x.ini");
    assert_true(run.runs);
    assert_true(run.cli.json);
    assert_int_equal(run.cli.arguments_len, 1);
    assert_string_equal(run.cli.arguments[0], "worker:1");
    read_line(&run, "stop -- --odd");
    assert_true(run.runs);
    assert_string_equal(run.cli.arguments[0], "--odd");
    read_line(&run, "scale -1"); /* a number is for the verb to judge */
    assert_true(run.runs);
    assert_string_equal(run.cli.arguments[0], "-1");
    read_line(&run, "status --watch --json");
    assert_string_equal(cli_option(&run.cli, "watch"), "");
    assert_null(cli_option(&run.cli, "other"));
    read_line(&run, "scale -1 --json");
    assert_true(run.runs && run.cli.json);
    assert_int_equal(run.cli.arguments_len, 1);
    read_line(&run, "-- stop --json");
    assert_true(run.runs && !run.cli.json);
    assert_string_equal(run.cli.arguments[0], "--json");
}

static void test_options_may_be_cut_short_while_one_fits(void **state)
{
    struct run run;

    (void)state;
    read_line(&run, "status --wat --js");
    assert_true(run.runs && run.cli.json);
    assert_string_equal(cli_option(&run.cli, "watch"), "");
    expect_refused("check --con", "mqtt-bridge: --con may be `--connect` or `--config`\n");
    read_line(&run, "check --conf=x.ini");
    assert_string_equal(run.cli.config, "x.ini");
}

static void test_a_line_is_read_anew_behind_one_that_was_refused(void **state)
{
    struct run run;

    (void)state;
    expect_refused("health -xq", "mqtt-bridge: health has no option `-x`; it has --quiet, --config "
                                 "and --help\n");
    read_line(&run, "health -q");
    assert_true(run.runs);
    expect_refused("health -xq", "mqtt-bridge: health has no option `-x`; it has --quiet, --config "
                                 "and --help\n");
    read_line(&run, "scale -2 --json");
    assert_true(run.runs && run.cli.json);
    assert_string_equal(run.cli.arguments[0], "-2");
}

static void test_an_option_may_be_given_by_its_letter(void **state)
{
    struct run run;

    (void)state;
    read_line(&run, "health -q");
    assert_true(run.runs);
    assert_string_equal(cli_option(&run.cli, "quiet"), "");
    read_line(&run, "health");
    assert_null(cli_option(&run.cli, "quiet"));
    read_line(&run, "health -qq");
    assert_true(run.runs);
    expect_refused("-q health", "mqtt-bridge: the command has no option `-q`; it has --config, "
                                "--json, --help and --version\n");
    expect_refused("status -q", "mqtt-bridge: status has no option `-q`; it has --watch, --json, "
                                "--config and --help\n");
}

static void test_unknown_words_are_refused_with_the_nearest_name(void **state)
{
    (void)state;
    expect_refused("statsu", "mqtt-bridge: unknown verb `statsu`; did you mean `status`?\n");
    expect_refused("xyzzy", "mqtt-bridge: unknown verb `xyzzy`; `mqtt-bridge --help` lists them\n");
    expect_refused("status --wacth",
                   "mqtt-bridge: status has no option `--wacth`; did you mean `--watch`?\n");
    expect_refused("status --wacth=1",
                   "mqtt-bridge: status has no option `--wacth`; did you mean `--watch`?\n");
    expect_refused("status --xyzzy", "mqtt-bridge: status has no option `--xyzzy`; it has --watch, "
                                     "--json, --config and --help\n");
    expect_refused("--confg x",
                   "mqtt-bridge: the command has no option `--confg`; did you mean `--config`?\n");
    expect_refused("--xyzzy", "mqtt-bridge: the command has no option `--xyzzy`; it has --config, "
                              "--json, --help and --version\n");
    expect_refused("version -w",
                   "mqtt-bridge: version has no option `-w`; it has --json, --config and --help\n");
    expect_refused("health --json", "mqtt-bridge: health has no option `--json`; it has --quiet, "
                                    "--config and --help\n");
    expect_refused("--json health", "mqtt-bridge: health has no option `--json`; it has --quiet, "
                                    "--config and --help\n");
}

static void test_missing_and_surplus_values_and_arguments_are_refused(void **state)
{
    (void)state;
    expect_refused("check --config", "mqtt-bridge: --config needs a value: --config FILE\n");
    expect_refused("--config", "mqtt-bridge: --config needs a value: --config FILE\n");
    expect_refused("status --watch=1", "mqtt-bridge: --watch takes no value\n");
    expect_refused("status --json=1", "mqtt-bridge: --json takes no value\n");
    expect_refused("scale",
                   "mqtt-bridge: scale: an argument is missing; usage: mqtt-bridge scale N\n");
    expect_refused("scale 1 2",
                   "mqtt-bridge: scale: too many arguments; usage: mqtt-bridge scale N\n");
    expect_refused("check x", "mqtt-bridge: check: too many arguments; usage: mqtt-bridge check\n");
}

/* As roff has it. */
static void expect_in_page(struct buf *page, const char *text)
{
    struct buf escaped = {0};

    for (; *text; text++) {
        if (*text == '-')
            buf_append_char(&escaped, '\\');
        buf_append_char(&escaped, *text);
    }
    if (!strstr(buf_text(page), buf_text(&escaped)))
        fail_msg("the page lacks %s", buf_text(&escaped));
    buf_free(&escaped);
}

static void test_man_page_and_completion_have_what_help_has(void **state)
{
    struct buf page = {0}, completion = {0};

    (void)state;
    manual_command_page(&page);
    manual_completion(&completion);
    for (size_t i = 0; i < VERBS_LEN; i++) {
        char name[64];

        expect_in_page(&page, VERBS[i].name);
        expect_in_page(&page, VERBS[i].summary + 1);
        snprintf(name, sizeof(name), "\n    %s) words='", VERBS[i].name);
        const char *at = strstr(buf_text(&completion), name);
        assert_non_null(at);
        for (const struct command_line_option *option = VERBS[i].options; option && option->name;
             option++) {
            snprintf(name, sizeof(name), "--%s", option->name);
            const char *words = strstr(at, name);
            bool completes = words && words < strstr(at, ";;");
            assert_int_equal(completes, !option->hidden);
            if (!option->hidden)
                expect_in_page(&page, name);
        }
    }
    buf_free(&page);
    manual_settings_page(&page);
    for (size_t i = 0; i < SETTINGS_TABLE_LEN; i++)
        expect_in_page(&page,
                       SETTINGS_TABLE[i].key ? SETTINGS_TABLE[i].key : SETTINGS_TABLE[i].env);
    buf_free(&page);
    buf_free(&completion);
}

static void test_help_names_every_verb_and_option(void **state)
{
    struct buf help = {0};

    (void)state;
    verbs_help(&help);
    for (size_t i = 0; i < VERBS_LEN; i++) {
        struct buf own = {0};
        char name[64];

        snprintf(name, sizeof(name), "\n  %s ", VERBS[i].name);
        assert_non_null(strstr(buf_text(&help), name));
        assert_non_null(strstr(buf_text(&help), VERBS[i].summary));
        verbs_describe(&own, &VERBS[i]);
        assert_non_null(strstr(buf_text(&own), VERBS[i].arguments));
        assert_int_equal(strstr(buf_text(&own), "--json") != NULL, VERBS[i].json);
        for (const struct command_line_option *option = VERBS[i].options; option && option->name;
             option++) {
            if (option->letter)
                snprintf(name, sizeof(name), "  -%c, --%s", option->letter, option->name);
            else
                snprintf(name, sizeof(name), "  --%s", option->name);
            assert_int_equal(strstr(buf_text(&own), name) == NULL, option->hidden);
        }
        buf_free(&own);
    }
    buf_free(&help);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_without_a_verb_the_bridge_runs),
        cmocka_unit_test(test_every_verb_is_found_by_its_name),
        cmocka_unit_test(test_config_comes_from_the_option_then_the_variable),
        cmocka_unit_test(test_options_and_arguments_may_be_mixed),
        cmocka_unit_test(test_an_option_may_be_given_by_its_letter),
        cmocka_unit_test(test_unknown_words_are_refused_with_the_nearest_name),
        cmocka_unit_test(test_missing_and_surplus_values_and_arguments_are_refused),
        cmocka_unit_test(test_options_may_be_cut_short_while_one_fits),
        cmocka_unit_test(test_a_line_is_read_anew_behind_one_that_was_refused),
        cmocka_unit_test(test_man_page_and_completion_have_what_help_has),
        cmocka_unit_test(test_help_names_every_verb_and_option),
    };

    unsetenv("MQTT_BRIDGE_CONFIG");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
