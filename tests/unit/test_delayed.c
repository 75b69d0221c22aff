#include "common/wire/delayed.h"

#include "common/wire/envelope.h"
#include "common/wire/json.h"
#include "common/wire/php.h"
#include "tests/unit/vectors.h"

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
        assert_int_equal(delayed_encode(&member, envelope.body, envelope.headers, uniqid, &err), 0);
        assert_bytes(buf_bytes(&member), whole);
    }
    buf_free(&file);
    buf_free(&member);
    arena_free(&arena);
}

static void test_what_falls_due_is_the_entry_without_its_uniqid(void **state)
{
    struct arena arena = {0};
    struct buf file = {0};
    struct buf value = {0};
    struct buf expected = {0};
    struct buf wrapped = {0};
    struct error err;

    (void)state;
    struct bytes member = vector_read(&file, "7.4", "php", "retry-1.delayed");
    buf_append(&expected,
               bytes_slice(member, 0, member.len - strlen(",\"uniqid\":\"tfGs8wHs6IHu\"}")));
    buf_append_char(&expected, '}');
    assert_int_equal(delayed_to_value(&value, member, false, &arena, &err), 0);
    assert_bytes(buf_bytes(&value), buf_bytes(&expected));

    buf_clear(&value);
    assert_int_equal(delayed_to_value(&value, member, true, &arena, &err), 0);
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
    assert_int_equal(delayed_encode(&member, BYTES("a/\"b\\"), headers, BYTES("x/y"), &err), 0);
    assert_text(buf_bytes(&member),
                "{\"body\":\"a\\/\\\"b\\\\\",\"headers\":{\"X-Mqtt-Id\":\"7-1\",\"other\":{\"a\":"
                "[1.50,\"\\u00e9\"]}},\"uniqid\":\"x\\/y\"}");
    assert_int_equal(delayed_to_value(&value, buf_bytes(&member), false, &arena, &err), 0);
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
        delayed_to_value(&value, BYTES("{\"uniqid\":1,\"body\":\"b\"}"), false, &arena, NULL), 0);
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
    for (size_t i = 0; i < sizeof(members) / sizeof(*members); i++)
        assert_int_equal(delayed_to_value(&out, bytes_of(members[i]), true, &arena, &err),
                         -ERR_FORMAT);
    assert_int_equal(delayed_encode(&out, BYTES("\xFF"), BYTES("[]"), BYTES("u"), &err),
                     -ERR_FORMAT);
    assert_int_equal(delayed_encode(&out, BYTES("b"), BYTES("{"), BYTES("u"), &err), -ERR_FORMAT);
    assert_int_equal(delayed_encode(&out, BYTES("b"), BYTES("[]"), BYTES("\xFF"), &err),
                     -ERR_FORMAT);
    assert_int_equal(out.len, 0);
    buf_free(&out);
    arena_free(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_delayed_vector_is_written_again_byte_for_byte),
        cmocka_unit_test(test_what_falls_due_is_the_entry_without_its_uniqid),
        cmocka_unit_test(test_headers_pass_a_delay_unchanged),
        cmocka_unit_test(test_a_member_without_headers_gets_empty_ones),
        cmocka_unit_test(test_malformed_members_are_refused_and_nothing_is_written),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
