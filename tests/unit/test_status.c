/* The status as one document: what is in it, in which order, and that nothing that a child writes breaks it. */
#include "common/runtime/status.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { SLOTS = 6 };

struct scene {
    struct settings *settings;
    struct stats *stats;
};

static int open_scene(void **state)
{
    static struct scene scene;
    struct buf faults = {0};
    struct error err;
    int fd = -1;

    assert_int_equal(settings_load(&scene.settings, NULL, false, &faults), 0);
    assert_int_equal(stats_create(&scene.stats, SLOTS, &fd, &err), 0);
    close(fd);
    buf_free(&faults);
    *state = &scene;
    return 0;
}

static int close_scene(void **state)
{
    struct scene *scene = *state;

    settings_free(scene->settings);
    stats_free(scene->stats);
    return 0;
}

static void name_slot(struct stats_slot *slot, const char *name, uint32_t number)
{
    snprintf(slot->name, sizeof(slot->name), "%s", name);
    slot->number = number;
}

static cJSON *document(const struct scene *scene)
{
    const struct readiness_limits limits = {.now_ms = 1000000};

    return status_document(scene->settings, scene->stats, &limits);
}

static cJSON *member(const cJSON *object, const char *name)
{
    return cJSON_GetObjectItemCaseSensitive(object, name);
}

static void test_processes_are_listed_by_kind_and_number_without_the_supervisor(void **state)
{
    struct scene *scene = *state;
    const cJSON *process;
    struct buf names = {0};

    name_slot(&scene->stats->slot[0], "monitor", 1);
    name_slot(&scene->stats->slot[1], "worker", 10);
    name_slot(&scene->stats->slot[2], "worker", 2);
    name_slot(&scene->stats->slot[3], "supervisor", 1);
    name_slot(&scene->stats->slot[4], "consumer:garden", 1);
    name_slot(&scene->stats->slot[5], "consumer", 1);
    cJSON *json = document(scene);
    cJSON_ArrayForEach(process, member(json, "processes"))
    {
        buf_printf(&names, "%s:%d ", member(process, "name")->valuestring,
                   member(process, "slot")->valueint);
    }
    assert_string_equal(buf_text(&names),
                        "consumer:1 consumer:garden:1 worker:2 worker:10 monitor:1 ");
    buf_free(&names);
    cJSON_Delete(json);
}

static void test_unknown_numbers_are_null(void **state)
{
    struct scene *scene = *state;

    name_slot(&scene->stats->slot[0], "monitor", 1);
    cJSON *json = document(scene);
    const cJSON *process = cJSON_GetArrayItem(member(json, "processes"), 0);
    static const char *const NULLS[] = {"pid",  "uptime_ms", "memory_bytes", "next_try_ms",
                                        "rate", "done",      "failed",       "beat_age_ms"};
    for (size_t i = 0; i < LENGTH_OF(NULLS); i++)
        assert_true(cJSON_IsNull(member(process, NULLS[i])));
    assert_string_equal(member(process, "state")->valuestring, "");
    assert_true(cJSON_IsNull(member(json, "asked_ms_ago")));
    assert_true(cJSON_IsNull(member(member(json, "transport"), "ready")));
    cJSON_Delete(json);
}

static void test_a_process_status_has_its_state_and_counters(void **state)
{
    struct scene *scene = *state;
    struct stats_slot *slot = &scene->stats->slot[0];

    name_slot(slot, "worker", 1);
    stats_set(slot, STATS_STATE, STATE_BACKOFF);
    stats_set(slot, STATS_PID, (uint64_t)getpid());
    stats_set(slot, STATS_STARTED_MS, 400000);
    stats_set(slot, STATS_NEXT_TRY_MS, 1002500);
    stats_set(slot, STATS_RATE, 1500);
    stats_add(slot, STATS_HANDLED_DONE, 7);
    stats_add(slot, STATS_HANDLED_CONFLATED, 2);
    stats_add(slot, STATS_HANDLED_REJECT, 1);
    stats_exit(slot, "exit code 1");
    cJSON *json = document(scene);
    const cJSON *process = cJSON_GetArrayItem(member(json, "processes"), 0);
    assert_string_equal(member(process, "state")->valuestring, "backoff");
    assert_string_equal(member(process, "last_exit")->valuestring, "exit code 1");
    assert_int_equal(member(process, "uptime_ms")->valueint, 600000);
    assert_int_equal(member(process, "next_try_ms")->valueint, 2500);
    assert_true(member(process, "rate")->valuedouble > 1.49 &&
                member(process, "rate")->valuedouble < 1.51);
    assert_int_equal(member(process, "done")->valueint, 9);
    assert_int_equal(member(process, "failed")->valueint, 1);
    assert_true(member(process, "memory_bytes")->valuedouble > 0);
    assert_int_equal(member(member(json, "totals"), "done")->valueint, 7);
    cJSON_Delete(json);
}

static void test_slots_full_of_nonsense_give_a_document_all_the_same(void **state)
{
    struct scene *scene = *state;

    for (size_t i = 0; i < SLOTS; i++)
        memset(&scene->stats->slot[i], 0xA7, sizeof(struct stats_slot));
    cJSON *json = document(scene);
    char *text = cJSON_PrintUnformatted(json);
    assert_int_equal(cJSON_GetArraySize(member(json, "processes")), SLOTS);
    assert_true(bytes_is_utf8(bytes_of(text)));
    cJSON_free(text);
    cJSON_Delete(json);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_scene, close_scene)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_processes_are_listed_by_kind_and_number_without_the_supervisor),
        TEST(test_unknown_numbers_are_null),
        TEST(test_a_process_status_has_its_state_and_counters),
        TEST(test_slots_full_of_nonsense_give_a_document_all_the_same),
    };

    return cmocka_run_group_tests_name("status", tests, NULL, NULL);
}
