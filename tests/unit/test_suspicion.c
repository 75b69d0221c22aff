#include "worker/suspicion.h"

#include "common/base/bytes.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define STRIKES 3

struct expected {
    enum suspicion_state state;
    enum suspicion_event event;
    enum suspicion_state next;
    enum suspicion_action action;
};

#define ROW(state, event, next, action)                                                            \
    {                                                                                              \
        SUSPICION_##state, SUSPICION_ON_##event, SUSPICION_##next, SUSPICION_##action              \
    }

/* Every cell that changes something; all others must not. */
static const struct expected CELLS[] = {
    ROW(CLEAR, SEND, SENT, NOTHING),
    ROW(SENT, PASSED, CLEAR, DONE),
    ROW(SENT, FAILED, FAILED, SET_ASIDE),
    ROW(SENT, LIMITED, PAUSED, PAUSE),
    ROW(SENT, REFUSED, REFUSED, SET_ASIDE),
    ROW(SENT, UNAUTHORIZED, UNAUTHORIZED, SET_ASIDE),
    ROW(FAILED, CONTRAST, PAUSED, STRIKE),
    ROW(FAILED, AT_WORK, PAUSED, STRIKE),
    ROW(FAILED, HUB_DOWN, RECALLED, RECALL),
    ROW(REFUSED, CONTRAST, CLEAR, REJECT),
    ROW(REFUSED, HUB_DOWN, CLEAR, READY),
    ROW(UNAUTHORIZED, CONTRAST, CLEAR, RETRY),
    ROW(UNAUTHORIZED, HUB_DOWN, CLEAR, READY),
    ROW(RECALLED, SEND, ALONE, NOTHING),
    ROW(PAUSED, SEND, ALONE, NOTHING),
    ROW(ALONE, PASSED, CLEAR, DONE),
    ROW(ALONE, FAILED, FAILED_ALONE, SET_ASIDE),
    ROW(ALONE, LIMITED, PAUSED, PAUSE),
    ROW(ALONE, REFUSED, REFUSED, SET_ASIDE),
    ROW(ALONE, UNAUTHORIZED, UNAUTHORIZED, SET_ASIDE),
    ROW(FAILED_ALONE, CONTRAST, PAUSED, STRIKE),
    ROW(FAILED_ALONE, AT_WORK, PAUSED, STRIKE),
};

static struct expected expect(enum suspicion_state state, enum suspicion_event event)
{
    for (size_t i = 0; i < LENGTH_OF(CELLS); i++)
        if (CELLS[i].state == state && CELLS[i].event == event)
            return CELLS[i];
    return (struct expected){state, event, state, SUSPICION_NOTHING};
}

static void test_every_state_and_event_of_the_suspicion_table(void **state)
{
    (void)state;
    for (int from = 0; from < SUSPICION_STATES; from++) {
        for (int event = 0; event < SUSPICION_EVENTS; event++) {
            struct expected cell = expect((enum suspicion_state)from, (enum suspicion_event)event);
            struct suspicion suspicion = {.state = cell.state};
            enum suspicion_action action = suspicion_step(&suspicion, cell.event, STRIKES);

            if (action != cell.action || suspicion.state != cell.next)
                fail_msg("state %d, event %d: state %d, action %d", from, event,
                         (int)suspicion.state, (int)action);
            assert_int_equal(suspicion.strikes, action == SUSPICION_STRIKE);
        }
    }
}

static enum suspicion_action fail_by_contrast(struct suspicion *suspicion)
{
    (void)suspicion_step(suspicion, SUSPICION_ON_SEND, STRIKES);
    assert_int_equal(suspicion_step(suspicion, SUSPICION_ON_FAILED, STRIKES), SUSPICION_SET_ASIDE);
    return suspicion_step(suspicion, SUSPICION_ON_CONTRAST, STRIKES);
}

static void test_the_last_strike_is_charged_as_a_retry(void **state)
{
    struct suspicion suspicion = {0};

    (void)state;
    assert_int_equal(fail_by_contrast(&suspicion), SUSPICION_STRIKE);
    assert_int_equal(fail_by_contrast(&suspicion), SUSPICION_STRIKE);
    assert_int_equal(fail_by_contrast(&suspicion), SUSPICION_RETRY);
    assert_int_equal(suspicion.state, SUSPICION_CLEAR);
}

static void test_a_hub_that_goes_down_again_and_again_charges_nobody(void **state)
{
    struct suspicion suspicion = {0};

    (void)state;
    for (int i = 0; i < 10; i++) {
        suspicion.state = SUSPICION_CLEAR;
        (void)suspicion_step(&suspicion, SUSPICION_ON_SEND, STRIKES);
        (void)suspicion_step(&suspicion, SUSPICION_ON_FAILED, STRIKES);
        assert_int_equal(suspicion_step(&suspicion, SUSPICION_ON_HUB_DOWN, STRIKES),
                         SUSPICION_RECALL);
    }
    assert_int_equal(suspicion.strikes, 0);
}

static void test_a_message_that_brings_the_hub_down_repeatedly_is_charged(void **state)
{
    struct suspicion suspicion = {.state = SUSPICION_RECALLED};

    (void)state;
    for (int i = 1; i < STRIKES; i++) {
        (void)suspicion_step(&suspicion, SUSPICION_ON_SEND, STRIKES);
        (void)suspicion_step(&suspicion, SUSPICION_ON_FAILED, STRIKES);
        assert_int_equal(suspicion_step(&suspicion, SUSPICION_ON_HUB_DOWN, STRIKES),
                         SUSPICION_NOTHING);
        assert_int_equal(suspicion_step(&suspicion, SUSPICION_ON_CONTRAST, STRIKES),
                         SUSPICION_STRIKE);
    }
    assert_int_equal(fail_by_contrast(&suspicion), SUSPICION_RETRY);
}

static void test_a_limiter_never_charges(void **state)
{
    struct suspicion suspicion = {0};

    (void)state;
    for (int i = 0; i < 10; i++) {
        (void)suspicion_step(&suspicion, SUSPICION_ON_SEND, STRIKES);
        assert_int_equal(suspicion_step(&suspicion, SUSPICION_ON_LIMITED, STRIKES),
                         SUSPICION_PAUSE);
        assert_int_equal(suspicion_step(&suspicion, SUSPICION_ON_CONTRAST, STRIKES),
                         SUSPICION_NOTHING);
    }
    assert_int_equal(suspicion.strikes, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_state_and_event_of_the_suspicion_table),
        cmocka_unit_test(test_the_last_strike_is_charged_as_a_retry),
        cmocka_unit_test(test_a_hub_that_goes_down_again_and_again_charges_nobody),
        cmocka_unit_test(test_a_message_that_brings_the_hub_down_repeatedly_is_charged),
        cmocka_unit_test(test_a_limiter_never_charges),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
