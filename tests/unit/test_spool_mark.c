/* What a mark read from Redis means: doubt means repeat, never skip. */
#include "spool_case.h"

/* A new spool with messages 1 to `count`, of which Redis has the first `committed`. */
static void open_with(struct spool_case *c, int count, size_t len, int committed)
{
    spool_case_open(c);
    spool_case_fill(c, 1, count, len);
    spool_case_expect(c, 1, committed);
    if (committed > 0)
        spool_case_commit(c);
}

static void test_a_new_spool_is_in_step_with_an_absent_mark(void **state)
{
    struct spool_case *c = *state;

    spool_case_open(c);
    struct mark_result rewound = spool_apply_mark(c->spool, BYTES_NONE);
    assert_int_equal(rewound.kind, MARK_IN_STEP);
    assert_int_equal(rewound.position, 1);
    spool_case_fill(c, 1, 3, 100);
    rewound = spool_apply_mark(c->spool, BYTES_NONE);
    assert_int_equal(rewound.kind, MARK_IN_STEP);
    spool_case_expect(c, 1, 3);
}

static void test_a_mark_at_the_committed_position_sends_again_what_was_in_flight(void **state)
{
    struct spool_case *c = *state;

    open_with(c, 10, 100, 4);
    spool_case_expect(c, 5, 8);
    struct mark_result rewound = spool_case_rewind(c, c->spool->run, 4);
    assert_int_equal(rewound.kind, MARK_IN_STEP);
    assert_int_equal(rewound.position, 5);
    assert_int_equal(rewound.replayed, 0);
    spool_case_expect(c, 5, 10);
}

static void test_a_mark_ahead_after_a_lost_reply_commits_up_to_it(void **state)
{
    struct spool_case *c = *state;

    open_with(c, 10, 100, 4);
    spool_case_expect(c, 5, 8);
    struct mark_result rewound = spool_case_rewind(c, c->spool->run, 7);
    assert_int_equal(rewound.kind, MARK_AHEAD);
    assert_int_equal(rewound.position, 8);
    assert_int_equal(spool_case_state(c).unsent_records, 3);
    spool_case_expect(c, 8, 10);
}

static void test_a_redis_set_back_gets_what_it_lost(void **state)
{
    struct spool_case *c = *state;

    open_with(c, 1000, 1000, 1000);
    struct mark_result rewound = spool_case_rewind(c, c->spool->run, 599);
    assert_int_equal(rewound.kind, MARK_BEHIND);
    assert_int_equal(rewound.position, 600);
    assert_int_equal(rewound.replayed, 401);
    assert_int_equal(spool_case_state(c).unsent_records, 401);
    spool_case_expect(c, 600, 1000);
    spool_case_commit(c);
    assert_int_equal(spool_case_rewind(c, c->spool->run, 1000).kind, MARK_IN_STEP);
}

static void test_replay_reaches_records_of_former_runs(void **state)
{
    struct spool_case *c = *state;
    struct record message;

    open_with(c, 10, 100, 10);
    uint64_t first_run = c->spool->run;
    spool_case_reopen(c);
    spool_case_fill(c, 11, 20, 100);
    spool_case_expect(c, 11, 20);
    spool_case_commit(c);
    spool_case_reopen_killed(c);
    struct mark_result rewound = spool_case_rewind(c, first_run, 5);
    assert_int_equal(rewound.kind, MARK_BEHIND);
    assert_int_equal(rewound.position, 6);
    assert_int_equal(spool_case_next(c, &message), 6);
    assert_int_equal(message.run, first_run);
    spool_case_expect(c, 7, 20);
    /* The mark at the very end of a run. */
    assert_int_equal(spool_case_rewind(c, first_run, 10).position, 11);
    spool_case_expect(c, 11, 20);
}

static void test_a_flushed_redis_gets_all_that_is_kept(void **state)
{
    struct spool_case *c = *state;

    open_with(c, 100, 1000, 60);
    struct mark_result rewound = spool_apply_mark(c->spool, BYTES_NONE);
    assert_int_equal(rewound.kind, MARK_BEHIND);
    assert_int_equal(rewound.position, 1);
    assert_int_equal(rewound.replayed, 60);
    spool_case_expect(c, 1, 100);
}

/* Commits n messages of 1000 bytes, more than are kept. Returns the number of the oldest kept. */
static int commit_more_than_is_kept(struct spool_case *c, int n)
{
    struct record message = {0};

    for (int i = 1; i <= n; i++) {
        spool_case_append(c, i, 1000);
        assert_int_equal(spool_case_next(c, &message), i);
        spool_case_commit(c);
    }
    return (int)c->spool->reader.first->header.records_before + 1;
}

static void test_a_mark_below_the_kept_records_is_a_gap_with_its_size(void **state)
{
    struct spool_case *c = *state;

    spool_case_open(c);
    int oldest = commit_more_than_is_kept(c, 5000);
    assert_in_range(oldest, 3000, 4000);
    struct mark_result rewound = spool_case_rewind(c, c->spool->run, 1000);
    assert_int_equal(rewound.kind, MARK_GAP);
    assert_int_equal(rewound.missing, oldest - 1001);
    assert_int_equal(rewound.position, oldest);
    spool_case_expect(c, oldest, 5000);
    rewound = spool_apply_mark(c->spool, BYTES_NONE);
    assert_int_equal(rewound.kind, MARK_GAP);
    assert_int_equal(rewound.missing, oldest - 1);
    /* Just what was freed, and nothing more. */
    spool_case_expect(c, oldest, oldest + 10);
    spool_case_commit(c);
    rewound = spool_case_rewind(c, c->spool->run, (uint64_t)oldest - 1);
    assert_int_equal(rewound.kind, MARK_BEHIND);
    assert_int_equal(rewound.missing, 0);
    spool_case_expect(c, oldest, 5000);
}

static void test_records_lost_by_redis_are_unsent_after_a_kill_too(void **state)
{
    struct spool_case *c = *state;

    spool_case_open(c);
    int oldest = commit_more_than_is_kept(c, 5000);
    assert_int_equal(spool_case_rewind(c, c->spool->run, 4500).kind, MARK_BEHIND);
    spool_case_reopen_killed(c);
    assert_int_equal(spool_case_state(c).unsent_records, 500);
    /* All of it: the next server gets everything that is kept. */
    assert_int_equal(spool_apply_mark(c->spool, BYTES_NONE).kind, MARK_GAP);
    spool_case_reopen_killed(c);
    assert_int_equal(spool_case_state(c).unsent_records, 5001 - oldest);
    spool_redirect(c->spool);
    assert_int_equal(spool_apply_mark(c->spool, BYTES_NONE).missing, 0);
    spool_case_expect(c, oldest, 5000);
}

static void test_a_mark_of_a_run_with_no_kept_record_is_a_gap(void **state)
{
    struct spool_case *c = *state;

    open_with(c, 10, 100, 10);
    uint64_t first_run = c->spool->run;
    spool_case_reopen(c);
    struct record message;
    for (int n = 11; n <= 5000; n++) {
        spool_case_append(c, n, 1000);
        assert_int_equal(spool_case_next(c, &message), n);
        spool_case_commit(c);
    }
    uint64_t oldest = c->spool->reader.first->header.records_before + 1;
    struct mark_result rewound = spool_case_rewind(c, first_run, 4);
    assert_int_equal(rewound.kind, MARK_GAP);
    assert_int_equal(rewound.missing, oldest - 5);
}

/* Returns the sequence of message 11. */
static uint64_t check_unknown(struct spool_case *c, struct bytes mark, uint64_t next_sequence)
{
    struct mark_result rewound = spool_apply_mark(c->spool, mark);

    assert_int_equal(rewound.kind, MARK_UNKNOWN_RUN);
    assert_int_equal(rewound.position, 1);
    spool_case_expect(c, 1, 10);
    /* At random above: a copy of this spool goes on somewhere else. */
    uint64_t sequence = spool_case_append(c, 11, 100);
    assert_in_range(sequence, next_sequence, next_sequence + (UINT64_C(1) << 31));
    spool_case_expect(c, 11, 11);
    spool_case_expect_none(c);
    return sequence;
}

static void test_a_mark_above_our_last_sends_all_and_goes_on_above_both(void **state)
{
    struct spool_case *c = *state;
    char mark[40];

    open_with(c, 10, 100, 10);
    spool_mark_text(c->spool->run, 500, mark);
    uint64_t sequence = check_unknown(c, bytes_of(mark), 501);
    /* And that holds after the next start. */
    spool_case_reopen_killed(c);
    assert_int_equal(spool_case_append(c, 12, 100), sequence + 1);
    spool_apply_mark(c->spool, BYTES_NONE);
    spool_case_expect(c, 1, 12);
}

static void test_a_mark_of_an_unknown_run_sends_all(void **state)
{
    struct spool_case *c = *state;

    open_with(c, 10, 100, 5);
    check_unknown(c, BYTES("0123456789abcdef:7"), 11);
}

static void test_a_malformed_mark_sends_all(void **state)
{
    static const char *const marks[] = {"x",
                                        ":",
                                        "0123456789abcdef",
                                        "0123456789abcdef:",
                                        "0123456789ABCDEF:1",
                                        "0123456789abcdef:-1",
                                        "0123456789abcdef:99999999999999999999",
                                        "123:1",
                                        "0123456789abcdef:18446744073709551615"};

    for (size_t i = 0; i < LENGTH_OF(marks); i++) {
        spool_case_begin(state);
        struct spool_case *c = *state;
        spool_case_open(c);
        spool_case_fill(c, 1, 10, 100);
        spool_case_expect(c, 1, 5);
        spool_case_commit(c);
        check_unknown(c, bytes_of(marks[i]), 11);
        spool_case_end(state);
    }
}

static void test_a_mark_text_reads_back(void **state)
{
    (void)state;
    char mark[40];

    spool_mark_text(0xAB, 12, mark);
    assert_string_equal(mark, "00000000000000ab:12");
    spool_mark_text(UINT64_MAX, UINT64_MAX, mark);
    assert_string_equal(mark, "ffffffffffffffff:18446744073709551615");
}

static void test_replies_from_before_a_rewind_commit_nothing(void **state)
{
    struct spool_case *c = *state;

    open_with(c, 10, 100, 0);
    spool_case_expect(c, 1, 10);
    struct spool_position position = spool_position(c->spool);
    spool_case_rewind(c, c->spool->run, 3);
    spool_commit(c->spool, &position);
    assert_int_equal(spool_case_state(c).unsent_records, 7);
    spool_case_expect(c, 4, 10);
}

static void test_a_mark_inside_damage_repeats_nothing_that_it_covers(void **state)
{
    struct spool_case *c = *state;
    struct record message;
    uint64_t record = RECORD_HEAD_SIZE + 19 + 100 + 1;

    open_with(c, 10, 100, 0);
    spool_case_damage(c, 1, SEGMENT_HEADER_SIZE + 4 * record + 10, record); /* 5 and 6 */
    struct mark_result rewound = spool_case_rewind(c, c->spool->run, 5);
    assert_int_equal(rewound.kind, MARK_AHEAD);
    assert_int_equal(spool_case_next(c, &message), -ERR_FORMAT);
    spool_case_expect(c, 7, 10);
}

static void test_a_spool_keeps_the_destination_of_its_segments(void **state)
{
    struct spool_case *c = *state;

    open_with(c, 10, 100, 0);
    c->options.destination = "redis://127.0.0.1:6379/other";
    spool_case_reopen(c);
    spool_case_reopen(c);
    assert_string_equal(spool_destination(c->spool), "redis://127.0.0.1:6379/messages");
}

static void test_a_mark_of_ours_is_known_wherever_it_is_read(void **state)
{
    struct spool_case *c = *state;
    char mark[40];

    open_with(c, 10, 100, 0);
    uint64_t run = c->spool->run;
    spool_case_reopen(c);
    spool_mark_text(run, 4, mark);
    assert_true(spool_knows_mark(c->spool, bytes_of(mark)));
    spool_mark_text(run, 11, mark);
    assert_false(spool_knows_mark(c->spool, bytes_of(mark)));
    spool_mark_text(run + 1, 4, mark);
    assert_false(spool_knows_mark(c->spool, bytes_of(mark)));
    assert_false(spool_knows_mark(c->spool, BYTES_NONE));
    assert_false(spool_knows_mark(c->spool, BYTES("nonsense")));
}

static void test_a_redirected_spool_gives_what_is_not_committed(void **state)
{
    struct spool_case *c = *state;

    open_with(c, 10, 100, 6);
    spool_case_reopen(c);
    spool_redirect(c->spool);
    struct mark_result result = spool_apply_mark(c->spool, BYTES_NONE);
    assert_int_equal(result.kind, MARK_IN_STEP);
    assert_int_equal(result.position, 7);
    spool_case_expect(c, 7, 9);
    spool_case_commit(c);
    assert_int_equal(spool_apply_mark(c->spool, BYTES_NONE).position, 7);
    spool_case_expect(c, 7, 10);
}

static void test_a_second_foreign_mark_gives_a_copy_its_own_mark_and_sequences(void **state)
{
    struct spool_case *c = *state;
    char id[64];

    spool_case_open(c);
    strcpy(id, spool_mark_id(c->spool));
    assert_string_equal(id, spool_id(c->spool));
    spool_case_fill(c, 1, 10, 100);
    assert_int_equal(spool_apply_mark(c->spool, BYTES("0123456789abcdef:12")).kind,
                     MARK_UNKNOWN_RUN);
    /* The same one again: nothing of ours has got there since. */
    assert_int_equal(spool_apply_mark(c->spool, BYTES("0123456789abcdef:12")).kind,
                     MARK_UNKNOWN_RUN);
    assert_int_equal(spool_apply_mark(c->spool, BYTES("0123456789abcdef:15")).kind, MARK_COPIED);
    assert_string_not_equal(spool_mark_id(c->spool), id);
    assert_true(strlen(spool_mark_id(c->spool)) < 64);
    assert_int_equal(spool_apply_mark(c->spool, BYTES_NONE).missing, 0);
    spool_case_expect(c, 1, 10);
    spool_case_commit(c);
    /* And that outlives a kill, before anything was appended. */
    strcpy(id, spool_mark_id(c->spool));
    spool_case_reopen_killed(c);
    assert_string_equal(spool_mark_id(c->spool), id);
    assert_int_equal(spool_apply_mark(c->spool, BYTES_NONE).missing, 0);
    uint64_t sequence = spool_case_append(c, 11, 100);
    assert_true(sequence > UINT64_C(1) << 40);
    assert_true(sequence < UINT64_C(1) << 53); /* a number in JavaScript */
    spool_case_reopen_killed(c);
    assert_string_equal(spool_mark_id(c->spool), id);
    assert_int_equal(spool_case_append(c, 12, 100), sequence + 1);
}

static void test_after_a_reboot_no_sequence_is_given_twice(void **state)
{
    struct spool_case *c = *state;

    open_with(c, 10, 100, 0);
    reader_discover_segments(c->spool);
    /* The header says that another kernel ran then; what it had not written is gone: 6 to 10. */
    struct segment_header header = c->spool->reader.first->header;
    memset(header.boot_id, 7, 16);
    int fd = spool_case_file(c, 1, O_RDWR);
    struct error err;
    assert_int_equal(segment_write_header(fd, &header, &err), 0);
    uint64_t run = c->spool->run;
    assert_int_equal(ftruncate(fd, SEGMENT_HEADER_SIZE + 5 * (RECORD_HEAD_SIZE + 120)), 0);
    close(fd);
    spool_case_reopen_killed(c);
    uint64_t sequence = spool_case_append(c, 11, 100);
    assert_int_equal(sequence, 1000000006);
    assert_int_equal(spool_case_state(c).unsent_records, 6);

    /* Redis had got them all: the spool is older than its mark. */
    struct mark_result rewound = spool_case_rewind(c, run, 10);
    assert_int_equal(rewound.kind, MARK_UNKNOWN_RUN);
    spool_case_expect(c, 1, 5);
    spool_case_expect(c, 11, 11);
    spool_case_reopen_killed(c);
    /* No reboot, no skip by it: what the unknown mark has raised is kept. */
    assert_in_range(spool_case_append(c, 12, 100), sequence + 1, sequence + (UINT64_C(1) << 31));
    assert_int_equal(spool_case_state(c).damaged_records, 0);
    assert_int_equal(spool_case_rewind(c, run, 2).kind, MARK_AHEAD);
    spool_case_expect(c, 3, 5);
    spool_case_expect(c, 11, 12);
}

static void test_a_reboot_skips_sequences_once(void **state)
{
    struct spool_case *c = *state;

    open_with(c, 10, 100, 0);
    spool_case_reboot(c);
    spool_case_reopen_killed(c);
    spool_case_reopen(c);
    spool_case_reopen(c);
    assert_int_equal(spool_case_append(c, 11, 100), 1000000011);
    spool_case_reboot(c);
    assert_int_equal(spool_case_append(c, 12, 100), 2000000012);
}

static void test_an_unknown_mark_does_not_undo_the_skip_of_a_reboot(void **state)
{
    struct spool_case *c = *state;

    open_with(c, 10, 100, 0);
    spool_case_reboot(c);
    writer_skip_to(c->spool, 500);
    assert_int_equal(spool_case_append(c, 11, 100), 1000000011);
}

static void test_an_empty_segment_does_not_change_which_message_was_last(void **state)
{
    struct spool_case *c = *state;

    open_with(c, 10, 100, 0);
    assert_int_equal(spool_case_rewind(c, 0x1234, 500).kind, MARK_UNKNOWN_RUN);
    spool_case_reopen_killed(c);
    assert_int_equal(spool_case_state(c).last_sequence, 10);
    assert_true(spool_case_append(c, 11, 100) > 500);
    reader_discover_segments(c->spool);
    assert_int_equal(c->spool->reader.last->header.previous_sequence, 10);
}

static void test_after_a_reboot_nothing_is_missing_that_was_freed_in_good_order(void **state)
{
    struct spool_case *c = *state;
    struct record message;

    c->options.retain = 0;
    open_with(c, 10, 100, 10);
    uint64_t run = c->spool->run;
    spool_case_reboot(c);
    for (int n = 11; n <= 1000; n++) {
        spool_case_append(c, n, 1000);
        if (n > 900)
            continue;
        assert_int_equal(spool_case_next(c, &message), n);
        spool_case_commit(c);
    }
    /* All but the last are gone, and the mark of the former boot is behind a skip of numbers. */
    assert_true(c->spool->reader.first->header.number > 2);
    uint64_t kept = c->spool->reader.first->header.records_before;
    struct mark_result result = spool_case_rewind(c, run, 10);
    assert_int_equal(result.kind, MARK_GAP);
    assert_int_equal(result.missing, kept); /* at most */
    spool_case_reopen(c);
    result = spool_case_rewind(c, run, c->spool->reader.first->header.previous_sequence);
    assert_int_not_equal(result.kind, MARK_GAP);
    assert_int_equal(result.missing, 0);
}

static void test_a_mark_just_below_a_skip_of_numbers_misses_nothing(void **state)
{
    struct spool_case *c = *state;

    c->options.retain = 0;
    open_with(c, 10, 100, 10);
    uint64_t run = c->spool->run;
    spool_case_reboot(c);
    assert_true(spool_case_append(c, 11, 100) > 1000000000);
    spool_case_rewind(c, run, 10);
    spool_case_expect(c, 11, 11);
    spool_case_commit(c);
    assert_int_equal(c->spool->reader.first->header.number, 2);
    struct mark_result result = spool_case_rewind(c, run, 10);
    assert_int_equal(result.kind, MARK_BEHIND);
    assert_int_equal(result.missing, 0);
    spool_case_expect(c, 11, 11);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, spool_case_begin, spool_case_end)

int main(void)
{
    log_open(&(struct log_options){.level = LOG_LEVEL_ERROR, .fd = 2});
    const struct CMUnitTest tests[] = {
        TEST(test_a_new_spool_is_in_step_with_an_absent_mark),
        TEST(test_a_mark_at_the_committed_position_sends_again_what_was_in_flight),
        TEST(test_a_mark_ahead_after_a_lost_reply_commits_up_to_it),
        TEST(test_a_redis_set_back_gets_what_it_lost),
        TEST(test_replay_reaches_records_of_former_runs),
        TEST(test_a_flushed_redis_gets_all_that_is_kept),
        TEST(test_a_mark_below_the_kept_records_is_a_gap_with_its_size),
        TEST(test_records_lost_by_redis_are_unsent_after_a_kill_too),
        TEST(test_a_mark_of_a_run_with_no_kept_record_is_a_gap),
        TEST(test_a_mark_above_our_last_sends_all_and_goes_on_above_both),
        TEST(test_a_mark_of_an_unknown_run_sends_all),
        cmocka_unit_test(test_a_malformed_mark_sends_all),
        cmocka_unit_test(test_a_mark_text_reads_back),
        TEST(test_replies_from_before_a_rewind_commit_nothing),
        TEST(test_a_mark_inside_damage_repeats_nothing_that_it_covers),
        TEST(test_a_spool_keeps_the_destination_of_its_segments),
        TEST(test_a_mark_of_ours_is_known_wherever_it_is_read),
        TEST(test_a_redirected_spool_gives_what_is_not_committed),
        TEST(test_a_second_foreign_mark_gives_a_copy_its_own_mark_and_sequences),
        TEST(test_after_a_reboot_no_sequence_is_given_twice),
        TEST(test_a_reboot_skips_sequences_once),
        TEST(test_an_unknown_mark_does_not_undo_the_skip_of_a_reboot),
        TEST(test_an_empty_segment_does_not_change_which_message_was_last),
        TEST(test_after_a_reboot_nothing_is_missing_that_was_freed_in_good_order),
        TEST(test_a_mark_just_below_a_skip_of_numbers_misses_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
