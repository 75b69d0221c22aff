/* What the spool takes on the disk: its limit, the water marks, retention, recycled segments, the spare. */
#include "spool_case.h"

/* Appends until it is refused; the number of the first that was. */
static int fill_up(struct spool_case *c, int first, size_t len, struct error *err)
{
    uint64_t sequence;
    int n = first;

    while (spool_case_try(c, n, len, &sequence, err) == 0)
        n++;
    return n;
}

static void test_a_full_spool_refuses_keeps_what_it_has_and_takes_again(void **state)
{
    struct spool_case *c = *state;
    struct error err;

    spool_case_open(c);
    int refused = fill_up(c, 1, 1000, &err);
    assert_int_equal(err.code, ERR_FULL);
    assert_true(refused > 3500);
    assert_true(spool_case_state(c).used_bytes <= 4 * MB);
    spool_commit(c->spool, spool_case_expect(c, 1, refused - 1));
    spool_case_expect_none(c);
    assert_int_equal(spool_case_append(c, refused, 1000), (uint64_t)refused);
    spool_case_reopen_killed(c);
    assert_true(spool_case_state(c).used_bytes <= 4 * MB);
}

static void test_above_high_water_the_reserve_still_takes_messages(void **state)
{
    struct spool_case *c = *state;
    struct error err;
    int n = 1;

    spool_case_open(c);
    while (!spool_above_high_water(c->spool)) {
        assert_true(n < 10000);
        spool_case_append(c, n++, 1000);
    }
    int refused = fill_up(c, n, 1000, &err);
    assert_int_equal(err.code, ERR_FULL);
    /* A quarter of so small a spool, but for the ends of segments. */
    assert_true((refused - n) * 1000 > 900 * KB);
    assert_true((refused - n) * 1000 <= 1 * MB);
}

static void test_water_falls_as_records_are_committed_and_is_never_both(void **state)
{
    struct spool_case *c = *state;
    struct spool_message message;
    uint64_t highest = 0;
    int n = 1, low_at = 0;

    spool_case_open(c);
    assert_true(spool_below_low_water(c->spool));
    while (!spool_above_high_water(c->spool))
        spool_case_append(c, n++, 1000);
    assert_false(spool_below_low_water(c->spool));
    for (int i = 1; i < n; i++) {
        assert_int_equal(spool_case_next(c, &message), i);
        spool_commit(c->spool, message.sequence);
        highest = message.sequence;
        bool low = spool_below_low_water(c->spool);
        assert_false(low && spool_above_high_water(c->spool));
        if (low && low_at == 0)
            low_at = i;
    }
    assert_int_equal(highest, n - 1);
    assert_true(spool_below_low_water(c->spool));
    assert_in_range(low_at, n / 2, n - 10);
}

static void test_large_messages_that_waste_space_raise_the_water_all_the_same(void **state)
{
    struct spool_case *c = *state;
    struct spool_message message;
    int n = 1;

    spool_case_open(c);
    while (!spool_above_high_water(c->spool)) {
        assert_true(n < 100);
        spool_case_append(c, n++, 150 * KB); /* one a segment of 256K */
    }
    assert_false(spool_below_low_water(c->spool));
    for (int i = 1; i < n; i++) {
        assert_int_equal(spool_case_next(c, &message), i);
        spool_commit(c->spool, message.sequence);
        assert_false(spool_below_low_water(c->spool) && spool_above_high_water(c->spool));
    }
    assert_true(spool_below_low_water(c->spool));
}

static void test_a_message_that_could_never_fit_is_told_from_a_full_spool(void **state)
{
    struct spool_case *c = *state;
    struct error err;
    uint64_t sequence;

    spool_case_open(c);
    assert_int_equal(spool_case_try(c, 1, 5 * MB, &sequence, &err), -ERR_TOO_LARGE);
    spool_case_append(c, 1, 10);
    spool_case_expect(c, 1, 1);
}

static void test_committed_records_are_kept_as_far_as_retain_says(void **state)
{
    struct spool_case *c = *state;
    struct spool_message message;

    spool_case_open(c);
    for (int n = 1; n <= 20000; n++) {
        spool_case_append(c, n, 1000);
        assert_int_equal(spool_case_next(c, &message), n);
        if (n % 100 == 0)
            spool_commit(c->spool, message.sequence);
    }
    int64_t kept =
        (int64_t)c->spool->shared.bytes - (int64_t)c->spool->reader.first->header.bytes_before;
    assert_in_range(kept, 1 * MB, 1 * MB + (int64_t)c->spool->segment_size);
    assert_true(spool_case_state(c).used_bytes <= 2 * MB);
}

static void test_segments_are_recycled_and_their_old_records_stay_dead(void **state)
{
    struct spool_case *c = *state;
    struct spool_message message;

    c->options.size = 1 * MB;
    c->options.retain = 0;
    spool_case_open(c);
    sys_fail(SYS_ALLOCATE, 1000000, 1, ENOSPC); /* only to count */
    for (int n = 1; n <= 20000; n++) {
        spool_case_append(c, n, 500);
        assert_int_equal(spool_case_next(c, &message), n);
        spool_commit(c->spool, message.sequence);
    }
    /* 180 segments were filled. */
    assert_in_range(sys_calls(SYS_ALLOCATE), 0, 3);
    sys_heal();
    for (int n = 20001; n <= 20003; n++)
        spool_case_append(c, n, 500);
    spool_case_reopen(c);
    spool_case_expect(c, 20001, 20003);
    spool_case_expect_none(c);
}

static void test_the_spare_is_made_by_the_reader_and_by_the_writer_if_it_is_late(void **state)
{
    struct spool_case *c = *state;
    int n = 1;

    spool_case_open(c);
    assert_int_equal(spool_case_files(c, "spare"), 1);
    sys_fail(SYS_ALLOCATE, 1000000, 1, ENOSPC); /* only to count */
    while (c->spool->writer.number < 2)
        spool_case_append(c, n++, 1000);
    assert_int_equal(sys_calls(SYS_ALLOCATE), 0);
    assert_int_equal(spool_case_files(c, "spare"), 0);
    while (c->spool->writer.number < 3)
        spool_case_append(c, n++, 1000);
    assert_int_equal(sys_calls(SYS_ALLOCATE), 1);
    spool_wake(c->spool);
    assert_int_equal(spool_case_files(c, "spare"), 1);
    assert_int_equal(sys_calls(SYS_ALLOCATE), 2);
    spool_case_expect(c, 1, n - 1);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, spool_case_begin, spool_case_end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_full_spool_refuses_keeps_what_it_has_and_takes_again),
        TEST(test_above_high_water_the_reserve_still_takes_messages),
        TEST(test_water_falls_as_records_are_committed_and_is_never_both),
        TEST(test_large_messages_that_waste_space_raise_the_water_all_the_same),
        TEST(test_a_message_that_could_never_fit_is_told_from_a_full_spool),
        TEST(test_committed_records_are_kept_as_far_as_retain_says),
        TEST(test_segments_are_recycled_and_their_old_records_stay_dead),
        TEST(test_the_spare_is_made_by_the_reader_and_by_the_writer_if_it_is_late),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
