#include "common/runtime/stats.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static void test_stats_written_through_one_mapping_are_read_through_another(void **state)
{
    struct stats *made = NULL, *attached = NULL;
    struct error err;
    int fd = -1;
    char reason[STATS_REASON_SIZE];

    (void)state;
    assert_int_equal(stats_create(&made, 4, &fd, &err), 0);
    assert_int_equal(stats_attach(&attached, fd, &err), 0);
    stats_add(&made->slot[3], STATS_DISPATCHED, 5);
    stats_set(&made->slot[3], STATS_CONNECTED, 1);
    stats_reason(&made->slot[3], "broker away");
    assert_int_equal(stats_counter(&attached->slot[3], STATS_DISPATCHED), 5);
    assert_int_equal(stats_gauge(&attached->slot[3], STATS_CONNECTED), 1);
    stats_reason_read(&attached->slot[3], reason);
    assert_string_equal(reason, "broker away");
    close(fd);
    stats_free(made);
    stats_free(attached);
}

static void test_an_ended_childs_totals_stay_and_its_gauges_go(void **state)
{
    struct stats *stats = stats_private();
    struct stats_slot *slot = &stats->slot[0];

    (void)state;
    stats_add(slot, STATS_HANDLED_DONE, 7);
    stats_set(slot, STATS_PREFETCHED, 9);
    stats_set(slot, STATS_SPOOL_MESSAGES, 3);
    stats_set(slot, STATS_SPOOL_PAUSED, 1);
    stats_reason(slot, "x");
    stats_clear_gauges(slot);
    assert_int_equal(stats_gauge(slot, STATS_SPOOL_MESSAGES), 3); /* the files are still there */
    assert_int_equal(stats_gauge(slot, STATS_SPOOL_PAUSED), 0);
    assert_int_equal(stats_counter(slot, STATS_HANDLED_DONE), 7);
    assert_int_equal(stats_gauge(slot, STATS_PREFETCHED), 0);
    assert_string_equal(slot->reason, "");
    stats_free(stats);
}

static void test_a_writer_that_died_within_a_reason_does_not_block_readers(void **state)
{
    struct stats *stats = stats_private();
    char reason[STATS_REASON_SIZE];

    (void)state;
    atomic_fetch_add(&stats->slot[0].reason_version, 1);
    stats_clear_gauges(&stats->slot[0]);
    stats_reason(&stats->slot[0], "new");
    stats_reason_read(&stats->slot[0], reason);
    assert_string_equal(reason, "new");
    stats_free(stats);
}

static void test_reasons_are_read_without_control_characters(void **state)
{
    struct stats *stats = stats_private();
    char reason[STATS_REASON_SIZE];
    char answer[STATS_ANSWER_SIZE];

    (void)state;
    stats_reason(&stats->slot[0], "ERR \x1B]0;x\x07\xC2\x9B"
                                  "1m\xFF");
    stats_reason_read(&stats->slot[0], reason);
    assert_string_equal(reason, "ERR ?]0;x??1m?");
    stats_answer(stats->probe, STATS_HUB, "no\r\n\x1B[2J");
    stats_answer_read(stats->probe, STATS_HUB, answer);
    assert_string_equal(answer, "no  ?[2J");
    stats_free(stats);
}

static void test_the_last_lines_of_the_log_are_kept_oldest_first(void **state)
{
    struct stats *stats = stats_private();
    struct stats_slot *slot = &stats->slot[0];
    char line[STATS_LOG_SIZE];
    char text[2 * STATS_LOG_SIZE];

    (void)state;
    assert_false(stats_log_read(slot, 0, line));
    for (int i = 0; i < STATS_LOG_LINES + 6; i++) {
        snprintf(text, sizeof(text), "line %d\x1B", i);
        stats_log(slot, text);
    }
    assert_true(stats_log_read(slot, 0, line));
    assert_string_equal(line, "line 6?");
    assert_true(stats_log_read(slot, STATS_LOG_LINES - 1, line));
    assert_string_equal(line, "line 69?");
    assert_false(stats_log_read(slot, STATS_LOG_LINES, line));
    memset(text, 'x', sizeof(text));
    text[sizeof(text) - 1] = '\0';
    stats_log(slot, text);
    assert_true(stats_log_read(slot, STATS_LOG_LINES - 1, line));
    assert_int_equal(strlen(line), STATS_LOG_SIZE - 1);
    stats_clear(slot);
    assert_false(stats_log_read(slot, 0, line));
    stats_free(stats);
}

static void test_state_and_log_spoilt_by_a_child_are_read_within_bounds(void **state)
{
    struct stats *stats = stats_private();
    struct stats_slot *slot = &stats->slot[0];
    char line[STATS_LOG_SIZE];

    (void)state;
    stats_set(slot, STATS_STATE, UINT64_MAX);
    assert_int_equal(stats_state_read(slot), STATE_NONE);
    stats_set(slot, STATS_STATE, STATE_FATAL);
    assert_int_equal(stats_state_read(slot), STATE_FATAL);
    memset(slot->log, 'x', sizeof(slot->log));
    slot->log_added = UINT32_MAX;
    assert_true(stats_log_read(slot, STATS_LOG_LINES - 1, line));
    assert_int_equal(strlen(line), STATS_LOG_SIZE - 1);
    stats_set(slot, STATS_PID, UINT64_MAX);
    assert_int_equal(stats_memory(slot), -1);
    stats_set(slot, STATS_PID, (uint64_t)getpid());
    assert_true(stats_memory(slot) > 0);
    stats_free(stats);
}

static void test_a_name_that_a_child_has_spoilt_is_read_within_its_bounds(void **state)
{
    struct stats *stats = stats_private();
    struct stats_slot *slot = &stats->slot[0];
    char name[STATS_NAME_SIZE];

    (void)state;
    memset(slot->name, 0x9B, sizeof slot->name);
    slot->number = UINT32_MAX;
    stats_name_read(slot, name);
    assert_int_equal(strlen(name), STATS_NAME_SIZE - 1);
    assert_int_equal(strspn(name, "?"), STATS_NAME_SIZE - 1);
    stats_free(stats);
}

static void test_stats_of_another_version_are_refused(void **state)
{
    struct stats *made = NULL, *attached = NULL;
    struct error err;
    int fd = -1;

    (void)state;
    assert_int_equal(stats_create(&made, 1, &fd, &err), 0);
    uint32_t *version = (uint32_t *)(void *)((char *)made->probe - 64) + 2;
    (*version)++;
    assert_int_equal(stats_attach(&attached, fd, &err), -ERR_FORMAT);
    assert_non_null(strstr(err.text, "restart the service"));
    close(fd);
    stats_free(made);
}

static void test_a_child_cannot_resize_the_stats_or_change_their_slot_count(void **state)
{
    struct stats *made = NULL;
    struct error err;
    int fd = -1;

    (void)state;
    assert_int_equal(stats_create(&made, 2, &fd, &err), 0);
    memset((char *)made->probe - 64, 0xff, 64 + sizeof(struct stats_probe));
    assert_int_equal(made->slots_len, 2);
    assert_int_equal(ftruncate(fd, 0), -1);
    assert_int_equal(ftruncate(fd, 1 << 20), -1);
    assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), -1);
    close(fd);
    stats_free(made);
}

static void test_each_duration_falls_into_its_bucket(void **state)
{
    struct stats *stats = stats_private();
    const struct stats_histogram_data *data = &stats->slot[0].histogram[STATS_HUB_US];

    (void)state;
    stats_observe(&stats->slot[0], STATS_HUB_US, 250);
    stats_observe(&stats->slot[0], STATS_HUB_US, 251);
    stats_observe(&stats->slot[0], STATS_HUB_US, INT64_C(1) << 40);
    stats_observe(&stats->slot[0], STATS_HUB_US, -5);
    assert_int_equal(data->bucket[0], 2);
    assert_int_equal(data->bucket[1], 1);
    assert_int_equal(data->bucket[STATS_BUCKETS - 1], 1);
    stats_free(stats);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stats_written_through_one_mapping_are_read_through_another),
        cmocka_unit_test(test_an_ended_childs_totals_stay_and_its_gauges_go),
        cmocka_unit_test(test_a_writer_that_died_within_a_reason_does_not_block_readers),
        cmocka_unit_test(test_reasons_are_read_without_control_characters),
        cmocka_unit_test(test_the_last_lines_of_the_log_are_kept_oldest_first),
        cmocka_unit_test(test_state_and_log_spoilt_by_a_child_are_read_within_bounds),
        cmocka_unit_test(test_a_name_that_a_child_has_spoilt_is_read_within_its_bounds),
        cmocka_unit_test(test_stats_of_another_version_are_refused),
        cmocka_unit_test(test_a_child_cannot_resize_the_stats_or_change_their_slot_count),
        cmocka_unit_test(test_each_duration_falls_into_its_bucket),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
