#include "supervisor/states.h"

#include <stddef.h>

/* A cell of the table: the function changes the lifecycle and returns the actions. */
typedef unsigned step(struct states_lifecycle *lifecycle);

static void enter(struct states_lifecycle *lifecycle, enum stats_state state)
{
    lifecycle->state = state;
    lifecycle->deadline_ms = -1;
    lifecycle->ready_ms = -1;
    lifecycle->restart = false;
}

static void reset_backoff(struct states_lifecycle *lifecycle)
{
    lifecycle->at_once = 0;
    lifecycle->quick_deaths = 0;
    clock_backoff_reset(&lifecycle->backoff);
}

static unsigned start(struct states_lifecycle *lifecycle)
{
    enter(lifecycle, STATE_STARTING);
    lifecycle->started_ms = lifecycle->now_ms;
    lifecycle->starts++;
    return ACTION_SPAWN;
}

/* Starts on the operator's request: earlier failures no longer count. */
static unsigned start_fresh(struct states_lifecycle *lifecycle)
{
    if (lifecycle->shutdown)
        return ACTION_NONE;
    reset_backoff(lifecycle);
    return start(lifecycle);
}

static unsigned become_stopped(struct states_lifecycle *lifecycle)
{
    enter(lifecycle, STATE_STOPPED);
    reset_backoff(lifecycle);
    return ACTION_NONE;
}

static unsigned become_exited(struct states_lifecycle *lifecycle)
{
    enter(lifecycle, STATE_EXITED);
    return ACTION_NONE;
}

static unsigned become_ready(struct states_lifecycle *lifecycle)
{
    lifecycle->state = STATE_RUNNING;
    lifecycle->ready_ms = lifecycle->now_ms;
    lifecycle->deadline_ms = lifecycle->now_ms + STATES_HEALTHY_MS;
    return ACTION_NONE;
}

static unsigned mark_healthy(struct states_lifecycle *lifecycle)
{
    reset_backoff(lifecycle);
    lifecycle->deadline_ms = -1;
    return ACTION_NONE;
}

static unsigned terminate(struct states_lifecycle *lifecycle)
{
    lifecycle->state = STATE_STOPPING;
    lifecycle->deadline_ms = lifecycle->now_ms + lifecycle->rules->stop_timeout_ms;
    if (lifecycle->rules->stop_by_ms > 0 && lifecycle->rules->stop_by_ms < lifecycle->deadline_ms)
        lifecycle->deadline_ms = lifecycle->rules->stop_by_ms;
    lifecycle->restart = false;
    return ACTION_TERMINATE;
}

static unsigned terminate_for_restart(struct states_lifecycle *lifecycle)
{
    unsigned actions = terminate(lifecycle);

    lifecycle->restart = !lifecycle->shutdown;
    return actions;
}

static unsigned want_start(struct states_lifecycle *lifecycle)
{
    lifecycle->restart = !lifecycle->shutdown;
    return ACTION_NONE;
}

static unsigned want_stop(struct states_lifecycle *lifecycle)
{
    lifecycle->restart = false;
    return ACTION_NONE;
}

static unsigned mark_shutdown(struct states_lifecycle *lifecycle)
{
    lifecycle->shutdown = true;
    lifecycle->restart = false;
    return ACTION_NONE;
}

static unsigned kill_process(struct states_lifecycle *lifecycle)
{
    if (lifecycle->state == STATE_STOPPING)
        lifecycle->deadline_ms = lifecycle->now_ms + STATES_KILL_AGAIN_MS;
    return ACTION_KILL;
}

static unsigned wait_ms(struct states_lifecycle *lifecycle, int64_t wait)
{
    enter(lifecycle, STATE_BACKOFF);
    lifecycle->deadline_ms = lifecycle->now_ms + wait;
    return ACTION_NONE;
}

static bool was_proven(const struct states_lifecycle *lifecycle)
{
    return lifecycle->ready_ms >= 0 && lifecycle->now_ms - lifecycle->ready_ms >= STATES_PROVEN_MS;
}

static unsigned replace(struct states_lifecycle *lifecycle)
{
    if (lifecycle->shutdown)
        return become_exited(lifecycle);
    if (was_proven(lifecycle))
        return start(lifecycle);
    return wait_ms(lifecycle, STATES_BACKOFF_MIN_MS);
}

static unsigned become_fatal(struct states_lifecycle *lifecycle)
{
    if (lifecycle->shutdown)
        return become_exited(lifecycle);
    enter(lifecycle, STATE_FATAL);
    return ACTION_FATAL;
}

static unsigned retry_start(struct states_lifecycle *lifecycle)
{
    bool short_lived = lifecycle->now_ms - lifecycle->started_ms < STATES_HEALTHY_MS;

    if (lifecycle->shutdown)
        return become_exited(lifecycle);
    if (was_proven(lifecycle) && lifecycle->at_once < STATES_AT_ONCE_MAX) {
        lifecycle->at_once++;
        return start(lifecycle);
    }
    if (short_lived && ++lifecycle->quick_deaths > lifecycle->rules->start_retries)
        return become_fatal(lifecycle);
    return wait_ms(lifecycle, clock_backoff_next(&lifecycle->backoff));
}

/* Handles the end of a process that was asked to end, in whatever way it ended. */
static unsigned finish_stop(struct states_lifecycle *lifecycle)
{
    if (lifecycle->restart)
        return start_fresh(lifecycle);
    return lifecycle->shutdown ? become_exited(lifecycle) : become_stopped(lifecycle);
}

/* An event without a cell changes nothing. */
/* clang-format off */
static step *const TABLE[STATES_LEN][EVENTS_LEN] = {
    [STATE_STOPPED] = {
        [EVENT_START] = start_fresh,    [EVENT_RESTART] = start_fresh,
        [EVENT_SHUTDOWN] = mark_shutdown,
    },
    [STATE_STARTING] = {
        [EVENT_STOP] = terminate,       [EVENT_RESTART] = terminate_for_restart,
        [EVENT_SHUTDOWN] = mark_shutdown,
        [EVENT_READY] = become_ready,   [EVENT_HANG] = kill_process,
        [EVENT_DONE] = replace,         [EVENT_SETTINGS] = become_fatal,
        [EVENT_FAILED] = retry_start,
    },
    [STATE_RUNNING] = {
        [EVENT_STOP] = terminate,       [EVENT_RESTART] = terminate_for_restart,
        [EVENT_SHUTDOWN] = mark_shutdown,
        [EVENT_DEADLINE] = mark_healthy, [EVENT_HANG] = kill_process,
        [EVENT_DONE] = replace,         [EVENT_SETTINGS] = become_fatal,
        [EVENT_FAILED] = retry_start,
    },
    [STATE_BACKOFF] = {
        [EVENT_START] = start_fresh,    [EVENT_RESTART] = start_fresh,
        [EVENT_STOP] = become_stopped,  [EVENT_SHUTDOWN] = become_exited,
        [EVENT_DEADLINE] = start,
    },
    [STATE_STOPPING] = {
        [EVENT_START] = want_start,     [EVENT_RESTART] = want_start,
        [EVENT_STOP] = want_stop,       [EVENT_SHUTDOWN] = mark_shutdown,
        [EVENT_DEADLINE] = kill_process, [EVENT_HANG] = kill_process,
        [EVENT_DONE] = finish_stop,     [EVENT_SETTINGS] = finish_stop,
        [EVENT_FAILED] = finish_stop,
    },
    [STATE_EXITED] = {
        [EVENT_STOP] = become_stopped,
    },
    [STATE_FATAL] = {
        [EVENT_START] = start_fresh,    [EVENT_RESTART] = start_fresh,
        [EVENT_STOP] = become_stopped,  [EVENT_SHUTDOWN] = mark_shutdown,
    },
};
/* clang-format on */

void states_init(struct states_lifecycle *lifecycle)
{
    *lifecycle = (struct states_lifecycle){
        .state = STATE_STOPPED,
        .ready_ms = -1,
        .deadline_ms = -1,
        .backoff = {.minimum_ms = STATES_BACKOFF_MIN_MS, .maximum_ms = STATES_BACKOFF_MAX_MS},
    };
}

unsigned states_step(struct states_lifecycle *lifecycle, const struct states_rules *rules,
                     enum states_event event, int64_t now_ms)
{
    step *cell = TABLE[lifecycle->state][event];

    lifecycle->rules = rules;
    lifecycle->now_ms = now_ms;
    return cell != NULL ? cell(lifecycle) : ACTION_NONE;
}

bool states_alive(const struct states_lifecycle *lifecycle)
{
    return lifecycle->state == STATE_STARTING || lifecycle->state == STATE_RUNNING ||
           lifecycle->state == STATE_STOPPING;
}
