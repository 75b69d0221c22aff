#include "worker/lane.h"

#include <ctype.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define ENTRIES_MAX 8

/* Pushes one entry a letter, of the topic of that name; yields; returns the topics as they stand then, with
 * their places from the start. */
static void check_yield(const char *topics, const char *expected, const size_t *places)
{
    struct entry entries[ENTRIES_MAX] = {0};
    struct lane lane = {.doubt = DOUBT_GRAVE};
    size_t len = 0;

    for (; topics[len] != '\0'; len++) {
        entries[len].envelope.topic = (struct bytes){(const char *)topics + len, 1};
        lane_push(&lane, &entries[len]);
    }
    lane_yield(&lane);
    for (size_t i = 0; i < len; i++) {
        assert_ptr_equal(lane.head, &entries[places[i]]);
        assert_int_equal(lane.head->envelope.topic.data[0], expected[i]);
        lane_pop(&lane);
    }
    assert_null(lane.head);
    assert_null(lane.tail);
    assert_int_equal(lane.doubt, DOUBT_NONE);
}

static void test_the_heads_topic_goes_behind_the_others_in_order(void **state)
{
    (void)state;
    check_yield("A", "A", (size_t[]){0});
    check_yield("AAA", "AAA", (size_t[]){0, 1, 2});
    check_yield("AB", "BA", (size_t[]){1, 0});
    check_yield("ABABCA", "BBCAAA", (size_t[]){1, 3, 4, 0, 2, 5});
}

static void test_what_is_pushed_later_comes_last(void **state)
{
    struct entry entries[3] = {{.envelope.topic = BYTES("a")},
                               {.envelope.topic = BYTES("b")},
                               {.envelope.topic = BYTES("a")}};
    struct lane lane = {0};

    (void)state;
    lane_push(&lane, &entries[0]);
    lane_push(&lane, &entries[1]);
    lane_yield(&lane);
    lane_push(&lane, &entries[2]);
    assert_ptr_equal(lane_pop(&lane), &entries[1]);
    assert_ptr_equal(lane_pop(&lane), &entries[0]);
    assert_ptr_equal(lane_pop(&lane), &entries[2]);
}

/* Letters as above, small ones refused; another, Z, comes. */
static void check_push_before(struct lane lane, const char *topics, const char *expected)
{
    struct entry entries[ENTRIES_MAX] = {0};
    struct entry last = {.envelope.topic = BYTES("Z")};
    size_t len = strlen(topics);

    for (size_t i = 0; i < len; i++) {
        entries[i].envelope.topic = (struct bytes){topics + i, 1};
        entries[i].refused_at = islower((unsigned char)topics[i]) ? 7 : 6;
        lane_push(&lane, &entries[i]);
    }
    lane_push_before(&lane, &last, 7);
    for (size_t i = 0; i < len + 1; i++) {
        assert_int_equal(lane.head->envelope.topic.data[0], expected[i]);
        if (i == len)
            assert_ptr_equal(lane.tail, lane.head);
        lane_pop(&lane);
    }
    assert_null(lane.tail);
}

static void test_what_may_pass_comes_before_what_was_refused_and_behind_all_else(void **state)
{
    (void)state;
    check_push_before((struct lane){0}, "", "Z");
    check_push_before((struct lane){0}, "AB", "ABZ");
    check_push_before((struct lane){0}, "ab", "Zab");
    check_push_before((struct lane){0}, "Aab", "AZab");
    check_push_before((struct lane){0}, "aAb", "aAZb");
    check_push_before((struct lane){0}, "aA", "aAZ");
}

static void test_nothing_comes_before_a_head_that_is_on_the_wire_or_in_doubt(void **state)
{
    (void)state;
    check_push_before((struct lane){.sending = true}, "a", "aZ");
    check_push_before((struct lane){.sending = true}, "ab", "aZb");
    check_push_before((struct lane){.doubt = DOUBT_GRAVE}, "ab", "aZb");
    check_push_before((struct lane){.doubt = DOUBT_GRAVE}, "aAb", "aAZb");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_heads_topic_goes_behind_the_others_in_order),
        cmocka_unit_test(test_what_is_pushed_later_comes_last),
        cmocka_unit_test(test_what_may_pass_comes_before_what_was_refused_and_behind_all_else),
        cmocka_unit_test(test_nothing_comes_before_a_head_that_is_on_the_wire_or_in_doubt),
    };

    return cmocka_run_group_tests_name("lane", tests, NULL, NULL);
}
