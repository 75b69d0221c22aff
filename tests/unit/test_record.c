/* A segment's records and holes, for those who only look. */
#include "common/wire/record.h"

#include "common/base/buf.h"
#include "common/wire/mark.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define FIRST  100
#define LENGTH 56 /* of a message's record here */

static struct segment_header header_of(void)
{
    return (struct segment_header){.spool_id = "0123456789abcdef",
                                   .run = 7,
                                   .number = 42,
                                   .first_sequence = FIRST,
                                   .destination = "redis://h:6379/messages"};
}

static void append_record(struct buf *file, const struct record *record)
{
    const struct segment_header header = header_of();
    uint32_t seed = record_seed(header.spool_id, header.run, header.number);
    struct bytes parts[RECORD_PARTS];
    char head[RECORD_HEAD_SIZE];

    record_parts(record, seed, head, parts);
    for (int i = 0; i < RECORD_PARTS; i++)
        buf_append(file, parts[i]);
}

static struct record message_of(uint64_t sequence)
{
    return (struct record){.type = RECORD_MESSAGE,
                           .sequence = sequence,
                           .topic = BYTES("a/b"),
                           .payload = BYTES("twelve bytes")};
}

/* A file with so many messages. */
static struct buf file_with(int messages)
{
    const struct segment_header header = header_of();
    struct buf file = {0};

    segment_header_encode(&header, buf_reserve(&file, SEGMENT_HEADER_SIZE));
    file.len = SEGMENT_HEADER_SIZE;
    for (int i = 0; i < messages; i++) {
        struct record record = message_of(FIRST + (uint64_t)i);

        append_record(&file, &record);
    }
    return file;
}

static struct record_scan begin(const struct buf *file)
{
    struct segment_header header;
    struct record_scan scan;

    assert_int_equal(segment_header_decode(&header, buf_bytes(file), NULL), 0);
    record_scan_begin(&scan, &header, buf_bytes(file));
    return scan;
}

static void expect_messages(struct record_scan *scan, uint64_t from, uint64_t to)
{
    struct record_item item;

    for (uint64_t sequence = from; sequence <= to; sequence++) {
        assert_int_equal(record_scan_next(scan, &item), RECORD_SCAN_RECORD);
        assert_int_equal(item.record.sequence, sequence);
        assert_int_equal(item.len, LENGTH);
        assert_int_equal(item.offset, SEGMENT_HEADER_SIZE + (sequence - FIRST) * LENGTH);
    }
}

static void expect_end(struct record_scan *scan, size_t offset, bool torn)
{
    struct record_item item;

    assert_int_equal(record_scan_next(scan, &item), RECORD_SCAN_END);
    assert_int_equal(item.offset, offset);
    assert_int_equal(scan->torn, torn);
}

static void test_records_are_given_in_order_up_to_the_reserved_space(void **state)
{
    struct buf file = file_with(3);
    size_t end = file.len;

    (void)state;
    memset(buf_reserve(&file, 5000), 0, 5000);
    file.len += 5000;
    struct record_scan scan = begin(&file);
    expect_messages(&scan, FIRST, FIRST + 2);
    expect_end(&scan, end, false);
    assert_int_equal(scan.messages, 3);
    assert_int_equal(scan.missing, 0);
    buf_free(&file);
}

static void test_control_records_are_given_and_not_counted(void **state)
{
    struct buf file = file_with(1);
    struct record release = {.type = RECORD_RELEASE, .sequence = FIRST + 1, .packet_id = 9};
    struct record next = message_of(FIRST + 1);
    struct record_item item;

    (void)state;
    append_record(&file, &release);
    append_record(&file, &next);
    struct record_scan scan = begin(&file);
    expect_messages(&scan, FIRST, FIRST);
    assert_int_equal(record_scan_next(&scan, &item), RECORD_SCAN_RECORD);
    assert_int_equal(item.record.type, RECORD_RELEASE);
    assert_int_equal(record_scan_next(&scan, &item), RECORD_SCAN_RECORD);
    assert_int_equal(item.record.sequence, FIRST + 1);
    assert_int_equal(scan.messages, 2);
    buf_free(&file);
}

static void test_damage_is_reported_with_its_offset_and_what_is_missing(void **state)
{
    struct buf file = file_with(6);
    struct record_item item;

    (void)state;
    file.data[SEGMENT_HEADER_SIZE + 2 * LENGTH + 50] ^= 1; /* the third's payload */
    file.data[SEGMENT_HEADER_SIZE + 3 * LENGTH + 8] ^= 1;  /* the fourth's sequence */
    struct record_scan scan = begin(&file);
    expect_messages(&scan, FIRST, FIRST + 1);
    assert_int_equal(record_scan_next(&scan, &item), RECORD_SCAN_DAMAGE);
    assert_int_equal(item.offset, SEGMENT_HEADER_SIZE + 2 * LENGTH);
    assert_int_equal(item.len, 2 * LENGTH);
    assert_int_equal(item.missing, 2);
    expect_messages(&scan, FIRST + 4, FIRST + 5);
    expect_end(&scan, file.len, false);
    assert_int_equal(scan.messages, 4);
    assert_int_equal(scan.missing, 2);
    buf_free(&file);
}

static void test_a_scan_ends_at_a_record_that_is_not_whole(void **state)
{
    struct buf file = file_with(2);

    (void)state;
    file.len -= 10;
    struct record_scan scan = begin(&file);
    expect_messages(&scan, FIRST, FIRST);
    expect_end(&scan, SEGMENT_HEADER_SIZE + LENGTH, true);
    expect_end(&scan, SEGMENT_HEADER_SIZE + LENGTH, true);
    buf_free(&file);
}

static void test_records_of_another_segment_are_not_read(void **state)
{
    struct buf file = file_with(3);
    struct segment_header header = header_of();

    (void)state;
    header.number++;
    segment_header_encode(&header, file.data);
    struct record_scan scan = begin(&file);
    expect_end(&scan, SEGMENT_HEADER_SIZE, false);
    buf_free(&file);
}

static void test_a_segment_without_records_is_no_damage(void **state)
{
    struct buf file = file_with(0);
    struct segment_header header = header_of();
    struct record_scan scan = begin(&file);

    (void)state;
    expect_end(&scan, SEGMENT_HEADER_SIZE, false);
    record_scan_begin(&scan, &header, BYTES("short"));
    expect_end(&scan, SEGMENT_HEADER_SIZE, false);
    buf_free(&file);
}

static void test_sequences_near_their_end_do_not_wrap(void **state)
{
    struct buf file = file_with(2);
    struct segment_header header = header_of();
    struct record_scan scan;

    (void)state;
    header.first_sequence = UINT64_MAX - 3;
    record_scan_begin(&scan, &header, buf_bytes(&file));
    assert_int_equal(scan.highest, UINT64_MAX - 1);
    expect_end(&scan, SEGMENT_HEADER_SIZE, true); /* a record, but none of this segment's */
    buf_free(&file);
}

static void test_a_mark_parses_only_as_a_run_and_a_sequence(void **state)
{
    static const char *const none[] = {"",
                                       "abc",
                                       "00000000000000ff",
                                       "00000000000000ff:",
                                       "00000000000000FF:1",
                                       "0000000000000ff:1",
                                       "00000000000000ff:-1",
                                       "00000000000000ff:4611686018427387904"};
    struct mark mark;

    (void)state;
    assert_true(mark_parse(BYTES("00000000000000ff:12"), &mark));
    assert_int_equal(mark.run, 255);
    assert_int_equal(mark.sequence, 12);
    for (size_t i = 0; i < LENGTH_OF(none); i++) {
        assert_false(mark_parse((struct bytes){none[i], strlen(none[i])}, &mark));
        assert_int_equal(mark.run + mark.sequence, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_records_are_given_in_order_up_to_the_reserved_space),
        cmocka_unit_test(test_control_records_are_given_and_not_counted),
        cmocka_unit_test(test_damage_is_reported_with_its_offset_and_what_is_missing),
        cmocka_unit_test(test_a_scan_ends_at_a_record_that_is_not_whole),
        cmocka_unit_test(test_records_of_another_segment_are_not_read),
        cmocka_unit_test(test_a_segment_without_records_is_no_damage),
        cmocka_unit_test(test_sequences_near_their_end_do_not_wrap),
        cmocka_unit_test(test_a_mark_parses_only_as_a_run_and_a_sequence),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
