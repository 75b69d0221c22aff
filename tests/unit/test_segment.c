/* Records and segment files: what is written is read, and nothing else is. */
#include "spool_case.h"

#include "common/base/bytes.h"

static const unsigned char spool_id_bytes[16] = "0123456789abcdef";

/* The record as the writer would put it into the file. */
static void encode(struct buf *out, const struct record *record, uint32_t seed)
{
    char head[RECORD_HEAD_SIZE];
    struct bytes parts[RECORD_PARTS];

    record_parts(record, seed, head, parts);
    for (int i = 0; i < RECORD_PARTS; i++)
        buf_append(out, parts[i]);
}

static struct record sample(uint64_t sequence)
{
    return (struct record){
        .type = RECORD_MESSAGE,
        .sequence = sequence,
        .received_us = 1700000000123456,
        .qos = 2,
        .retained = true,
        .packet_id = 65535,
        .topic = BYTES("a/b"),
        .payload = BYTES("pay\0load"),
        .repeats = UINT32_MAX,
    };
}

static void test_a_record_reads_back_as_it_was_written(void **state)
{
    (void)state;
    uint32_t seed = record_seed(spool_id_bytes, 7, 42);
    struct record written = sample(9), read;
    struct buf out = {0};
    uint64_t size;

    encode(&out, &written, seed);
    assert_int_equal(out.len % RECORD_ALIGNMENT, 0);
    assert_int_equal(out.len, record_size(&written));
    assert_int_equal(record_read(&read, &size, buf_bytes(&out), seed), RECORD_GOOD);
    assert_int_equal(size, out.len);
    assert_int_equal(read.type, RECORD_MESSAGE);
    assert_int_equal(read.sequence, 9);
    assert_int_equal(read.received_us, 1700000000123456);
    assert_int_equal(read.qos, 2);
    assert_true(read.retained);
    assert_int_equal(read.packet_id, 65535);
    assert_true(bytes_equal(read.topic, written.topic));
    assert_true(bytes_equal(read.payload, written.payload));
    assert_int_equal(read.repeats, UINT32_MAX);
    buf_free(&out);
}

static void test_an_empty_message_is_a_record(void **state)
{
    (void)state;
    struct record written = {.type = RECORD_RELEASE, .sequence = 1}, read;
    struct buf out = {0};
    uint64_t size;

    encode(&out, &written, 5);
    assert_int_equal(record_read(&read, &size, buf_bytes(&out), 5), RECORD_GOOD);
    assert_int_equal(size, RECORD_HEAD_SIZE);
    assert_int_equal(read.type, RECORD_RELEASE);
    buf_free(&out);
}

static void test_any_flipped_bit_makes_a_record_bad(void **state)
{
    (void)state;
    struct record written = sample(9), read;
    struct buf out = {0};
    uint64_t size;

    encode(&out, &written, 5);
    size_t unpadded = RECORD_HEAD_SIZE + 3 + 8;
    for (size_t bit = 0; bit < 8 * unpadded; bit++) {
        out.data[bit / 8] = (char)(out.data[bit / 8] ^ (1 << bit % 8));
        assert_int_not_equal(record_read(&read, &size, buf_bytes(&out), 5), RECORD_GOOD);
        out.data[bit / 8] = (char)(out.data[bit / 8] ^ (1 << bit % 8));
    }
    buf_free(&out);
}

static void test_a_record_cut_anywhere_asks_for_the_rest(void **state)
{
    (void)state;
    struct record written = sample(9), read;
    struct buf out = {0};
    uint64_t size;

    encode(&out, &written, 5);
    for (size_t len = 0; len < out.len; len++) {
        struct bytes part = {out.data, len};

        assert_int_equal(record_read(&read, &size, part, 5), RECORD_CUT);
        assert_int_equal(size, len < RECORD_HEAD_SIZE ? RECORD_HEAD_SIZE : out.len);
    }
    buf_free(&out);
}

static void test_a_record_of_another_spool_run_or_segment_is_bad(void **state)
{
    (void)state;
    unsigned char other_id[16] = "0123456789abcdeF";
    struct record written = sample(9), read;
    struct buf out = {0};
    uint64_t size;

    encode(&out, &written, record_seed(spool_id_bytes, 7, 42));
    uint32_t others[] = {record_seed(other_id, 7, 42), record_seed(spool_id_bytes, 8, 42),
                         record_seed(spool_id_bytes, 7, 43)};
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(record_read(&read, &size, buf_bytes(&out), others[i]), RECORD_BAD);
    buf_free(&out);
}

static void test_the_next_good_record_is_found_behind_damage(void **state)
{
    (void)state;
    struct record first = sample(1), second = sample(2), third = sample(3);
    struct buf out = {0};

    encode(&out, &first, 5);
    size_t second_at = out.len;
    encode(&out, &second, 5);
    size_t third_at = out.len;
    encode(&out, &third, 5);
    assert_int_equal(record_find(buf_bytes(&out), 0, 5, 1, 9), 0);
    assert_int_equal(record_find(buf_bytes(&out), 8, 5, 1, 9), second_at);
    out.data[second_at + 20] = '!';
    assert_int_equal(record_find(buf_bytes(&out), 8, 5, 1, 9), third_at);
    assert_int_equal(record_find(buf_bytes(&out), 8, 5, 4, 9), out.len);
    assert_int_equal(record_find(buf_bytes(&out), 8, 5, 1, 2), out.len);
    buf_free(&out);
}

static void test_a_payload_that_imitates_a_record_is_not_found(void **state)
{
    (void)state;
    struct record inner = sample(2), outer = sample(1), read;
    struct buf imitation = {0}, out = {0};
    uint64_t size;

    /* Right but for what the sender can't know: the seed. */
    encode(&imitation, &inner, record_seed((const unsigned char *)"guessed-guessed-", 1, 1));
    outer.topic = BYTES("12345678");
    outer.payload = buf_bytes(&imitation);
    uint32_t seed = record_seed(spool_id_bytes, 7, 42);
    encode(&out, &outer, seed);
    out.data[0] ^= 1;
    assert_int_equal(record_read(&read, &size, buf_bytes(&out), seed), RECORD_BAD);
    assert_int_equal(record_find(buf_bytes(&out), 8, seed, 1, 9), out.len);
    buf_free(&imitation);
    buf_free(&out);
}

static struct segment_header sample_header(void)
{
    struct segment_header header = {
        .run = 0x1122334455667788,
        .number = 42,
        .first_sequence = 1001,
        .records_before = 1000,
        .bytes_before = 99999,
        .previous_sequence = 900,
        .branch = 77,
        .damaged = true,
        .destination = "redis://redis:6379/messages",
    };

    memcpy(header.spool_id, spool_id_bytes, 16);
    memcpy(header.boot_id, "fedcba9876543210", 16);
    return header;
}

static int open_root(const struct spool_case *c)
{
    int dir = open(c->root, O_RDONLY | O_DIRECTORY);

    assert_true(dir >= 0);
    return dir;
}

static void make_sample(int dir, const struct segment_header *header)
{
    struct error err;
    char name[SEGMENT_NAME_SIZE];
    int fd;

    segment_name(header->number, "segment", name);
    assert_int_equal(segment_make(dir, name, 64 * KB, &fd, &err), 0);
    assert_int_equal(segment_write_header(fd, header, &err), 0);
    close(fd);
}

static void test_a_segment_opens_with_the_header_that_was_written(void **state)
{
    struct spool_case *c = *state;
    struct segment_header header = sample_header();
    struct segment *segment;
    struct error err;
    int dir = open_root(c);

    make_sample(dir, &header);
    assert_int_equal(segment_open(&segment, dir, 42, &err), 0);
    assert_int_equal(segment->size, 64 * KB);
    assert_memory_equal(segment->header.spool_id, spool_id_bytes, 16);
    assert_memory_equal(segment->header.boot_id, "fedcba9876543210", 16);
    assert_int_equal(segment->header.run, 0x1122334455667788);
    assert_int_equal(segment->header.first_sequence, 1001);
    assert_int_equal(segment->header.records_before, 1000);
    assert_int_equal(segment->header.bytes_before, 99999);
    assert_int_equal(segment->header.previous_sequence, 900);
    assert_int_equal(segment->header.branch, 77);
    assert_true(segment->header.damaged);
    assert_string_equal(segment->header.destination, "redis://redis:6379/messages");
    assert_int_equal(segment->seed, record_seed(spool_id_bytes, 0x1122334455667788, 42));
    free(segment);
    unlinkat(dir, "000000000042.segment", 0);
    close(dir);
}

static void test_a_later_format_is_refused_not_taken_for_damage(void **state)
{
    struct spool_case *c = *state;
    struct segment_header header = sample_header();
    struct segment *segment;
    struct error err;
    char data[SEGMENT_HEADER_SIZE];
    int dir = open_root(c);

    make_sample(dir, &header);
    int fd = openat(dir, "000000000042.segment", O_RDWR);
    assert_int_equal(pread(fd, data, sizeof(data), 0), (ssize_t)sizeof(data));
    bytes_put32(data + 8, 3); /* version and checksum, as docs/SPOOL.md has them */
    bytes_put32(data + 12, bytes_crc32c(bytes_crc32c(0, data, 12), data + 16, sizeof(data) - 16));
    assert_int_equal(pwrite(fd, data, sizeof(data), 0), (ssize_t)sizeof(data));
    assert_int_equal(segment_open(&segment, dir, 42, &err), -ERR_REFUSED);
    unlinkat(dir, "000000000042.segment", 0);
    close(fd);
    close(dir);
}

static void test_a_damaged_header_or_one_of_another_number_is_bad_format(void **state)
{
    struct spool_case *c = *state;
    struct segment_header header = sample_header();
    struct segment *segment;
    struct error err;
    int dir = open_root(c);

    make_sample(dir, &header);
    int fd = openat(dir, "000000000042.segment", O_RDWR);
    assert_int_equal(pwrite(fd, "X", 1, 60), 1);
    assert_int_equal(segment_open(&segment, dir, 42, &err), -ERR_FORMAT);
    assert_int_equal(segment->header.number, 42);
    free(segment);
    /* The same file under another number. */
    assert_int_equal(segment_write_header(fd, &header, &err), 0);
    renameat(dir, "000000000042.segment", dir, "000000000043.segment");
    assert_int_equal(segment_open(&segment, dir, 43, &err), -ERR_FORMAT);
    free(segment);
    assert_int_equal(segment_open(&segment, dir, 42, &err), -ERR_NOT_FOUND);
    unlinkat(dir, "000000000043.segment", 0);
    close(fd);
    close(dir);
}

static void test_segment_names_parse_only_in_their_exact_form(void **state)
{
    (void)state;
    char name[SEGMENT_NAME_SIZE];
    uint64_t number = 0;

    segment_name(42, "segment", name);
    assert_string_equal(name, "000000000042.segment");
    assert_true(segment_name_parse(name, "segment", &number));
    assert_int_equal(number, 42);
    assert_false(segment_name_parse(name, "damaged", &number));
    assert_false(segment_name_parse("42.segment", "segment", &number));
    assert_false(segment_name_parse("00000000004x.segment", "segment", &number));
    assert_false(segment_name_parse("spare", "segment", &number));
    assert_false(segment_name_parse("000000000042.segment.bak", "segment", &number));
}

static void test_without_space_no_file_is_left_behind(void **state)
{
    struct spool_case *c = *state;
    struct error err;
    int dir = open_root(c), fd;

    sys_fail(SYS_ALLOCATE, 1, 1, ENOSPC);
    assert_int_equal(segment_make(dir, "new", 64 * KB, &fd, &err), -ERR_SYSTEM);
    sys_heal();
    sys_fail(SYS_ALLOCATE, 1, 1, EIO);
    assert_int_equal(segment_make(dir, "new", 64 * KB, &fd, &err), -ERR_SYSTEM);
    assert_int_equal(faccessat(dir, "new", F_OK, 0), -1);
    close(dir);
}

static void test_a_made_segment_has_its_blocks(void **state)
{
    struct spool_case *c = *state;
    struct error err;
    struct stat status;
    int dir = open_root(c), fd;

    assert_int_equal(segment_make(dir, "new", 64 * KB, &fd, &err), 0);
    assert_int_equal(fstat(fd, &status), 0);
    assert_int_equal(status.st_size, 64 * KB);
    assert_true(status.st_blocks * 512 >= 64 * KB);
    unlinkat(dir, "new", 0);
    close(fd);
    close(dir);
}

static void test_blocks_that_the_disk_cannot_read_are_zeros(void **state)
{
    struct spool_case *c = *state;
    struct segment_header header = sample_header();
    struct buf data = {0};
    struct error err;
    int dir = open_root(c);

    make_sample(dir, &header);
    int fd = openat(dir, "000000000042.segment", O_WRONLY);
    assert_int_equal(pwrite(fd, "good", 4, 8192), 4);
    /* The whole, then its first block. */
    sys_fail(SYS_READ, 1, 2, EIO);
    assert_int_equal(segment_load(&data, dir, 42, 64 * KB, &err), 1);
    assert_int_equal(data.len, 64 * KB);
    assert_int_equal(data.data[0], 0);
    assert_memory_equal(data.data + 8192, "good", 4);
    buf_free(&data);
    unlinkat(dir, "000000000042.segment", 0);
    close(fd);
    close(dir);
}

#define WITH_DIRECTORY(test) cmocka_unit_test_setup_teardown(test, spool_case_begin, spool_case_end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_record_reads_back_as_it_was_written),
        cmocka_unit_test(test_an_empty_message_is_a_record),
        cmocka_unit_test(test_any_flipped_bit_makes_a_record_bad),
        cmocka_unit_test(test_a_record_cut_anywhere_asks_for_the_rest),
        cmocka_unit_test(test_a_record_of_another_spool_run_or_segment_is_bad),
        cmocka_unit_test(test_the_next_good_record_is_found_behind_damage),
        cmocka_unit_test(test_a_payload_that_imitates_a_record_is_not_found),
        cmocka_unit_test(test_segment_names_parse_only_in_their_exact_form),
        WITH_DIRECTORY(test_a_segment_opens_with_the_header_that_was_written),
        WITH_DIRECTORY(test_a_later_format_is_refused_not_taken_for_damage),
        WITH_DIRECTORY(test_a_damaged_header_or_one_of_another_number_is_bad_format),
        WITH_DIRECTORY(test_without_space_no_file_is_left_behind),
        WITH_DIRECTORY(test_a_made_segment_has_its_blocks),
        WITH_DIRECTORY(test_blocks_that_the_disk_cannot_read_are_zeros),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
