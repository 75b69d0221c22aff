#include "consumer/mqtt/inherited.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define ROOM 100000

static const char *given[10000];

static struct subscriptions *open_filters(const char *topics)
{
    struct settings_mqtt settings = {.topics = (char *)topics,
                                     .qos = 1,
                                     .share_name = "",
                                     .server_uris = "",
                                     .host = "localhost"};
    struct subscriptions *filters = NULL;
    struct error err = {0};

    if (subscriptions_new(&filters, &settings, "/nonexistent/subscriptions", &err) < 0)
        fail_msg("%s", err.text);
    return filters;
}

static bool has(size_t count, const char *text)
{
    size_t found = 0;

    for (size_t i = 0; i < count; i++)
        found += strcmp(given[i], text) == 0;
    assert_true(found <= 1);
    return found == 1;
}

static size_t take(struct inherited *inherited)
{
    return inherited_next(inherited, given, sizeof(given) / sizeof(given[0]), ROOM);
}

static void test_what_is_like_our_filters_is_a_candidate_and_ours_are_not(void **state)
{
    struct subscriptions *filters = open_filters("plant/+/temp $share/g/a/b");
    struct inherited *inherited = inherited_new(filters);
    size_t count = take(inherited);

    (void)state;
    assert_true(has(count, "#") && has(count, "plant/#") && has(count, "+/+/temp"));
    assert_true(has(count, "a/b") && has(count, "a/+")); /* not shared */
    assert_false(has(count, "plant/+/temp"));
    assert_false(has(count, "plant/1/temp"));
    inherited_free(inherited);
    subscriptions_free(filters);
}

static void test_a_topic_that_arrives_is_generalised_once(void **state)
{
    struct subscriptions *filters = open_filters("a/#");
    struct inherited *inherited = inherited_new(filters);

    (void)state;
    take(inherited);
    inherited_add(inherited, BYTES("plant/1/temp"));
    inherited_add(inherited, BYTES("plant/1/temp"));
    size_t count = take(inherited);
    assert_true(has(count, "plant/+/temp") && has(count, "plant/1/temp"));
    assert_true(has(count, "plant/1/temp/#") && has(count, "+/1/#"));
    assert_int_equal(take(inherited), 0);
    inherited_again(inherited);
    assert_int_equal(take(inherited), 0);
    inherited_free(inherited);
    subscriptions_free(filters);
}

static void test_candidates_come_in_batches_and_again_if_unanswered(void **state)
{
    struct subscriptions *filters = open_filters("a/b/c");
    struct inherited *inherited = inherited_new(filters);
    char first[100];

    (void)state;
    assert_int_equal(inherited_next(inherited, given, 3, ROOM), 3);
    snprintf(first, sizeof(first), "%s", given[0]);
    inherited_again(inherited);
    assert_int_equal(inherited_next(inherited, given, 1, ROOM), 1);
    assert_string_equal(given[0], first);
    assert_true(inherited_next(inherited, given, 100, 12) < 5);
    inherited_free(inherited);
    subscriptions_free(filters);
}

static void test_there_is_a_bound(void **state)
{
    struct subscriptions *filters = open_filters("a/#");
    struct inherited *inherited = inherited_new(filters);
    char topic[100];

    (void)state;
    inherited_add(inherited, BYTES("1/2/3/4/5/6/7/8/9/10/11/12"));
    assert_false(inherited_is_full(inherited));
    for (int i = 0; i < 200; i++) {
        snprintf(topic, sizeof(topic), "%d/b/c/d/e/f/g/h", i);
        inherited_add(inherited, bytes_of(topic));
    }
    assert_true(inherited_is_full(inherited));
    assert_in_range(take(inherited), 5000, 8000);
    inherited_free(inherited);
    subscriptions_free(filters);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_like_our_filters_is_a_candidate_and_ours_are_not),
        cmocka_unit_test(test_a_topic_that_arrives_is_generalised_once),
        cmocka_unit_test(test_candidates_come_in_batches_and_again_if_unanswered),
        cmocka_unit_test(test_there_is_a_bound),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
