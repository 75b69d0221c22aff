#include "common/wire/topic.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

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
    for (size_t i = 0; i < COUNT(rows); i++)
        check_expanded(rows[i].text, false, rows[i].filter, rows[i].topic, rows[i].expected);
}

static void test_uri_holds_for_every_placeholder(void **state)
{
    (void)state;
    check_expanded("a b/{topic}/{1}", true, "+", "c d", "a b/c%20d/c%20d");
}

static void test_what_is_no_placeholder_is_named_with_its_character(void **state)
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
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct topic_template *template;
        struct error err = {0};

        assert_int_equal(topic_template_new(&template, bytes_of(rows[i].text), false, &err),
                         -ERR_FORMAT);
        if (strstr(err.text, rows[i].said) == NULL)
            fail_msg("%s: %s", rows[i].text, err.text);
    }
}

static void test_the_highest_wildcard_is_counted(void **state)
{
    static const struct {
        const char *text;
        unsigned wildcards;
    } rows[] = {{"", 0}, {"{topic}{level:7}", 0}, {"{2}{1:uri}", 2}, {"{{9}", 0}};

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct topic_template *template;
        struct error err = {0};

        assert_int_equal(topic_template_new(&template, bytes_of(rows[i].text), false, &err), 0);
        assert_int_equal(topic_template_wildcards(template), rows[i].wildcards);
        topic_template_free(template);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_placeholders_are_filled_from_the_topic),
        cmocka_unit_test(test_uri_holds_for_every_placeholder),
        cmocka_unit_test(test_what_is_no_placeholder_is_named_with_its_character),
        cmocka_unit_test(test_the_highest_wildcard_is_counted),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
