/* A stream entry's fields as one value. */
#include "common/wire/envelope.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define BODY "{\"topic\":\"a/b\",\"payload\":\"p\"}"

static void assert_bytes(struct bytes got, struct bytes wanted)
{
    if (!bytes_equal(got, wanted))
        fail_msg("%.*s instead of %.*s", BYTES_ARG(got), BYTES_ARG(wanted));
}

static void test_a_list_is_what_php_unserializes_into_xadd_s_words(void **state)
{
    static const struct bytes words[] = {BYTES("device"), BYTES("probe-7"), BYTES("\0\xFF"),
                                         BYTES(""),       BYTES("device"),  BYTES("again")};
    struct buf list = {0};

    (void)state;
    envelope_fields_encode(&list, words, 6);
    assert_bytes(buf_bytes(&list),
                 BYTES("a:6:{i:0;s:6:\"device\";i:1;s:7:\"probe-7\";i:2;s:2:\"\0\xFF"
                       "\";i:3;s:0:\"\";i:4;s:6:\"device\";i:5;s:5:\"again\";}"));
    assert_true(envelope_fields_is_list(buf_bytes(&list)));
    buf_free(&list);
}

static void test_xadd_s_words_come_out_of_a_list_as_they_went_in(void **state)
{
    static const struct bytes words[] = {BYTES("device"), BYTES("probe-7"), BYTES("\0\xFF"),
                                         BYTES(""),       BYTES("device"),  BYTES("again")};
    static const char *const malformed[] = {"a:2:{i:0;s:1:\"x\";i:1;i:5;}", "a:1:{i:0;s:1:\"x\";}",
                                            "a:2:{i:0;s:1:\"x\";i:1;s:1:\"y\";}z", "a:2:{", "x"};
    struct buf list = {0};
    struct bytes *out;
    size_t len;

    (void)state;
    envelope_fields_encode(&list, words, 6);
    assert_int_equal(envelope_fields_words(&out, &len, buf_bytes(&list)), 0);
    assert_int_equal(len, 6);
    for (size_t i = 0; i < len; i++)
        assert_bytes(out[i], words[i]);
    free(out);
    buf_free(&list);
    for (size_t i = 0; i < LENGTH_OF(malformed); i++) {
        assert_int_equal(envelope_fields_words(&out, &len, bytes_of(malformed[i])), -ERR_FORMAT);
        assert_null(out);
    }
}

static void test_body_headers_and_message_are_found_and_the_last_of_each_counts(void **state)
{
    static const struct bytes words[] = {
        BYTES("body"), BYTES("first"), BYTES("x"),    BYTES("y"),       BYTES("headers"),
        BYTES("{}"),   BYTES("body"),  BYTES("last"), BYTES("message"), BYTES("")};
    struct buf list = {0};
    struct envelope_fields fields;

    (void)state;
    envelope_fields_encode(&list, words, 6);
    assert_int_equal(envelope_fields_decode(&fields, buf_bytes(&list)), 0);
    assert_bytes(fields.body, BYTES("first"));
    assert_bytes(fields.headers, BYTES("{}"));
    assert_null(fields.message.data);
    buf_clear(&list);
    envelope_fields_encode(&list, words, 10);
    assert_int_equal(envelope_fields_decode(&fields, buf_bytes(&list)), 0);
    assert_bytes(fields.body, BYTES("last"));
    assert_non_null(fields.message.data);
    buf_free(&list);
}

static void test_malformed_lists_of_fields_are_refused(void **state)
{
    static const char *const values[] = {"a:",
                                         "a:1:{i:0;s:1:\"x\";}",
                                         "a:2:{i:0;s:1:\"x\";i:1;s:1:\"y\";",
                                         "a:2:{i:0;s:1:\"x\";i:1;s:1:\"y\";}}",
                                         "a:2:{i:0;s:1:\"x\";i:1;i:5;}",
                                         "a:2:{i:0;s:9:\"x\";i:1;s:1:\"y\";}",
                                         "a:4:{i:0;s:1:\"x\";i:1;s:1:\"y\";}",
                                         "a:99999999999:{i:0;s:1:\"x\";i:1;s:1:\"y\";}"};
    struct envelope_fields fields;

    (void)state;
    for (size_t i = 0; i < LENGTH_OF(values); i++)
        assert_int_equal(envelope_fields_decode(&fields, bytes_of(values[i])), -ERR_FORMAT);
}

static int decode(struct envelope *envelope, const struct bytes *words, size_t len,
                  struct arena *arena)
{
    struct buf list = {0};

    envelope_fields_encode(&list, words, len);
    struct bytes value = arena_copy(arena, buf_bytes(&list));
    buf_free(&list);
    return envelope_decode(envelope, value, arena, NULL);
}

static void test_an_entry_of_body_and_headers_is_an_envelope(void **state)
{
    static const struct bytes plain[] = {BYTES("body"), BYTES(BODY), BYTES("headers"),
                                         BYTES("{\"type\":\"M\"}")};
    static const struct bytes wrapped[] = {BYTES("headers"), BYTES("s:12:\"{\"type\":\"M\"}\";"),
                                           BYTES("more"),    BYTES("x"),
                                           BYTES("body"),    BYTES("s:29:\"" BODY "\";")};
    static const struct bytes message[] = {BYTES("body"), BYTES("not read"), BYTES("message"),
                                           BYTES("{\"body\":\"{\\\"topic\\\":\\\"a/b\\\","
                                                 "\\\"payload\\\":\\\"p\\\"}\","
                                                 "\"headers\":{\"type\":\"M\"}}")};
    static const struct {
        const struct bytes *words;
        size_t len;
    } entries[] = {{plain, 4}, {wrapped, 6}, {message, 4}};
    struct arena arena = {0};
    struct envelope envelope;

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(decode(&envelope, entries[i].words, entries[i].len, &arena), 0);
        assert_bytes(envelope.topic, BYTES("a/b"));
        assert_bytes(envelope.payload, BYTES("p"));
        assert_bytes(envelope.message_class, BYTES("M"));
    }
    arena_free(&arena);
}

static void test_an_entry_of_other_fields_is_no_envelope(void **state)
{
    static const struct bytes own[] = {BYTES("device"), BYTES("probe-7")};
    static const struct bytes no_type[] = {BYTES("body"), BYTES(BODY)};
    static const struct bytes no_headers[] = {BYTES("body"), BYTES(BODY), BYTES("headers"),
                                              BYTES("x")};
    struct arena arena = {0};
    struct envelope envelope;

    (void)state;
    assert_int_equal(decode(&envelope, own, 2, &arena), -ERR_FORMAT);
    assert_int_equal(decode(&envelope, no_type, 2, &arena), -ERR_FORMAT);
    assert_int_equal(decode(&envelope, no_headers, 4, &arena), -ERR_FORMAT);
    arena_free(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_list_is_what_php_unserializes_into_xadd_s_words),
        cmocka_unit_test(test_xadd_s_words_come_out_of_a_list_as_they_went_in),
        cmocka_unit_test(test_body_headers_and_message_are_found_and_the_last_of_each_counts),
        cmocka_unit_test(test_malformed_lists_of_fields_are_refused),
        cmocka_unit_test(test_an_entry_of_body_and_headers_is_an_envelope),
        cmocka_unit_test(test_an_entry_of_other_fields_is_no_envelope),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
