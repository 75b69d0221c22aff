#include "worker/lane.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define LEN 4

#define SPOOL_A "0123456789abcdef0123456789abcdef"
#define SPOOL_B "fedcba9876543210fedcba9876543210"

/* Two sources without a connection. */
static struct load total;
static struct source here = {.total = &total}, elsewhere = {.total = &total};
static struct settings_route latest = {.publish = PUBLISH_LATEST, .window_ms = 500};
static struct settings_route batch = {
    .publish = PUBLISH_BATCH, .window_ms = 500, .batch_max = 3, .batch_bytes = 1000};

static struct entry *new_entry(struct source *source, uint64_t number)
{
    struct entry *entry = entry_new(source, (struct stream_id){number, 0});

    entry->bytes = 100;
    entry->identity = BYTES("x");
    entry->envelope.topic = BYTES("t");
    entry->envelope.payload = BYTES("1");
    source_open(source, entry, ENTRY_CURRENT);
    return entry;
}

static void end(struct lane *lane)
{
    lane_forget(lane, NULL, false);
    lane_free(lane);
    for (size_t i = 0; i < ENTRY_STATES; i++)
        assert_int_equal(total.entries[i] + total.bytes[i] + total.carried[i], 0);
}

static void fill(struct lane *lane, struct entry *entries[LEN])
{
    struct source *const sources[LEN] = {&here, &elsewhere, &here, &elsewhere};

    for (size_t i = 0; i < LEN; i++) {
        entries[i] = new_entry(sources[i], i);
        lane_add(lane, entries[i], 0);
    }
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
    end(lane);
}

static void test_the_next_entry_starts_without_the_failures_of_the_last(void **state)
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
    end(lane);
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
    end(lane);
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
    end(lane);
}

static void assert_left(const struct lane *lane, const uint64_t *numbers, size_t len)
{
    assert_int_equal(lane->left.len, len);
    for (size_t i = 0; i < len; i++)
        assert_int_equal(entry_ids_at(&lane->left, i)->id.ms, numbers[i]);
}

static void test_entries_beyond_the_limit_are_left_in_order(void **state)
{
    struct lane *lane = lane_new(BYTES("a"), NULL);
    struct entry *entries[LEN];

    (void)state;
    fill(lane, entries);
    lane_set_aside(lane, 250);
    assert_int_equal(total.entries[ENTRY_ASIDE], 2);
    assert_ptr_equal(lane->head->prev, entries[1]);
    assert_left(lane, (const uint64_t[]){2, 3}, 2);
    lane_add(lane, new_entry(&here, 4), 250);
    assert_left(lane, (const uint64_t[]){2, 3, 4}, 3);
    source_release(lane_pop(lane));
    lane_set_aside(lane, 0);
    assert_ptr_equal(lane->head->prev, entries[1]);
    assert_int_equal(total.entries[ENTRY_CURRENT], 0);
    end(lane);
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
    end(lane);
}

static void test_entries_behind_a_lane_set_aside_are_set_aside_too(void **state)
{
    struct lane *lane = lane_new(BYTES("a"), NULL);

    (void)state;
    lane_add(lane, new_entry(&here, 0), 300);
    lane_set_aside(lane, 300);
    for (uint64_t number = 1; number < 5; number++)
        lane_add(lane, new_entry(&here, number), 300);
    assert_int_equal(total.entries[ENTRY_ASIDE], 3);
    assert_left(lane, (const uint64_t[]){3, 4}, 2);
    end(lane);
}

static void assert_carried(const struct entry *entry, const uint64_t *numbers, size_t len)
{
    assert_int_equal(entry->carried.len, len);
    for (size_t i = 0; i < len; i++)
        assert_int_equal(entry->carried.ids[i].ms, numbers[i]);
}

static void test_the_newest_entry_carries_those_before_it(void **state)
{
    struct lane *lane = lane_new(BYTES("t"), &latest);
    const uint64_t order[] = {5, 7, 6};

    (void)state;
    for (size_t i = 0; i < 3; i++)
        assert_false(lane_gather_add(lane, new_entry(&here, order[i]), 1000));
    assert_int_equal(lane->gathered->id.ms, 7);
    assert_carried(lane->gathered, (const uint64_t[]){6, 5}, 2);
    assert_int_equal(lane->window_ms, 1500);
    assert_int_equal(total.entries[ENTRY_GATHERED], 1);
    assert_int_equal(total.carried[ENTRY_GATHERED], 2);
    end(lane);
}

static void test_a_value_that_comes_late_is_not_the_one_before(void **state)
{
    struct lane *lane = lane_new(BYTES("t"), &latest);
    const uint64_t order[] = {5, 7, 3, 9, 1};

    (void)state;
    for (size_t i = 0; i < 5; i++)
        (void)lane_gather_add(lane, new_entry(&here, order[i]), 1000);
    assert_int_equal(lane->gathered->id.ms, 9);
    assert_carried(lane->gathered, (const uint64_t[]){1, 3, 5, 7}, 4);
    assert_int_equal(total.carried[ENTRY_GATHERED], 4);
    end(lane);
}

static void test_a_batch_is_carried_by_its_first_entry_until_it_is_full(void **state)
{
    struct lane *lane = lane_new(BYTES("t"), &batch);

    (void)state;
    assert_false(lane_gather_add(lane, new_entry(&here, 1), 1000));
    assert_false(lane_gather_add(lane, new_entry(&here, 2), 1100));
    assert_true(lane_gather_add(lane, new_entry(&here, 3), 1200));
    assert_int_equal(lane->window_ms, 1500);
    struct entry *entry = lane_gather_take(lane);
    assert_null(lane->gathered);
    assert_carried(entry, (const uint64_t[]){2, 3}, 2);
    assert_true(entry->bytes > 100);
    assert_int_equal(total.bytes[ENTRY_GATHERED], entry->bytes);
    source_release(entry);
    end(lane);
}

static void test_a_batch_is_full_with_its_bytes(void **state)
{
    struct lane *lane = lane_new(BYTES("t"), &batch);
    struct entry *large = new_entry(&here, 1);
    char payload[1000];

    (void)state;
    memset(payload, '1', sizeof(payload));
    large->envelope.payload = (struct bytes){payload, sizeof(payload)};
    assert_true(lane_gather_add(lane, large, 0));
    end(lane);
}

static void test_entries_of_two_sources_are_not_carried_together(void **state)
{
    struct lane *lane = lane_new(BYTES("t"), &latest);
    struct entry *other = new_entry(&elsewhere, 2);

    (void)state;
    assert_true(lane_gather_fits(lane, other));
    (void)lane_gather_add(lane, new_entry(&here, 1), 0);
    assert_false(lane_gather_fits(lane, other));
    source_release(other);
    end(lane);
}

static void test_a_value_that_waits_gives_way_to_a_newer_one(void **state)
{
    struct lane *lane = lane_new(BYTES("t"), &latest);

    (void)state;
    (void)lane_gather_add(lane, new_entry(&here, 1), 0);
    lane_add(lane, lane_gather_take(lane), 1000);
    (void)lane_gather_add(lane, new_entry(&here, 3), 0);
    (void)lane_gather_add(lane, new_entry(&here, 2), 0);
    lane_gather_refresh(lane);
    assert_null(lane->gathered);
    assert_int_equal(lane->head->id.ms, 3);
    assert_carried(lane->head, (const uint64_t[]){1, 2}, 2);
    lane_gather_refresh(lane);
    assert_int_equal(lane->head->id.ms, 3);
    end(lane);
}

static void test_a_value_older_than_the_one_in_flight_is_carried_by_it(void **state)
{
    struct lane *lane = lane_new(BYTES("t"), &latest);
    struct entry *newer = new_entry(&here, 11), *other = new_entry(&elsewhere, 1);

    (void)state;
    assert_false(lane_conflate_late(lane, newer));
    lane_add(lane, new_entry(&here, 10), 1000);
    assert_false(lane_conflate_late(lane, newer));
    assert_false(lane_conflate_late(lane, other));
    assert_true(lane_conflate_late(lane, new_entry(&here, 9)));
    assert_true(lane_conflate_late(lane, new_entry(&here, 8)));
    assert_int_equal(lane->head->id.ms, 10);
    assert_carried(lane->head, (const uint64_t[]){8, 9}, 2);
    assert_int_equal(total.carried[ENTRY_CURRENT], 2);
    source_release(newer);
    source_release(other);
    end(lane);
}

static void test_only_newest_values_carry_what_comes_late(void **state)
{
    const struct settings_route *const routes[] = {NULL, &batch};

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct lane *lane = lane_new(BYTES("t"), routes[i]);
        struct entry *late = new_entry(&here, 9);

        lane_add(lane, new_entry(&here, 10), 1000);
        assert_false(lane_conflate_late(lane, late));
        source_release(late);
        end(lane);
    }
}

static void gather(struct lane *lane, uint64_t from, uint64_t to)
{
    for (uint64_t number = from; number <= to; number++)
        (void)lane_gather_add(lane, new_entry(&here, number), 0);
}

static void test_all_batches_of_a_lane_are_left_in_their_order(void **state)
{
    struct lane *lane = lane_new(BYTES("t"), &batch);

    (void)state;
    gather(lane, 1, 3);
    lane_add(lane, lane_gather_take(lane), 1000);
    gather(lane, 4, 6);
    lane_add(lane, lane_gather_take(lane), 1000);
    gather(lane, 7, 8);
    lane_leave_batches(lane);
    assert_null(lane->head);
    assert_null(lane->gathered);
    assert_int_equal(lane->left.len, 8);
    for (uint64_t number = 1; number <= 8; number++) {
        assert_int_equal(entry_ids_at(&lane->left, number - 1)->id.ms, number);
        assert_int_equal(entry_ids_at(&lane->left, number - 1)->alone, number <= 3);
    }
    end(lane);
}

static void test_the_value_before_the_newest_is_left_with_the_rest(void **state)
{
    struct lane *lane = lane_new(BYTES("t"), &latest);

    (void)state;
    gather(lane, 1, 4);
    lane_add(lane, lane_gather_take(lane), 1000);
    lane_leave_one_before(lane);
    assert_int_equal(lane->left.len, 1);
    assert_int_equal(entry_ids_at(&lane->left, 0)->id.ms, 3);
    assert_carried(lane->head, NULL, 0);
    assert_int_equal(lane->rest->id.ms, 2);
    assert_carried(lane->rest, (const uint64_t[]){1}, 1);
    assert_int_equal(total.carried[ENTRY_ASIDE], 1);
    source_release(lane_pop(lane));
    end(lane);
}

/* Of so many values the newest is refused: the one before it is left, to be read again. */
static void refuse_newest_of(struct lane *lane, uint64_t values)
{
    gather(lane, 1, values);
    lane_add(lane, lane_gather_take(lane), 1000);
    lane_leave_one_before(lane);
    source_release(lane_pop(lane));
}

static void test_the_value_before_is_read_again_and_carries_the_rest(void **state)
{
    struct lane *lane = lane_new(BYTES("t"), &latest);

    (void)state;
    refuse_newest_of(lane, 4);
    lane->reading = &here;
    lane->reading_alone = true;
    entry_ids_drop(&lane->left, 1);
    struct entry *before = new_entry(&here, 3);
    lane_take_rest(lane, before);
    lane_skip_one_before(lane);
    assert_null(lane->rest);
    assert_int_equal(lane->left.len, 0);
    assert_carried(before, (const uint64_t[]){1, 2}, 2);
    source_release(before);
    end(lane);
}

static void test_a_value_before_that_is_gone_leaves_the_one_before_it(void **state)
{
    struct lane *lane = lane_new(BYTES("t"), &latest);

    (void)state;
    refuse_newest_of(lane, 4);
    lane->reading = &here;
    lane->reading_alone = true;
    for (uint64_t number = 2; number >= 1; number--) {
        entry_ids_drop(&lane->left, 1);
        lane_skip_one_before(lane);
        assert_int_equal(lane->left.len, 1);
        assert_int_equal(entry_ids_at(&lane->left, 0)->id.ms, number);
    }
    assert_null(lane->rest);
    end(lane);
}

static void test_two_transports_leave_what_their_values_carry(void **state)
{
    struct lane *lane = lane_new(BYTES("t"), &latest);

    (void)state;
    refuse_newest_of(lane, 4);
    for (uint64_t number = 5; number <= 8; number++)
        (void)lane_gather_add(lane, new_entry(&elsewhere, number), 0);
    DL_APPEND(lane->head, lane_gather_take(lane));
    lane_leave_one_before(lane);
    assert_int_equal(lane->left.len, 4);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(entry_ids_at(&lane->left, i)->id.ms, 5 + i);
    lane_forget(lane, &here, false);
    assert_null(lane->rest);
    assert_int_equal(lane->left.len, 3);
    end(lane);
}

static void test_entries_gathered_behind_a_lane_set_aside_are_aside_too(void **state)
{
    struct lane *lane = lane_new(BYTES("t"), &latest);

    (void)state;
    gather(lane, 1, 1);
    lane_add(lane, lane_gather_take(lane), 1000);
    gather(lane, 2, 4);
    assert_int_equal(total.carried[ENTRY_GATHERED], 2);
    lane_set_aside(lane, 1000);
    assert_int_equal(lane->gathered->state, ENTRY_ASIDE);
    gather(lane, 5, 6);
    assert_int_equal(total.entries[ENTRY_ASIDE], 2);
    assert_int_equal(total.carried[ENTRY_ASIDE], 4);
    assert_int_equal(total.entries[ENTRY_GATHERED] + total.carried[ENTRY_GATHERED], 0);
    lane_gather_refresh(lane);
    assert_int_equal(lane->head->state, ENTRY_ASIDE);
    assert_int_equal(total.carried[ENTRY_ASIDE], 5);
    end(lane);
}

static void test_a_batch_that_goes_beyond_the_limit_is_left(void **state)
{
    struct lane *lane = lane_new(BYTES("t"), &batch);

    (void)state;
    gather(lane, 1, 3);
    lane_add(lane, lane_gather_take(lane), 1000);
    gather(lane, 4, 5);
    lane_set_aside(lane, 200);
    assert_null(lane->gathered);
    assert_int_equal(lane->left.len, 2);
    for (size_t i = 0; i < 2; i++)
        assert_int_equal(entry_ids_at(&lane->left, i)->id.ms, 4 + i);
    end(lane);
}

static void test_failures_go_over_to_the_value_that_replaces_another(void **state)
{
    struct lane *lane = lane_new(BYTES("t"), &latest);

    (void)state;
    gather(lane, 1, 1);
    lane->gathered->failures = 2;
    gather(lane, 2, 2);
    assert_int_equal(lane->gathered->id.ms, 2);
    assert_int_equal(lane->gathered->failures, 2);
    end(lane);
}

static void test_an_end_keeps_what_waits_and_does_not_send_it(void **state)
{
    struct lanes lanes = {0};
    struct lane *paused = lane_new(BYTES("p"), NULL), *aside = lane_new(BYTES("a"), NULL);
    struct lane *ready = lane_new(BYTES("r"), NULL), *flight = lane_new(BYTES("f"), NULL);
    struct lane *const all[] = {paused, aside, ready, flight};

    (void)state;
    for (size_t i = 0; i < 4; i++) {
        HASH_ADD_KEYPTR(hh, lanes.all, all[i]->key, all[i]->key_len, all[i]);
        lane_add(all[i], new_entry(&here, 2 * i), 1000);
        lane_add(all[i], new_entry(&here, 2 * i + 1), 1000);
    }
    lane_set_aside(aside, 0);
    lane_set_aside(flight, 1000);
    lane_move(paused, &lanes.paused);
    lane_move(aside, &lanes.aside);
    lane_move(ready, &lanes.ready);
    lane_move(flight, &lanes.flight);
    lanes_keep_waiting(&lanes);
    lanes_keep_waiting(&lanes);
    assert_int_equal(lanes.kept.len, 2);
    assert_ptr_equal(paused->list, &lanes.kept);
    assert_ptr_equal(aside->list, &lanes.kept);
    assert_int_equal(paused->head->next->state, ENTRY_ASIDE);
    assert_int_equal(aside->left.len, 1);
    assert_int_equal(total.entries[ENTRY_CURRENT], 2);
    lanes_free(&lanes);
    assert_int_equal(total.entries[ENTRY_CURRENT] + total.entries[ENTRY_ASIDE], 0);
}

static void test_lanes_stand_in_the_order_of_their_windows(void **state)
{
    static const int64_t ends[] = {500, 60000, 700, 60100, 100, 800, 60050, 700};
    struct lane_list list = {0};
    struct lane *lanes[8];
    int64_t before = 0;

    (void)state;
    for (size_t i = 0; i < 8; i++) {
        lanes[i] = lane_new(BYTES("t"), &latest);
        lanes[i]->window_ms = ends[i];
        lane_move_by_window(lanes[i], &list);
    }
    assert_int_equal(list.len, 8);
    for (const struct lane *lane = list.head; lane != NULL; lane = lane->next) {
        assert_true(lane->window_ms >= before);
        before = lane->window_ms;
    }
    for (size_t i = 0; i < 8; i++)
        lane_free(lanes[i]);
    assert_int_equal(list.len, 0);
}

static void test_windows_of_a_worker_that_is_behind_last_longer(void **state)
{
    struct lane *lane = lane_new(BYTES("t"), &latest);
    struct lane *other = lane_new(BYTES("u"), &latest);

    (void)state;
    here.behind = true;
    (void)lane_gather_add(lane, new_entry(&here, 1), 1000);
    (void)lane_gather_add(other, new_entry(&elsewhere, 2), 1000);
    here.behind = false;
    assert_int_equal(lane->window_ms, 2500);
    assert_int_equal(other->window_ms, 1500);
    lane_forget(other, NULL, false);
    lane_free(other);
    end(lane);
}

static void test_carried_ids_count_as_open_until_they_are_released(void **state)
{
    struct lane *lane = lane_new(BYTES("t"), &latest);

    (void)state;
    for (uint64_t number = 0; number < 100; number++)
        (void)lane_gather_add(lane, new_entry(&here, number), 0);
    assert_int_equal(total.carried[ENTRY_GATHERED], 99);
    lane_forget(lane, &here, false);
    assert_int_equal(total.carried[ENTRY_GATHERED], 0);
    end(lane);
}

/* identity, received at, stream id. */
struct age {
    const char *identity;
    int64_t received_us;
    uint64_t id;
};

static struct entry entry_of(const struct age *age)
{
    struct entry entry = {.id = {age->id, 0}, .identity = bytes_of(age->identity)};

    entry.envelope.received_us = age->received_us;
    return entry;
}

static void test_newer_is_decided_by_sequence_then_receipt_then_dispatch(void **state)
{
    static const struct {
        struct age newer;
        struct age older;
    } rows[] = {
        {{SPOOL_A "-10", 1, 1}, {SPOOL_A "-9", 2, 2}},
        {{SPOOL_A "-1", 2, 1}, {SPOOL_B "-9", 1, 2}},
        {{SPOOL_A "-1", 0, 2}, {SPOOL_B "-9", 1, 1}},
        {{"anything", 0, 2}, {"else", 0, 1}},
        {{"7-1-01234567", 0, 1}, {"7-0-89abcdef", 0, 9}},
        {{"8-0-01234567", 0, 1}, {"", 0, 7}},
    };

    (void)state;
    for (size_t i = 0; i < LENGTH_OF(rows); i++) {
        struct entry newer = entry_of(&rows[i].newer), older = entry_of(&rows[i].older);

        if (!entry_is_newer(&newer, &older) || entry_is_newer(&older, &newer))
            fail_msg("row %zu", i);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_entries_leave_in_their_order),
        cmocka_unit_test(test_the_next_entry_starts_without_the_failures_of_the_last),
        cmocka_unit_test(test_a_lane_is_in_one_list_and_moves_to_its_end),
        cmocka_unit_test(test_entries_of_a_source_are_forgotten_and_others_keep_their_order),
        cmocka_unit_test(test_a_head_that_is_in_flight_stays),
        cmocka_unit_test(test_entries_beyond_the_limit_are_left_in_order),
        cmocka_unit_test(test_the_first_entry_is_set_aside_whatever_the_limit_is),
        cmocka_unit_test(test_entries_behind_a_lane_set_aside_are_set_aside_too),
        cmocka_unit_test(test_the_newest_entry_carries_those_before_it),
        cmocka_unit_test(test_a_value_that_comes_late_is_not_the_one_before),
        cmocka_unit_test(test_a_batch_is_carried_by_its_first_entry_until_it_is_full),
        cmocka_unit_test(test_a_batch_is_full_with_its_bytes),
        cmocka_unit_test(test_entries_of_two_sources_are_not_carried_together),
        cmocka_unit_test(test_a_value_that_waits_gives_way_to_a_newer_one),
        cmocka_unit_test(test_a_value_older_than_the_one_in_flight_is_carried_by_it),
        cmocka_unit_test(test_only_newest_values_carry_what_comes_late),
        cmocka_unit_test(test_all_batches_of_a_lane_are_left_in_their_order),
        cmocka_unit_test(test_the_value_before_the_newest_is_left_with_the_rest),
        cmocka_unit_test(test_the_value_before_is_read_again_and_carries_the_rest),
        cmocka_unit_test(test_a_value_before_that_is_gone_leaves_the_one_before_it),
        cmocka_unit_test(test_two_transports_leave_what_their_values_carry),
        cmocka_unit_test(test_entries_gathered_behind_a_lane_set_aside_are_aside_too),
        cmocka_unit_test(test_a_batch_that_goes_beyond_the_limit_is_left),
        cmocka_unit_test(test_failures_go_over_to_the_value_that_replaces_another),
        cmocka_unit_test(test_an_end_keeps_what_waits_and_does_not_send_it),
        cmocka_unit_test(test_lanes_stand_in_the_order_of_their_windows),
        cmocka_unit_test(test_windows_of_a_worker_that_is_behind_last_longer),
        cmocka_unit_test(test_carried_ids_count_as_open_until_they_are_released),
        cmocka_unit_test(test_newer_is_decided_by_sequence_then_receipt_then_dispatch),
    };

    return cmocka_run_group_tests_name("lane", tests, NULL, NULL);
}
