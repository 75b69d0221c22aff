#include "common/wire/topic.h"

#include "common/base/alloc.h"
#include "common/base/buf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

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
    for (size_t i = 0; i < LENGTH_OF(rows); i++)
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
    for (size_t i = 0; i < LENGTH_OF(rows); i++)
        if (topic_filter_covers(bytes_of(rows[i].a), bytes_of(rows[i].b)) != rows[i].covers)
            fail_msg("%s and %s", rows[i].a, rows[i].b);
}

/* Appends each filter of up to three levels, a line each. */
static void append_filters(struct buf *filters, const char *begin, int levels)
{
    static const char *const LEVELS[] = {"a", "b", "", "+", "$x", "#"};

    for (size_t i = 0; i < LENGTH_OF(LEVELS); i++) {
        char filter[64];
        struct error err;

        snprintf(filter, sizeof(filter), "%s%s", begin, LEVELS[i]);
        if (topic_filter_check(bytes_of(filter), &err) == 0)
            buf_printf(filters, "%s\n", filter);
        if (levels > 1 && strcmp(LEVELS[i], "#") != 0) {
            snprintf(filter, sizeof(filter), "%s%s/", begin, LEVELS[i]);
            append_filters(filters, filter, levels - 1);
        }
    }
}

static void test_the_trie_finds_the_filters_that_cover_another(void **state)
{
    struct buf filters = {0};
    struct bytes all, a;

    (void)state;
    append_filters(&filters, "", 3);
    for (all = buf_bytes(&filters); bytes_split(all, '\n', &a, &all);) {
        struct topic_trie *trie = topic_trie_new();
        struct bytes others = buf_bytes(&filters), b;

        topic_trie_add(trie, a, 3);
        while (bytes_split(others, '\n', &b, &others)) {
            bool found = topic_trie_find_cover(trie, b) == 3;

            if (found != topic_filter_covers(a, b))
                fail_msg("%.*s and %.*s: %d", BYTES_ARG(a), BYTES_ARG(b), found);
        }
        topic_trie_free(trie);
    }
    buf_free(&filters);
}

static void test_the_trie_finds_the_first_of_several_covers(void **state)
{
    static const char *const filters[] = {"c", "a/+", "a/#", "#", "+/b"};
    struct topic_trie *trie = topic_trie_new();

    (void)state;
    for (uint32_t i = 0; i < LENGTH_OF(filters); i++)
        topic_trie_add(trie, bytes_of(filters[i]), i);
    assert_int_equal(topic_trie_find_cover(trie, BYTES("a/b")), 1);
    assert_int_equal(topic_trie_find_cover(trie, BYTES("a/+/c")), 2);
    assert_int_equal(topic_trie_find_cover(trie, BYTES("+/b")), 3);
    assert_true(topic_trie_find_cover(trie, BYTES("$x/b")) == TOPIC_TRIE_NONE);
    topic_trie_free(trie);
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
    for (size_t i = 0; i < LENGTH_OF(rows); i++)
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
    for (size_t i = 0; i < LENGTH_OF(filters); i++)
        assert_int_equal(topic_filter_check(bytes_of(filters[i]), NULL), 0);
}

static void test_faulty_filters_are_refused_by_name(void **state)
{
    static const char *const filters[] = {"a#",        "a/#/b",     "#/",         "##",
                                          "a+",        "+a/b",      "a/b+/c",     "$share/g",
                                          "$share/g/", "$share//a", "$share/+/a", "$share/g/a#"};
    struct error err;

    (void)state;
    for (size_t i = 0; i < LENGTH_OF(filters); i++) {
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

static void test_topic_names_have_no_wildcards(void **state)
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

static void test_a_faulty_list_of_filters_is_refused(void **state)
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

static void check_expanded(const char *text, bool uri, const char *filter, const char *topic,
                           const char *expected)
{
    struct topic_template *template;
    struct error err = {0};
    struct buf out = {0};

    if (topic_template_new(&template, bytes_of(text), uri, &err) < 0)
        fail_msg("%s: %s", text, err.text);
    topic_template_expand(template, bytes_of(topic), bytes_of(filter), &out);
    if (strcmp(buf_text(&out), expected) != 0)
        fail_msg("%s for %s: %s", text, topic, buf_text(&out));
    topic_template_free(template);
    buf_free(&out);
}

static void test_placeholders_are_filled_from_the_topic(void **state)
{
    static const struct {
        const char *text;
        const char *filter;
        const char *topic;
        const char *expected;
    } rows[] = {
        {"{topic}", "#", "a/b", "a/b"},
        {"https://x.test/{topic}", "#", "a", "https://x.test/a"},
        {"fixed", "#", "a", "fixed"},
        {"", "#", "a", ""},
        {"{1}-{2}", "a/+/b/+", "a/x/b/y", "x-y"},
        {"{2}{1}{2}", "+/+", "x/y", "yxy"},
        {"{1}", "a/#", "a/b/c", "b/c"},
        {"[{1}]", "a/#", "a", "[]"},
        {"{1}/{2}", "+/a/#", "x/a/b/c", "x/b/c"},
        {"[{1}]", "a/+", "a/", "[]"},
        {"[{3}]", "+/+", "a/b", "[]"},
        {"{level:1} {level:2} {level:-1} {level:-2}", "#", "a/b/c", "a b c b"},
        {"[{level:4}{level:-4}]", "#", "a/b/c", "[]"},
        {"[{level:1}][{level:-1}]", "#", "/", "[][]"},
        {"{{topic}", "#", "a", "{topic}"},
        {"{{{topic}}", "#", "a", "{a}"},
        {"{{", "#", "a", "{"},
        {"}{{}", "#", "a", "}{}"},
        {"{topic:uri}", "#", "a b/\xC3\xA9~%", "a%20b/%C3%A9~%25"},
        {"{1:uri}{level:-1:uri} {1}", "+/?", "a b/?", "a%20b%3F a b"},
    };

    (void)state;
    for (size_t i = 0; i < LENGTH_OF(rows); i++)
        check_expanded(rows[i].text, false, rows[i].filter, rows[i].topic, rows[i].expected);
}

static void test_uri_encoding_holds_for_every_placeholder(void **state)
{
    (void)state;
    check_expanded("a b/{topic}/{1}", true, "+", "c d", "a b/c%20d/c%20d");
}

static void test_faulty_placeholders_are_named_with_their_position(void **state)
{
    static const struct {
        const char *text;
        const char *said;
    } rows[] = {
        {"{name}", "character 1: no placeholder is called {name}"},
        {"ab{0}", "character 3: no placeholder is called {0}"},
        {"{{x{}", "character 4: no placeholder is called {}"},
        {"{level:0}", "{level:0}"},
        {"{level:}", "{level:}"},
        {"{level:--1}", "{level:--1}"},
        {"{level:1", "character 1 opens a placeholder that nothing closes"},
        {"{", "character 1 opens a placeholder that nothing closes"},
        {"{topic:URI}", "{topic:URI}"},
        {"{65536}", "{65536}"},
        {"{99999999999999999999}", "{99999999999999999999}"},
        {"{-1}", "{-1}"},
        {"{:uri}", "{:uri}"},
    };

    (void)state;
    for (size_t i = 0; i < LENGTH_OF(rows); i++) {
        struct topic_template *template;
        struct error err = {0};

        assert_int_equal(topic_template_new(&template, bytes_of(rows[i].text), false, &err),
                         -ERR_FORMAT);
        if (strstr(err.text, rows[i].said) == NULL)
            fail_msg("%s: %s", rows[i].text, err.text);
    }
}

static void test_a_template_knows_its_highest_wildcard_number(void **state)
{
    static const struct {
        const char *text;
        unsigned wildcards;
    } rows[] = {{"", 0}, {"{topic}{level:7}", 0}, {"{2}{1:uri}", 2}, {"{{9}", 0}};

    (void)state;
    for (size_t i = 0; i < LENGTH_OF(rows); i++) {
        struct topic_template *template;
        struct error err = {0};

        assert_int_equal(topic_template_new(&template, bytes_of(rows[i].text), false, &err), 0);
        assert_int_equal(topic_template_wildcards(template), rows[i].wildcards);
        topic_template_free(template);
    }
}

static uint32_t find(struct topic_trie *trie, const char *topic)
{
    return topic_trie_find(trie, bytes_of(topic));
}

static void test_the_filter_that_was_added_first_takes_the_topic(void **state)
{
    static const char *const filters[] = {"a/b/c", "a/+/c", "a/#", "+/b", "$SYS/#", "#"};

    static const struct {
        const char *topic;
        uint32_t order;
    } rows[] = {
        {"a/b/c", 0},
        {"a/x/c", 1},
        {"a/x/d", 2},
        {"a", 2},
        {"a/", 2},
        {"a/b", 2},
        {"x/b", 3},
        {"x", 5},
        {"/", 5},
        {"a/b/c/d", 2},
        {"$SYS", 4},
        {"$SYS/b", 4},
        {"$x", TOPIC_TRIE_NONE},
        {"$x/b", TOPIC_TRIE_NONE},
    };
    struct topic_trie *trie = topic_trie_new();

    (void)state;
    for (uint32_t i = 0; i < LENGTH_OF(filters); i++)
        topic_trie_add(trie, bytes_of(filters[i]), i);
    for (size_t i = 0; i < LENGTH_OF(rows); i++)
        if (find(trie, rows[i].topic) != rows[i].order)
            fail_msg("%s: %u", rows[i].topic, find(trie, rows[i].topic));
    topic_trie_free(trie);
}

static void test_the_trie_finds_nothing_without_a_matching_filter(void **state)
{
    struct topic_trie *trie = topic_trie_new();

    (void)state;
    assert_true(find(trie, "a") == TOPIC_TRIE_NONE);
    topic_trie_add(trie, BYTES("a/b"), 0);
    assert_true(find(trie, "a") == TOPIC_TRIE_NONE);
    assert_true(find(trie, "a/b/c") == TOPIC_TRIE_NONE);
    assert_true(find(trie, "") == TOPIC_TRIE_NONE);
    topic_trie_free(trie);
}

static void test_of_equal_filters_the_first_takes_the_topic(void **state)
{
    struct topic_trie *trie = topic_trie_new();

    (void)state;
    topic_trie_add(trie, BYTES("a/+"), 1);
    topic_trie_add(trie, BYTES("a/+"), 2);
    topic_trie_add(trie, BYTES("a/b"), 3);
    assert_int_equal(find(trie, "a/b"), 1);
    topic_trie_free(trie);
}

/* One of few words at each level, so that most topics meet several filters. */
static void random_levels(struct buf *out, const char *const *words, unsigned count)
{
    buf_clear(out);
    for (long i = random() % 5; i >= 0; i--) {
        const char *word = words[random() % count];

        buf_append_text(out, word);
        if (strcmp(word, "#") == 0)
            return;
        if (i > 0)
            buf_append_char(out, '/');
    }
}

static void check_like_a_walk_through_all(unsigned seed)
{
    static const char *const words[] = {"a", "b", "", "$c", "+", "#"};
    struct topic_trie *trie = topic_trie_new();
    struct buf filters[40] = {0}, topic = {0};

    srandom(seed);
    for (uint32_t i = 0; i < LENGTH_OF(filters); i++) {
        random_levels(&filters[i], words, 6);
        if (filters[i].len == 0)
            buf_append_char(&filters[i], '+');
        topic_trie_add(trie, buf_bytes(&filters[i]), i);
    }
    for (int round = 0; round < 200; round++) {
        uint32_t expected = 0;

        random_levels(&topic, words, 4);
        while (expected < LENGTH_OF(filters) &&
               !topic_filter_matches(buf_bytes(&filters[expected]), buf_bytes(&topic)))
            expected++;
        if (expected == LENGTH_OF(filters))
            expected = TOPIC_TRIE_NONE;
        if (topic.len > 0 && topic_trie_find(trie, buf_bytes(&topic)) != expected)
            fail_msg("seed %u: %s", seed, buf_text(&topic));
    }
    for (size_t i = 0; i < LENGTH_OF(filters); i++)
        buf_free(&filters[i]);
    buf_free(&topic);
    topic_trie_free(trie);
}

static void test_the_trie_finds_the_same_as_a_walk_through_all_filters(void **state)
{
    (void)state;
    for (unsigned seed = 1; seed <= 200; seed++)
        check_like_a_walk_through_all(seed);
}

static void test_the_longest_topics_and_filters_are_followed(void **state)
{
    struct topic_trie *trie = topic_trie_new();
    struct buf deep = {0};

    (void)state;
    while (deep.len < TOPIC_LENGTH_MAX - 1)
        buf_append(&deep, BYTES("+/"));
    topic_trie_add(trie, buf_bytes(&deep), 1);
    for (size_t i = 0; i < deep.len; i += 2)
        deep.data[i] = 'a';
    assert_int_equal(topic_trie_find(trie, buf_bytes(&deep)), 1);
    assert_true(topic_trie_find(trie, bytes_slice(buf_bytes(&deep), 2, deep.len)) ==
                TOPIC_TRIE_NONE);
    topic_trie_free(trie);
    buf_free(&deep);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_filters_match_as_the_specification_says),
        cmocka_unit_test(test_covers_is_containment_of_what_is_matched),
        cmocka_unit_test(test_the_trie_finds_the_filters_that_cover_another),
        cmocka_unit_test(test_the_trie_finds_the_first_of_several_covers),
        cmocka_unit_test(test_overlaps_is_a_topic_that_both_match),
        cmocka_unit_test(test_a_filter_subsumes_what_it_covers_with_its_qos_and_share),
        cmocka_unit_test(test_valid_filters_are_taken),
        cmocka_unit_test(test_faulty_filters_are_refused_by_name),
        cmocka_unit_test(test_the_longest_filter_is_65535_bytes),
        cmocka_unit_test(test_topic_names_have_no_wildcards),
        cmocka_unit_test(test_a_list_gives_each_filter_with_its_qos),
        cmocka_unit_test(test_a_faulty_list_of_filters_is_refused),
        cmocka_unit_test(test_placeholders_are_filled_from_the_topic),
        cmocka_unit_test(test_uri_encoding_holds_for_every_placeholder),
        cmocka_unit_test(test_faulty_placeholders_are_named_with_their_position),
        cmocka_unit_test(test_a_template_knows_its_highest_wildcard_number),
        cmocka_unit_test(test_the_filter_that_was_added_first_takes_the_topic),
        cmocka_unit_test(test_the_trie_finds_nothing_without_a_matching_filter),
        cmocka_unit_test(test_of_equal_filters_the_first_takes_the_topic),
        cmocka_unit_test(test_the_trie_finds_the_same_as_a_walk_through_all_filters),
        cmocka_unit_test(test_the_longest_topics_and_filters_are_followed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
