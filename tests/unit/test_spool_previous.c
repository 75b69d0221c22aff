/* A spool that begins to receive takes over from the one that received before: docs/SPOOL.md, "Destination". */
#include "spool_case.h"

#define PAYLOAD BYTES("21.5")

/* Spool A or B of the client, receiving. */
static void open_at(struct spool_case *c, const char *name)
{
    spool_case_close(c);
    snprintf(c->dir, sizeof(c->dir), "%s/%s", c->root, name);
    c->options.dir = c->dir;
    spool_case_open(c);
}

static struct record message_of(uint16_t packet_id, int qos)
{
    return (struct record){
        .qos = qos, .packet_id = packet_id, .topic = BYTES("a/b"), .payload = PAYLOAD};
}

static uint64_t store(struct spool_case *c, uint16_t packet_id, int qos)
{
    struct record message = message_of(packet_id, qos);
    struct error err;

    assert_int_equal(spool_append(c->spool, &message, &err), 0);
    return message.sequence;
}

static struct spool_recent find(struct spool_case *c, uint16_t packet_id)
{
    struct record message = message_of(packet_id, 1);
    struct spool_recent recent = {0};

    return spool_find_recent(c->spool, &message, &recent) ? recent : (struct spool_recent){0};
}

static int end(void **state)
{
    struct spool_case *c = *state;
    static const char *const NAMES[] = {"A", "B"};

    for (size_t i = 0; i < 2; i++) {
        spool_case_close(c);
        snprintf(c->dir, sizeof(c->dir), "%s/%s", c->root, NAMES[i]);
        spool_case_clear(c->dir);
        rmdir(c->dir);
    }
    spool_case_clear(c->root);
    return spool_case_end(state);
}

static void test_another_destination_keeps_identities_and_order(void **state)
{
    struct spool_case *c = *state;
    char id[33], mark_id[64];

    open_at(c, "A");
    uint64_t first = store(c, 7, 1);
    snprintf(id, sizeof(id), "%s", spool_id(c->spool));
    snprintf(mark_id, sizeof(mark_id), "%s", spool_mark_id(c->spool));
    open_at(c, "B");
    assert_string_equal(spool_id(c->spool), id);
    assert_string_not_equal(spool_mark_id(c->spool), mark_id);
    assert_int_equal(find(c, 7).identity, first);
    uint64_t second = store(c, 8, 2);
    assert_true(second > first);
    /* And back, over a kill. */
    spool_case_reopen_killed(c);
    open_at(c, "A");
    assert_string_equal(spool_mark_id(c->spool), mark_id);
    assert_int_equal(find(c, 7).identity, first);
    assert_int_equal(find(c, 8).identity, second);
    assert_true(find(c, 8).unreleased);
    assert_true(store(c, 9, 1) > second);
}

static void test_a_release_at_another_destination_holds_after_the_return(void **state)
{
    struct spool_case *c = *state;
    struct error err;

    open_at(c, "A");
    store(c, 7, 2);
    open_at(c, "B");
    assert_int_equal(spool_release(c->spool, 7, &err), 0);
    open_at(c, "A");
    assert_false(find(c, 7).unreleased);
    spool_case_reopen_killed(c);
    assert_false(find(c, 7).unreleased);
}

static void test_a_session_that_ended_elsewhere_is_forgotten_at_the_return(void **state)
{
    struct spool_case *c = *state;
    struct error err;

    open_at(c, "A");
    store(c, 7, 2);
    open_at(c, "B");
    assert_int_equal(spool_begin_session(c->spool, &err), 0);
    open_at(c, "A");
    assert_int_equal(find(c, 7).identity, 0);
}

/* What was not written yet is gone, and the kernel is another one. */
static void test_identities_taken_over_win_over_older_segments_after_a_reboot(void **state)
{
    struct spool_case *c = *state;

    open_at(c, "A");
    store(c, 7, 2);
    open_at(c, "B");
    uint64_t second = store(c, 7, 1);
    open_at(c, "A");
    c->spool->opened = false; /* killed */
    spool_case_reboot(c);
    assert_int_equal(find(c, 7).identity, second);
    assert_false(find(c, 7).unreleased);
}

static void test_a_lost_segment_at_another_destination_gives_no_sequence_twice(void **state)
{
    struct spool_case *c = *state;
    char id[33], path[160];

    open_at(c, "A");
    store(c, 7, 1);
    open_at(c, "B");
    snprintf(id, sizeof(id), "%s", spool_id(c->spool));
    uint64_t last = store(c, 8, 1);
    for (int i = 0; i < 2; i++) { /* power cuts */
        c->spool->opened = false;
        spool_case_close(c);
        spool_case_path(c, "000000000001.segment", path);
        assert_int_equal(unlink(path), 0);
        spool_case_reboot(c);
        assert_string_equal(spool_id(c->spool), id);
        uint64_t next = store(c, 9, 1);
        assert_true(next > last);
        last = next;
    }
}

static void test_the_file_current_is_written_once_it_can_be(void **state)
{
    struct spool_case *c = *state;
    char *previous;

    open_at(c, "A");
    store(c, 7, 1);
    spool_case_close(c);
    sys_fail(SYS_RENAME, 1, 1000000, ENOSPC);
    open_at(c, "B");
    spool_above_high_water(c->spool);
    assert_non_null(previous = spool_path_previous(c->dir));
    free(previous);
    sys_heal();
    c->spool->reader.current_retry_ms = 0;
    spool_above_high_water(c->spool);
    assert_null(spool_path_previous(c->dir));
}

/* The spool at the new destination does what it can with what the disk has. */
static void test_another_destination_opens_on_a_full_disk(void **state)
{
    struct spool_case *c = *state;
    char *previous;

    open_at(c, "A");
    uint64_t first = store(c, 7, 1);
    spool_case_close(c);
    sys_fail(SYS_ALLOCATE, 1, 1000000, ENOSPC);
    open_at(c, "B");
    assert_true(spool_above_high_water(c->spool));
    assert_int_equal(find(c, 7).identity, first);
    /* The previous one may be sent and removed from now on, which makes room. */
    assert_null(previous = spool_path_previous(c->dir));
    spool_case_reopen_killed(c);
    assert_int_equal(find(c, 7).identity, first);
    sys_heal();
    open_at(c, "B");
    assert_int_equal(find(c, 7).identity, first);
    assert_true(store(c, 8, 1) > first);
}

static void test_a_damaged_recent_file_of_the_previous_spool_costs_no_identity(void **state)
{
    struct spool_case *c = *state;
    char path[160];

    open_at(c, "A");
    uint64_t first = store(c, 7, 2);
    open_at(c, "B");
    uint64_t second = store(c, 8, 1);
    spool_case_close(c);
    spool_case_path(c, "recent", path);
    assert_int_equal(truncate(path, 100), 0);
    open_at(c, "A");
    assert_int_equal(find(c, 7).identity, first);
    assert_false(find(c, 7).unreleased); /* it may have been released there */
    assert_int_equal(find(c, 8).identity, second);
}

static void test_a_previous_spool_in_use_is_waited_for(void **state)
{
    struct spool_case *c = *state;
    struct spool_options options = c->options;
    struct spool *other = NULL;
    struct error err;
    char dir[96];

    open_at(c, "A");
    store(c, 7, 1);
    snprintf(dir, sizeof(dir), "%s/B", c->root);
    options.dir = dir;
    assert_int_equal(spool_open(&other, &options, &err), -ERR_LOCKED);
    spool_case_close(c);
    assert_int_equal(spool_open(&other, &options, &err), 0);
    spool_close(other);
}

static void test_an_unusable_previous_spool_costs_its_identities_and_sequences(void **state)
{
    struct spool_case *c = *state;
    struct error err;
    char path[160];

    open_at(c, "A");
    store(c, 7, 2);
    open_at(c, "B");
    uint64_t last = store(c, 8, 1);
    reader_discover_segments(c->spool);
    /* A segment of another spool among its own. */
    struct segment_header header = c->spool->reader.first->header;
    header.spool_id[0] ^= 1;
    header.number = 77;
    spool_case_path(c, "000000000077.segment", path);
    int fd = open(path, O_WRONLY | O_CREAT, 0600);
    assert_int_equal(segment_write_header(fd, &header, &err), 0);
    close(fd);
    open_at(c, "A");
    assert_int_equal(find(c, 7).identity, 0);
    assert_true(store(c, 9, 1) > last);
}

static void test_a_previous_spool_without_a_readable_segment_costs_its_identities(void **state)
{
    struct spool_case *c = *state;

    open_at(c, "A");
    store(c, 7, 2);
    open_at(c, "B");
    uint64_t last = store(c, 8, 1);
    spool_case_damage(c, 1, 0, 8192); /* header and records */
    c->spool->opened = false;         /* killed */
    open_at(c, "A");
    assert_int_equal(find(c, 7).identity, 0);
    assert_true(store(c, 9, 1) > last);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, spool_case_begin, end)

int main(void)
{
    log_open(&(struct log_options){.level = LOG_LEVEL_EMERGENCY, .fd = 2});
    const struct CMUnitTest tests[] = {
        TEST(test_another_destination_keeps_identities_and_order),
        TEST(test_a_release_at_another_destination_holds_after_the_return),
        TEST(test_a_session_that_ended_elsewhere_is_forgotten_at_the_return),
        TEST(test_identities_taken_over_win_over_older_segments_after_a_reboot),
        TEST(test_a_lost_segment_at_another_destination_gives_no_sequence_twice),
        TEST(test_the_file_current_is_written_once_it_can_be),
        TEST(test_another_destination_opens_on_a_full_disk),
        TEST(test_a_damaged_recent_file_of_the_previous_spool_costs_no_identity),
        TEST(test_a_previous_spool_in_use_is_waited_for),
        TEST(test_an_unusable_previous_spool_costs_its_identities_and_sequences),
        TEST(test_a_previous_spool_without_a_readable_segment_costs_its_identities),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
