/* The spool as its users see it: order, acknowledgement, sleep, two threads. */
#include "spool_case.h"

#include <poll.h>
#include <pthread.h>
#include <semaphore.h>

static void test_what_is_appended_is_read_in_order_with_all_its_fields(void **state)
{
    struct spool_case *c = *state;
    struct error err;
    struct spool_message read;
    struct spool_message first = {
        .received_us = 1700000000123456,
        .qos = 2,
        .retained = true,
        .packet_id = 513,
        .topic = BYTES("a/\xC3\xA9"),
        .payload = BYTES("nul\0inside"),
        .properties = BYTES("\x01\x00"),
    };
    struct spool_message empty = {.topic = BYTES("t")};

    spool_case_open(c);
    assert_int_equal(spool_append(c->spool, &first, &err), 0);
    assert_int_equal(spool_append(c->spool, &empty, &err), 0);
    assert_int_equal(spool_next(c->spool, &read, &err), 1);
    assert_int_equal(read.sequence, 1);
    assert_int_equal(read.run, spool_run(c->spool));
    assert_int_equal(read.received_us, first.received_us);
    assert_int_equal(read.qos, 2);
    assert_true(read.retained);
    assert_int_equal(read.packet_id, 513);
    assert_true(bytes_equal(read.topic, first.topic));
    assert_true(bytes_equal(read.payload, first.payload));
    assert_true(bytes_equal(read.properties, first.properties));
    assert_int_equal(spool_next(c->spool, &read, &err), 1);
    assert_int_equal(read.sequence, 2);
    assert_int_equal(read.payload.len, 0);
    assert_int_equal(spool_next(c->spool, &read, &err), 0);
}

struct recalled {
    size_t len;
    uint64_t first;
    uint64_t last;
    uint64_t last_identity;
};

static void on_recalled(void *context, const struct spool_message *message)
{
    struct recalled *recalled = context;

    if (recalled->len++ == 0)
        recalled->first = message->sequence;
    recalled->last = message->sequence;
    recalled->last_identity = message->identity;
}

static void test_a_repeat_keeps_the_identity_of_the_first_copy_over_a_restart(void **state)
{
    struct spool_case *c = *state;
    struct spool_message message, first = {.topic = BYTES("t"), .payload = BYTES("x")};
    struct recalled recalled = {0};
    struct error err;

    spool_case_open(c);
    assert_int_equal(spool_append(c->spool, &first, &err), 0);
    assert_int_equal(first.identity, 1);
    struct spool_message again = {
        .identity = first.identity, .topic = BYTES("t"), .payload = BYTES("x")};
    assert_int_equal(spool_append(c->spool, &again, &err), 0);
    assert_int_equal(again.sequence, 2);
    assert_int_equal(again.identity, 1);
    spool_case_reopen_killed(c);
    spool_load_recent(c->spool, 1, on_recalled, &recalled);
    assert_int_equal(recalled.len, 1);
    assert_int_equal(recalled.last, 2);
    assert_int_equal(recalled.last_identity, 1);
    assert_int_equal(spool_next(c->spool, &message, &err), 1);
    assert_int_equal(message.identity, 1);
    assert_int_equal(spool_next(c->spool, &message, &err), 1);
    assert_int_equal(message.sequence, 2);
    assert_int_equal(message.identity, 1);
}

static void test_a_repeat_of_what_is_too_far_back_counts_as_new(void **state)
{
    struct spool_case *c = *state;
    struct spool_message again = {.identity = 1, .topic = BYTES("t")};
    struct error err;

    c->options.size = 64 << 20;
    spool_case_open(c);
    spool_case_fill(c, 1, UINT16_MAX + 1, 10);
    assert_int_equal(spool_append(c->spool, &again, &err), 0);
    assert_int_equal(again.identity, again.sequence);
}

static void test_the_youngest_messages_are_recalled_and_reading_is_not_disturbed(void **state)
{
    struct spool_case *c = *state;
    struct recalled recalled = {0}, all = {0};

    c->options.size = 64 << 20;
    spool_case_open(c);
    spool_case_fill(c, 1, 5000, 1000);
    spool_case_reopen_killed(c);
    spool_load_recent(c->spool, 100, on_recalled, &recalled);
    assert_int_equal(recalled.len, 100);
    assert_int_equal(recalled.first, 4901);
    assert_int_equal(recalled.last, 5000);
    spool_load_recent(c->spool, 1000000, on_recalled, &all);
    assert_int_equal(all.len, 5000);
    spool_case_expect(c, 1, 5000);
}

static void test_no_more_is_recalled_than_a_start_can_wait_for(void **state)
{
    struct spool_case *c = *state;
    struct recalled recalled = {0};

    c->options.size = 128 * MB;
    spool_case_open(c);
    spool_case_fill(c, 1, 80, 1 * MB);
    spool_case_reopen_killed(c);
    spool_load_recent(c->spool, 1000000, on_recalled, &recalled);
    assert_in_range(recalled.len, 56, 64);
    assert_int_equal(recalled.last, 80);
}

static void test_everything_is_there_after_a_kill_and_sequences_go_on(void **state)
{
    struct spool_case *c = *state;
    struct spool_message message;

    spool_case_open(c);
    uint64_t run = spool_run(c->spool);
    char id[33];
    strcpy(id, spool_id(c->spool));
    spool_case_fill(c, 1, 1000, 100);
    spool_case_reopen_killed(c);
    assert_string_equal(spool_id(c->spool), id);
    assert_int_not_equal(spool_run(c->spool), run);
    assert_int_equal(spool_case_append(c, 1001, 100), 1001);
    assert_int_equal(spool_case_next(c, &message), 1);
    assert_int_equal(message.run, run);
    spool_case_expect(c, 2, 1000);
    assert_int_equal(spool_case_next(c, &message), 1001);
    assert_int_equal(message.run, spool_run(c->spool));
    spool_case_expect_none(c);
}

static void test_one_process_has_a_spool(void **state)
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

static void test_what_was_committed_is_not_given_again_after_a_clean_end(void **state)
{
    struct spool_case *c = *state;

    spool_case_open(c);
    spool_case_fill(c, 1, 10, 100);
    spool_commit(c->spool, spool_case_expect(c, 1, 6));
    spool_case_reopen(c);
    assert_int_equal(spool_case_state(c).unsent_records, 4);
    spool_commit(c->spool, spool_case_expect(c, 7, 10));
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
    spool_commit(c->spool, spool_case_expect(c, 1, 6));
    spool_case_reopen_killed(c);
    spool_case_expect(c, 1, 10);
}

static void test_many_segments_read_as_one_row(void **state)
{
    struct spool_case *c = *state;

    spool_case_open(c);
    spool_case_fill(c, 1, 2000, 1000);
    assert_true(spool_case_files(c, ".segment") >= 6);
    spool_case_expect(c, 1, 2000);
    spool_case_expect_none(c);
}

static void test_a_message_larger_than_a_segment_gets_its_own(void **state)
{
    struct spool_case *c = *state;
    struct spool_message message;

    spool_case_open(c);
    spool_case_append(c, 1, 10);
    spool_case_append(c, 2, 1 * MB);
    spool_case_append(c, 3, 10);
    spool_case_reopen_killed(c);
    spool_case_expect(c, 1, 1);
    assert_int_equal(spool_case_next(c, &message), 2);
    assert_int_equal(message.payload.len, 1 * MB);
    for (size_t i = 1; i < message.payload.len; i++)
        assert_int_equal(message.payload.data[i], 'x');
    spool_case_expect(c, 3, 3);
}

static void test_bytes_stay_until_their_record_is_committed(void **state)
{
    struct spool_case *c = *state;
    struct spool_message messages[1000];

    c->options.size = 16 * MB;
    spool_case_open(c);
    for (int n = 1; n <= 1000; n++) {
        spool_case_append(c, n, 3000);
        assert_int_equal(spool_case_next(c, &messages[n - 1]), n);
    }
    spool_commit(c->spool, messages[499].sequence);
    for (int n = 501; n <= 1000; n++) {
        assert_int_equal(atoi(messages[n - 1].payload.data), n);
        assert_int_equal(messages[n - 1].payload.len, 3000);
    }
}

static void test_numbers_tell_what_is_unsent(void **state)
{
    struct spool_case *c = *state;

    spool_case_open(c);
    assert_int_equal(spool_case_state(c).unsent_records, 0);
    assert_int_equal(spool_case_state(c).unsent_bytes, 0);
    spool_case_fill(c, 1, 10, 100);
    struct spool_state one = spool_case_state(c);
    assert_int_equal(one.unsent_records, 10);
    assert_int_equal(one.unsent_bytes, 10 * (RECORD_HEAD_SIZE + 19 + 100 + 1));
    assert_int_equal(one.last_sequence, 10);
    assert_int_equal(one.committed_sequence, 0);
    assert_int_equal(one.limit_bytes, 4 * MB);
    assert_true(one.used_bytes >= c->spool->segment_size);
    spool_commit(c->spool, spool_case_expect(c, 1, 4));
    struct spool_state two = spool_case_state(c);
    assert_int_equal(two.unsent_records, 6);
    assert_int_equal(two.unsent_bytes, one.unsent_bytes * 6 / 10);
    assert_int_equal(two.committed_sequence, 4);
}

/* Sleep ------------------------------------------------------------------------------------------ */

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
    struct spool_message message = {0};
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
        spool_commit(c->spool, message.sequence);
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
    spool_commit(c->spool, message.sequence);
    assert_true(slept >= THREAD_MESSAGES / THREAD_PACE - 1);
    spool_case_expect_none(c);
    assert_int_equal(spool_case_state(c).unsent_records, 0);
}

static void test_a_client_id_or_destination_too_long_is_refused(void **state)
{
    struct spool_case *c = *state;
    char text[SEGMENT_TEXT_MAX + 2];
    struct error err;

    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    c->options.client_id = text;
    assert_int_equal(spool_open(&c->spool, &c->options, &err), -ERR_USAGE);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, spool_case_begin, spool_case_end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_what_is_appended_is_read_in_order_with_all_its_fields),
        TEST(test_a_repeat_keeps_the_identity_of_the_first_copy_over_a_restart),
        TEST(test_a_repeat_of_what_is_too_far_back_counts_as_new),
        TEST(test_the_youngest_messages_are_recalled_and_reading_is_not_disturbed),
        TEST(test_no_more_is_recalled_than_a_start_can_wait_for),
        TEST(test_everything_is_there_after_a_kill_and_sequences_go_on),
        TEST(test_one_process_has_a_spool),
        TEST(test_what_was_committed_is_not_given_again_after_a_clean_end),
        TEST(test_without_the_hint_of_a_clean_end_everything_kept_is_given),
        TEST(test_many_segments_read_as_one_row),
        TEST(test_a_message_larger_than_a_segment_gets_its_own),
        TEST(test_bytes_stay_until_their_record_is_committed),
        TEST(test_numbers_tell_what_is_unsent),
        TEST(test_an_append_wakes_the_reader_only_if_it_sleeps),
        TEST(test_the_reader_is_woken_to_make_a_spare),
        TEST(test_a_writer_and_a_reader_at_work_together_lose_nothing),
        TEST(test_a_client_id_or_destination_too_long_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
