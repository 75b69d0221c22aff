/* What is made of a directory after a crash or a bad disk. */
#include "spool_case.h"

#define PAYLOAD     100
#define RECORD_SIZE (RECORD_HEAD_SIZE + 19 + PAYLOAD + 1)

static uint64_t record_at(int n)
{
    return SEGMENT_HEADER_SIZE + (uint64_t)(n - 1) * RECORD_SIZE;
}

/* Lets the process "die": closes without a word, and makes the file end there. */
static void end_file_at(struct spool_case *c, uint64_t number, uint64_t size)
{
    int fd = spool_case_file(c, number, O_WRONLY);

    assert_int_equal(ftruncate(fd, (off_t)size), 0);
    close(fd);
}

static void test_a_record_torn_anywhere_is_cut_off_and_the_rest_stands(void **state)
{
    struct spool_case *c = *state;
    int next = 6;

    spool_case_open(c);
    spool_case_fill(c, 1, 5, PAYLOAD);
    for (uint64_t torn = 1; torn < RECORD_SIZE; torn += 7) {
        /* A last record of which so much got to the disk; what follows it was reserved. */
        uint64_t number = c->spool->writer.number;
        uint64_t at = c->spool->writer.offset;
        spool_case_append(c, next, PAYLOAD);
        end_file_at(c, number, at + torn);
        end_file_at(c, number, c->spool->segment_size);
        spool_case_reopen_killed(c);
        assert_int_equal(spool_case_append(c, next, PAYLOAD), (uint64_t)next);
        next++;
    }
    spool_apply_mark(c->spool, BYTES_NONE);
    spool_case_expect(c, 1, next - 1);
    spool_case_expect_none(c);
    assert_int_equal(spool_case_state(c).damaged_records, 0);
}

static void test_reserved_space_of_the_last_process_is_given_back(void **state)
{
    struct spool_case *c = *state;
    struct stat status;

    spool_case_open(c);
    spool_case_fill(c, 1, 5, PAYLOAD);
    spool_case_reopen_killed(c);
    int fd = spool_case_file(c, 1, O_RDONLY);
    fstat(fd, &status);
    close(fd);
    assert_int_equal(status.st_size, record_at(6));
}

static void test_restarts_without_messages_add_no_segment(void **state)
{
    struct spool_case *c = *state;

    spool_case_open(c);
    spool_case_append(c, 1, PAYLOAD);
    for (int i = 0; i < 20; i++)
        spool_case_reopen_killed(c);
    assert_int_equal(spool_case_files(c, ".segment"), 1);
    assert_true(spool_case_state(c).used_bytes <= 2 * c->spool->segment_size);
    spool_case_expect(c, 1, 1);
}

static void test_a_bad_record_that_good_ones_follow_is_damage_not_a_tail(void **state)
{
    struct spool_case *c = *state;
    struct record message;

    spool_case_open(c);
    spool_case_fill(c, 1, 10, PAYLOAD);
    spool_case_damage(c, 1, record_at(8) + 50, 4);
    spool_case_reopen_killed(c);
    assert_int_equal(spool_case_append(c, 11, PAYLOAD), 11);
    spool_case_expect(c, 1, 7);
    assert_int_equal(spool_case_next(c, &message), -ERR_FORMAT);
    spool_case_expect(c, 9, 11);
    assert_int_equal(spool_case_state(c).damaged_records, 1);
}

static void test_a_bad_record_at_the_end_of_an_earlier_segment_is_damage(void **state)
{
    struct spool_case *c = *state;
    struct record message;

    spool_case_open(c);
    spool_case_fill(c, 1, 10, PAYLOAD);
    spool_case_reopen_killed(c);
    spool_case_fill(c, 11, 20, PAYLOAD);
    spool_case_damage(c, 1, record_at(10) + 50, 4);
    spool_case_reopen_killed(c);
    spool_case_expect(c, 1, 9);
    assert_int_equal(spool_case_next(c, &message), -ERR_FORMAT);
    spool_case_expect(c, 11, 20);
    assert_int_equal(spool_case_state(c).damaged_records, 1);
}

/* Three runs of ten messages, each its own segment. */
static void make_three(struct spool_case *c)
{
    spool_case_open(c);
    spool_case_fill(c, 1, 10, PAYLOAD);
    spool_case_reopen_killed(c);
    spool_case_fill(c, 11, 20, PAYLOAD);
    spool_case_reopen_killed(c);
    spool_case_fill(c, 21, 30, PAYLOAD);
}

/* Reads all there is; how many messages came, in order. */
static int count_all(struct spool_case *c)
{
    struct record message;
    int count = 0, last = 0, next;

    while ((next = spool_case_next(c, &message)) != 0) {
        if (next < 0)
            continue;
        assert_true(next > last);
        last = next;
        count++;
    }
    return count;
}

static void test_a_segment_without_its_header_is_read_with_its_neighbours_run(void **state)
{
    struct spool_case *c = *state;

    c->options.size = 16 * MB;
    spool_case_open(c);
    spool_case_fill(c, 1, 3000, 1000); /* three segments of one run */
    uint64_t last = c->spool->writer.number;
    assert_int_equal(last, 4);
    for (uint64_t number = 1; number <= last; number++) {
        spool_case_damage(c, number, 0, SEGMENT_HEADER_SIZE);
        spool_case_reopen_killed(c);
        assert_int_equal(count_all(c), 3000);
        assert_int_equal(spool_case_state(c).damaged_records, 0);
        assert_int_equal(spool_case_files(c, ".damaged"), 0);
    }
    /* The headers were rebuilt on the disk too. */
    spool_case_reopen_killed(c);
    assert_int_equal(count_all(c), 3000);
}

static void test_a_segment_of_an_unknown_run_is_put_aside_and_counted(void **state)
{
    struct spool_case *c = *state;

    make_three(c);
    spool_case_damage(c, 2, 0, SEGMENT_HEADER_SIZE);
    spool_case_reopen_killed(c);
    assert_int_equal(spool_case_files(c, "000000000002.damaged"), 1);
    assert_int_equal(count_all(c), 20);
    assert_int_equal(spool_case_state(c).damaged_records, 10);
    assert_int_equal(spool_case_append(c, 31, PAYLOAD), 31);
}

static void test_a_missing_segment_is_counted(void **state)
{
    struct spool_case *c = *state;
    char path[160];

    make_three(c);
    spool_case_path(c, "000000000002.segment", path);
    assert_int_equal(unlink(path), 0);
    spool_case_reopen_killed(c);
    assert_int_equal(count_all(c), 20);
    assert_int_equal(spool_case_state(c).damaged_records, 10);
}

static void test_a_spool_without_one_readable_header_begins_anew(void **state)
{
    struct spool_case *c = *state;
    char id[33];

    spool_case_open(c);
    strcpy(id, spool_id(c->spool));
    spool_case_fill(c, 1, 10, PAYLOAD);
    spool_case_damage(c, 1, 0, SEGMENT_HEADER_SIZE);
    spool_case_reopen_killed(c);
    /* Another identity, so that no new message passes for a repeat of an old one. */
    assert_string_not_equal(spool_id(c->spool), id);
    assert_int_equal(spool_case_files(c, "000000000001.damaged"), 1);
    assert_int_equal(spool_case_append(c, 1, PAYLOAD), 1);
    assert_int_equal(c->spool->writer.number, 2);
    spool_case_expect(c, 1, 1);
}

static void test_a_wiped_directory_is_a_new_spool(void **state)
{
    struct spool_case *c = *state;
    char id[33];

    spool_case_open(c);
    strcpy(id, spool_id(c->spool));
    spool_case_close(c);
    spool_case_clear(c->dir);
    spool_case_open(c);
    assert_string_not_equal(spool_id(c->spool), id);
}

static void test_a_spool_whose_segments_are_wiped_gives_no_identity_again(void **state)
{
    struct spool_case *c = *state;
    char id[33], path[160];

    spool_case_open(c);
    spool_case_append(c, 1, 100);
    spool_above_high_water(c->spool); /* which writes `recent` */
    spool_case_append(c, 2, 100);
    strcpy(id, spool_id(c->spool));
    c->spool->opened = false;
    spool_case_close(c);
    spool_case_path(c, "000000000001.segment", path);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(spool_case_files(c, RECENT_NAME), 1);
    spool_case_open(c);
    assert_string_not_equal(spool_id(c->spool), id);
}

static void test_two_spools_in_one_directory_are_refused(void **state)
{
    struct spool_case *c = *state;
    struct error err;
    char aside[160], inside[160];

    spool_case_open(c);
    spool_case_fill(c, 1, 5, PAYLOAD);
    spool_case_close(c);
    spool_case_path(c, "000000000001.segment", inside);
    snprintf(aside, sizeof(aside), "%s/aside", c->root);
    assert_int_equal(rename(inside, aside), 0);
    spool_case_clear(c->dir);
    spool_case_open(c);
    spool_case_append(c, 1, PAYLOAD);
    spool_case_reopen(c);
    spool_case_append(c, 2, PAYLOAD);
    spool_case_close(c);
    spool_case_path(c, "000000000001.segment", inside);
    assert_int_equal(rename(aside, inside), 0);
    assert_int_equal(spool_open(&c->spool, &c->options, &err), -ERR_FORMAT);
    assert_non_null(strstr(err.text, "different spools"));
}

static void test_recovery_removes_half_made_files_and_uses_a_whole_spare(void **state)
{
    struct spool_case *c = *state;
    char path[160];

    spool_case_open(c);
    spool_case_close(c);
    spool_case_path(c, "new", path);
    int fd = open(path, O_WRONLY | O_CREAT, 0600);
    close(fd);
    sys_fail(SYS_ALLOCATE, 1000000, 1, ENOSPC); /* only to count */
    spool_case_open(c);
    spool_case_append(c, 1, PAYLOAD);
    assert_int_equal(sys_calls(SYS_ALLOCATE), 0); /* the spare became the segment */
    sys_heal();
    assert_int_equal(spool_case_files(c, "new"), 0);
    spool_case_close(c);

    spool_case_open(c);
    spool_case_close(c);
    /* A spare that has no blocks is no reservation. */
    spool_case_path(c, "spare", path);
    fd = open(path, O_WRONLY | O_TRUNC);
    assert_int_equal(ftruncate(fd, 256 * KB), 0);
    close(fd);
    sys_fail(SYS_ALLOCATE, 1000000, 1, ENOSPC);
    spool_case_open(c);
    assert_int_equal(sys_calls(SYS_ALLOCATE), 1);
}

static void test_a_segment_that_was_never_written_is_removed(void **state)
{
    struct spool_case *c = *state;
    char path[160];

    spool_case_open(c);
    spool_case_fill(c, 1, 5, PAYLOAD);
    spool_case_path(c, "000000000002.segment", path);
    int fd = open(path, O_WRONLY | O_CREAT, 0600);
    assert_int_equal(ftruncate(fd, 256 * KB), 0);
    close(fd);
    spool_case_reopen_killed(c);
    assert_int_equal(spool_case_files(c, ".damaged"), 0);
    assert_int_equal(c->spool->writer.next_number, 3);
    spool_case_expect(c, 1, 5);
}

static void test_files_put_aside_do_not_pile_up(void **state)
{
    struct spool_case *c = *state;
    char name[SEGMENT_NAME_SIZE], path[160];

    spool_case_open(c);
    spool_case_append(c, 1, PAYLOAD);
    for (uint64_t number = 10; number < 20; number++) {
        segment_name(number, "damaged", name);
        spool_case_path(c, name, path);
        close(open(path, O_WRONLY | O_CREAT, 0600));
    }
    spool_case_path(c, "00000000000000000007.oversized.half", path);
    close(open(path, O_WRONLY | O_CREAT, 0600));
    spool_case_reopen_killed(c);
    assert_int_equal(spool_case_files(c, ".half"), 0);
    assert_int_equal(spool_case_files(c, ".damaged"), 4);
    assert_int_equal(spool_case_files(c, "000000000019.damaged"), 1);
    assert_int_equal(c->spool->writer.next_number, 20); /* numbers are never used twice */
}

static void test_a_tail_that_cannot_be_read_now_is_not_cut(void **state)
{
    struct spool_case *c = *state;
    struct stat status;

    spool_case_open(c);
    spool_case_fill(c, 1, 200, PAYLOAD);
    spool_case_close(c);
    /* The header is read; the file as a whole, and its first blocks, are not. */
    sys_fail(SYS_READ, 2, 10, EIO);
    spool_case_open(c);
    sys_heal();
    int fd = spool_case_file(c, 1, O_RDONLY);
    fstat(fd, &status);
    close(fd);
    assert_int_equal(status.st_size, 256 * KB);
}

static void test_a_changed_size_changes_only_new_segments(void **state)
{
    struct spool_case *c = *state;

    spool_case_open(c);
    spool_case_fill(c, 1, 1000, 1000);
    c->options.size = 2 * MB;
    spool_case_reopen_killed(c);
    assert_int_equal(c->spool->segment_size, 128 * KB);
    spool_case_fill(c, 1001, 1300, 1000);
    c->options.size = 1 * MB; /* less than there is: opens all the same, above high water */
    spool_case_reopen_killed(c);
    assert_true(spool_above_high_water(c->spool));
    spool_case_expect(c, 1, 1300);
    spool_case_commit(c);
    assert_true(spool_below_low_water(c->spool));
    spool_case_append(c, 1301, 1000);
}

/* The rest of a recycled segment is full of records of its previous use. */
static void test_old_records_behind_a_recycled_tail_are_neither_read_nor_damage(void **state)
{
    struct spool_case *c = *state;
    struct record message = {0};
    int n = 1;

    c->options.size = 1 * MB;
    c->options.retain = 0;
    spool_case_open(c);
    for (; n <= 3000; n++) {
        spool_case_append(c, n, PAYLOAD);
        assert_int_equal(spool_case_next(c, &message), n);
        spool_case_commit(c);
    }
    for (int round = 0; round < 5; round++) {
        spool_case_append(c, n++, PAYLOAD);
        spool_case_reopen_killed(c);
    }
    int count = count_all(c);
    assert_true(count >= 5);
    assert_int_equal(spool_case_state(c).damaged_records, 0);
}

static void count_progress(void *context)
{
    (*(int *)context)++;
}

static void test_recovery_reports_each_segment_that_it_reads(void **state)
{
    struct spool_case *c = *state;
    int told = 0;

    spool_case_open(c);
    spool_case_fill(c, 1, 5, PAYLOAD);
    c->options.progress = count_progress;
    c->options.context = &told;
    spool_case_reopen_killed(c);
    assert_true(told >= 1);
}

/* Every single damaged byte of a small spool: no more is lost than the records that it lies in. */
static void test_one_damaged_byte_costs_one_record_at_most(void **state)
{
    struct spool_case *c = *state;
    char original;

    spool_case_open(c);
    spool_case_fill(c, 1, 5, PAYLOAD);
    spool_case_reopen_killed(c); /* so that the last record is no tail */
    spool_case_append(c, 6, PAYLOAD);
    for (uint64_t at = SEGMENT_HEADER_SIZE; at < record_at(6); at++) {
        int fd = spool_case_file(c, 1, O_RDWR);

        assert_int_equal(pread(fd, &original, 1, (off_t)at), 1);
        char bad = (char)(original ^ 0x10);
        assert_int_equal(pwrite(fd, &bad, 1, (off_t)at), 1);
        spool_case_reopen_killed(c);
        int count = count_all(c);
        assert_int_equal(count + (int)spool_case_state(c).damaged_records, 6);
        assert_true(count >= 5);
        assert_int_equal(pwrite(fd, &original, 1, (off_t)at), 1);
        close(fd);
    }
    spool_case_reopen_killed(c);
    assert_int_equal(count_all(c), 6);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, spool_case_begin, spool_case_end)

int main(void)
{
    /* Recovery's reports are many here and expected. */
    log_open(&(struct log_options){.level = LOG_LEVEL_EMERGENCY, .fd = 2});
    const struct CMUnitTest tests[] = {
        TEST(test_a_record_torn_anywhere_is_cut_off_and_the_rest_stands),
        TEST(test_reserved_space_of_the_last_process_is_given_back),
        TEST(test_restarts_without_messages_add_no_segment),
        TEST(test_a_bad_record_that_good_ones_follow_is_damage_not_a_tail),
        TEST(test_a_bad_record_at_the_end_of_an_earlier_segment_is_damage),
        TEST(test_a_segment_without_its_header_is_read_with_its_neighbours_run),
        TEST(test_a_segment_of_an_unknown_run_is_put_aside_and_counted),
        TEST(test_a_missing_segment_is_counted),
        TEST(test_a_spool_without_one_readable_header_begins_anew),
        TEST(test_a_wiped_directory_is_a_new_spool),
        TEST(test_a_spool_whose_segments_are_wiped_gives_no_identity_again),
        TEST(test_two_spools_in_one_directory_are_refused),
        TEST(test_recovery_removes_half_made_files_and_uses_a_whole_spare),
        TEST(test_a_segment_that_was_never_written_is_removed),
        TEST(test_files_put_aside_do_not_pile_up),
        TEST(test_a_tail_that_cannot_be_read_now_is_not_cut),
        TEST(test_a_changed_size_changes_only_new_segments),
        TEST(test_old_records_behind_a_recycled_tail_are_neither_read_nor_damage),
        TEST(test_recovery_reports_each_segment_that_it_reads),
        TEST(test_one_damaged_byte_costs_one_record_at_most),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
