#include "worker/lane.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define LEN 4

/* Two sources without a connection. */
static struct load total;
static struct source here = {.total = &total}, elsewhere = {.total = &total};

static struct entry *new_entry(struct source *source, uint64_t number, size_t bytes)
{
    struct entry *entry = entry_new(source, (struct stream_id){number, 0});

    entry->bytes = bytes;
    source_open(source, entry, ENTRY_CURRENT);
    return entry;
}

static void fill(struct lane *lane, struct entry *entries[LEN])
{
    struct source *const sources[LEN] = {&here, &elsewhere, &here, &elsewhere};

    for (size_t i = 0; i < LEN; i++) {
        entries[i] = new_entry(sources[i], i, 100);
        lane_add(lane, entries[i], 0);
    }
}

static void empty(struct lane *lane)
{
    lane_forget(lane, NULL, false);
    lane_free(lane);
    for (size_t i = 0; i < ENTRY_STATES; i++)
        assert_int_equal(total.entries[i] + total.bytes[i], 0);
}

static void test_entries_leave_in_their_order(void **state)
{
    struct lane *lane = lane_new(BYTES("a"), NULL);
    struct entry *entries[LEN];

    (void)state;
    fill(lane, entries);
    for (size_t i = 0; i < LEN; i++) {
        assert_ptr_equal(lane_pop(lane), entries[i]);
        source_release(entries[i]);
    }
    assert_null(lane->head);
    empty(lane);
}

static void test_nothing_is_held_against_the_next_entry(void **state)
{
    struct lane *lane = lane_new(BYTES("a"), NULL);
    struct entry *entries[LEN];

    (void)state;
    fill(lane, entries);
    lane->suspicion = (struct suspicion){SUSPICION_ALONE, 2};
    lane->refused_at = 7;
    lane->limits = 3;
    lane->aside = true;
    lane_explain(lane, "refused");
    source_release(lane_pop(lane));
    assert_int_equal(lane->suspicion.state, SUSPICION_CLEAR);
    assert_int_equal(lane->suspicion.strikes, 0);
    assert_int_equal(lane->refused_at, 0);
    assert_int_equal(lane->limits, 0);
    assert_false(lane->aside);
    assert_null(lane->why);
    empty(lane);
}

static void test_a_lane_is_in_one_list_and_moves_to_its_end(void **state)
{
    struct lane_list first = {0}, second = {0};
    struct lane *a = lane_new(BYTES("a"), NULL);
    struct lane *b = lane_new(BYTES("b"), NULL);
    struct lane *c = lane_new(BYTES("c"), NULL);

    (void)state;
    lane_move(a, &first);
    lane_move(b, &first);
    lane_move(c, &first);
    lane_move(a, &first);
    assert_ptr_equal(first.head, b);
    assert_ptr_equal(first.head->prev, a);
    lane_move(c, &second);
    assert_ptr_equal(first.head->next, a);
    assert_ptr_equal(a->prev, b);
    assert_int_equal(first.len, 2);
    assert_int_equal(second.len, 1);
    lane_free(b);
    assert_ptr_equal(first.head, a);
    lane_move(a, NULL);
    assert_null(first.head);
    lane_free(a);
    lane_free(c);
    assert_int_equal(second.len, 0);
}

static void test_entries_of_a_source_are_forgotten_and_others_keep_their_order(void **state)
{
    struct lane *lane = lane_new(BYTES("a"), NULL);
    struct entry *entries[LEN];

    (void)state;
    fill(lane, entries);
    lane->suspicion.state = SUSPICION_PAUSED;
    lane_forget(lane, &here, false);
    assert_int_equal(here.entries[ENTRY_CURRENT], 0);
    assert_int_equal(lane->suspicion.state, SUSPICION_CLEAR);
    assert_ptr_equal(lane->head, entries[1]);
    assert_ptr_equal(lane->head->next, entries[3]);
    assert_ptr_equal(lane->head->prev, entries[3]);
    empty(lane);
}

static void test_a_head_that_is_in_flight_stays(void **state)
{
    struct lane *lane = lane_new(BYTES("a"), NULL);
    struct entry *entries[LEN];

    (void)state;
    fill(lane, entries);
    lane->suspicion.state = SUSPICION_SENT;
    lane_forget(lane, &here, true);
    assert_int_equal(here.entries[ENTRY_CURRENT], 1);
    assert_int_equal(lane->suspicion.state, SUSPICION_SENT);
    assert_ptr_equal(lane->head, entries[0]);
    assert_ptr_equal(lane->head->prev, entries[3]);
    empty(lane);
}

static void assert_left(const struct lane *lane, const uint64_t *numbers, size_t len)
{
    assert_int_equal(lane->left.len, len);
    for (size_t i = 0; i < len; i++)
        assert_int_equal(entry_ids_at(&lane->left, i)->id.ms, numbers[i]);
}

static void test_what_goes_beyond_the_limit_is_left_in_its_order(void **state)
{
    struct lane *lane = lane_new(BYTES("a"), NULL);
    struct entry *entries[LEN];

    (void)state;
    fill(lane, entries);
    lane_set_aside(lane, 250);
    assert_int_equal(total.entries[ENTRY_ASIDE], 2);
    assert_ptr_equal(lane->head->prev, entries[1]);
    assert_left(lane, (const uint64_t[]){2, 3}, 2);
    lane_add(lane, new_entry(&here, 4, 100), 250);
    assert_left(lane, (const uint64_t[]){2, 3, 4}, 3);
    source_release(lane_pop(lane));
    lane_set_aside(lane, 0);
    assert_ptr_equal(lane->head->prev, entries[1]);
    assert_int_equal(total.entries[ENTRY_CURRENT], 0);
    empty(lane);
}

static void test_the_first_entry_is_set_aside_whatever_the_limit_is(void **state)
{
    struct lane *lane = lane_new(BYTES("a"), NULL);
    struct entry *entries[LEN];

    (void)state;
    fill(lane, entries);
    lane_set_aside(lane, 0);
    assert_ptr_equal(lane->head, entries[0]);
    assert_ptr_equal(lane->head->prev, entries[0]);
    assert_left(lane, (const uint64_t[]){1, 2, 3}, 3);
    lane_forget(lane, &here, true);
    assert_left(lane, (const uint64_t[]){1, 3}, 2);
    empty(lane);
}

static void test_what_comes_behind_a_lane_that_is_aside_is_set_aside_too(void **state)
{
    struct lane *lane = lane_new(BYTES("a"), NULL);

    (void)state;
    lane_add(lane, new_entry(&here, 0, 100), 300);
    lane_set_aside(lane, 300);
    for (uint64_t number = 1; number < 5; number++)
        lane_add(lane, new_entry(&here, number, 100), 300);
    assert_int_equal(total.entries[ENTRY_ASIDE], 3);
    assert_left(lane, (const uint64_t[]){3, 4}, 2);
    empty(lane);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_entries_leave_in_their_order),
        cmocka_unit_test(test_nothing_is_held_against_the_next_entry),
        cmocka_unit_test(test_a_lane_is_in_one_list_and_moves_to_its_end),
        cmocka_unit_test(test_entries_of_a_source_are_forgotten_and_others_keep_their_order),
        cmocka_unit_test(test_a_head_that_is_in_flight_stays),
        cmocka_unit_test(test_what_goes_beyond_the_limit_is_left_in_its_order),
        cmocka_unit_test(test_the_first_entry_is_set_aside_whatever_the_limit_is),
        cmocka_unit_test(test_what_comes_behind_a_lane_that_is_aside_is_set_aside_too),
    };

    return cmocka_run_group_tests_name("lane", tests, NULL, NULL);
}
