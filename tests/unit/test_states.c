/* The supervisor's table: every state and event, and the stories that an operator tells. */
#include "supervisor/states.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define NOW 1000000

static const struct states_rules RULES = {.start_retries = 3, .stop_timeout_ms = 10000};

/* Ready for two seconds where it runs, so that a death is not a quick one. */
static struct states_lifecycle lifecycle_in(enum stats_state state)
{
    struct states_lifecycle lifecycle;

    states_init(&lifecycle);
    lifecycle.state = state;
    lifecycle.starts = state == STATE_STOPPED ? 0 : 1;
    lifecycle.started_ms = NOW - 5000;
    if (state == STATE_RUNNING || state == STATE_STOPPING)
        lifecycle.ready_ms = NOW - 2000;
    if (state == STATE_RUNNING)
        lifecycle.deadline_ms = NOW - 2000 + STATES_HEALTHY_MS;
    if (state == STATE_BACKOFF || state == STATE_STOPPING)
        lifecycle.deadline_ms = NOW;
    return lifecycle;
}

struct expected {
    enum stats_state state;
    unsigned actions;
};

#define STAYS(state) STATE_##state, ACTION_NONE

static const char *const EVENT_NAMES[EVENTS_LEN] = {"start",    "stop",     "restart", "shutdown",
                                                    "ready",    "deadline", "hang",    "done",
                                                    "settings", "failed"};

/* The table written down a second time, in the order of EVENT_NAMES. */
static const struct expected EXPECTED[STATES_LEN][EVENTS_LEN] = {
    [STATE_STOPPED] = {{STATE_STARTING, ACTION_SPAWN},
                       {STAYS(STOPPED)},
                       {STATE_STARTING, ACTION_SPAWN},
                       {STAYS(STOPPED)},
                       {STAYS(STOPPED)},
                       {STAYS(STOPPED)},
                       {STAYS(STOPPED)},
                       {STAYS(STOPPED)},
                       {STAYS(STOPPED)},
                       {STAYS(STOPPED)}},
    [STATE_STARTING] = {{STAYS(STARTING)},
                        {STATE_STOPPING, ACTION_TERMINATE},
                        {STATE_STOPPING, ACTION_TERMINATE},
                        {STAYS(STARTING)},
                        {STAYS(RUNNING)},
                        {STAYS(STARTING)},
                        {STATE_STARTING, ACTION_KILL},
                        {STAYS(BACKOFF)},
                        {STATE_FATAL, ACTION_FATAL},
                        {STAYS(BACKOFF)}},
    [STATE_RUNNING] = {{STAYS(RUNNING)},
                       {STATE_STOPPING, ACTION_TERMINATE},
                       {STATE_STOPPING, ACTION_TERMINATE},
                       {STAYS(RUNNING)},
                       {STAYS(RUNNING)},
                       {STAYS(RUNNING)},
                       {STATE_RUNNING, ACTION_KILL},
                       {STATE_STARTING, ACTION_SPAWN},
                       {STATE_FATAL, ACTION_FATAL},
                       {STATE_STARTING, ACTION_SPAWN}},
    [STATE_BACKOFF] = {{STATE_STARTING, ACTION_SPAWN},
                       {STAYS(STOPPED)},
                       {STATE_STARTING, ACTION_SPAWN},
                       {STAYS(EXITED)},
                       {STAYS(BACKOFF)},
                       {STATE_STARTING, ACTION_SPAWN},
                       {STAYS(BACKOFF)},
                       {STAYS(BACKOFF)},
                       {STAYS(BACKOFF)},
                       {STAYS(BACKOFF)}},
    [STATE_STOPPING] = {{STAYS(STOPPING)},
                        {STAYS(STOPPING)},
                        {STAYS(STOPPING)},
                        {STAYS(STOPPING)},
                        {STAYS(STOPPING)},
                        {STATE_STOPPING, ACTION_KILL},
                        {STATE_STOPPING, ACTION_KILL},
                        {STAYS(STOPPED)},
                        {STAYS(STOPPED)},
                        {STAYS(STOPPED)}},
    [STATE_EXITED] = {{STAYS(EXITED)},
                      {STAYS(STOPPED)},
                      {STAYS(EXITED)},
                      {STAYS(EXITED)},
                      {STAYS(EXITED)},
                      {STAYS(EXITED)},
                      {STAYS(EXITED)},
                      {STAYS(EXITED)},
                      {STAYS(EXITED)},
                      {STAYS(EXITED)}},
    [STATE_FATAL] = {{STATE_STARTING, ACTION_SPAWN},
                     {STAYS(STOPPED)},
                     {STATE_STARTING, ACTION_SPAWN},
                     {STAYS(FATAL)},
                     {STAYS(FATAL)},
                     {STAYS(FATAL)},
                     {STAYS(FATAL)},
                     {STAYS(FATAL)},
                     {STAYS(FATAL)},
                     {STAYS(FATAL)}},
};

static void test_every_state_and_event_does_what_is_written(void **test)
{
    (void)test;
    for (int state = STATE_STOPPED; state < STATES_LEN; state++) {
        for (int event = 0; event < EVENTS_LEN; event++) {
            const struct expected *expected = &EXPECTED[state][event];
            struct states_lifecycle lifecycle = lifecycle_in((enum stats_state)state);
            unsigned actions = states_step(&lifecycle, &RULES, (enum states_event)event, NOW);

            if (lifecycle.state != expected->state || actions != expected->actions)
                fail_msg("%s, %s: is %s with actions %u, not %s with %u", STATS_STATE_NAMES[state],
                         EVENT_NAMES[event], STATS_STATE_NAMES[lifecycle.state], actions,
                         STATS_STATE_NAMES[expected->state], expected->actions);
        }
    }
}

static void test_no_child_is_started_after_shutdown(void **test)
{
    (void)test;
    for (int state = STATE_STOPPED; state < STATES_LEN; state++) {
        for (int event = 0; event < EVENTS_LEN; event++) {
            struct states_lifecycle lifecycle = lifecycle_in((enum stats_state)state);

            states_step(&lifecycle, &RULES, EVENT_SHUTDOWN, NOW);
            unsigned actions = states_step(&lifecycle, &RULES, (enum states_event)event, NOW);
            assert_int_equal(actions & ACTION_SPAWN, 0);
            states_step(&lifecycle, &RULES, EVENT_FAILED, NOW);
            assert_int_not_equal(lifecycle.state, STATE_BACKOFF);
            actions = states_step(&lifecycle, &RULES, EVENT_DEADLINE, NOW + STATES_BACKOFF_MAX_MS);
            assert_int_equal(actions & ACTION_SPAWN, 0);
        }
    }
}

static void test_a_state_without_a_process_waits_for_nothing_but_a_back_off(void **test)
{
    (void)test;
    for (int state = STATE_STOPPED; state < STATES_LEN; state++) {
        for (int event = 0; event < EVENTS_LEN; event++) {
            struct states_lifecycle lifecycle = lifecycle_in((enum stats_state)state);

            states_step(&lifecycle, &RULES, (enum states_event)event, NOW);
            if (!states_alive(&lifecycle) && lifecycle.state != STATE_BACKOFF)
                assert_int_equal(lifecycle.deadline_ms, -1);
            if (!states_alive(&lifecycle))
                assert_int_equal(lifecycle.ready_ms, -1);
        }
    }
}

static void start(struct states_lifecycle *lifecycle, int64_t now)
{
    states_init(lifecycle);
    assert_int_equal(states_step(lifecycle, &RULES, EVENT_START, now), ACTION_SPAWN);
}

static void test_a_child_that_was_ready_for_a_second_is_restarted_at_once(void **test)
{
    struct states_lifecycle lifecycle;

    (void)test;
    start(&lifecycle, NOW);
    states_step(&lifecycle, &RULES, EVENT_READY, NOW + 10);
    assert_int_equal(states_step(&lifecycle, &RULES, EVENT_FAILED, NOW + 1010), ACTION_SPAWN);
    assert_int_equal(lifecycle.state, STATE_STARTING);
    assert_int_equal(lifecycle.quick_deaths, 0);
    assert_int_equal(lifecycle.starts, 2);
}

static void test_a_child_that_keeps_dying_is_restarted_at_once_a_few_times(void **test)
{
    struct states_lifecycle lifecycle;
    int64_t now = NOW;
    unsigned actions = ACTION_NONE;
    int at_once = -1;

    (void)test;
    start(&lifecycle, now);
    for (int i = 0; i < 100 && actions != ACTION_FATAL; i++) {
        if (lifecycle.state == STATE_BACKOFF) {
            now = lifecycle.deadline_ms;
            states_step(&lifecycle, &RULES, EVENT_DEADLINE, now);
        }
        at_once += actions == ACTION_SPAWN || i == 0;
        states_step(&lifecycle, &RULES, EVENT_READY, now);
        now += STATES_PROVEN_MS;
        actions = states_step(&lifecycle, &RULES, EVENT_FAILED, now);
    }
    assert_int_equal(lifecycle.state, STATE_FATAL);
    assert_int_equal(at_once, STATES_AT_ONCE_MAX);
    assert_int_equal(lifecycle.starts, 1 + STATES_AT_ONCE_MAX + RULES.start_retries);
}

static void test_a_child_that_was_ready_for_less_than_a_second_waits(void **test)
{
    struct states_lifecycle lifecycle;

    (void)test;
    start(&lifecycle, NOW);
    states_step(&lifecycle, &RULES, EVENT_READY, NOW + 10);
    assert_int_equal(states_step(&lifecycle, &RULES, EVENT_FAILED, NOW + 1009), ACTION_NONE);
    assert_int_equal(lifecycle.quick_deaths, 1);
    assert_in_range(lifecycle.deadline_ms - (NOW + 1009), 75, 125);
}

static void test_the_wait_doubles_with_jitter_up_to_thirty_seconds(void **test)
{
    const struct states_rules patient = {.start_retries = 100, .stop_timeout_ms = 1};
    struct states_lifecycle lifecycle;
    int64_t now = NOW;
    int64_t nominal = STATES_BACKOFF_MIN_MS;

    (void)test;
    start(&lifecycle, now);
    for (int i = 0; i < 20; i++) {
        states_step(&lifecycle, &patient, EVENT_FAILED, now);
        assert_int_equal(lifecycle.state, STATE_BACKOFF);
        assert_in_range(lifecycle.deadline_ms - now, nominal - nominal / 4,
                        nominal + nominal / 4 < STATES_BACKOFF_MAX_MS ? nominal + nominal / 4
                                                                      : STATES_BACKOFF_MAX_MS);
        now = lifecycle.deadline_ms;
        assert_int_equal(states_step(&lifecycle, &patient, EVENT_DEADLINE, now), ACTION_SPAWN);
        nominal = nominal * 2 < STATES_BACKOFF_MAX_MS ? nominal * 2 : STATES_BACKOFF_MAX_MS;
    }
}

static void test_more_quick_deaths_than_start_retries_are_fatal(void **test)
{
    struct states_lifecycle lifecycle;
    int64_t now = NOW;

    (void)test;
    start(&lifecycle, now);
    for (int i = 0; i < RULES.start_retries; i++) {
        assert_int_equal(states_step(&lifecycle, &RULES, EVENT_FAILED, now), ACTION_NONE);
        now = lifecycle.deadline_ms;
        states_step(&lifecycle, &RULES, EVENT_DEADLINE, now);
    }
    assert_int_equal(states_step(&lifecycle, &RULES, EVENT_FAILED, now), ACTION_FATAL);
    assert_int_equal(lifecycle.state, STATE_FATAL);
}

static void test_no_retries_at_all_means_the_first_quick_death_is_fatal(void **test)
{
    const struct states_rules none = {.start_retries = 0};
    struct states_lifecycle lifecycle;

    (void)test;
    start(&lifecycle, NOW);
    assert_int_equal(states_step(&lifecycle, &none, EVENT_FAILED, NOW + 1), ACTION_FATAL);
}

static void test_a_healthy_minute_resets_the_backoff(void **test)
{
    struct states_lifecycle lifecycle;

    (void)test;
    start(&lifecycle, NOW);
    for (int i = 0; i < RULES.start_retries; i++) {
        states_step(&lifecycle, &RULES, EVENT_FAILED, NOW);
        states_step(&lifecycle, &RULES, EVENT_DEADLINE, NOW);
    }
    states_step(&lifecycle, &RULES, EVENT_READY, NOW);
    assert_int_equal(lifecycle.deadline_ms, NOW + STATES_HEALTHY_MS);
    states_step(&lifecycle, &RULES, EVENT_DEADLINE, lifecycle.deadline_ms);
    assert_int_equal(lifecycle.state, STATE_RUNNING);
    assert_int_equal(lifecycle.deadline_ms, -1);
    assert_int_equal(lifecycle.quick_deaths, 0);

    int64_t now = NOW + 2 * STATES_HEALTHY_MS;
    states_step(&lifecycle, &RULES, EVENT_FAILED, now);
    assert_int_equal(lifecycle.state, STATE_STARTING);
    states_step(&lifecycle, &RULES, EVENT_FAILED, now);
    assert_in_range(lifecycle.deadline_ms - now, 75, 125);
}

static void test_a_second_of_readiness_does_not_reset_the_backoff(void **test)
{
    struct states_lifecycle lifecycle;

    (void)test;
    start(&lifecycle, NOW);
    states_step(&lifecycle, &RULES, EVENT_FAILED, NOW);
    states_step(&lifecycle, &RULES, EVENT_DEADLINE, NOW);
    states_step(&lifecycle, &RULES, EVENT_READY, NOW);
    states_step(&lifecycle, &RULES, EVENT_FAILED, NOW + 2000);
    assert_int_equal(lifecycle.state, STATE_STARTING);
    assert_int_equal(lifecycle.quick_deaths, 1);
}

static void test_a_child_whose_server_is_away_for_long_is_never_given_up(void **test)
{
    struct states_lifecycle lifecycle;
    int64_t now = NOW;

    (void)test;
    start(&lifecycle, now);
    for (int i = 0; i < 50; i++) {
        now += STATES_HEALTHY_MS;
        assert_int_equal(states_step(&lifecycle, &RULES, EVENT_FAILED, now), ACTION_NONE);
        now = lifecycle.deadline_ms;
        states_step(&lifecycle, &RULES, EVENT_DEADLINE, now);
    }
    assert_int_equal(lifecycle.quick_deaths, 0);
}

static void test_a_planned_end_never_counts(void **test)
{
    struct states_lifecycle lifecycle;
    int64_t now = NOW;

    (void)test;
    start(&lifecycle, now);
    for (int i = 0; i < 50; i++) {
        assert_int_equal(states_step(&lifecycle, &RULES, EVENT_DONE, now), ACTION_NONE);
        assert_int_equal(lifecycle.deadline_ms, now + STATES_BACKOFF_MIN_MS);
        now = lifecycle.deadline_ms;
        states_step(&lifecycle, &RULES, EVENT_DEADLINE, now);
    }
    assert_int_equal(lifecycle.quick_deaths, 0);
    states_step(&lifecycle, &RULES, EVENT_READY, now);
    assert_int_equal(states_step(&lifecycle, &RULES, EVENT_DONE, now + STATES_PROVEN_MS),
                     ACTION_SPAWN);
}

static void test_a_child_that_does_not_end_in_time_is_killed_until_it_is_gone(void **test)
{
    struct states_lifecycle lifecycle;

    (void)test;
    start(&lifecycle, NOW);
    states_step(&lifecycle, &RULES, EVENT_READY, NOW);
    assert_int_equal(states_step(&lifecycle, &RULES, EVENT_STOP, NOW), ACTION_TERMINATE);
    assert_int_equal(lifecycle.deadline_ms, NOW + RULES.stop_timeout_ms);
    assert_int_equal(states_step(&lifecycle, &RULES, EVENT_DEADLINE, lifecycle.deadline_ms),
                     ACTION_KILL);
    assert_int_equal(lifecycle.deadline_ms, NOW + RULES.stop_timeout_ms + STATES_KILL_AGAIN_MS);
    assert_int_equal(states_step(&lifecycle, &RULES, EVENT_DEADLINE, lifecycle.deadline_ms),
                     ACTION_KILL);
    states_step(&lifecycle, &RULES, EVENT_FAILED, lifecycle.deadline_ms);
    assert_int_equal(lifecycle.state, STATE_STOPPED);
    assert_int_equal(lifecycle.quick_deaths, 0);
}

static void test_a_childs_stop_deadline_is_not_after_that_of_the_service(void **test)
{
    const struct states_rules ending = {.stop_timeout_ms = 10000, .stop_by_ms = NOW + 3000};
    struct states_lifecycle lifecycle = lifecycle_in(STATE_RUNNING);

    (void)test;
    assert_int_equal(states_step(&lifecycle, &ending, EVENT_STOP, NOW), ACTION_TERMINATE);
    assert_int_equal(lifecycle.deadline_ms, NOW + 3000);
}

static void test_a_restart_ends_the_old_one_and_then_starts_the_new(void **test)
{
    struct states_lifecycle lifecycle = lifecycle_in(STATE_RUNNING);

    (void)test;
    assert_int_equal(states_step(&lifecycle, &RULES, EVENT_RESTART, NOW), ACTION_TERMINATE);
    assert_int_equal(lifecycle.state, STATE_STOPPING);
    assert_int_equal(states_step(&lifecycle, &RULES, EVENT_FAILED, NOW + 5), ACTION_SPAWN);
    assert_int_equal(lifecycle.state, STATE_STARTING);
    assert_int_equal(lifecycle.started_ms, NOW + 5);
}

static void test_the_latest_request_counts_while_a_child_is_stopping(void **test)
{
    struct states_lifecycle lifecycle = lifecycle_in(STATE_RUNNING);

    (void)test;
    states_step(&lifecycle, &RULES, EVENT_RESTART, NOW);
    states_step(&lifecycle, &RULES, EVENT_STOP, NOW);
    states_step(&lifecycle, &RULES, EVENT_DONE, NOW);
    assert_int_equal(lifecycle.state, STATE_STOPPED);

    lifecycle = lifecycle_in(STATE_RUNNING);
    states_step(&lifecycle, &RULES, EVENT_STOP, NOW);
    states_step(&lifecycle, &RULES, EVENT_START, NOW);
    assert_int_equal(states_step(&lifecycle, &RULES, EVENT_DONE, NOW), ACTION_SPAWN);
}

static void test_a_fatal_child_starts_fresh_when_the_operator_asks(void **test)
{
    struct states_lifecycle lifecycle = lifecycle_in(STATE_FATAL);

    (void)test;
    lifecycle.quick_deaths = RULES.start_retries + 1;
    assert_int_equal(states_step(&lifecycle, &RULES, EVENT_START, NOW), ACTION_SPAWN);
    assert_int_equal(lifecycle.quick_deaths, 0);
    assert_int_equal(states_step(&lifecycle, &RULES, EVENT_FAILED, NOW), ACTION_NONE);
}

static void test_ending_while_the_service_ends_is_exited_not_fatal(void **test)
{
    const enum states_event DEATHS[] = {EVENT_DONE, EVENT_SETTINGS, EVENT_FAILED};

    (void)test;
    for (size_t i = 0; i < 3; i++) {
        struct states_lifecycle lifecycle = lifecycle_in(STATE_RUNNING);

        states_step(&lifecycle, &RULES, EVENT_SHUTDOWN, NOW);
        assert_int_equal(states_step(&lifecycle, &RULES, DEATHS[i], NOW), ACTION_NONE);
        assert_int_equal(lifecycle.state, STATE_EXITED);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_state_and_event_does_what_is_written),
        cmocka_unit_test(test_no_child_is_started_after_shutdown),
        cmocka_unit_test(test_a_state_without_a_process_waits_for_nothing_but_a_back_off),
        cmocka_unit_test(test_a_child_that_was_ready_for_a_second_is_restarted_at_once),
        cmocka_unit_test(test_a_child_that_keeps_dying_is_restarted_at_once_a_few_times),
        cmocka_unit_test(test_a_child_that_was_ready_for_less_than_a_second_waits),
        cmocka_unit_test(test_the_wait_doubles_with_jitter_up_to_thirty_seconds),
        cmocka_unit_test(test_more_quick_deaths_than_start_retries_are_fatal),
        cmocka_unit_test(test_no_retries_at_all_means_the_first_quick_death_is_fatal),
        cmocka_unit_test(test_a_healthy_minute_resets_the_backoff),
        cmocka_unit_test(test_a_second_of_readiness_does_not_reset_the_backoff),
        cmocka_unit_test(test_a_child_whose_server_is_away_for_long_is_never_given_up),
        cmocka_unit_test(test_a_planned_end_never_counts),
        cmocka_unit_test(test_a_child_that_does_not_end_in_time_is_killed_until_it_is_gone),
        cmocka_unit_test(test_a_childs_stop_deadline_is_not_after_that_of_the_service),
        cmocka_unit_test(test_a_restart_ends_the_old_one_and_then_starts_the_new),
        cmocka_unit_test(test_the_latest_request_counts_while_a_child_is_stopping),
        cmocka_unit_test(test_a_fatal_child_starts_fresh_when_the_operator_asks),
        cmocka_unit_test(test_ending_while_the_service_ends_is_exited_not_fatal),
    };

    return cmocka_run_group_tests_name("states", tests, NULL, NULL);
}
