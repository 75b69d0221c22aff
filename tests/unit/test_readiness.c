#include "common/runtime/readiness.h"

#include "common/runtime/status.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static char NO_TEXT[] = "";
static char URL[] = "http://h/.well-known/mercure";
static char DSN[] = "postgresql://h/d";

enum { CONSUMER, WORKER_1, WORKER_2, MONITOR, SPARE, SLOTS };

static const struct readiness_limits LIMITS = {.now_ms = 1000000, .beat_ms = 60000};

struct scene {
    struct settings settings;
    struct stats *stats;
};

static void name_slot(struct stats_slot *slot, const char *name, uint32_t number)
{
    snprintf(slot->name, sizeof slot->name, "%s", name);
    slot->number = number;
    slot->beat_ms = (uint64_t)LIMITS.now_ms - 100;
}

/* A bridge that is well. */
static int open_scene(void **state)
{
    static struct scene scene;
    struct error err = {0};
    int fd;

    memset(&scene, 0, sizeof scene);
    if (stats_create(&scene.stats, SLOTS, &fd, &err) < 0)
        return -1;
    close(fd);
    scene.settings.worker.count = 2;
    scene.settings.mercure.url = URL;
    scene.settings.failure.dsn = DSN;
    name_slot(&scene.stats->slot[CONSUMER], "consumer", 1);
    name_slot(&scene.stats->slot[WORKER_1], "worker", 1);
    name_slot(&scene.stats->slot[WORKER_2], "worker", 2);
    name_slot(&scene.stats->slot[MONITOR], "monitor", 1);
    for (size_t i = CONSUMER; i <= MONITOR; i++)
        stats_set(&scene.stats->slot[i], STATS_CONNECTED, 1);
    scene.stats->probe->probed_ms = LIMITS.now_ms - 1000;
    scene.stats->probe->redis_ok = 1;
    scene.stats->probe->hub_ok = 1;
    scene.stats->probe->failure_ok = 1;
    *state = &scene;
    return 0;
}

static int close_scene(void **state)
{
    struct scene *scene = *state;

    stats_free(scene->stats);
    return 0;
}

static struct readiness judge(const struct scene *scene)
{
    struct readiness readiness;

    readiness_judge(&readiness, &scene->settings, scene->stats, &LIMITS);
    return readiness;
}

static void assert_only_fault(const struct scene *scene, enum readiness_part part,
                              const char *reason)
{
    struct readiness readiness = judge(scene);

    for (size_t i = 0; i < READINESS_PARTS; i++)
        assert_int_equal(readiness.part[i].ok, i != part);
    assert_string_equal(readiness.part[part].reason, reason);
    assert_int_equal(readiness.ready, part == READINESS_DATABASE || part == READINESS_PAGE);
}

static void test_a_bridge_without_faults_is_ready(void **state)
{
    struct readiness readiness = judge(*state);

    assert_true(readiness.ready);
    for (size_t i = 0; i < READINESS_PARTS; i++) {
        assert_true(readiness.part[i].ok);
        assert_string_equal(readiness.part[i].reason, "");
    }
}

static void test_a_consumer_without_broker_says_why(void **state)
{
    struct scene *scene = *state;

    stats_set(&scene->stats->slot[CONSUMER], STATS_CONNECTED, 0);
    assert_only_fault(scene, READINESS_BROKER, "consumer: not connected to the broker");
    stats_reason(&scene->stats->slot[CONSUMER], "mqtt://h:1883: connection refused");
    assert_only_fault(scene, READINESS_BROKER, "consumer: mqtt://h:1883: connection refused");
}

static void test_every_consumer_must_be_connected(void **state)
{
    struct scene *scene = *state;

    name_slot(&scene->stats->slot[SPARE], "consumer:garden", 1);
    assert_only_fault(scene, READINESS_BROKER, "consumer:garden: not connected to the broker");
    stats_set(&scene->stats->slot[SPARE], STATS_CONNECTED, 1);
    assert_true(judge(scene).ready);
}

static void test_a_consumer_without_a_beat_is_not_running(void **state)
{
    struct scene *scene = *state;

    scene->stats->slot[CONSUMER].beat_ms = (uint64_t)(LIMITS.now_ms - LIMITS.beat_ms - 1);
    assert_only_fault(scene, READINESS_BROKER, "consumer is not running");
    stats_reason(&scene->stats->slot[CONSUMER], "backoff: exit code 1");
    assert_only_fault(scene, READINESS_BROKER, "consumer: backoff: exit code 1");
    scene->stats->slot[CONSUMER].name[0] = '\0';
    assert_only_fault(scene, READINESS_BROKER, "no consumer is running");
}

static void test_an_absent_monitor_is_the_reason_of_an_old_probe(void **state)
{
    struct scene *scene = *state;

    scene->stats->slot[MONITOR].beat_ms = 0;
    stats_reason(&scene->stats->slot[MONITOR], "backoff: exit code 1: port 80: in use");
    assert_true(judge(scene).ready); /* what it asked before it ended is not old yet */
    scene->stats->probe->probed_ms = LIMITS.now_ms - 120000;
    assert_string_equal(judge(scene).part[READINESS_REDIS].reason,
                        "last asked 120 s ago: monitor: backoff: exit code 1: port 80: in use");
    scene->stats->probe->probed_ms = 0;
    assert_string_equal(judge(scene).part[READINESS_REDIS].reason,
                        "not asked yet: monitor: backoff: exit code 1: port 80: in use");
}

static void test_the_bridge_is_ready_without_its_page(void **state)
{
    struct scene *scene = *state;

    stats_reason(&scene->stats->slot[MONITOR], "127.0.0.1:9080: Address already in use");
    assert_only_fault(scene, READINESS_PAGE, "127.0.0.1:9080: Address already in use");
}

static void test_a_process_without_hang_timeout_runs_for_a_minute(void **state)
{
    const struct readiness_limits off = {.now_ms = LIMITS.now_ms};
    struct scene *scene = *state;
    struct stats_slot *slot = &scene->stats->slot[WORKER_1];

    slot->beat_ms = (uint64_t)(LIMITS.now_ms - READINESS_BEAT_MS);
    assert_true(readiness_is_running(slot, &off));
    slot->beat_ms--;
    assert_false(readiness_is_running(slot, &off));
}

static void test_a_consumer_removed_from_the_settings_is_not_needed(void **state)
{
    struct scene *scene = *state;

    name_slot(&scene->stats->slot[SPARE], "consumer:garden", 1);
    assert_false(judge(scene).ready);
    stats_set(&scene->stats->slot[SPARE], STATS_UNWANTED, 1);
    assert_true(judge(scene).ready);
}

static void test_a_connected_consumer_that_can_not_send_says_why(void **state)
{
    struct scene *scene = *state;

    stats_reason(&scene->stats->slot[CONSUMER], "the former redis://a: refused");
    assert_only_fault(scene, READINESS_SPOOL, "consumer: the former redis://a: refused");
    /* That Redis is away is said once. */
    scene->stats->probe->redis_ok = 0;
    assert_only_fault(scene, READINESS_REDIS, "does not answer");
}

static void test_a_consumer_that_sends_slowly_says_so_and_is_ready(void **state)
{
    struct scene *scene = *state;
    struct readiness readiness;

    stats_reason(&scene->stats->slot[CONSUMER], "redis://a: no answer in time to 1000 bytes");
    stats_set(&scene->stats->slot[CONSUMER], STATS_REDIS_DEGRADED, 1);
    readiness = judge(scene);
    assert_true(readiness.ready);
    assert_string_equal(readiness.part[READINESS_SPOOL].reason,
                        "consumer: redis://a: no answer in time to 1000 bytes");
    /* Another's that can't send goes before it. */
    name_slot(&scene->stats->slot[SPARE], "consumer:garden", 1);
    stats_set(&scene->stats->slot[SPARE], STATS_CONNECTED, 1);
    stats_reason(&scene->stats->slot[SPARE], "refused");
    assert_only_fault(scene, READINESS_SPOOL, "consumer:garden: refused");
    assert_false(judge(scene).ready);
}

static void test_readiness_needs_at_least_one_running_worker(void **state)
{
    struct scene *scene = *state;

    scene->stats->slot[WORKER_1].beat_ms = 0;
    assert_true(judge(scene).ready);
    scene->stats->slot[WORKER_2].beat_ms = 0;
    assert_only_fault(scene, READINESS_WORKER, "no worker is running");
    stats_reason(&scene->stats->slot[WORKER_2], "backoff: exit code 1: no");
    assert_only_fault(scene, READINESS_WORKER,
                      "no worker is running; worker:2: backoff: exit code 1: no");
}

static void test_workers_that_are_all_unconnected_are_a_fault_with_reason(void **state)
{
    struct scene *scene = *state;

    stats_reason(&scene->stats->slot[WORKER_1], "failures wait for the database");
    stats_set(&scene->stats->slot[WORKER_2], STATS_CONNECTED, 0);
    assert_true(judge(scene).ready);
    stats_set(&scene->stats->slot[WORKER_1], STATS_CONNECTED, 0);
    assert_only_fault(scene, READINESS_WORKER, "worker:2: not at work yet");
    stats_reason(&scene->stats->slot[WORKER_2], "the hub refuses the token");
    assert_only_fault(scene, READINESS_WORKER, "worker:2: the hub refuses the token");
    /* The hub's own part says it. */
    scene->stats->probe->hub_ok = 0;
    assert_only_fault(scene, READINESS_HUB, "does not answer");
}

static void test_with_the_monitor_stopped_servers_need_no_probe(void **state)
{
    struct scene *scene = *state;

    scene->stats->probe->probed_ms = 0;
    assert_false(judge(scene).ready);
    for (uint64_t i = 0; i < STATES_LEN; i++) {
        bool stays_away = i == STATE_STOPPED || i == STATE_EXITED || i == STATE_FATAL;

        stats_set(&scene->stats->slot[MONITOR], STATS_STATE, i);
        assert_int_equal(judge(scene).ready, stays_away);
    }
}

static void test_servers_that_do_not_answer_are_named(void **state)
{
    struct scene *scene = *state;

    scene->stats->probe->redis_ok = 0;
    stats_answer(scene->stats->probe, STATS_REDIS, "refused");
    assert_only_fault(scene, READINESS_REDIS, "refused");
    scene->stats->probe->redis_ok = 1;
    scene->stats->probe->hub_ok = 0;
    assert_only_fault(scene, READINESS_HUB, "does not answer");
}

static void test_the_bridge_is_ready_without_its_database(void **state)
{
    struct scene *scene = *state;

    scene->stats->probe->failure_ok = 0;
    stats_answer(scene->stats->probe, STATS_DATABASE, "gone");
    assert_only_fault(scene, READINESS_DATABASE, "gone");
}

static void test_without_a_failure_transport_there_is_no_database_to_miss(void **state)
{
    struct scene *scene = *state;

    scene->settings.failure.dsn = NO_TEXT;
    scene->stats->probe->failure_ok = -1;
    assert_true(judge(scene).part[READINESS_DATABASE].ok);
    assert_false(judge(scene).part[READINESS_DATABASE].configured);
}

static void test_with_no_worker_wanted_neither_worker_nor_hub_is_needed(void **state)
{
    struct scene *scene = *state;

    scene->settings.worker.count = 0;
    scene->stats->slot[WORKER_1].name[0] = '\0';
    scene->stats->slot[WORKER_2].name[0] = '\0';
    assert_true(judge(scene).ready);
    assert_false(judge(scene).part[READINESS_WORKER].configured);
    scene->stats->probe->hub_ok = 0;
    assert_false(judge(scene).part[READINESS_HUB].ok);
    assert_true(judge(scene).ready);
    scene->settings.mercure.url = NO_TEXT;
    scene->stats->probe->hub_ok = -1;
    assert_true(judge(scene).part[READINESS_HUB].ok);
    assert_false(judge(scene).part[READINESS_HUB].configured);
}

static void test_the_number_of_wanted_workers_comes_from_the_supervisor(void **state)
{
    struct scene *scene = *state;

    name_slot(&scene->stats->slot[SPARE], "supervisor", 1);
    scene->stats->slot[WORKER_1].beat_ms = 0;
    scene->stats->slot[WORKER_2].beat_ms = 0;
    assert_true(judge(scene).ready);
    stats_set(&scene->stats->slot[SPARE], STATS_WORKERS_WANTED, 1);
    assert_only_fault(scene, READINESS_WORKER, "no worker is running");
}

static void test_answers_of_an_old_probe_do_not_count(void **state)
{
    struct scene *scene = *state;

    scene->stats->probe->probed_ms = 0;
    assert_string_equal(judge(scene).part[READINESS_HUB].reason, "not asked yet");
    scene->stats->probe->probed_ms = LIMITS.now_ms - 120000;
    assert_string_equal(judge(scene).part[READINESS_REDIS].reason,
                        "last asked 120 s ago: the monitor hangs or is away");
    assert_false(judge(scene).ready);
}

static void test_a_supervisor_with_a_slot_must_beat_to_be_alive(void **state)
{
    struct scene *scene = *state;

    assert_true(readiness_supervisor_is_alive(scene->stats, &LIMITS));
    name_slot(&scene->stats->slot[SPARE], "supervisor", 1);
    assert_true(readiness_supervisor_is_alive(scene->stats, &LIMITS));
    assert_true(judge(scene).ready);
    stats_reason(&scene->stats->slot[SPARE], "worker:2 is fatal");
    assert_only_fault(scene, READINESS_SUPERVISOR, "worker:2 is fatal");
    scene->stats->slot[SPARE].beat_ms = 1;
    assert_false(readiness_supervisor_is_alive(scene->stats, &LIMITS));
    assert_only_fault(scene, READINESS_SUPERVISOR, "the supervisor does not answer");
}

static void test_readiness_is_printed_as_json(void **state)
{
    struct scene *scene = *state;

    scene->stats->probe->hub_ok = 0;
    stats_answer(scene->stats->probe, STATS_HUB, "\"no\"");
    struct readiness readiness = judge(scene);
    cJSON *json = status_readiness(&readiness, true);
    char *text = cJSON_PrintUnformatted(json);
    assert_string_equal(text, "{\"ready\":false,\"reasons\":[\"hub: "
                              "\\\"no\\\"\"],\"parts\":{\"supervisor\":{\"ok\":true},"
                              "\"broker\":{\"ok\":true},\"spool\":{\"ok\":true},"
                              "\"worker\":{\"ok\":true},\"redis\":{\"ok\":true},"
                              "\"hub\":{\"ok\":false,\"reason\":\"\\\"no\\\"\"},"
                              "\"database\":{\"ok\":true,\"required\":false},"
                              "\"page\":{\"ok\":true,\"required\":false}}}");
    cJSON_free(text);
    cJSON_Delete(json);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_scene, close_scene)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_bridge_without_faults_is_ready),
        TEST(test_a_consumer_without_broker_says_why),
        TEST(test_every_consumer_must_be_connected),
        TEST(test_a_consumer_without_a_beat_is_not_running),
        TEST(test_an_absent_monitor_is_the_reason_of_an_old_probe),
        TEST(test_the_bridge_is_ready_without_its_page),
        TEST(test_a_process_without_hang_timeout_runs_for_a_minute),
        TEST(test_a_consumer_removed_from_the_settings_is_not_needed),
        TEST(test_a_connected_consumer_that_can_not_send_says_why),
        TEST(test_a_consumer_that_sends_slowly_says_so_and_is_ready),
        TEST(test_readiness_needs_at_least_one_running_worker),
        TEST(test_workers_that_are_all_unconnected_are_a_fault_with_reason),
        TEST(test_with_the_monitor_stopped_servers_need_no_probe),
        TEST(test_servers_that_do_not_answer_are_named),
        TEST(test_the_bridge_is_ready_without_its_database),
        TEST(test_without_a_failure_transport_there_is_no_database_to_miss),
        TEST(test_with_no_worker_wanted_neither_worker_nor_hub_is_needed),
        TEST(test_the_number_of_wanted_workers_comes_from_the_supervisor),
        TEST(test_answers_of_an_old_probe_do_not_count),
        TEST(test_a_supervisor_with_a_slot_must_beat_to_be_alive),
        TEST(test_readiness_is_printed_as_json),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
