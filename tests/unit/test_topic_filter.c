#include "common/wire/topic.h"

#include "common/base/alloc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* MQTT 5, section 4.7: the specification's own examples first. */
static void test_filters_match_as_the_specification_says(void **state)
{
    static const struct {
        const char *filter;
        const char *topic;
        bool matches;
    } rows[] = {
        {"sport/tennis/player1/#", "sport/tennis/player1", true},
        {"sport/tennis/player1/#", "sport/tennis/player1/ranking", true},
        {"sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true},
        {"sport/tennis/player1/#", "sport/tennis/player12", false},
        {"sport/#", "sport", true},
        {"#", "sport", true},
        {"#", "/", true},
        {"sport/tennis/+", "sport/tennis/player1", true},
        {"sport/tennis/+", "sport/tennis/player1/ranking", false},
        {"sport/+", "sport", false},
        {"sport/+", "sport/", true},
        {"+/+", "/finance", true},
        {"/+", "/finance", true},
        {"+", "/finance", false},
        {"#", "$SYS/broker", false},
        {"+/monitor/Clients", "$SYS/monitor/Clients", false},
        {"$SYS/#", "$SYS/broker", true},
        {"$SYS/monitor/+", "$SYS/monitor/Clients", true},
        {"ACCOUNTS", "Accounts", false},
        {"a/b", "a/b", true},
        {"a/b", "a/b/", false},
        {"a/b/", "a/b", false},
        {"a//b", "a//b", true},
        {"a/+/b", "a//b", true},
        {"+/b/#", "a/b", true},
        {"a/+/#", "a", false},
        {"$share/group/a/+", "a/b", true},
        {"$share/group/#", "$SYS/x", false},
        {"été/+", "été/salle", true},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++)
        if (topic_filter_matches(bytes_of(rows[i].filter), bytes_of(rows[i].topic)) !=
            rows[i].matches)
            fail_msg("%s and %s", rows[i].filter, rows[i].topic);
}

static void test_covers_is_containment_of_what_is_matched(void **state)
{
    static const struct {
        const char *a;
        const char *b;
        bool covers;
    } rows[] = {
        {"#", "a/b", true},       {"#", "+/#", true},       {"+/#", "#", true},
        {"#", "$SYS/#", false},   {"$SYS/#", "$SYS", true}, {"a/#", "a/#", true},
        {"a/#", "a/+/b", true},   {"a/#", "a", true},       {"a/+", "a/#", false},
        {"a/+/#", "a/#", false},  {"a/+/#", "a/b/#", true}, {"+/b", "a/b", true},
        {"+/b", "a/+", false},    {"a/b", "a/b", true},     {"a/b", "a/c", false},
        {"a/b", "a/+", false},    {"a/b", "a", false},      {"a", "a/b", false},
        {"+/+", "$SYS/x", false}, {"b/#", "#", false},      {"$share/g/a/#", "a/x", true},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++)
        if (topic_filter_covers(bytes_of(rows[i].a), bytes_of(rows[i].b)) != rows[i].covers)
            fail_msg("%s and %s", rows[i].a, rows[i].b);
}

static void test_overlaps_is_a_topic_that_both_match(void **state)
{
    static const struct {
        const char *a;
        const char *b;
        bool overlaps;
    } rows[] = {
        {"a/+", "+/b", true},          {"a/#", "a", true},
        {"a/+", "a", false},           {"a/#", "+/b/c", true},
        {"a/b", "a/c", false},         {"#", "$SYS/a", false},
        {"+/a", "$x/a", false},        {"$SYS/#", "$SYS/a", true},
        {"a/b/#", "a/+", true},        {"a/b/c", "a/+", false},
        {"$share/g/a/+", "+/b", true},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++)
        if (topic_filter_overlaps(bytes_of(rows[i].a), bytes_of(rows[i].b)) != rows[i].overlaps ||
            topic_filter_overlaps(bytes_of(rows[i].b), bytes_of(rows[i].a)) != rows[i].overlaps)
            fail_msg("%s and %s", rows[i].a, rows[i].b);
}

static void test_a_filter_subsumes_what_it_covers_with_its_qos_and_share(void **state)
{
    (void)state;
    assert_true(topic_filter_subsumes(BYTES("a/#"), 1, BYTES("a/b"), 1));
    assert_false(topic_filter_subsumes(BYTES("a/#"), 1, BYTES("a/b"), 2));
    assert_false(topic_filter_subsumes(BYTES("a/#"), 2, BYTES("$share/g/a/b"), 1));
    assert_false(topic_filter_subsumes(BYTES("$share/g/a/#"), 2, BYTES("$share/h/a/b"), 1));
    assert_true(topic_filter_subsumes(BYTES("$share/g/a/#"), 2, BYTES("$share/g/a/b"), 1));
}

static void test_valid_filters_are_taken(void **state)
{
    static const char *const filters[] = {"#",      "+",     "/",          "a",     "a/#", "+/+/#",
                                          "$SYS/#", "a b/c", "$share/g/#", "été/+", "//"};

    (void)state;
    for (size_t i = 0; i < COUNT(filters); i++)
        assert_int_equal(topic_filter_check(bytes_of(filters[i]), NULL), 0);
}

static void test_faulty_filters_are_refused_by_name(void **state)
{
    static const char *const filters[] = {"a#",        "a/#/b",     "#/",         "##",
                                          "a+",        "+a/b",      "a/b+/c",     "$share/g",
                                          "$share/g/", "$share//a", "$share/+/a", "$share/g/a#"};
    struct error err;

    (void)state;
    for (size_t i = 0; i < COUNT(filters); i++) {
        assert_int_equal(topic_filter_check(bytes_of(filters[i]), &err), -ERR_FORMAT);
        assert_non_null(strstr(err.text, filters[i]));
    }
    assert_int_equal(topic_filter_check(BYTES_NONE, &err), -ERR_FORMAT);
    assert_int_equal(topic_filter_check(BYTES("a\0b"), &err), -ERR_FORMAT);
    assert_int_equal(topic_filter_check(BYTES("a\xFF"), &err), -ERR_FORMAT);
}

static void test_the_longest_filter_is_65535_bytes(void **state)
{
    char *text = xmalloc(TOPIC_LENGTH_MAX + 1);
    struct error err;

    (void)state;
    memset(text, 'a', TOPIC_LENGTH_MAX + 1);
    assert_int_equal(topic_filter_check((struct bytes){text, TOPIC_LENGTH_MAX}, &err), 0);
    assert_int_equal(topic_filter_check((struct bytes){text, TOPIC_LENGTH_MAX + 1}, &err),
                     -ERR_TOO_LARGE);
    free(text);
}

static void test_names_have_no_wildcards(void **state)
{
    struct error err;

    (void)state;
    assert_int_equal(topic_name_check(BYTES("sensors/room 1/temp"), &err), 0);
    assert_int_equal(topic_name_check(BYTES("a/+"), &err), -ERR_FORMAT);
    assert_int_equal(topic_name_check(BYTES("a/#"), &err), -ERR_FORMAT);
    assert_int_equal(topic_name_check(BYTES(""), &err), -ERR_FORMAT);
    assert_int_equal(topic_name_check(BYTES("a\xC0\x80"), &err), -ERR_FORMAT);
}

static void expect_next(struct bytes *rest, const char *filter, int qos)
{
    struct bytes found;
    int found_qos;

    assert_int_equal(topic_filter_next(rest, &found, &found_qos, 1, NULL), 1);
    assert_true(bytes_equal_text(found, filter));
    assert_int_equal(found_qos, qos);
}

static void test_a_list_gives_each_filter_with_its_qos(void **state)
{
    struct bytes rest = BYTES(" a/#, b/+@0 c@2\n,,d/e@f/g home/x@y@1\t");
    struct bytes filter;
    int qos;

    (void)state;
    expect_next(&rest, "a/#", 1);
    expect_next(&rest, "b/+", 0);
    expect_next(&rest, "c", 2);
    expect_next(&rest, "d/e@f/g", 1);
    expect_next(&rest, "home/x@y", 1);
    assert_int_equal(topic_filter_next(&rest, &filter, &qos, 1, NULL), 0);
    assert_int_equal(topic_filter_next(&rest, &filter, &qos, 1, NULL), 0);
}

static void test_a_list_says_what_is_wrong(void **state)
{
    struct bytes rest = BYTES("a/#@3");
    struct bytes filter;
    struct error err;
    int qos;

    (void)state;
    assert_int_equal(topic_filter_next(&rest, &filter, &qos, 1, &err), -ERR_FORMAT);
    assert_non_null(strstr(err.text, "a/#@3"));
    rest = BYTES("a/#/b");
    assert_int_equal(topic_filter_next(&rest, &filter, &qos, 1, &err), -ERR_FORMAT);
    rest = BYTES("@1");
    assert_int_equal(topic_filter_next(&rest, &filter, &qos, 1, &err), -ERR_FORMAT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_filters_match_as_the_specification_says),
        cmocka_unit_test(test_covers_is_containment_of_what_is_matched),
        cmocka_unit_test(test_overlaps_is_a_topic_that_both_match),
        cmocka_unit_test(test_a_filter_subsumes_what_it_covers_with_its_qos_and_share),
        cmocka_unit_test(test_valid_filters_are_taken),
        cmocka_unit_test(test_faulty_filters_are_refused_by_name),
        cmocka_unit_test(test_the_longest_filter_is_65535_bytes),
        cmocka_unit_test(test_names_have_no_wildcards),
        cmocka_unit_test(test_a_list_gives_each_filter_with_its_qos),
        cmocka_unit_test(test_a_list_says_what_is_wrong),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
