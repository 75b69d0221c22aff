/* What `mqtt-bridge status` prints. */
#include "cli/render.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

typedef void renderer(struct buf *out, double value);

static void assert_renders(renderer *render, double value, const char *expected)
{
    struct buf out = {0};

    render(&out, value);
    assert_string_equal(buf_text(&out), expected);
    buf_free(&out);
}

static void test_durations_have_two_units_at_most(void **test)
{
    (void)test;
    assert_renders(render_duration, -1, "-");
    assert_renders(render_duration, 0, "0ms");
    assert_renders(render_duration, 40, "40ms");
    assert_renders(render_duration, 12345, "12s");
    assert_renders(render_duration, 182000, "3m02s");
    assert_renders(render_duration, 8040000, "2h14m");
    assert_renders(render_duration, 3.0 * 86400000 + 4.0 * 3600000, "3d04h");
}

static void test_sizes_have_one_decimal_while_small(void **test)
{
    (void)test;
    assert_renders(render_size, -1, "-");
    assert_renders(render_size, 0, "0K");
    assert_renders(render_size, 308 * 1024, "308K");
    assert_renders(render_size, 1.6 * 1024 * 1024, "1.6M");
    assert_renders(render_size, 24.0 * 1024 * 1024, "24M");
    assert_renders(render_size, 1020 * 1024, "1.0M");
    assert_renders(render_size, 3.5 * 1024 * 1024 * 1024, "3.5G");
}

static void test_counts_are_whole_unless_a_small_rate(void **test)
{
    (void)test;
    assert_renders(render_count, -1, "-");
    assert_renders(render_count, 0, "0");
    assert_renders(render_count, 3, "3");
    assert_renders(render_count, 0.5, "0.5");
    assert_renders(render_count, 3811.7, "3812");
    assert_renders(render_count, 30598112, "30598112");
}

static const char STATUS[] =
    "{\"ok\":true,\"version\":\"1.2.3\",\"config\":\"/etc/b.ini\",\"uptime_s\":8040,\"listen\":"
    "\"127.0.0.1:9080\",\"ready\":false,\"reasons\":[\"worker:2: the hub does not "
    "answer\"],\"processes\":["
    "{\"name\":\"consumer\",\"slot\":1,\"connected\":true,\"state\":\"running\",\"pid\":4121,"
    "\"uptime_ms\":8040000,"
    "\"restarts\":0,\"crashes\":0,\"rate\":3812.2,\"done\":30598112,\"failed\":0,\"memory_bytes\":"
    "1677722,"
    "\"reason\":\"\"},"
    "{\"name\":\"worker\",\"slot\":2,\"state\":\"backoff\",\"pid\":null,\"uptime_ms\":null,"
    "\"restarts\":2,\"crashes\":1,\"rate\":0,\"done\":343512,\"failed\":12,\"memory_bytes\":null,"
    "\"reason\":\"exit code 1: no room\",\"last_exit\":\"exit code 1\",\"next_try_ms\":12400}"
    ","
    "{\"name\":\"monitor\",\"slot\":1,\"state\":\"running\",\"pid\":4130,\"uptime_ms\":182000,"
    "\"restarts\":0,\"crashes\":0,\"rate\":null,\"done\":null,\"failed\":null,\"memory_bytes\":"
    "2306867,"
    "\"reason\":\"\"}],"
    "\"transport\":{\"name\":\"async\",\"ready\":12,\"pending\":96,\"delayed\":3,\"oldest_ms\":"
    "40},\"failure\":{\"messages\":null},\"spool\":{\"messages\":0,\"bytes\":0,\"limit_bytes\":1,"
    "\"paused\":false,"
    "\"oversized_messages\":2},"
    "\"asked_ms_ago\":900,\"parts\":{\"hub\":{\"ok\":true}}}";

static void test_the_status_is_a_table_a_summary_and_the_reasons(void **test)
{
    cJSON *status = cJSON_Parse(STATUS);
    struct buf out = {0};

    (void)test;
    render_status(&out, status, false);
    assert_string_equal(
        buf_text(&out),
        "mqtt-bridge 1.2.3 · /etc/b.ini · up 2h14m · http://127.0.0.1:9080/\n"
        "NAME       STATE     PID    UPTIME   RESTARTS   CRASHES   RATE/S   DONE       FAILED   "
        "MEMORY\n"
        "consumer   running   4121   2h14m    0          0         3812     30598112   0        "
        "1.6M\n"
        "worker:2   backoff   -      -        2          1         0        343512     12       -\n"
        "monitor    running   4130   3m02s    0          0         -        -          -        "
        "2.2M\n"
        "worker:2: exit code 1: no room; tries again in 12s\n"
        "async: ready 12, in flight 96, delayed 3, oldest 40ms · failed - · spool 0 · "
        "set aside 2 (mqtt-bridge spool) · broker connected · hub ok\n"
        "not ready: worker:2: the hub does not answer\n");
    buf_free(&out);
    cJSON_Delete(status);
}

static void test_depths_that_are_not_fresh_say_their_age(void **test)
{
    cJSON *status = cJSON_Parse(STATUS);
    struct buf out = {0};

    (void)test;
    cJSON_ReplaceItemInObject(status, "asked_ms_ago", cJSON_CreateNumber(4000));
    render_status(&out, status, false);
    assert_non_null(strstr(buf_text(&out), "\nasync: ready 12,"));
    cJSON_ReplaceItemInObject(status, "asked_ms_ago", cJSON_CreateNumber(125000));
    buf_clear(&out);
    render_status(&out, status, false);
    assert_non_null(strstr(buf_text(&out), "\nasync, 2m05s ago: ready 12,"));
    buf_free(&out);
    cJSON_Delete(status);
}

static void test_the_hub_is_ok_only_where_it_was_asked(void **test)
{
    cJSON *status = cJSON_Parse(STATUS);
    cJSON *parts = cJSON_GetObjectItemCaseSensitive(status, "parts");
    struct buf out = {0};

    (void)test;
    cJSON_ReplaceItemInObject(status, "asked_ms_ago", cJSON_CreateNumber(125000));
    render_status(&out, status, false);
    assert_non_null(strstr(buf_text(&out), " · hub not asked\n"));
    cJSON_ReplaceItemInObject(status, "asked_ms_ago", cJSON_CreateNull());
    buf_clear(&out);
    render_status(&out, status, false);
    assert_non_null(strstr(buf_text(&out), " · hub not asked\n"));
    cJSON_ReplaceItemInObject(status, "asked_ms_ago", cJSON_CreateNumber(900));
    cJSON_ReplaceItemInObject(parts, "hub", cJSON_Parse("{\"ok\":false}"));
    buf_clear(&out);
    render_status(&out, status, false);
    assert_non_null(strstr(buf_text(&out), " · hub not ok\n"));
    buf_free(&out);
    cJSON_Delete(status);
}

static void test_other_groups_on_the_stream_are_shown(void **test)
{
    cJSON *status = cJSON_Parse(STATUS);
    cJSON *transport = cJSON_GetObjectItemCaseSensitive(status, "transport");
    struct buf out = {0};

    (void)test;
    cJSON_AddNumberToObject(transport, "other_groups", 0);
    render_status(&out, status, false);
    assert_null(strstr(buf_text(&out), "consumer group"));
    cJSON_ReplaceItemInObject(transport, "other_groups", cJSON_CreateNumber(2));
    buf_clear(&out);
    render_status(&out, status, false);
    assert_non_null(strstr(buf_text(&out), "\n2 other consumer groups on the stream of async: what "
                                           "is acknowledged here is deleted for all"));
    buf_free(&out);
    cJSON_Delete(status);
}

static void test_colour_changes_no_column(void **test)
{
    cJSON *status = cJSON_Parse(STATUS);
    struct buf plain = {0};
    struct buf color = {0};
    struct buf stripped = {0};

    (void)test;
    render_status(&plain, status, false);
    render_status(&color, status, true);
    for (size_t i = 0; i < color.len; i++)
        if (color.data[i] == '\033')
            i += strcspn(buf_text(&color) + i, "m");
        else
            buf_append_char(&stripped, color.data[i]);
    assert_true(color.len > plain.len);
    assert_string_equal(buf_text(&stripped), buf_text(&plain));
    buf_free(&plain);
    buf_free(&color);
    buf_free(&stripped);
    cJSON_Delete(status);
}

static void assert_order(char key, bool reverse, const char *expected)
{
    cJSON *status = cJSON_Parse(STATUS);
    const cJSON *process;
    struct buf order = {0};

    assert_true(render_sort(status, key, reverse));
    cJSON_ArrayForEach(process, cJSON_GetObjectItemCaseSensitive(status, "processes"))
    {
        buf_append_char(&order, cJSON_GetObjectItemCaseSensitive(process, "name")->valuestring[0]);
    }
    assert_string_equal(buf_text(&order), expected);
    buf_free(&order);
    cJSON_Delete(status);
}

static void test_processes_are_sorted_by_any_column(void **test)
{
    cJSON *status = cJSON_Parse("{}");

    (void)test;
    assert_order('n', false, "cmw");
    assert_order('n', true, "wmc");
    assert_order('s', false, "wcm");
    assert_order('u', false, "cmw");
    assert_order('t', false, "wcm"); /* those that are alike stay as they are */
    assert_order('r', false, "cwm");
    assert_order('f', false, "wcm");
    assert_order('m', false, "mcw");
    assert_order('m', true, "wcm");
    assert_true(render_sort(status, 'r', false));
    assert_false(render_sort(status, 'x', false));
    assert_null(render_key('x'));
    assert_string_equal(render_key('t'), "restarts");
    cJSON_Delete(status);
}

static void test_a_picture_is_cut_to_the_screen_by_characters(void **test)
{
    struct buf out = {0};

    (void)test;
    render_clip(&out, BYTES("äöüß\nab\ncd\n"), 3, 2);
    assert_string_equal(buf_text(&out), "äöü\nab\n");
    buf_clear(&out);
    render_clip(&out, BYTES("\033[32mlong\033[0m!\nx"), 4, 9);
    assert_string_equal(buf_text(&out), "\033[32mlong\033[0m\nx");
    buf_clear(&out);
    render_clip(&out, BYTES("\033[3"), 4, 1); /* an end within a sequence */
    assert_string_equal(buf_text(&out), "\033[3");
    buf_free(&out);
}

static void test_a_status_with_missing_members_is_rendered(void **test)
{
    cJSON *status = cJSON_Parse("{\"processes\":[{},null,7],\"reasons\":[null]}");
    struct buf out = {0};

    (void)test;
    render_status(&out, status, true);
    assert_true(out.len > 0);
    buf_free(&out);
    cJSON_Delete(status);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_durations_have_two_units_at_most),
        cmocka_unit_test(test_sizes_have_one_decimal_while_small),
        cmocka_unit_test(test_counts_are_whole_unless_a_small_rate),
        cmocka_unit_test(test_the_status_is_a_table_a_summary_and_the_reasons),
        cmocka_unit_test(test_depths_that_are_not_fresh_say_their_age),
        cmocka_unit_test(test_the_hub_is_ok_only_where_it_was_asked),
        cmocka_unit_test(test_other_groups_on_the_stream_are_shown),
        cmocka_unit_test(test_colour_changes_no_column),
        cmocka_unit_test(test_processes_are_sorted_by_any_column),
        cmocka_unit_test(test_a_picture_is_cut_to_the_screen_by_characters),
        cmocka_unit_test(test_a_status_with_missing_members_is_rendered),
    };

    return cmocka_run_group_tests_name("render", tests, NULL, NULL);
}
