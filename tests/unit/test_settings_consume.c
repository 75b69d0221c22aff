/* The options of messenger:consume. */
#include "common/settings/settings_internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static struct settings_consume parse(const char *options)
{
    struct settings_consume consume;
    struct buf faults = {0};

    if (!settings_consume_parse(&consume, bytes_of(options), &faults))
        fail_msg("%s", buf_text(&faults));
    buf_free(&faults);
    return consume;
}

static void expect(const char *options, const char *expected)
{
    struct settings_consume consume;
    struct buf faults = {0};

    assert_false(settings_consume_parse(&consume, bytes_of(options), &faults));
    assert_string_equal(buf_text(&faults), expected);
    buf_free(&faults);
}

static void test_no_options_are_no_limits(void **state)
{
    (void)state;
    const struct settings_consume none = {0};
    struct settings_consume consume = parse("  ");
    assert_memory_equal(&consume, &none, sizeof(none));
    consume =
        parse("-q -v -vv -vvv -n -qn --quiet --verbose --no-interaction --no-reset --sleep=0.5 "
              "--sleep 1 --bus=messenger.bus.default --bus x -b x -bx --keepalive --keepalive=5 "
              "--keepalive 5");
    assert_memory_equal(&consume, &none, sizeof(none));
}

static void test_limits_in_every_form_that_php_takes(void **state)
{
    (void)state;
    static const char *const FORMS[] = {
        "--limit=10 --failure-limit=2 --memory-limit=128M --time-limit=3600",
        "--limit 10 --failure-limit 2 --memory-limit 128M --time-limit 3600",
        "-l 10 -f 2 -m 128M -t 3600",
        "-l10\t-f2\n-m128M  -t3600",
        "-vvl10 -qf2 -m128M --keepalive -t3600",
    };
    for (size_t i = 0; i < LENGTH_OF(FORMS); i++) {
        struct settings_consume consume = parse(FORMS[i]);

        assert_int_equal(consume.limit, 10);
        assert_int_equal(consume.failure_limit, 2);
        assert_int_equal(consume.memory_limit, 128 << 20);
        assert_int_equal(consume.time_limit_ms, 3600000);
    }
}

static void test_memory_sizes_are_phps(void **state)
{
    (void)state;
    assert_int_equal(parse("-m 1000").memory_limit, 1000);
    assert_int_equal(parse("-m 64k").memory_limit, 65536);
    assert_int_equal(parse("-m 64KB").memory_limit, 65536);
    assert_int_equal(parse("-m 1G").memory_limit, 1 << 30);
    assert_int_equal(parse("-m 1t").memory_limit, (int64_t)1 << 40);
    expect("-m 128MM", "--memory-limit must be a size such as 128M, not `128MM`\n");
    expect("-m x", "--memory-limit must be a size such as 128M, not `x`\n");
    expect("-m b", "--memory-limit must be a size such as 128M, not `b`\n");
    expect("-m 9000000000T", "--memory-limit must be a size such as 128M, not `9000000000T`\n");
}

static void test_the_last_of_an_option_given_twice_counts(void **state)
{
    (void)state;
    assert_int_equal(parse("--limit=1 -l 2").limit, 2);
}

static void test_unknown_options_are_named(void **state)
{
    (void)state;
    expect("--limt=3", "`--limt=3` is no option of messenger:consume; did you mean `--limit`?\n");
    expect("--xyzzy", "`--xyzzy` is no option of messenger:consume\n");
    expect("-x", "`-x` is no option of messenger:consume\n");
    expect("--queues=a",
           "`--queues=a` can't be used: the Redis transport has no queues, as in PHP\n");
    expect("async", "`async` is no option: transports are named by `transports`\n");
    expect("--", "`--` is no option: transports are named by `transports`\n");
    expect("-", "`-` is no option: transports are named by `transports`\n");
}

static void test_bad_values_are_refused_as_php_does(void **state)
{
    (void)state;
    expect("--limit=0", "--limit must be a positive whole number, not `0`\n");
    expect("--limit=-1", "--limit must be a positive whole number, not `-1`\n");
    expect("--time-limit=1h", "--time-limit must be a positive number of seconds, not `1h`\n");
    expect("--limit", "`--limit` needs a value\n");
    expect("--limit=", "`--limit=` needs a value\n");
    expect("--limit -q", "`--limit` needs a value\n");
    expect("--no-reset=1", "`--no-reset=1` takes no value\n");
    expect("--sleep=.", "--sleep must be a number of seconds, not `.`\n");
}

static void test_all_faults_of_consume_options_are_reported(void **state)
{
    (void)state;
    expect("--limit=x --foo -t 5 bar",
           "--limit must be a positive whole number, not `x`\n"
           "`--foo` is no option of messenger:consume\n"
           "`bar` is no option: transports are named by `transports`\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_options_are_no_limits),
        cmocka_unit_test(test_limits_in_every_form_that_php_takes),
        cmocka_unit_test(test_memory_sizes_are_phps),
        cmocka_unit_test(test_the_last_of_an_option_given_twice_counts),
        cmocka_unit_test(test_unknown_options_are_named),
        cmocka_unit_test(test_bad_values_are_refused_as_php_does),
        cmocka_unit_test(test_all_faults_of_consume_options_are_reported),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
