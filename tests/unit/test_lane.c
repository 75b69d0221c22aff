#include "worker/lane.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_heads_topic_goes_behind_the_others_in_order),
        cmocka_unit_test(test_what_is_pushed_later_comes_last),
    };

    return cmocka_run_group_tests_name("lane", tests, NULL, NULL);
}
