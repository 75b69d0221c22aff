/* Damage that one process finds is to be looked at after the next has freed the segment. */
#include "tests/unit/spool_case.h"

#include "common/wire/record.h"

/* So many messages; the tenth, in segment 1, is damaged, and is the next to be read. */
static void damage_one_of(struct spool_case *c, int messages)
{
    c->options.retain = 0;
    spool_case_open(c);
    spool_case_fill(c, 1, messages, 1000);
    spool_case_damage(c, 1, SEGMENT_HEADER_SIZE + 9 * (RECORD_HEAD_SIZE + 1024) + 500, 100);
    spool_case_expect(c, 1, 9);
}

/* Damage behind the committed position of a second process. */
static void damage_and_restart(struct spool_case *c)
{
    struct record message;

    damage_one_of(c, 2000);
    assert_int_equal(spool_case_next(c, &message), -ERR_FORMAT);
    spool_case_expect(c, 11, 20);
    spool_case_commit(c);
    spool_case_reopen(c);
}

static bool is_a_file_of_its_own(const struct spool_case *c, const char *name)
{
    char path[160];
    struct stat status;

    spool_case_path(c, name, path);
    return stat(path, &status) == 0 && status.st_nlink == 1 &&
           (uint64_t)status.st_size == c->spool->segment_size;
}

static void test_segments_found_damaged_by_an_earlier_process_are_kept(void **state)
{
    struct spool_case *c = *state;

    damage_and_restart(c);
    spool_case_reopen(c); /* and another one, which reads nothing */
    assert_int_equal(spool_case_files(c, "000000000001.segment"), 1);
    /* The spare is used up: the next segment that comes free is to be the spare. */
    spool_case_fill(c, 2001, 2300, 1000);
    assert_int_equal(atomic_load(&c->spool->shared.spare), SPARE_NONE);
    spool_case_expect(c, 21, 2300);
    spool_case_commit(c);
    assert_int_equal(spool_case_files(c, "000000000001.segment"), 0);
    assert_true(is_a_file_of_its_own(c, "000000000001.damaged"));
    assert_int_equal(spool_case_files(c, ".damaged"), 1);
}

static void test_damage_in_the_segment_being_written_is_kept_with_what_follows(void **state)
{
    struct spool_case *c = *state;
    struct record message;
    struct stat status;
    char path[160];

    damage_one_of(c, 20);
    assert_int_equal(spool_case_next(c, &message), -ERR_FORMAT);
    spool_case_fill(c, 21, 30, 1000);
    spool_case_expect(c, 11, 25);
    spool_case_commit(c);
    spool_case_reopen(c);
    spool_case_reopen(c);
    spool_case_fill(c, 31, 1000, 1000);
    spool_case_expect(c, 26, 1000);
    spool_case_commit(c);
    assert_int_equal(spool_case_files(c, "000000000001.segment"), 0);
    spool_case_path(c, "000000000001.damaged", path); /* it was cut when the first process ended */
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_nlink, 1);
    assert_int_equal(spool_case_files(c, ".damaged"), 1);
}

static void test_a_segment_whose_damage_cannot_be_noted_is_kept_all_the_same(void **state)
{
    struct spool_case *c = *state;
    struct record message;

    damage_one_of(c, 2000);
    sys_fail(SYS_WRITE, 1, 1, EIO);
    assert_int_equal(spool_case_next(c, &message), -ERR_FORMAT);
    sys_heal();
    assert_int_equal(spool_case_files(c, ".damaged"), 0);
    spool_case_expect(c, 11, 2000);
    spool_case_commit(c);
    assert_true(is_a_file_of_its_own(c, "000000000001.damaged"));
}

static void test_a_damaged_segment_whose_header_goes_too_has_one_name_then(void **state)
{
    struct spool_case *c = *state;
    char path[160];

    damage_and_restart(c);
    spool_case_close(c);
    spool_case_path(c, "000000000001.segment", path);
    int fd = open(path, O_WRONLY);
    char *garbage = xcalloc(1, 256 * KB);
    memset(garbage, 0xA5, 256 * KB);
    assert_int_equal(pwrite(fd, garbage, 256 * KB, 0), 256 * KB);
    free(garbage);
    close(fd);
    spool_case_open(c);
    assert_int_equal(spool_case_files(c, "000000000001.segment"), 0);
    assert_true(is_a_file_of_its_own(c, "000000000001.damaged"));
}

static void test_a_damaged_segment_in_use_is_not_among_those_that_pile_up(void **state)
{
    struct spool_case *c = *state;
    char name[SEGMENT_NAME_SIZE], path[160];

    damage_and_restart(c);
    for (uint64_t number = 90; number < 99; number++) {
        segment_name(number, "damaged", name);
        spool_case_path(c, name, path);
        close(open(path, O_WRONLY | O_CREAT, 0600));
    }
    spool_case_reopen(c);
    assert_int_equal(spool_case_files(c, ".damaged"), 4);
    spool_case_expect(c, 21, 2000);
    spool_case_commit(c);
    assert_true(is_a_file_of_its_own(c, "000000000001.damaged"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, spool_case_begin, spool_case_end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_segments_found_damaged_by_an_earlier_process_are_kept),
        TEST(test_damage_in_the_segment_being_written_is_kept_with_what_follows),
        TEST(test_a_segment_whose_damage_cannot_be_noted_is_kept_all_the_same),
        TEST(test_a_damaged_segment_whose_header_goes_too_has_one_name_then),
        TEST(test_a_damaged_segment_in_use_is_not_among_those_that_pile_up),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
