#include "worker/entry.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void test_only_identities_of_our_own_making_are_known_as_such(void **state)
{
    static const char *const ours[] = {"0123456789abcdef0123456789abcdef-1",
                                       "0123456789abcdef0123456789abcdef-18446744073709551615",
                                       "1795966530673-0-af408e0f", "0-1-00000000"};
    static const char *const foreign[] = {"",
                                          "-",
                                          "sensor-7",
                                          "type",
                                          "7",
                                          "0123456789abcdef0123456789abcdef",
                                          "0123456789abcdef0123456789abcdef-",
                                          "0123456789abcdef0123456789abcdef-1x",
                                          "0123456789ABCDEF0123456789ABCDEF-1",
                                          "1795966530673-0",
                                          "1795966530673-0-af408e0",
                                          "1795966530673-0-af408e0f0",
                                          "f795966530673-0-af408e0f",
                                          "123e4567-e89b-12d3-a456-426614174000"};

    (void)state;
    for (size_t i = 0; i < LENGTH_OF(ours); i++)
        assert_true(entry_identity_is_ours(bytes_of(ours[i])));
    for (size_t i = 0; i < LENGTH_OF(foreign); i++)
        assert_false(entry_identity_is_ours(bytes_of(foreign[i])));
    assert_false(entry_identity_is_ours((struct bytes){"1-0-af40\0e0f", 12}));
}

/* Never looked into. */
static struct source *const A = (struct source *)1;
static struct source *const B = (struct source *)2;

static struct entry_left left_of(struct source *source, uint64_t ms, bool redelivered)
{
    return (struct entry_left){source, {ms, 0}, redelivered, false};
}

static void assert_order(const struct entry_ids *ids, uint64_t first, size_t len)
{
    assert_int_equal(ids->len, len);
    for (size_t i = 0; i < len; i++)
        assert_int_equal(entry_ids_at(ids, i)->id.ms, first + i);
}

static void test_ids_come_out_in_the_order_in_which_they_went_in(void **state)
{
    struct entry_ids ids = {0};
    uint64_t in = 0, out = 0;

    (void)state;
    for (unsigned round = 1; round < 200; round++) {
        for (unsigned i = 0; i < round % 23; i++)
            entry_ids_push_left(&ids, left_of(A, in++, false));
        size_t drop = round % 19 < ids.len ? round % 19 : ids.len;
        entry_ids_drop(&ids, drop);
        out += drop;
        assert_order(&ids, out, in - out);
    }
    entry_ids_drop(&ids, ids.len + 1);
    assert_int_equal(ids.len, 0);
    assert_null(ids.ring);
    entry_ids_drop(&ids, 1);
}

static void test_ids_pushed_to_the_front_come_out_first(void **state)
{
    struct entry_ids ids = {0};

    (void)state;
    for (uint64_t ms = 100; ms < 120; ms++)
        entry_ids_push_left(&ids, left_of(A, ms, false));
    for (uint64_t ms = 100; ms-- > 60;)
        entry_ids_push_front(&ids, left_of(A, ms, false));
    assert_order(&ids, 60, 60);
    entry_ids_free(&ids);
}

static void test_a_page_of_ids_is_of_one_source_and_one_kind(void **state)
{
    struct entry_ids ids = {0};
    struct stream_id page[8];

    (void)state;
    assert_int_equal(entry_ids_page(&ids, page, 8), 0);
    for (uint64_t ms = 0; ms < 10; ms++)
        entry_ids_push_left(&ids, left_of(ms < 6 ? A : B, ms, ms < 3));
    assert_int_equal(entry_ids_page(&ids, page, 2), 2);
    assert_int_equal(entry_ids_page(&ids, page, 8), 3);
    entry_ids_drop(&ids, 3);
    assert_int_equal(entry_ids_page(&ids, page, 8), 3);
    assert_int_equal(page[2].ms, 5);
    entry_ids_drop(&ids, 3);
    assert_int_equal(entry_ids_page(&ids, page, 8), 4);
    entry_ids_free(&ids);
}

static void test_the_first_ids_of_a_list_move_behind_those_of_another(void **state)
{
    struct entry_ids from = {0}, to = {0};

    (void)state;
    for (uint64_t ms = 0; ms < 40; ms++)
        entry_ids_push_left(ms < 20 ? &to : &from, left_of(A, ms, false));
    entry_ids_move(&to, &from, 15);
    assert_order(&to, 0, 35);
    assert_order(&from, 35, 5);
    entry_ids_move(&to, &from, 5);
    assert_int_equal(from.len, 0);
    entry_ids_free(&to);
}

static void test_a_source_is_forgotten_and_the_others_keep_their_order(void **state)
{
    struct entry_ids ids = {0};

    (void)state;
    for (uint64_t ms = 0; ms < 40; ms++)
        entry_ids_push_left(&ids, left_of(ms % 2 == 0 ? A : B, ms / 2, false));
    entry_ids_forget(&ids, B);
    assert_order(&ids, 0, 20);
    entry_ids_forget(&ids, A);
    assert_int_equal(ids.len, 0);
    assert_null(ids.ring);
}

static void test_lists_of_ids_keep_a_shared_total(void **state)
{
    size_t total = 0;
    struct entry_ids first = {.total = &total}, second = {.total = &total};

    (void)state;
    for (uint64_t ms = 0; ms < 40; ms++) {
        entry_ids_push_left(&first, left_of(ms % 2 == 0 ? A : B, ms, false));
        entry_ids_push_front(&second, left_of(A, ms, false));
    }
    assert_int_equal(total, 80);
    entry_ids_drop(&first, 10);
    entry_ids_forget(&first, A);
    assert_int_equal(total, 15 + 40);
    entry_ids_free(&second);
    assert_int_equal(total, 15);
    entry_ids_push_left(&second, left_of(A, 1, false));
    entry_ids_drop(&first, 15);
    assert_int_equal(total, 1);
    entry_ids_free(&second);
    assert_int_equal(total, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_only_identities_of_our_own_making_are_known_as_such),
        cmocka_unit_test(test_ids_come_out_in_the_order_in_which_they_went_in),
        cmocka_unit_test(test_ids_pushed_to_the_front_come_out_first),
        cmocka_unit_test(test_a_page_of_ids_is_of_one_source_and_one_kind),
        cmocka_unit_test(test_the_first_ids_of_a_list_move_behind_those_of_another),
        cmocka_unit_test(test_a_source_is_forgotten_and_the_others_keep_their_order),
        cmocka_unit_test(test_lists_of_ids_keep_a_shared_total),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
