#include "common/wire/topic.h"

#include "common/base/buf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

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
    for (uint32_t i = 0; i < COUNT(filters); i++)
        topic_trie_add(trie, bytes_of(filters[i]), i);
    for (size_t i = 0; i < COUNT(rows); i++)
        if (find(trie, rows[i].topic) != rows[i].order)
            fail_msg("%s: %u", rows[i].topic, find(trie, rows[i].topic));
    topic_trie_free(trie);
}

static void test_no_filter_takes_nothing(void **state)
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
    for (uint32_t i = 0; i < COUNT(filters); i++) {
        random_levels(&filters[i], words, 6);
        if (filters[i].len == 0)
            buf_append_char(&filters[i], '+');
        topic_trie_add(trie, buf_bytes(&filters[i]), i);
    }
    for (int round = 0; round < 200; round++) {
        uint32_t expected = 0;

        random_levels(&topic, words, 4);
        while (expected < COUNT(filters) &&
               !topic_filter_matches(buf_bytes(&filters[expected]), buf_bytes(&topic)))
            expected++;
        if (expected == COUNT(filters))
            expected = TOPIC_TRIE_NONE;
        if (topic.len > 0 && topic_trie_find(trie, buf_bytes(&topic)) != expected)
            fail_msg("seed %u: %s", seed, buf_text(&topic));
    }
    for (size_t i = 0; i < COUNT(filters); i++)
        buf_free(&filters[i]);
    buf_free(&topic);
    topic_trie_free(trie);
}

static void test_it_finds_what_a_walk_through_all_filters_finds(void **state)
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
        cmocka_unit_test(test_the_filter_that_was_added_first_takes_the_topic),
        cmocka_unit_test(test_no_filter_takes_nothing),
        cmocka_unit_test(test_of_equal_filters_the_first_takes_the_topic),
        cmocka_unit_test(test_it_finds_what_a_walk_through_all_filters_finds),
        cmocka_unit_test(test_the_longest_topics_and_filters_are_followed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
