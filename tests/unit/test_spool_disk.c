/* A disk that refuses, tears, forgets or can't read: what the spool makes of it; and when it syncs. */
#include "spool_case.h"

#include <pthread.h>

static void check_after_failed_append(struct spool_case *c)
{
    sys_heal();
    spool_case_fill(c, 4, 6, 100);
    spool_case_expect(c, 1, 6);
    spool_case_expect_none(c);
    spool_case_reopen_killed(c);
    spool_case_expect(c, 1, 6);
    assert_int_equal(spool_case_state(c).damaged_records, 0);
}

static void test_a_short_write_is_cut_back_and_nothing_was_stored(void **state)
{
    struct spool_case *c = *state;
    struct error err;
    uint64_t sequence;

    spool_case_open(c);
    spool_case_fill(c, 1, 3, 100);
    uint64_t tail = c->spool->writer.offset;
    sys_cut_write(1, 70);
    assert_int_equal(spool_case_try(c, 99, 100, &sequence, &err), -ERR_SYSTEM);
    struct stat status;
    int fd = spool_case_file(c, 1, O_RDONLY);
    fstat(fd, &status);
    close(fd);
    assert_int_equal(status.st_size, tail);
    check_after_failed_append(c);
}

static void test_a_short_write_that_cannot_be_cut_back_is_no_message_either(void **state)
{
    struct spool_case *c = *state;
    struct error err;
    uint64_t sequence;

    spool_case_open(c);
    spool_case_fill(c, 1, 3, 100);
    sys_fail(SYS_TRUNCATE, 1, 1, EIO);
    sys_cut_write(1, 70);
    assert_int_equal(spool_case_try(c, 99, 100, &sequence, &err), -ERR_SYSTEM);
    check_after_failed_append(c);
}

static void test_a_failed_write_is_no_message_and_says_why(void **state)
{
    struct spool_case *c = *state;
    struct error err;
    uint64_t sequence;

    spool_case_open(c);
    spool_case_fill(c, 1, 3, 100);
    sys_fail(SYS_WRITE, 1, 1, EIO);
    assert_int_equal(spool_case_try(c, 99, 100, &sequence, &err), -ERR_SYSTEM);
    assert_non_null(strstr(err.text, "Input/output error"));
    assert_non_null(strstr(err.text, c->dir));
    check_after_failed_append(c);
}

/* A snapshot is saved at any moment. A message that is in no segment must not be in it, or a repeat of the message
 * would be taken for stored. */
static void test_a_message_that_could_not_be_written_is_not_remembered(void **state)
{
    struct spool_case *c = *state;
    struct record message = {
        .qos = 2, .packet_id = 7, .topic = BYTES("a"), .payload = BYTES("payload")};
    struct spool_recent recent;
    struct error err;

    spool_case_open(c);
    spool_case_fill(c, 1, 3, 100);
    sys_fail(SYS_WRITE, 1, 1, EIO);
    assert_int_equal(spool_append(c->spool, &message, &err), -ERR_SYSTEM);
    assert_false(spool_find_recent(c->spool, &message, &recent));
    spool_case_reopen(c);
    assert_false(spool_find_recent(c->spool, &message, &recent));
    message.identity = 0;
    assert_int_equal(spool_append(c->spool, &message, &err), 0);
    assert_true(spool_find_recent(c->spool, &message, &recent));
    assert_true(recent.unreleased);
}

/* Each call that beginning a segment makes, failing in turn. */
static void test_no_failure_at_the_change_of_segments_loses_a_message(void **state)
{
    struct spool_case *c = *state;

    const struct {
        enum sys_call call;
        int nth;
    } faults[] = {
        {SYS_OPEN, 1}, {SYS_ALLOCATE, 1}, {SYS_WRITE, 1}, {SYS_WRITE, 2}, {SYS_RENAME, 1}};
    struct error err;
    uint64_t sequence;
    int n = 1;

    c->options.size = 16 * MB;
    spool_case_open(c);
    for (size_t i = 0; i < LENGTH_OF(faults); i++) {
        uint64_t room = c->spool->segment_size - c->spool->writer.offset;

        while (room > 1100) {
            spool_case_append(c, n++, 1000);
            room = c->spool->segment_size - c->spool->writer.offset;
        }
        sys_fail(faults[i].call, faults[i].nth, 1, ENOSPC);
        int result = spool_case_try(c, n, 2000, &sequence, &err);
        /* With a spare at hand nothing is opened or reserved. */
        if (result == 0)
            n++;
        else
            assert_int_equal(result, -ERR_SYSTEM);
        sys_heal();
        spool_case_append(c, n++, 2000);
    }
    spool_case_expect(c, 1, n - 1);
    spool_case_reopen_killed(c);
    spool_case_expect(c, 1, n - 1);
    spool_case_expect_none(c);
}

static int append_until_high_water(struct spool_case *c, int n)
{
    while (!spool_above_high_water(c->spool)) {
        assert_true(n < 10000);
        spool_case_append(c, n++, 1000);
    }
    return n;
}

static void test_a_disk_with_room_for_one_segment_is_at_high_water_in_time(void **state)
{
    struct spool_case *c = *state;
    struct error err;
    uint64_t sequence;

    sys_fail(SYS_ALLOCATE, 2, 1000, ENOSPC); /* the first segment, but no spare */
    spool_case_open(c);
    assert_true(spool_below_low_water(c->spool));
    int n = append_until_high_water(c, 1);
    assert_in_range(n, 150, 200); /* three quarters of 256K */
    for (int i = 0; i < 50; i++)
        spool_case_append(c, n++, 1000); /* the reserve */
    while (spool_case_try(c, n, 1000, &sequence, &err) == 0)
        n++;
    assert_int_equal(err.code, ERR_SYSTEM);
    sys_heal();
    c->spool->reader.spare_retry_ms = 0;
    assert_true(spool_below_low_water(c->spool));
    spool_case_append(c, n, 1000);
    spool_case_expect(c, 1, n);
}

/* From then on the disk has room for what is there, and for no other file. */
static void test_a_disk_that_holds_one_segment_reuses_it_when_all_is_committed(void **state)
{
    struct spool_case *c = *state;
    int n = 1;

    sys_fail(SYS_ALLOCATE, 2, 1000000, ENOSPC);
    spool_case_open(c);
    spool_apply_mark(c->spool, BYTES_NONE);
    for (int round = 0; round < 20; round++) {
        int first = n;

        n = append_until_high_water(c, n);
        assert_true(n > first + 100);
        for (int i = 0; i < 20; i++)
            spool_case_append(c, n++, 1000);
        spool_case_expect(c, first, n - 1);
        assert_false(spool_below_low_water(c->spool));
        spool_case_commit(c);
        assert_true(spool_below_low_water(c->spool));
        assert_int_equal(spool_case_files(c, ".segment"), 1);
    }
    sys_heal();
    spool_case_reopen_killed(c);
    assert_int_equal(spool_case_state(c).damaged_records, 0);
    assert_int_equal(spool_case_append(c, n, 100), (uint64_t)n);
}

static void test_a_raised_sequence_outlives_the_reuse_of_its_segment(void **state)
{
    struct spool_case *c = *state;
    uint64_t floor;

    sys_fail(SYS_ALLOCATE, 2, 1000000, ENOSPC);
    spool_case_open(c);
    int n = append_until_high_water(c, 1);
    assert_int_equal(spool_case_rewind(c, 0x1234, 1000000).kind, MARK_UNKNOWN_RUN);
    floor = c->spool->writer.next_sequence;
    assert_true(floor > 1000000);
    spool_case_expect(c, 1, n - 1);
    spool_case_commit(c);
    assert_true(spool_below_low_water(c->spool));
    assert_int_equal(c->spool->reader.first->header.first_sequence, floor);
    assert_true(spool_case_append(c, n, 100) >= floor);
}

#define THREAD_MESSAGES 5000

static void *append_as_there_is_room(void *context)
{
    struct error err;
    uint64_t sequence;

    for (int n = 1; n <= THREAD_MESSAGES; n++)
        while (spool_case_try(context, n, 1000, &sequence, &err) < 0)
            usleep(100);
    return NULL;
}

static void test_the_last_segment_is_used_again_while_messages_come(void **state)
{
    struct spool_case *c = *state;
    struct record message;
    pthread_t writer;
    int read = 0;

    sys_fail(SYS_ALLOCATE, 2, 1000000, ENOSPC);
    spool_case_open(c);
    spool_apply_mark(c->spool, BYTES_NONE);
    assert_int_equal(pthread_create(&writer, NULL, append_as_there_is_room, c), 0);
    while (read < THREAD_MESSAGES) {
        int next = spool_case_next(c, &message);

        if (next > 0)
            assert_int_equal(next, ++read);
        assert_true(next >= 0);
        spool_case_commit(c);
        spool_above_high_water(c->spool);
        c->spool->reader.reuse_retry_ms = 0;
    }
    pthread_join(writer, NULL);
    assert_true(c->spool->writer.number > THREAD_MESSAGES / 300);
    assert_int_equal(spool_case_state(c).damaged_records, 0);
}

static void test_a_full_disk_still_lets_a_spool_open_and_send(void **state)
{
    struct spool_case *c = *state;
    struct error err;
    uint64_t sequence;

    spool_case_open(c);
    spool_case_fill(c, 1, 10, 100);
    spool_case_close(c);
    unlinkat(AT_FDCWD, "spare", 0);
    sys_fail(SYS_ALLOCATE, 1, 1000, ENOSPC);
    char spare[160];
    snprintf(spare, sizeof(spare), "%s/spare", c->dir);
    unlink(spare);
    spool_case_open(c);
    assert_true(spool_above_high_water(c->spool));
    assert_int_equal(spool_case_try(c, 11, 100, &sequence, &err), -ERR_SYSTEM);
    spool_case_expect(c, 1, 10);
    spool_case_commit(c);
    assert_true(spool_arm_wakeup(c->spool));
    sys_heal();
    assert_int_equal(spool_case_append(c, 11, 100), 11);
    assert_false(spool_arm_wakeup(c->spool));
    spool_case_expect(c, 11, 11);
}

static void test_a_spool_that_only_sends_makes_no_file(void **state)
{
    struct spool_case *c = *state;

    spool_case_open(c);
    spool_case_fill(c, 1, 600, 1000);
    spool_case_close(c);
    char spare[160];
    spool_case_path(c, "spare", spare);
    unlink(spare);
    c->options.receives = false;
    c->options.retain = 0;
    sys_fail(SYS_ALLOCATE, 1000000, 1, ENOSPC); /* only to count */
    spool_case_open(c);
    size_t segments = spool_case_files(c, ".segment");
    spool_case_expect(c, 1, 600);
    spool_case_commit(c);
    assert_true(spool_arm_wakeup(c->spool));
    assert_int_equal(sys_calls(SYS_ALLOCATE), 0);
    assert_int_equal(spool_case_files(c, "spare"), 0);
    assert_true(spool_case_files(c, ".segment") < segments);
}

static void test_damage_is_stepped_over_counted_once_and_the_file_is_kept(void **state)
{
    struct spool_case *c = *state;
    struct record message;
    struct error err;

    c->options.retain = 0;
    spool_case_open(c);
    spool_case_fill(c, 1, 2000, 1000);
    uint64_t record = RECORD_HEAD_SIZE + 19 + 1000 + 5;
    spool_case_damage(c, 1, SEGMENT_HEADER_SIZE + 9 * record + 500, 1200); /* 10 and 11 */
    spool_case_expect(c, 1, 9);
    assert_int_equal(spool_next(c->spool, &message, &err), -ERR_FORMAT);
    assert_non_null(strstr(err.text, "2 records are lost"));
    assert_int_equal(spool_case_state(c).damaged_records, 2);
    spool_case_expect(c, 12, 20);
    spool_apply_mark(c->spool, BYTES_NONE);
    spool_case_expect(c, 1, 9);
    assert_int_equal(spool_case_next(c, &message), -ERR_FORMAT);
    assert_int_equal(spool_case_state(c).damaged_records, 2);
    spool_case_expect(c, 12, 2000);
    spool_case_commit(c);
    assert_int_equal(spool_case_state(c).unsent_records, 0);
    assert_int_equal(spool_case_files(c, "000000000001.damaged"), 1);
    assert_int_equal(spool_case_files(c, "000000000001.segment"), 0);
}

static void test_records_that_the_disk_cannot_read_count_as_damaged(void **state)
{
    struct spool_case *c = *state;
    struct record message;
    int good = 0, result;

    spool_case_open(c);
    spool_case_fill(c, 1, 100, 1000);
    reader_discover_segments(c->spool);
    /* The piece, the segment as a whole, its first block, and its second one twice. */
    sys_fail(SYS_READ, 1, 5, EIO);
    while ((result = spool_case_next(c, &message)) != 0)
        good += result > 0;
    assert_int_equal(good + (int)spool_case_state(c).damaged_records, 100);
    assert_in_range(good, 90, 99);
}

static void test_a_segment_that_somebody_deleted_is_a_hole(void **state)
{
    struct spool_case *c = *state;
    struct record message;
    char path[160];
    int expected = 1;

    spool_case_open(c);
    spool_case_fill(c, 1, 1000, 1000);
    snprintf(path, sizeof(path), "%s/000000000002.segment", c->dir);
    assert_int_equal(unlink(path), 0);
    int result;
    while ((result = spool_case_next(c, &message)) > 0)
        assert_int_equal(result, expected++);
    assert_int_equal(result, -ERR_FORMAT);
    int lost = (int)spool_case_state(c).damaged_records;
    assert_in_range(lost, 200, 260);
    spool_case_expect(c, expected + lost, 1000);
}

/* Runs `act` in a child; its exit status. */
static int exit_of(struct spool_case *c, void (*act)(struct spool_case *c))
{
    int status;

    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        act(c);
        _exit(77);
    }
    assert_true(pid > 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void append_with_failing_sync(struct spool_case *c)
{
    spool_case_open(c);
    sys_fail(SYS_SYNC, 1, 1, EIO);
    spool_case_append(c, 1, 100);
}

static void interval_with_failing_sync(struct spool_case *c)
{
    spool_case_open(c);
    spool_case_append(c, 1, 100);
    sys_fail(SYS_SYNC, 1, 1, EIO);
    spool_sync(c->spool);
}

static void test_a_failed_fsync_ends_the_process(void **state)
{
    struct spool_case *c = *state;

    c->options.sync = SPOOL_SYNC_ALWAYS;
    assert_int_equal(exit_of(c, append_with_failing_sync), 1);
    c->options.sync = SPOOL_SYNC_INTERVAL;
    assert_int_equal(exit_of(c, interval_with_failing_sync), 1);
    c->options.sync = SPOOL_SYNC_NONE;
    assert_int_equal(exit_of(c, append_with_failing_sync), 77);
}

static void test_sync_always_syncs_before_an_append_returns_and_the_others_never(void **state)
{
    struct spool_case *c = *state;
    const enum spool_sync modes[] = {SPOOL_SYNC_NONE, SPOOL_SYNC_INTERVAL, SPOOL_SYNC_ALWAYS};
    const int expected[] = {0, 0, 11}; /* the name of the segment too */

    for (int i = 0; i < 3; i++) {
        c->options.sync = modes[i];

        spool_case_open(c);
        sys_fail(SYS_SYNC, 1000000, 1, EIO); /* only to count */
        spool_case_fill(c, 1, 10, 100);
        assert_int_equal(sys_calls(SYS_SYNC), expected[i]);
        sys_heal();
        spool_case_close(c);
    }
}

static void test_the_interval_syncs_every_segment_written_since(void **state)
{
    struct spool_case *c = *state;

    c->options.sync = SPOOL_SYNC_INTERVAL;
    spool_case_open(c);
    spool_sync(c->spool);
    spool_case_fill(c, 1, 600, 1000);
    assert_int_equal(c->spool->writer.number, 3);
    sys_fail(SYS_SYNC, 1000000, 1, EIO); /* only to count */
    spool_sync(c->spool);
    assert_true(sys_calls(SYS_SYNC) >= 4); /* three files and the directory */
    assert_false(c->spool->shared.directory_changed);
    sys_heal();
}

static void test_the_name_of_a_new_segment_is_synced_with_its_first_message(void **state)
{
    struct spool_case *c = *state;

    c->options.sync = SPOOL_SYNC_ALWAYS;
    spool_case_open(c);
    int n = 1;
    while (c->spool->segment_size - c->spool->writer.offset > 1100)
        spool_case_append(c, n++, 1000);
    sys_fail(SYS_SYNC, 1000000, 1, EIO); /* only to count */
    spool_case_append(c, n, 1000);
    assert_int_equal(c->spool->writer.number, 2);
    assert_int_equal(sys_calls(SYS_SYNC), 2);
    sys_heal();
}

/* Committed and retained segments, and a start on a full disk. */
static uint64_t start_on_a_full_disk_with(struct spool_case *c, int messages)
{
    char spare[160];

    spool_case_open(c);
    uint64_t run = c->spool->run;
    spool_case_fill(c, 1, messages, 1000);
    spool_case_expect(c, 1, messages);
    spool_case_commit(c);
    assert_int_equal(c->spool->writer.number, 3);
    spool_case_close(c);
    snprintf(spare, sizeof(spare), "%s/spare", c->dir);
    unlink(spare);
    sys_fail(SYS_ALLOCATE, 1, 1000, ENOSPC);
    spool_case_open(c);
    assert_int_equal(c->spool->reader.first->header.number, 1);
    return run;
}

static uint64_t start_on_a_full_disk(struct spool_case *c)
{
    uint64_t run = start_on_a_full_disk_with(c, 550);

    assert_true(spool_above_high_water(c->spool));
    return run;
}

static void test_a_disk_that_was_full_at_a_start_is_tried_again(void **state)
{
    struct spool_case *c = *state;

    start_on_a_full_disk(c);
    sys_heal();
    c->spool->reader.spare_retry_ms = 0;
    assert_false(spool_above_high_water(c->spool));
    assert_true(spool_below_low_water(c->spool));
    assert_int_equal(c->spool->reader.first->header.number, 1);
    assert_int_equal(spool_case_append(c, 551, 100), 551);
}

static void test_on_a_full_disk_a_retained_segment_becomes_the_spare(void **state)
{
    struct spool_case *c = *state;
    uint64_t run = start_on_a_full_disk(c);

    assert_int_equal(spool_case_rewind(c, run, 550).kind, MARK_IN_STEP);
    assert_false(spool_above_high_water(c->spool));
    assert_int_equal(c->spool->reader.first->header.number, 2); /* and no more than that one */
    assert_int_equal(spool_case_append(c, 551, 100), 551);
}

static void test_on_a_full_disk_a_full_segment_is_followed_by_a_retained_one(void **state)
{
    struct spool_case *c = *state;
    struct error err;
    uint64_t sequence;
    uint64_t run = start_on_a_full_disk_with(c, 700);

    assert_int_equal(spool_case_rewind(c, run, 700).kind, MARK_IN_STEP);
    for (int n = 701; n < 1700; n++) {
        assert_false(spool_above_high_water(c->spool));
        if (spool_case_try(c, n, 1000, &sequence, &err) < 0)
            fail_msg("message %d: %s", n, err.text);
        spool_case_expect(c, n, n);
        spool_case_commit(c);
    }
}

static void test_the_interval_syncs_what_a_killed_process_left(void **state)
{
    struct spool_case *c = *state;

    c->options.sync = SPOOL_SYNC_INTERVAL;
    spool_case_open(c);
    spool_case_fill(c, 1, 600, 1000);
    assert_int_equal(c->spool->writer.number, 3);
    spool_case_reopen_killed(c);
    c->spool->shared.directory_changed = false;
    sys_fail(SYS_SYNC, 1000000, 1, EIO); /* only to count */
    spool_sync(c->spool);
    assert_int_equal(sys_calls(SYS_SYNC), 3);
    spool_sync(c->spool);
    assert_int_equal(sys_calls(SYS_SYNC), 4); /* once */
    sys_heal();
}

static void test_freeing_segments_syncs_nothing(void **state)
{
    struct spool_case *c = *state;
    struct record message;

    c->options.retain = 0;
    spool_case_open(c);
    sys_fail(SYS_SYNC, 1000000, 1, EIO); /* only to count */
    for (int n = 1; n <= 3000; n++) {
        spool_case_append(c, n, 1000);
        assert_int_equal(spool_case_next(c, &message), n);
        spool_case_commit(c);
        spool_above_high_water(c->spool);
    }
    assert_true(c->spool->reader.first->header.number > 10);
    assert_int_equal(sys_calls(SYS_SYNC), 0);
    sys_heal();
}

static void test_the_last_sync_is_done_whatever_else_could_not_be_opened(void **state)
{
    struct spool_case *c = *state;
    char path[160];

    c->options.sync = SPOOL_SYNC_INTERVAL;
    spool_case_open(c);
    spool_case_close(c);
    spool_case_path(c, "committed", path);
    unlink(path);
    assert_int_equal(mkdir(path, 0700), 0);
    spool_case_open(c);
    assert_int_equal(c->spool->reader.hint_fd, -1);
    spool_case_append(c, 1, 100);
    sys_fail(SYS_SYNC, 1000000, 1, EIO); /* only to count */
    spool_case_close(c);
    assert_true(sys_calls(SYS_SYNC) >= 3);
    sys_heal();
    rmdir(path);
}

static void test_a_full_disk_with_one_segment_sends_it_and_joins_after_a_restart(void **state)
{
    struct spool_case *c = *state;
    struct error err;
    uint64_t sequence;
    int n = 1;

    sys_fail(SYS_ALLOCATE, 2, 1000000, ENOSPC);
    spool_case_open(c);
    while (spool_case_try(c, n, 1000, &sequence, &err) == 0)
        n++;
    assert_int_equal(err.code, ERR_SYSTEM);
    sys_heal();
    sys_fail(SYS_ALLOCATE, 1, 1000000, ENOSPC);
    spool_case_reopen_killed(c);
    assert_true(spool_above_high_water(c->spool));
    spool_apply_mark(c->spool, BYTES_NONE);
    spool_case_expect(c, 1, n - 1);
    spool_case_commit(c);
    /* The file was cut to what it held; the disk gives back what was cut, and no more. */
    assert_false(spool_below_low_water(c->spool));
    c->spool->reader.reuse_retry_ms = 0;
    sys_heal();
    sys_fail(SYS_ALLOCATE, 2, 1000000, ENOSPC);
    assert_true(spool_below_low_water(c->spool));
    assert_int_equal(spool_case_append(c, n, 1000), (uint64_t)n);
    assert_int_equal(spool_case_files(c, ".segment"), 1);
    spool_case_expect(c, n, n);
}

static void test_a_kill_while_a_segment_is_reused_keeps_the_spool(void **state)
{
    struct spool_case *c = *state;
    struct error err;
    char id[33];

    spool_case_open(c);
    spool_case_fill(c, 1, 10, 100);
    spool_case_expect(c, 1, 10);
    spool_case_commit(c);
    strcpy(id, spool_id(c->spool));
    struct segment_header header = c->spool->reader.first->header;
    header.number = 2;
    header.first_sequence = 11;
    header.previous_sequence = header.records_before = 10;
    int fd = spool_case_file(c, 1, O_RDWR);
    assert_int_equal(segment_write_header(fd, &header, &err), 0);
    close(fd);
    spool_case_reopen_killed(c);
    assert_string_equal(spool_id(c->spool), id);
    assert_int_equal(spool_case_files(c, "000000000002.segment"), 1);
    assert_int_equal(spool_case_append(c, 11, 100), 11);
    spool_case_expect(c, 11, 11);
    assert_int_equal(spool_case_state(c).damaged_records, 0);
}

static void test_an_end_that_cannot_be_read_gives_no_sequence_twice(void **state)
{
    struct spool_case *c = *state;

    spool_case_open(c);
    spool_case_fill(c, 1, 10, 100);
    spool_case_reopen_killed(c);
    spool_case_fill(c, 11, 20, 100);
    spool_case_damage(c, 2, 0, 8192); /* header and records: put aside */
    spool_case_reopen_killed(c);
    assert_int_equal(spool_case_files(c, "000000000002.damaged"), 1);
    spool_case_reopen_killed(c); /* and what was seen once is not forgotten */
    assert_true(spool_case_append(c, 21, 100) > UINT64_C(1000000000));
}

static void test_a_block_of_the_end_that_cannot_be_read_gives_no_sequence_twice(void **state)
{
    struct spool_case *c = *state;

    spool_case_open(c);
    spool_case_fill(c, 1, 10, 100);
    sys_fail(SYS_READ, 2, 10, EIO); /* after the header */
    spool_case_reopen_killed(c);
    sys_fail(SYS_READ, 3, 10, EIO); /* after the header and `recent` */
    spool_case_reopen_killed(c);
    sys_heal();
    assert_in_range(spool_case_append(c, 11, 100), 1000000001, 1999999999);
}

static void test_a_header_alone_after_a_power_cut_gives_no_sequence_twice(void **state)
{
    struct spool_case *c = *state;
    struct error err;

    spool_case_open(c);
    spool_case_fill(c, 1, 10, 100);
    reader_discover_segments(c->spool);
    struct segment_header header = c->spool->reader.first->header;
    memset(header.boot_id, 7, 16);
    int fd = spool_case_file(c, 1, O_RDWR);
    assert_int_equal(segment_write_header(fd, &header, &err), 0);
    assert_int_equal(ftruncate(fd, SEGMENT_HEADER_SIZE), 0);
    close(fd);
    spool_case_reopen_killed(c);
    assert_int_equal(spool_case_append(c, 11, 100), 1000000001);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, spool_case_begin, spool_case_end)

int main(void)
{
    /* What the spool says about the faults that are made here is expected. */
    log_open(&(struct log_options){.level = LOG_LEVEL_EMERGENCY, .fd = 2});
    const struct CMUnitTest tests[] = {
        TEST(test_a_short_write_is_cut_back_and_nothing_was_stored),
        TEST(test_a_short_write_that_cannot_be_cut_back_is_no_message_either),
        TEST(test_a_failed_write_is_no_message_and_says_why),
        TEST(test_a_message_that_could_not_be_written_is_not_remembered),
        TEST(test_no_failure_at_the_change_of_segments_loses_a_message),
        TEST(test_a_disk_with_room_for_one_segment_is_at_high_water_in_time),
        TEST(test_a_disk_that_holds_one_segment_reuses_it_when_all_is_committed),
        TEST(test_a_raised_sequence_outlives_the_reuse_of_its_segment),
        TEST(test_the_last_segment_is_used_again_while_messages_come),
        TEST(test_a_full_disk_still_lets_a_spool_open_and_send),
        TEST(test_a_spool_that_only_sends_makes_no_file),
        TEST(test_damage_is_stepped_over_counted_once_and_the_file_is_kept),
        TEST(test_records_that_the_disk_cannot_read_count_as_damaged),
        TEST(test_a_segment_that_somebody_deleted_is_a_hole),
        TEST(test_a_failed_fsync_ends_the_process),
        TEST(test_sync_always_syncs_before_an_append_returns_and_the_others_never),
        TEST(test_the_interval_syncs_every_segment_written_since),
        TEST(test_the_name_of_a_new_segment_is_synced_with_its_first_message),
        TEST(test_a_disk_that_was_full_at_a_start_is_tried_again),
        TEST(test_on_a_full_disk_a_retained_segment_becomes_the_spare),
        TEST(test_on_a_full_disk_a_full_segment_is_followed_by_a_retained_one),
        TEST(test_the_interval_syncs_what_a_killed_process_left),
        TEST(test_freeing_segments_syncs_nothing),
        TEST(test_the_last_sync_is_done_whatever_else_could_not_be_opened),
        TEST(test_a_full_disk_with_one_segment_sends_it_and_joins_after_a_restart),
        TEST(test_a_kill_while_a_segment_is_reused_keeps_the_spool),
        TEST(test_an_end_that_cannot_be_read_gives_no_sequence_twice),
        TEST(test_a_block_of_the_end_that_cannot_be_read_gives_no_sequence_twice),
        TEST(test_a_header_alone_after_a_power_cut_gives_no_sequence_twice),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
