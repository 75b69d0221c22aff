/* The spool as its users see it: order, acknowledgement, sleep, two threads. */
#include "spool_case.h"

#include "common/client/oversized_file.h"

#include <poll.h>
#include <pthread.h>
#include <semaphore.h>

static void test_appended_messages_are_read_in_order_with_all_fields(void **state)
{
    struct spool_case *c = *state;
    struct error err;
    struct record read;
    struct record first = {
        .received_us = 1700000000123456,
        .qos = 2,
        .retained = true,
        .packet_id = 513,
        .topic = BYTES("a/\xC3\xA9"),
        .payload = BYTES("nul\0inside"),
    };
    struct record empty = {.topic = BYTES("t")};

    spool_case_open(c);
    assert_int_equal(spool_append(c->spool, &first, &err), 0);
    assert_int_equal(spool_append(c->spool, &empty, &err), 0);
    assert_int_equal(spool_next(c->spool, &read, &err), 1);
    assert_int_equal(read.sequence, 1);
    assert_int_equal(read.run, c->spool->run);
    assert_int_equal(read.received_us, first.received_us);
    assert_int_equal(read.qos, 2);
    assert_true(read.retained);
    assert_int_equal(read.packet_id, 513);
    assert_true(bytes_equal(read.topic, first.topic));
    assert_true(bytes_equal(read.payload, first.payload));
    assert_int_equal(spool_next(c->spool, &read, &err), 1);
    assert_int_equal(read.sequence, 2);
    assert_int_equal(read.payload.len, 0);
    assert_int_equal(spool_next(c->spool, &read, &err), 0);
}

static struct record of_packet(uint16_t packet_id, int qos, const char *payload)
{
    return (struct record){
        .packet_id = packet_id, .qos = qos, .topic = BYTES("t"), .payload = bytes_of(payload)};
}

static uint64_t store(struct spool_case *c, uint16_t packet_id, int qos, const char *payload)
{
    struct record message = of_packet(packet_id, qos, payload);
    struct error err;

    assert_int_equal(spool_append(c->spool, &message, &err), 0);
    return message.sequence;
}

/* Identity of the message that this may be a repeat of; 0: none. */
static uint64_t recent(const struct spool_case *c, uint16_t packet_id, const char *payload,
                       bool *unreleased)
{
    struct record message = of_packet(packet_id, 1, payload);
    struct spool_recent found = {0};

    bool is = spool_find_recent(c->spool, &message, &found);
    *unreleased = found.unreleased;
    return is ? found.identity : 0;
}

static void test_a_repeat_keeps_the_identity_of_the_first_copy_over_a_restart(void **state)
{
    struct spool_case *c = *state;
    struct record message, again = of_packet(7, 1, "x");
    struct error err;
    bool unreleased;

    spool_case_open(c);
    assert_int_equal(store(c, 7, 1, "x"), 1);
    assert_int_equal(recent(c, 7, "x", &unreleased), 1);
    again.identity = 1;
    assert_int_equal(spool_append(c->spool, &again, &err), 0);
    assert_int_equal(again.sequence, 2);
    assert_int_equal(again.identity, 1);
    spool_case_reopen_killed(c);
    assert_int_equal(recent(c, 7, "x", &unreleased), 1);
    assert_int_equal(recent(c, 7, "y", &unreleased), 0);
    assert_int_equal(recent(c, 8, "x", &unreleased), 0);
    assert_int_equal(spool_next(c->spool, &message, &err), 1);
    assert_int_equal(message.identity, 1);
    assert_int_equal(spool_next(c->spool, &message, &err), 1);
    assert_int_equal(message.sequence, 2);
    assert_int_equal(message.identity, 1);
}

static void test_identities_outlive_their_segments_and_any_number_of_restarts(void **state)
{
    struct spool_case *c = *state;
    bool unreleased;

    c->options.retain = 0;
    spool_case_open(c);
    store(c, 7, 1, "x");
    store(c, 60000, 2, "two");
    for (int n = 1; n <= 3; n++) {
        for (int i = 0; i < 1000; i++)
            store(c, 0, 0,
                  "much that is nobody's repeat, so that segments are freed; much, much, "
                  "much, much, much, much, much, much, much, much, much, much, much, much");
        struct record message;
        struct error err;
        while (spool_next(c->spool, &message, &err) > 0)
            spool_case_commit(c);
        spool_case_reopen_killed(c);
        spool_apply_mark(c->spool, BYTES_NONE);
    }
    assert_true(c->spool->reader.first->header.number > 1);
    assert_int_equal(recent(c, 7, "x", &unreleased), 1);
    assert_int_equal(recent(c, 60000, "two", &unreleased), 2);
    assert_true(unreleased);
    spool_case_reopen(c);
    assert_int_equal(recent(c, 7, "x", &unreleased), 1);
}

static void test_a_damaged_file_of_identities_is_made_good_from_the_segments(void **state)
{
    struct spool_case *c = *state;
    unsigned char id[16];
    char path[160];
    bool unreleased;

    spool_case_open(c);
    store(c, 7, 1, "x");
    spool_case_reopen(c);
    memcpy(id, c->spool->id, sizeof(id));
    spool_case_close(c);
    spool_case_path(c, "recent", path);
    int fd = open(path, O_WRONLY);
    assert_int_equal(pwrite(fd, "garbage", 7, 100), 7);
    close(fd);
    spool_case_open(c);
    assert_int_equal(recent(c, 7, "x", &unreleased), 1);
    spool_case_close(c);
    struct recent *healed = recent_new();
    struct recent_start start;
    int dir = open(c->dir, O_RDONLY | O_DIRECTORY);
    assert_true(recent_load(healed, dir, &start));
    assert_memory_equal(start.spool_id, id, sizeof(id));
    assert_int_equal(start.through, 2);
    recent_free(healed);
    close(dir);
    assert_int_equal(unlink(path), 0);
    spool_case_open(c);
    assert_int_equal(recent(c, 7, "x", &unreleased), 1);
}

static void test_an_unwritable_file_of_identities_leaves_the_previous_one(void **state)
{
    struct spool_case *c = *state;
    bool unreleased;

    spool_case_open(c);
    store(c, 7, 1, "x");
    spool_case_reopen(c);
    store(c, 7, 1, "y");
    store(c, 8, 2, "z");
    sys_fail(SYS_RENAME, 1, 1, ENOSPC);
    spool_case_close(c);
    assert_int_equal(sys_calls(SYS_RENAME), 1);
    sys_heal();
    assert_int_equal(spool_case_files(c, "recent.new"), 0);
    spool_case_open(c);
    assert_int_equal(recent(c, 7, "x", &unreleased), 0);
    assert_int_equal(recent(c, 7, "y", &unreleased), 2);
    assert_int_equal(recent(c, 8, "z", &unreleased), 3);
    assert_true(unreleased);
}

static void test_a_message_lost_in_a_power_cut_is_not_unreleased(void **state)
{
    struct spool_case *c = *state;
    bool unreleased;

    spool_case_open(c);
    store(c, 7, 2, "x");
    uint64_t end = tail_offset(c->spool->shared.tail);
    store(c, 8, 2, "y");
    spool_case_close(c);
    int fd = spool_case_file(c, 1, O_RDWR);
    assert_int_equal(ftruncate(fd, (off_t)end), 0);
    close(fd);
    spool_case_reboot(c);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(recent(c, 7, "x", &unreleased), 1);
        assert_true(unreleased);
        assert_int_equal(recent(c, 8, "y", &unreleased), 2);
        assert_false(unreleased);
        spool_case_reopen_killed(c);
    }
}

static void test_a_released_message_stays_so_over_a_kill(void **state)
{
    struct spool_case *c = *state;
    uint16_t ids[8];
    struct error err;
    bool unreleased;

    spool_case_open(c);
    for (uint16_t id = 1; id <= 5; id++)
        store(c, id, 2, "x");
    store(c, 6, 1, "x");
    assert_int_equal(spool_release(c->spool, 2, &err), 0);
    uint64_t tail = c->spool->shared.tail;
    assert_int_equal(spool_release(c->spool, 2, &err), 0); /* once is enough */
    assert_int_equal(spool_release(c->spool, 6, &err), 0);
    assert_int_equal(c->spool->shared.tail, tail);
    spool_case_reopen_killed(c);
    assert_int_equal(spool_unreleased(c->spool, ids, 8), 4);
    assert_int_equal(ids[0], 1);
    assert_int_equal(ids[1], 3);
    assert_int_equal(spool_unreleased(c->spool, ids, 2), 2);
    assert_int_equal(recent(c, 2, "x", &unreleased), 2);
    assert_false(unreleased);
    assert_int_equal(recent(c, 3, "x", &unreleased), 3);
    assert_true(unreleased);
}

static void test_a_new_session_forgets_all_that_came_before_over_a_kill(void **state)
{
    struct spool_case *c = *state;
    uint16_t ids[8];
    struct error err;
    bool unreleased;

    spool_case_open(c);
    assert_int_equal(spool_begin_session(c->spool, &err), 0);
    assert_int_equal(spool_case_files(c, ".segment"), 0); /* nothing to forget */
    store(c, 1, 2, "x");
    store(c, 2, 1, "x");
    assert_int_equal(spool_begin_session(c->spool, &err), 0);
    store(c, 3, 2, "x");
    for (int i = 0; i < 2; i++) {
        assert_int_equal(recent(c, 1, "x", &unreleased), 0);
        assert_int_equal(recent(c, 2, "x", &unreleased), 0);
        assert_int_equal(spool_unreleased(c->spool, ids, 8), 1);
        assert_int_equal(ids[0], 3);
        spool_case_reopen_killed(c);
    }
}

static void test_control_records_are_no_messages(void **state)
{
    struct spool_case *c = *state;
    struct error err;

    spool_case_open(c);
    store(c, 1, 2, "1");
    assert_int_equal(spool_release(c->spool, 1, &err), 0);
    assert_int_equal(store(c, 2, 2, "2"), 2);
    assert_int_equal(spool_begin_session(c->spool, &err), 0);
    assert_int_equal(spool_case_state(c).unsent_records, 2);
    assert_int_equal(spool_case_state(c).last_sequence, 2);
    spool_case_expect(c, 1, 2);
    spool_case_commit(c);
    spool_case_expect_none(c);
    assert_true(spool_arm_wakeup(c->spool));
    assert_int_equal(spool_case_state(c).unsent_records, 0);
    assert_int_equal(spool_case_rewind(c, c->spool->run, 2).kind, MARK_IN_STEP);
    spool_case_expect_none(c);
    spool_case_reopen_killed(c);
    assert_int_equal(store(c, 3, 2, "3"), 3);
    spool_apply_mark(c->spool, BYTES_NONE);
    spool_case_expect(c, 1, 3);
    assert_int_equal(spool_case_state(c).damaged_records, 0);
}

static void test_a_repeat_is_recognised_at_any_distance_of_32_bits(void **state)
{
    struct spool_case *c = *state;
    struct record again = {.identity = 1, .topic = BYTES("t")};
    struct error err;

    spool_case_open(c);
    store(c, 7, 1, "x");
    writer_skip_to(c->spool, UINT64_C(1) + UINT32_MAX);
    assert_int_equal(spool_append(c->spool, &again, &err), 0);
    assert_int_equal(again.identity, 1);
    again.identity = 1;
    assert_int_equal(spool_append(c->spool, &again, &err), 0);
    assert_int_equal(again.identity, again.sequence);
}

static void test_all_records_survive_a_kill_and_sequences_continue(void **state)
{
    struct spool_case *c = *state;
    struct record message;

    spool_case_open(c);
    uint64_t run = c->spool->run;
    char id[33];
    strcpy(id, spool_id(c->spool));
    spool_case_fill(c, 1, 1000, 100);
    spool_case_reopen_killed(c);
    assert_string_equal(spool_id(c->spool), id);
    assert_int_not_equal(c->spool->run, run);
    assert_int_equal(spool_case_append(c, 1001, 100), 1001);
    assert_int_equal(spool_case_next(c, &message), 1);
    assert_int_equal(message.run, run);
    spool_case_expect(c, 2, 1000);
    assert_int_equal(spool_case_next(c, &message), 1001);
    assert_int_equal(message.run, c->spool->run);
    spool_case_expect_none(c);
}

static void test_a_spool_that_is_open_cannot_be_opened_again(void **state)
{
    struct spool_case *c = *state;
    struct spool *second;
    struct error err;

    spool_case_open(c);
    assert_int_equal(spool_open(&second, &c->options, &err), -ERR_LOCKED);
    assert_null(second);
    spool_case_close(c);
    assert_int_equal(spool_open(&second, &c->options, &err), 0);
    spool_close(second);
}

static void test_committed_records_are_not_read_again_after_a_clean_end(void **state)
{
    struct spool_case *c = *state;

    spool_case_open(c);
    spool_case_fill(c, 1, 10, 100);
    spool_case_expect(c, 1, 6);
    spool_case_commit(c);
    spool_case_reopen(c);
    assert_int_equal(spool_case_state(c).unsent_records, 4);
    spool_case_expect(c, 7, 10);
    spool_case_commit(c);
    spool_case_reopen(c);
    spool_case_reopen(c); /* and a start in which nothing happened changes nothing */
    assert_int_equal(spool_case_state(c).unsent_records, 0);
    spool_case_expect_none(c);
}

static void test_without_the_hint_of_a_clean_end_everything_kept_is_given(void **state)
{
    struct spool_case *c = *state;

    spool_case_open(c);
    spool_case_fill(c, 1, 10, 100);
    spool_case_expect(c, 1, 6);
    spool_case_commit(c);
    spool_case_reopen_killed(c);
    spool_case_expect(c, 1, 10);
}

static void test_records_of_many_segments_are_read_in_order(void **state)
{
    struct spool_case *c = *state;

    spool_case_open(c);
    spool_case_fill(c, 1, 2000, 1000);
    assert_true(spool_case_files(c, ".segment") >= 6);
    spool_case_expect(c, 1, 2000);
    spool_case_expect_none(c);
}

static void test_a_segment_takes_the_largest_message_that_was_asked_for(void **state)
{
    struct spool_case *c = *state;

    c->options.size = 16 * MB;
    c->options.largest_message = 2 * MB;
    spool_case_open(c);
    assert_in_range(c->spool->segment_size, 2 * MB - 8192, 2 * MB); /* an eighth, at most */
    spool_case_close(c);
    spool_case_clear(c->dir);
    c->options.largest_message = 1500 * KB;
    spool_case_open(c);
    assert_in_range(spool_largest_message(c->spool), 1500 * KB, 1504 * KB);
    spool_case_append(c, 1, (size_t)spool_largest_message(c->spool) - 19);
    spool_case_expect(c, 1, 1);
    assert_int_equal(spool_case_files(c, ".oversized"), 0);
}

static void test_bytes_stay_until_the_next_is_read_though_the_writer_goes_on(void **state)
{
    struct spool_case *c = *state;
    struct record message;

    spool_case_open(c);
    for (int n = 1; n <= 500; n++) {
        spool_case_append(c, n, 3000);
        assert_int_equal(spool_case_next(c, &message), n);
        spool_case_commit(c);
        assert_int_equal(atoi(message.payload.data), n);
        assert_int_equal(message.payload.len, 3000);
    }
}

static void test_a_message_too_large_for_a_segment_is_a_file_in_its_sequence(void **state)
{
    struct spool_case *c = *state;
    struct record message;
    struct oversized_message file;
    struct spool_recent found;
    struct buf data = {0};
    struct error err;
    char *payload = xcalloc(1, 1 * MB);

    memset(payload, 'y', 1 * MB);
    struct record large = {.packet_id = 9,
                           .qos = 1,
                           .retained = true,
                           .received_us = 77,
                           .topic = BYTES("t/large"),
                           .payload = {payload, 1 * MB}};
    spool_case_open(c);
    spool_case_append(c, 1, 10);
    assert_int_equal(spool_append(c->spool, &large, &err), 0);
    assert_int_equal(large.sequence, 2);
    spool_case_append(c, 3, 10);
    for (int i = 0; i < 2; i++) {
        spool_case_expect(c, 1, 1);
        assert_int_equal(spool_next(c->spool, &message, &err), 1);
        assert_true(message.oversized);
        assert_int_equal(message.sequence, 2);
        assert_true(bytes_equal_text(message.topic, "t/large"));
        spool_case_expect(c, 3, 3);
        assert_true(spool_find_recent(c->spool, &large, &found));
        assert_int_equal(found.identity, 2);
        assert_false(spool_above_high_water(c->spool));
        assert_int_equal(spool_case_files(c, ".oversized"), 1);
        spool_case_reopen_killed(c);
    }
    assert_int_equal(oversized_file_read(c->spool->dir, 2, &file, &data, &err), 0);
    assert_memory_equal(file.spool_id, c->spool->id, 16);
    assert_int_equal(file.record.identity, 2);
    assert_int_equal(file.record.qos, 1);
    assert_true(file.record.retained);
    assert_int_equal(file.record.received_us, 77);
    assert_true(bytes_equal(file.record.payload, large.payload));
    assert_int_equal(oversized_file_remove(c->spool->dir, 2, &err), 0);
    assert_int_equal(oversized_file_read(c->spool->dir, 2, &file, &data, &err), -ERR_NOT_FOUND);
    buf_free(&data);
    free(payload);
}

static void test_a_file_whose_record_was_not_written_keeps_its_sequence(void **state)
{
    struct spool_case *c = *state;
    struct error err;
    uint64_t sequence;

    spool_case_open(c);
    spool_case_append(c, 1, 10);
    sys_fail(SYS_WRITE, 4, 1, EIO); /* behind head, topic and payload: the record */
    assert_int_equal(spool_case_try(c, 2, 1 * MB, &sequence, &err), -ERR_SYSTEM);
    sys_heal();
    assert_int_equal(spool_case_files(c, ".oversized"), 1);
    spool_case_reopen_killed(c);
    assert_int_equal(spool_case_append(c, 3, 10), 3);
}

static void test_without_room_for_the_file_nothing_was_stored(void **state)
{
    struct spool_case *c = *state;
    struct error err;
    uint64_t sequence;

    spool_case_open(c);
    sys_fail(SYS_WRITE, 3, 1, ENOSPC);
    assert_int_equal(spool_case_try(c, 1, 1 * MB, &sequence, &err), -ERR_SYSTEM);
    sys_heal();
    assert_int_equal(spool_case_files(c, ".oversized"), 0);
    assert_int_equal(spool_case_files(c, ".half"), 0);
    spool_case_expect_none(c);
    assert_int_equal(spool_case_append(c, 1, 10), 1);
}

static void test_a_damaged_file_of_a_message_is_reported(void **state)
{
    struct spool_case *c = *state;
    struct oversized_message file;
    struct buf data = {0};
    struct error err;
    char path[160];

    spool_case_open(c);
    spool_case_append(c, 1, 1 * MB);
    spool_case_path(c, "00000000000000000001.oversized", path);
    int fd = open(path, O_WRONLY);
    assert_int_equal(pwrite(fd, "Z", 1, 5000), 1);
    assert_int_equal(oversized_file_read(c->spool->dir, 1, &file, &data, &err), -ERR_FORMAT);
    assert_int_equal(ftruncate(fd, 5000), 0);
    close(fd);
    assert_int_equal(oversized_file_read(c->spool->dir, 1, &file, &data, &err), -ERR_FORMAT);
    buf_free(&data);
}

static void test_spool_state_counts_unsent_records(void **state)
{
    struct spool_case *c = *state;

    spool_case_open(c);
    assert_int_equal(spool_case_state(c).unsent_records, 0);
    spool_case_fill(c, 1, 10, 100);
    struct spool_state one = spool_case_state(c);
    assert_int_equal(one.unsent_records, 10);
    assert_int_equal(one.last_sequence, 10);
    assert_int_equal(one.committed_sequence, 0);
    assert_int_equal(one.limit_bytes, 4 * MB);
    assert_true(one.used_bytes >= c->spool->segment_size);
    spool_case_expect(c, 1, 4);
    spool_case_commit(c);
    struct spool_state two = spool_case_state(c);
    assert_int_equal(two.unsent_records, 6);
    assert_int_equal(two.committed_sequence, 4);
}

static bool is_readable(const struct spool_case *c)
{
    struct pollfd fd = {.fd = spool_event_fd(c->spool), .events = POLLIN};

    return poll(&fd, 1, 0) == 1;
}

static void test_an_append_wakes_the_reader_only_if_it_sleeps(void **state)
{
    struct spool_case *c = *state;

    spool_case_open(c);
    spool_case_append(c, 1, 100);
    spool_disarm_wakeup(c->spool); /* of the segment's beginning */
    assert_false(is_readable(c));
    assert_false(spool_arm_wakeup(c->spool)); /* there is something unread */
    spool_case_append(c, 2, 100);
    assert_false(is_readable(c));
    spool_case_expect(c, 1, 2);
    assert_true(spool_arm_wakeup(c->spool));
    assert_false(is_readable(c));
    spool_case_append(c, 3, 100);
    assert_true(is_readable(c));
    spool_disarm_wakeup(c->spool);
    assert_false(is_readable(c));
    spool_case_append(c, 4, 100);
    assert_false(is_readable(c));
}

static void test_the_reader_is_woken_to_make_a_spare(void **state)
{
    struct spool_case *c = *state;
    int n = 1;

    spool_case_open(c);
    while (c->spool->writer.number < 2)
        spool_case_append(c, n++, 1000);
    assert_true(is_readable(c));
    spool_disarm_wakeup(c->spool);
    assert_int_equal(spool_case_files(c, "spare"), 1);
}

#define THREAD_MESSAGES 20000
#define THREAD_PACE     2500 /* the writer waits here until the reader has gone to sleep */

struct writer_case {
    struct spool_case *spool;
    sem_t slept; /* posted by the reader each time it goes to sleep */
};

static void *write_all(void *context)
{
    struct writer_case *w = context;

    for (int n = 1; n <= THREAD_MESSAGES; n++) {
        spool_case_append(w->spool, n, (size_t)(n * 37 % 900));
        if (n % THREAD_PACE == 0 && n < THREAD_MESSAGES)
            sem_wait(&w->slept);
    }
    return NULL;
}

static void test_a_writer_and_a_reader_at_work_together_lose_nothing(void **state)
{
    struct spool_case *c = *state;
    struct record message = {0};
    struct writer_case w = {.spool = c};
    pthread_t writer;
    int read = 0, slept = 0;

    c->options.size = 64 * MB;
    c->options.retain = 256 * KB;
    spool_case_open(c);
    assert_int_equal(sem_init(&w.slept, 0, 0), 0);
    assert_int_equal(pthread_create(&writer, NULL, write_all, &w), 0);
    while (read < THREAD_MESSAGES) {
        int next = spool_case_next(c, &message);

        if (next > 0) {
            assert_int_equal(next, read + 1);
            assert_int_equal(message.payload.len >= (size_t)(next * 37 % 900), true);
            read = next;
        }
        if (next != 0 && read % 256 != 0)
            continue;
        spool_case_commit(c);
        assert_false(spool_above_high_water(c->spool));
        if (next == 0 && spool_arm_wakeup(c->spool)) {
            struct pollfd fd = {.fd = spool_event_fd(c->spool), .events = POLLIN};

            sem_post(&w.slept);
            assert_int_equal(poll(&fd, 1, 30000), 1);
            spool_disarm_wakeup(c->spool);
            slept++;
        }
    }
    pthread_join(writer, NULL);
    sem_destroy(&w.slept);
    spool_case_commit(c);
    assert_true(slept >= THREAD_MESSAGES / THREAD_PACE - 1);
    spool_case_expect_none(c);
    assert_int_equal(spool_case_state(c).unsent_records, 0);
}

static void test_a_destination_too_long_is_refused(void **state)
{
    struct spool_case *c = *state;
    char text[SEGMENT_TEXT_MAX + 2];
    struct error err;

    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    c->options.destination = text;
    assert_int_equal(spool_open(&c->spool, &c->options, &err), -ERR_USAGE);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, spool_case_begin, spool_case_end)

int main(void)
{
    log_open(&(struct log_options){.level = LOG_LEVEL_ERROR, .fd = 2});
    const struct CMUnitTest tests[] = {
        TEST(test_appended_messages_are_read_in_order_with_all_fields),
        TEST(test_a_repeat_keeps_the_identity_of_the_first_copy_over_a_restart),
        TEST(test_identities_outlive_their_segments_and_any_number_of_restarts),
        TEST(test_a_damaged_file_of_identities_is_made_good_from_the_segments),
        TEST(test_an_unwritable_file_of_identities_leaves_the_previous_one),
        TEST(test_a_message_lost_in_a_power_cut_is_not_unreleased),
        TEST(test_a_released_message_stays_so_over_a_kill),
        TEST(test_a_new_session_forgets_all_that_came_before_over_a_kill),
        TEST(test_control_records_are_no_messages),
        TEST(test_a_repeat_is_recognised_at_any_distance_of_32_bits),
        TEST(test_all_records_survive_a_kill_and_sequences_continue),
        TEST(test_a_spool_that_is_open_cannot_be_opened_again),
        TEST(test_committed_records_are_not_read_again_after_a_clean_end),
        TEST(test_without_the_hint_of_a_clean_end_everything_kept_is_given),
        TEST(test_records_of_many_segments_are_read_in_order),
        TEST(test_a_segment_takes_the_largest_message_that_was_asked_for),
        TEST(test_bytes_stay_until_the_next_is_read_though_the_writer_goes_on),
        TEST(test_a_message_too_large_for_a_segment_is_a_file_in_its_sequence),
        TEST(test_a_file_whose_record_was_not_written_keeps_its_sequence),
        TEST(test_without_room_for_the_file_nothing_was_stored),
        TEST(test_a_damaged_file_of_a_message_is_reported),
        TEST(test_spool_state_counts_unsent_records),
        TEST(test_an_append_wakes_the_reader_only_if_it_sleeps),
        TEST(test_the_reader_is_woken_to_make_a_spare),
        TEST(test_a_writer_and_a_reader_at_work_together_lose_nothing),
        TEST(test_a_destination_too_long_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
