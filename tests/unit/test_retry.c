#include "common/wire/envelope.h"
#include "common/wire/json.h"
#include "common/wire/php.h"
#include "common/wire/retry.h"
#include "tests/unit/vectors.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static const struct retry_strategy DEFAULTS = {.max_retries = 3, .delay_ms = 1000, .multiplier = 2};

static void test_retries_end_at_the_maximum(void **state)
{
    (void)state;
    assert_true(retry_is_allowed(&DEFAULTS, 0));
    assert_true(retry_is_allowed(&DEFAULTS, 2));
    assert_false(retry_is_allowed(&DEFAULTS, 3));
    assert_false(retry_is_allowed(&DEFAULTS, INT64_MAX));
    struct retry_strategy none = DEFAULTS;
    none.max_retries = 0;
    assert_false(retry_is_allowed(&none, 0));
}

static void test_each_wait_is_a_multiple_of_the_last(void **state)
{
    (void)state;
    assert_int_equal(retry_delay_ms(&DEFAULTS, 0, 1), 1000);
    assert_int_equal(retry_delay_ms(&DEFAULTS, 1, 2), 2000);
    assert_int_equal(retry_delay_ms(&DEFAULTS, 2, 3), 4000);
    struct retry_strategy constant = DEFAULTS;
    constant.multiplier = 1;
    assert_int_equal(retry_delay_ms(&constant, 50, 4), 1000);
    struct retry_strategy broken = {.delay_ms = 3, .multiplier = 1.5};
    assert_int_equal(retry_delay_ms(&broken, 1, 0), 5); /* 4.5, rounded up */
}

static void test_a_wait_is_cut_at_the_maximum(void **state)
{
    struct retry_strategy strategy = DEFAULTS;

    (void)state;
    strategy.max_delay_ms = 1500;
    assert_int_equal(retry_delay_ms(&strategy, 0, 0), 1000);
    assert_int_equal(retry_delay_ms(&strategy, 1, 0), 1500);
    assert_int_equal(retry_delay_ms(&strategy, INT64_MAX, 0), 1500);
    strategy.jitter = 0.5;
    assert_int_equal(retry_delay_ms(&strategy, INT64_MAX, UINT64_MAX), 1500);
}

static void test_a_wait_always_fits(void **state)
{
    struct retry_strategy strategy = DEFAULTS;

    (void)state;
    assert_true(retry_delay_ms(&strategy, 100, 0) == RETRY_DELAY_MAX_MS);
    assert_true(retry_delay_ms(&strategy, INT64_MAX, 0) == RETRY_DELAY_MAX_MS);
    strategy.jitter = 1;
    assert_true(retry_delay_ms(&strategy, INT64_MAX, UINT64_MAX) == RETRY_DELAY_MAX_MS);
    strategy.delay_ms = INT64_MAX;
    assert_true(retry_delay_ms(&strategy, 0, UINT64_MAX) == RETRY_DELAY_MAX_MS);
    strategy.delay_ms = 0;
    assert_int_equal(retry_delay_ms(&strategy, 5, UINT64_MAX), 0);
}

static void test_jitter_stays_within_its_share_and_uses_all_of_it(void **state)
{
    struct retry_strategy strategy = DEFAULTS;
    uint64_t random = 1;
    int64_t lowest = INT64_MAX;
    int64_t highest = 0;

    (void)state;
    strategy.jitter = 0.1;
    assert_int_equal(retry_delay_ms(&strategy, 0, 0), 900);
    assert_int_equal(retry_delay_ms(&strategy, 0, UINT64_MAX), 1100);
    for (int i = 0; i < 100000; i++) {
        random = random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        int64_t delay = retry_delay_ms(&strategy, 1, random);

        lowest = delay < lowest ? delay : lowest;
        highest = delay > highest ? delay : highest;
    }
    assert_int_equal(lowest, 1800);
    assert_int_equal(highest, 2200);
}

static void test_every_delayed_vector_is_written_again_byte_for_byte(void **state)
{
    static const char *const versions[] = {"5.4", "6.4", "7.4"};
    static const char *const serializers[] = {"php", "json"};
    struct arena arena = {0};
    struct buf file = {0};
    struct buf member = {0};
    struct envelope envelope;
    struct bytes uniqid;
    struct error err;

    (void)state;
    for (size_t i = 0; i < 6; i++) {
        struct bytes whole =
            vector_read(&file, versions[i / 2], serializers[i % 2], "retry-1.delayed");

        assert_int_equal(envelope_decode(&envelope, whole, &arena, &err), 0);
        assert_int_equal(json_unquote(&uniqid, json_object_get(whole, "uniqid", &arena), &arena),
                         0);
        buf_clear(&member);
        assert_int_equal(
            retry_member_encode(&member, envelope.body, envelope.headers, uniqid, &err), 0);
        assert_bytes(buf_bytes(&member), whole);
    }
    buf_free(&file);
    buf_free(&member);
    arena_free(&arena);
}

static void test_a_due_member_becomes_the_entry_without_its_uniqid(void **state)
{
    struct arena arena = {0};
    struct buf file = {0};
    struct buf value = {0};
    struct buf expected = {0};
    struct buf wrapped = {0};

    (void)state;
    struct bytes member = vector_read(&file, "7.4", "php", "retry-1.delayed");
    buf_append(&expected,
               bytes_slice(member, 0, member.len - strlen(",\"uniqid\":\"tfGs8wHs6IHu\"}")));
    buf_append_char(&expected, '}');
    assert_int_equal(retry_member_to_value(&value, member, false, &arena), 0);
    assert_bytes(buf_bytes(&value), buf_bytes(&expected));

    buf_clear(&value);
    assert_int_equal(retry_member_to_value(&value, member, true, &arena), 0);
    php_write_string(&wrapped, buf_bytes(&expected));
    assert_bytes(buf_bytes(&value), buf_bytes(&wrapped));
    buf_free(&file);
    buf_free(&wrapped);
    buf_free(&value);
    buf_free(&expected);
    arena_free(&arena);
}

static void test_headers_pass_a_delay_unchanged(void **state)
{
    struct bytes headers = BYTES("{\"X-Mqtt-Id\":\"7-1\",\"other\":{\"a\":[1.50,\"\\u00e9\"]}}");
    struct arena arena = {0};
    struct buf member = {0};
    struct buf value = {0};
    struct error err;

    (void)state;
    assert_int_equal(retry_member_encode(&member, BYTES("a/\"b\\"), headers, BYTES("x/y"), &err),
                     0);
    assert_text(buf_bytes(&member),
                "{\"body\":\"a\\/\\\"b\\\\\",\"headers\":{\"X-Mqtt-Id\":\"7-1\",\"other\":{\"a\":"
                "[1.50,\"\\u00e9\"]}},\"uniqid\":\"x\\/y\"}");
    assert_int_equal(retry_member_to_value(&value, buf_bytes(&member), false, &arena), 0);
    assert_text(buf_bytes(&value),
                "{\"body\":\"a\\/\\\"b\\\\\",\"headers\":{\"X-Mqtt-Id\":\"7-1\",\"other\":{\"a\":"
                "[1.50,\"\\u00e9\"]}}}");
    buf_free(&member);
    buf_free(&value);
    arena_free(&arena);
}

static void test_a_member_without_headers_gets_empty_ones(void **state)
{
    struct arena arena = {0};
    struct buf value = {0};

    (void)state;
    assert_int_equal(
        retry_member_to_value(&value, BYTES("{\"uniqid\":1,\"body\":\"b\"}"), false, &arena), 0);
    assert_text(buf_bytes(&value), "{\"body\":\"b\",\"headers\":[]}");
    buf_free(&value);
    arena_free(&arena);
}

static void test_malformed_members_are_refused_and_nothing_is_written(void **state)
{
    static const char *const members[] = {
        "", "x", "{}", "[]", "{\"body\":1}", "{\"body\":\"b\"", "{\"body\":\"b\"}x"};
    struct arena arena = {0};
    struct buf out = {0};
    struct error err;

    (void)state;
    for (size_t i = 0; i < LENGTH_OF(members); i++)
        assert_int_equal(retry_member_to_value(&out, bytes_of(members[i]), true, &arena),
                         -ERR_FORMAT);
    assert_int_equal(retry_member_encode(&out, BYTES("\xFF"), BYTES("[]"), BYTES("u"), &err),
                     -ERR_FORMAT);
    assert_int_equal(retry_member_encode(&out, BYTES("b"), BYTES("{"), BYTES("u"), &err),
                     -ERR_FORMAT);
    assert_int_equal(retry_member_encode(&out, BYTES("b"), BYTES("[]"), BYTES("\xFF"), &err),
                     -ERR_FORMAT);
    assert_int_equal(out.len, 0);
    buf_free(&out);
    arena_free(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_retries_end_at_the_maximum),
        cmocka_unit_test(test_each_wait_is_a_multiple_of_the_last),
        cmocka_unit_test(test_a_wait_is_cut_at_the_maximum),
        cmocka_unit_test(test_a_wait_always_fits),
        cmocka_unit_test(test_jitter_stays_within_its_share_and_uses_all_of_it),
        cmocka_unit_test(test_every_delayed_vector_is_written_again_byte_for_byte),
        cmocka_unit_test(test_a_due_member_becomes_the_entry_without_its_uniqid),
        cmocka_unit_test(test_headers_pass_a_delay_unchanged),
        cmocka_unit_test(test_a_member_without_headers_gets_empty_ones),
        cmocka_unit_test(test_malformed_members_are_refused_and_nothing_is_written),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
