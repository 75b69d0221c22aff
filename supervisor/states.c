#include "supervisor/states.h"

/* What happens in the middle of the table. Each is named for what it does to the life. */
typedef unsigned step(struct life *life, const struct states_rules *rules, int64_t now_ms);

static unsigned keep(struct life *life, const struct states_rules *rules, int64_t now_ms)
{
    (void)life;
    (void)rules;
    (void)now_ms;
    return ACTION_NONE;
}

static void rest(struct life *life, enum state state)
{
    life->state = state;
    life->deadline_ms = -1;
    life->ready_ms = -1;
    life->again = false;
}

static void forgive(struct life *life)
{
    life->quick_deaths = 0;
    backoff_reset(&life->backoff);
}

static unsigned begin(struct life *life, const struct states_rules *rules, int64_t now_ms)
{
    (void)rules;
    rest(life, STATE_STARTING);
    life->started_ms = now_ms;
    life->starts++;
    return ACTION_SPAWN;
}

/* The operator wants it: what was before no longer counts. */
static unsigned begin_afresh(struct life *life, const struct states_rules *rules, int64_t now_ms)
{
    if (life->last)
        return ACTION_NONE;
    forgive(life);
    return begin(life, rules, now_ms);
}

static unsigned become_stopped(struct life *life, const struct states_rules *rules, int64_t now_ms)
{
    (void)rules;
    (void)now_ms;
    rest(life, STATE_STOPPED);
    forgive(life);
    return ACTION_NONE;
}

static unsigned become_exited(struct life *life, const struct states_rules *rules, int64_t now_ms)
{
    (void)rules;
    (void)now_ms;
    rest(life, STATE_EXITED);
    return ACTION_NONE;
}

static unsigned become_ready(struct life *life, const struct states_rules *rules, int64_t now_ms)
{
    (void)rules;
    life->state = STATE_RUNNING;
    life->ready_ms = now_ms;
    life->deadline_ms = now_ms + STATES_HEALTHY_MS;
    return ACTION_NONE;
}

static unsigned a_healthy_minute(struct life *life, const struct states_rules *rules,
                                 int64_t now_ms)
{
    (void)rules;
    (void)now_ms;
    forgive(life);
    life->deadline_ms = -1;
    return ACTION_NONE;
}

static unsigned ask_to_end(struct life *life, const struct states_rules *rules, int64_t now_ms)
{
    life->state = STATE_STOPPING;
    life->deadline_ms = now_ms + rules->stop_timeout_ms;
    life->again = false;
    return ACTION_TERMINATE;
}

static unsigned ask_to_make_room(struct life *life, const struct states_rules *rules,
                                 int64_t now_ms)
{
    unsigned actions = ask_to_end(life, rules, now_ms);

    life->again = !life->last;
    return actions;
}

static unsigned come_back(struct life *life, const struct states_rules *rules, int64_t now_ms)
{
    (void)rules;
    (void)now_ms;
    life->again = !life->last;
    return ACTION_NONE;
}

static unsigned stay_away(struct life *life, const struct states_rules *rules, int64_t now_ms)
{
    (void)rules;
    (void)now_ms;
    life->again = false;
    return ACTION_NONE;
}

static unsigned be_the_last(struct life *life, const struct states_rules *rules, int64_t now_ms)
{
    (void)rules;
    (void)now_ms;
    life->last = true;
    life->again = false;
    return ACTION_NONE;
}

static unsigned kill_it(struct life *life, const struct states_rules *rules, int64_t now_ms)
{
    (void)rules;
    if (life->state == STATE_STOPPING)
        life->deadline_ms = now_ms + STATES_KILL_AGAIN_MS;
    return ACTION_KILL;
}

static unsigned wait_ms(struct life *life, int64_t now_ms, int64_t wait)
{
    rest(life, STATE_BACKOFF);
    life->deadline_ms = now_ms + wait;
    return ACTION_WAIT;
}

static bool was_proven(const struct life *life, int64_t now_ms)
{
    return life->ready_ms >= 0 && now_ms - life->ready_ms >= STATES_PROVEN_MS;
}

static unsigned replace(struct life *life, const struct states_rules *rules, int64_t now_ms)
{
    if (life->last)
        return become_exited(life, rules, now_ms);
    if (was_proven(life, now_ms))
        return begin(life, rules, now_ms);
    return wait_ms(life, now_ms, STATES_BACKOFF_MIN_MS);
}

static unsigned give_up(struct life *life, const struct states_rules *rules, int64_t now_ms)
{
    if (life->last)
        return become_exited(life, rules, now_ms);
    rest(life, STATE_FATAL);
    return ACTION_GIVE_UP;
}

static unsigned recover(struct life *life, const struct states_rules *rules, int64_t now_ms)
{
    bool short_lived = now_ms - life->started_ms < STATES_HEALTHY_MS;

    if (life->last)
        return become_exited(life, rules, now_ms);
    if (was_proven(life, now_ms))
        return begin(life, rules, now_ms);
    if (short_lived && ++life->quick_deaths > rules->start_retries)
        return give_up(life, rules, now_ms);
    return wait_ms(life, now_ms, backoff_next(&life->backoff));
}

/* It was asked to end and has ended; how does not matter. */
static unsigned leave(struct life *life, const struct states_rules *rules, int64_t now_ms)
{
    if (life->again)
        return begin_afresh(life, rules, now_ms);
    return life->last ? become_exited(life, rules, now_ms) : become_stopped(life, rules, now_ms);
}

/* clang-format off */
static step *const TABLE[STATES_LEN][EVENTS_LEN] = {
    [STATE_STOPPED] = {
        [EVENT_START] = begin_afresh,     [EVENT_STOP] = keep,
        [EVENT_RESTART] = begin_afresh,   [EVENT_LAST] = be_the_last,
        [EVENT_READY] = keep,             [EVENT_DEADLINE] = keep,
        [EVENT_HANG] = keep,              [EVENT_DONE] = keep,
        [EVENT_SETTINGS] = keep,          [EVENT_FAILED] = keep,
    },
    [STATE_STARTING] = {
        [EVENT_START] = keep,             [EVENT_STOP] = ask_to_end,
        [EVENT_RESTART] = ask_to_make_room, [EVENT_LAST] = be_the_last,
        [EVENT_READY] = become_ready,     [EVENT_DEADLINE] = keep,
        [EVENT_HANG] = kill_it,           [EVENT_DONE] = replace,
        [EVENT_SETTINGS] = give_up,       [EVENT_FAILED] = recover,
    },
    [STATE_RUNNING] = {
        [EVENT_START] = keep,             [EVENT_STOP] = ask_to_end,
        [EVENT_RESTART] = ask_to_make_room, [EVENT_LAST] = be_the_last,
        [EVENT_READY] = keep,             [EVENT_DEADLINE] = a_healthy_minute,
        [EVENT_HANG] = kill_it,           [EVENT_DONE] = replace,
        [EVENT_SETTINGS] = give_up,       [EVENT_FAILED] = recover,
    },
    [STATE_BACKOFF] = {
        [EVENT_START] = begin_afresh,     [EVENT_STOP] = become_stopped,
        [EVENT_RESTART] = begin_afresh,   [EVENT_LAST] = become_exited,
        [EVENT_READY] = keep,             [EVENT_DEADLINE] = begin,
        [EVENT_HANG] = keep,              [EVENT_DONE] = keep,
        [EVENT_SETTINGS] = keep,          [EVENT_FAILED] = keep,
    },
    [STATE_STOPPING] = {
        [EVENT_START] = come_back,        [EVENT_STOP] = stay_away,
        [EVENT_RESTART] = come_back,      [EVENT_LAST] = be_the_last,
        [EVENT_READY] = keep,             [EVENT_DEADLINE] = kill_it,
        [EVENT_HANG] = kill_it,           [EVENT_DONE] = leave,
        [EVENT_SETTINGS] = leave,         [EVENT_FAILED] = leave,
    },
    [STATE_EXITED] = {
        [EVENT_START] = keep,             [EVENT_STOP] = become_stopped,
        [EVENT_RESTART] = keep,           [EVENT_LAST] = keep,
        [EVENT_READY] = keep,             [EVENT_DEADLINE] = keep,
        [EVENT_HANG] = keep,              [EVENT_DONE] = keep,
        [EVENT_SETTINGS] = keep,          [EVENT_FAILED] = keep,
    },
    [STATE_FATAL] = {
        [EVENT_START] = begin_afresh,     [EVENT_STOP] = become_stopped,
        [EVENT_RESTART] = begin_afresh,   [EVENT_LAST] = be_the_last,
        [EVENT_READY] = keep,             [EVENT_DEADLINE] = keep,
        [EVENT_HANG] = keep,              [EVENT_DONE] = keep,
        [EVENT_SETTINGS] = keep,          [EVENT_FAILED] = keep,
    },
};
/* clang-format on */

void states_init(struct life *life)
{
    *life = (struct life){
        .state = STATE_STOPPED,
        .ready_ms = -1,
        .deadline_ms = -1,
        .backoff = {.minimum_ms = STATES_BACKOFF_MIN_MS, .maximum_ms = STATES_BACKOFF_MAX_MS},
    };
}

unsigned states_step(struct life *life, const struct states_rules *rules, enum event event,
                     int64_t now_ms)
{
    return TABLE[life->state][event](life, rules, now_ms);
}

bool states_alive(const struct life *life)
{
    return life->state == STATE_STARTING || life->state == STATE_RUNNING ||
           life->state == STATE_STOPPING;
}

const char *states_name(enum state state)
{
    static const char *const NAMES[STATES_LEN] = {"stopped",  "starting", "running", "backoff",
                                                  "stopping", "exited",   "fatal"};
    return NAMES[state];
}

const char *states_event_name(enum event event)
{
    static const char *const NAMES[EVENTS_LEN] = {"start",    "stop",     "restart", "last",
                                                  "ready",    "deadline", "hang",    "done",
                                                  "settings", "failed"};
    return NAMES[event];
}
