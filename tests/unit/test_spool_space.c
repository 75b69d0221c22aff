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
    spool_case_expect(c, 1, refused - 1);
    spool_case_commit(c);
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
    struct record message;
    uint64_t highest = 0;
    int n = 1, low_at = 0;

    spool_case_open(c);
    assert_true(spool_below_low_water(c->spool));
    while (!spool_above_high_water(c->spool))
        spool_case_append(c, n++, 1000);
    assert_false(spool_below_low_water(c->spool));
    for (int i = 1; i < n; i++) {
        assert_int_equal(spool_case_next(c, &message), i);
        spool_case_commit(c);
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
    struct record message;
    int n = 1;

    spool_case_open(c);
    while (!spool_above_high_water(c->spool)) {
        assert_true(n < 100);
        spool_case_append(c, n++, 150 * KB); /* one a segment of 256K */
    }
    assert_false(spool_below_low_water(c->spool));
    for (int i = 1; i < n; i++) {
        assert_int_equal(spool_case_next(c, &message), i);
        spool_case_commit(c);
        assert_false(spool_below_low_water(c->spool) && spool_above_high_water(c->spool));
    }
    assert_true(spool_below_low_water(c->spool));
}

static void test_committed_records_are_kept_as_far_as_retain_says(void **state)
{
    struct spool_case *c = *state;
    struct record message;

    spool_case_open(c);
    for (int n = 1; n <= 20000; n++) {
        spool_case_append(c, n, 1000);
        assert_int_equal(spool_case_next(c, &message), n);
        if (n % 100 == 0)
            spool_case_commit(c);
    }
    int64_t kept =
        (int64_t)c->spool->shared.bytes - (int64_t)c->spool->reader.first->header.bytes_before;
    assert_in_range(kept, 1 * MB, 1 * MB + (int64_t)c->spool->segment_size);
    assert_true(spool_case_state(c).used_bytes <= 2 * MB);
}

static void test_segments_are_recycled_and_their_old_records_stay_dead(void **state)
{
    struct spool_case *c = *state;
    struct record message;

    c->options.size = 1 * MB;
    c->options.retain = 0;
    spool_case_open(c);
    sys_fail(SYS_ALLOCATE, 1000000, 1, ENOSPC); /* only to count */
    for (int n = 1; n <= 20000; n++) {
        spool_case_append(c, n, 500);
        assert_int_equal(spool_case_next(c, &message), n);
        spool_case_commit(c);
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
    spool_case_append(c, n++, 1000);
    assert_int_equal(sys_calls(SYS_ALLOCATE), 0);
    assert_int_equal(spool_case_files(c, "spare"), 0);
    spool_disarm_wakeup(c->spool);
    assert_int_equal(spool_case_files(c, "spare"), 1);
    while (c->spool->writer.number < 2)
        spool_case_append(c, n++, 1000);
    assert_int_equal(sys_calls(SYS_ALLOCATE), 1);
    assert_int_equal(spool_case_files(c, "spare"), 0);
    while (c->spool->writer.number < 3)
        spool_case_append(c, n++, 1000);
    assert_int_equal(sys_calls(SYS_ALLOCATE), 2);
    spool_disarm_wakeup(c->spool);
    assert_int_equal(spool_case_files(c, "spare"), 1);
    assert_int_equal(sys_calls(SYS_ALLOCATE), 3);
    spool_case_expect(c, 1, n - 1);
}

/* Appends, reads and commits each; with nothing unsent there must always be room for more. */
static int commit_each(struct spool_case *c, int n, int count, size_t len)
{
    struct record message;

    for (int i = 0; i < count; i++, n++) {
        uint64_t sequence = spool_case_append(c, n, len);

        assert_true(spool_case_next(c, &message) >= 0);
        assert_int_equal(message.sequence, sequence);
        spool_case_commit(c);
        assert_false(spool_above_high_water(c->spool));
        assert_true(spool_below_low_water(c->spool));
    }
    return n;
}

static void test_with_all_committed_there_is_room_whatever_the_size_of_records(void **state)
{
    struct spool_case *c = *state;
    const size_t sizes[] = {1000, 60 * KB, 300 * KB, 600 * KB, 1050 * KB, 1900 * KB};

    c->options.size = 16 * MB;
    c->options.retain = 6 * MB;
    for (size_t i = 0; i < 2 * LENGTH_OF(sizes); i++) {
        c->options.largest_message = i % 2 == 0 ? 0 : 2 * MB;
        spool_case_open(c);
        spool_apply_mark(c->spool, BYTES_NONE);
        int n = commit_each(c, 1, 7, sizes[i / 2]);
        commit_each(c, n, 10 * MB / (int)sizes[i / 2], sizes[i / 2]);
        spool_case_close(c);
        spool_case_clear(c->dir);
    }
}

static void test_a_size_that_was_lowered_gives_up_what_is_retained_not_the_broker(void **state)
{
    struct spool_case *c = *state;

    c->options.size = 64 * MB;
    c->options.retain = 16 * MB;
    spool_case_open(c);
    uint64_t run = c->spool->run;
    commit_each(c, 1, 200, 60 * KB);
    spool_case_close(c);
    c->options.size = 8 * MB;
    spool_case_open(c);
    /* Redis may yet say that it needs what is retained. */
    assert_true(spool_above_high_water(c->spool));
    assert_int_equal(c->spool->reader.first->header.number, 1);
    assert_int_equal(spool_case_rewind(c, run, 200).kind, MARK_IN_STEP);
    assert_false(spool_above_high_water(c->spool));
    assert_true(spool_below_low_water(c->spool));
    assert_true(spool_case_state(c).used_bytes <= 8 * MB);
}

static void test_retained_records_stay_while_unsent_messages_fill_the_spool(void **state)
{
    struct spool_case *c = *state;

    c->options.size = 16 * MB;
    c->options.retain = 6 * MB;
    spool_case_open(c);
    spool_apply_mark(c->spool, BYTES_NONE);
    int n = commit_each(c, 1, 60, 60 * KB);
    while (!spool_above_high_water(c->spool))
        spool_case_append(c, n++, 60 * KB);
    assert_int_equal(c->spool->reader.first->header.number, 1);
    assert_int_equal(spool_apply_mark(c->spool, BYTES_NONE).kind, MARK_BEHIND);
    spool_case_expect(c, 1, n - 1);
    spool_case_commit(c);
    assert_false(spool_above_high_water(c->spool));
}

static void test_a_mark_ahead_of_us_frees_what_it_commits(void **state)
{
    struct spool_case *c = *state;
    int n = 1;

    spool_case_open(c);
    while (!spool_above_high_water(c->spool))
        spool_case_append(c, n++, 1000);
    uint64_t used = spool_case_state(c).used_bytes;
    uint64_t last = spool_case_state(c).last_sequence;
    assert_int_equal(spool_case_rewind(c, c->spool->run, last).kind, MARK_AHEAD);
    assert_true(spool_case_state(c).used_bytes < used);
    assert_true(spool_below_low_water(c->spool));
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, spool_case_begin, spool_case_end)

int main(void)
{
    log_open(&(struct log_options){.level = LOG_LEVEL_ERROR, .fd = 2});
    const struct CMUnitTest tests[] = {
        TEST(test_a_full_spool_refuses_keeps_what_it_has_and_takes_again),
        TEST(test_above_high_water_the_reserve_still_takes_messages),
        TEST(test_water_falls_as_records_are_committed_and_is_never_both),
        TEST(test_large_messages_that_waste_space_raise_the_water_all_the_same),
        TEST(test_committed_records_are_kept_as_far_as_retain_says),
        TEST(test_segments_are_recycled_and_their_old_records_stay_dead),
        TEST(test_the_spare_is_made_by_the_reader_and_by_the_writer_if_it_is_late),
        TEST(test_with_all_committed_there_is_room_whatever_the_size_of_records),
        TEST(test_a_size_that_was_lowered_gives_up_what_is_retained_not_the_broker),
        TEST(test_retained_records_stay_while_unsent_messages_fill_the_spool),
        TEST(test_a_mark_ahead_of_us_frees_what_it_commits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
