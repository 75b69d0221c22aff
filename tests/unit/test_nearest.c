#include "common/base/nearest.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static size_t distance(const char *a, const char *b)
{
    return nearest_distance(bytes_of(a), bytes_of(b));
}

static void test_distance_counts_edits_and_swaps(void **state)
{
    (void)state;
    assert_int_equal(distance("", ""), 0);
    assert_int_equal(distance("port", "port"), 0);
    assert_int_equal(distance("PORT", "port"), 0);
    assert_int_equal(distance("", "abc"), 3);
    assert_int_equal(distance("abc", ""), 3);
    assert_int_equal(distance("kitten", "sitting"), 3);
    assert_int_equal(distance("prot", "port"), 1);
    assert_int_equal(distance("tsop", "stop"), 1);
    assert_int_equal(distance("flaw", "lawn"), 2);
}

static void test_distance_is_bounded_for_any_length(void **state)
{
    (void)state;
    char longer[1000];
    memset(longer, 'x', sizeof(longer));
    assert_int_equal(nearest_distance((struct bytes){longer, sizeof(longer)}, BYTES("")), 63);
}

static const char *nearest_of(const char *name)
{
    static const char *const NAMES[] = {"host", "port", "topics", "tls"};
    struct nearest nearest = {.name = bytes_of(name)};

    for (size_t i = 0; i < sizeof(NAMES) / sizeof(NAMES[0]); i++)
        nearest_consider(&nearest, NAMES[i]);
    return nearest.best;
}

static void test_only_a_near_name_is_suggested(void **state)
{
    (void)state;
    assert_string_equal(nearest_of("prot"), "port");
    assert_string_equal(nearest_of("topic"), "topics");
    assert_string_equal(nearest_of("TLS"), "tls");
    assert_null(nearest_of("qos"));
    assert_null(nearest_of("xyzzy"));
    assert_null(nearest_of(""));
    assert_null(nearest_of("x"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_distance_counts_edits_and_swaps),
        cmocka_unit_test(test_distance_is_bounded_for_any_length),
        cmocka_unit_test(test_only_a_near_name_is_suggested),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
