#include "supervisor/history.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void test_what_happened_is_kept_in_order(void **state)
{
    static struct history history;

    (void)state;
    assert_null(history_get(&history, 0));
    history_add(&history, "first %d\x1b", 1);
    history_add(&history, "second");
    assert_string_equal(history_get(&history, 0)->text, "first 1?");
    assert_string_equal(history_get(&history, 1)->text, "second");
    assert_true(history_get(&history, 0)->wall_us > 0);
    assert_null(history_get(&history, 2));
}

static void test_the_oldest_make_room(void **state)
{
    static struct history history;

    (void)state;
    for (int i = 0; i < HISTORY_KEPT + 3; i++)
        history_add(&history, "%d", i);
    assert_string_equal(history_get(&history, 0)->text, "3");
    assert_string_equal(history_get(&history, HISTORY_KEPT - 1)->text, "130");
    assert_null(history_get(&history, HISTORY_KEPT));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_happened_is_kept_in_order),
        cmocka_unit_test(test_the_oldest_make_room),
    };

    return cmocka_run_group_tests_name("history", tests, NULL, NULL);
}
