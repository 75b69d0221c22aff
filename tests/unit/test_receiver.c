#include "consumer/mqtt/receiver.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Topic "a/b", packet id 0x1234. */
#define HEAD "\0\3a/b\x12\x34"

static void assert_bytes(struct bytes bytes, struct bytes wanted)
{
    assert_int_equal(bytes.len, wanted.len);
    assert_memory_equal(bytes.data, wanted.data, wanted.len);
}

static void test_a_publish_of_3_1_1_is_topic_id_and_payload(void **state)
{
    struct record publish;

    (void)state;
    assert_true(receiver_parse_publish(&publish, BYTES(HEAD "\0payload"), false));
    assert_bytes(publish.topic, BYTES("a/b"));
    assert_int_equal(publish.packet_id, 0x1234);
    assert_bytes(publish.payload, BYTES("\0payload"));
    assert_true(receiver_parse_publish(&publish, BYTES(HEAD), false));
    assert_int_equal(publish.payload.len, 0);
}

static void test_a_publish_of_5_has_properties_before_its_payload(void **state)
{
    struct record publish;

    (void)state;
    assert_true(receiver_parse_publish(&publish, BYTES(HEAD "\0payload"), true));
    assert_bytes(publish.payload, BYTES("payload"));
    assert_true(receiver_parse_publish(&publish, BYTES(HEAD "\2\x01\x01payload"), true));
    assert_bytes(publish.payload, BYTES("payload"));
}

static void test_properties_may_be_longer_than_127_bytes(void **state)
{
    struct record publish;
    char packet[7 + 2 + 200 + 1] = HEAD "\xc8\x01"; /* 200 */

    (void)state;

    packet[sizeof(packet) - 1] = 'p';
    assert_true(receiver_parse_publish(&publish, (struct bytes){packet, sizeof(packet)}, true));
    assert_bytes(publish.payload, BYTES("p"));
}

/* A copy of its own each, so that a sanitizer sees a byte read too many. */
static void test_a_truncated_publish_is_refused(void **state)
{
    struct bytes whole = BYTES(HEAD "\2\x01\x01");
    struct record publish;

    (void)state;
    for (size_t len = 0; len < whole.len; len++) {
        char *cut = malloc(len + 1);

        memcpy(cut, whole.data, len);
        assert_false(receiver_parse_publish(&publish, (struct bytes){cut, len}, true));
        if (len < strlen("..a/b.."))
            assert_false(receiver_parse_publish(&publish, (struct bytes){cut, len}, false));
        free(cut);
    }
    assert_false(receiver_parse_publish(&publish, BYTES(HEAD "\xff\xff\xff\xff\x01"), true));
}

static void test_a_stub_is_an_empty_qos_2_publish_of_its_packet_id(void **state)
{
    unsigned char stub[RECEIVER_STUB_MAX];
    struct record publish;

    (void)state;
    for (int five = 0; five < 2; five++) {
        size_t len = receiver_make_stub(stub, 0xfedc, five == 1);

        assert_int_equal(stub[0], 0x34); /* PUBLISH, QoS 2 */
        assert_int_equal(stub[1], len - 2);
        struct bytes rest = {(const char *)stub + 2, len - 2};
        assert_true(receiver_parse_publish(&publish, rest, five == 1));
        assert_int_equal(publish.packet_id, 0xfedc);
        assert_int_equal(publish.payload.len, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_publish_of_3_1_1_is_topic_id_and_payload),
        cmocka_unit_test(test_a_publish_of_5_has_properties_before_its_payload),
        cmocka_unit_test(test_properties_may_be_longer_than_127_bytes),
        cmocka_unit_test(test_a_truncated_publish_is_refused),
        cmocka_unit_test(test_a_stub_is_an_empty_qos_2_publish_of_its_packet_id),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
