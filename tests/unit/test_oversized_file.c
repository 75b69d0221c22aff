#include "common/client/oversized_file.h"

#include "common/base/alloc.h"
#include "common/base/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <setjmp.h> /* before cmocka.h, as that asks */

#include <cmocka.h>

#define SPOOL_ID "0123456789abcdef0123456789abcdef"

struct place {
    char path[40];
    int dir;
};

static int make_place(void **state)
{
    struct place *place = xcalloc(1, sizeof(*place));

    snprintf(place->path, sizeof(place->path), "/tmp/oversized-XXXXXX");
    assert_non_null(mkdtemp(place->path));
    place->dir = open(place->path, O_RDONLY | O_DIRECTORY);
    assert_true(place->dir >= 0);
    *state = place;
    return 0;
}

static int clear_place(void **state)
{
    struct place *place = *state;
    struct oversized_list list;
    struct error err;

    sys_heal();
    assert_int_equal(oversized_list_read(&list, place->dir, &err), 0);
    for (size_t i = 0; i < list.len; i++)
        assert_int_equal(oversized_file_remove(place->dir, list.entries[i].id, &err), 0);
    oversized_list_free(&list);
    close(place->dir);
    assert_int_equal(rmdir(place->path), 0); /* nothing else was left */
    free(place);
    return 0;
}

static struct oversized_file message(uint64_t identity, struct bytes payload)
{
    return (struct oversized_file){.spool_id = SPOOL_ID,
                                   .sequence = identity + 1,
                                   .identity = identity,
                                   .received_us = 1700000000123456,
                                   .cause = OVERSIZED_FOR_REDIS,
                                   .qos = 2,
                                   .retained = true,
                                   .topic = BYTES("a/b\0c"),
                                   .payload = payload};
}

static void write_one(const struct place *place, uint64_t identity, struct bytes payload)
{
    struct oversized_file file = message(identity, payload);
    struct error err;

    assert_int_equal(oversized_file_write(place->dir, &file, true, &err), 0);
}

static void test_a_message_comes_back_as_it_was(void **state)
{
    const struct place *place = *state;
    struct oversized_file read;
    struct buf bytes = {0};
    struct error err;

    write_one(place, 7, BYTES("\0\xff payload"));
    assert_int_equal(oversized_file_read(place->dir, SPOOL_ID "-7", &read, &bytes, &err), 0);
    assert_string_equal(read.spool_id, SPOOL_ID);
    assert_int_equal(read.sequence, 8);
    assert_int_equal(read.identity, 7);
    assert_int_equal(read.received_us, 1700000000123456);
    assert_int_equal(read.cause, OVERSIZED_FOR_REDIS);
    assert_int_equal(read.qos, 2);
    assert_true(read.retained);
    assert_true(bytes_equal(read.topic, BYTES("a/b\0c")));
    assert_true(bytes_equal(read.payload, BYTES("\0\xff payload")));
    buf_free(&bytes);
}

static void test_a_message_that_comes_again_replaces_its_file(void **state)
{
    const struct place *place = *state;
    struct oversized_list list;
    struct error err;

    write_one(place, 10, BYTES("ten"));
    write_one(place, 9, BYTES("nine"));
    write_one(place, 10, BYTES("ten"));
    assert_int_equal(oversized_list_read(&list, place->dir, &err), 0);
    assert_int_equal(list.len, 2);
    assert_string_equal(list.entries[0].id, SPOOL_ID "-9");
    assert_true(bytes_equal(list.entries[1].file.topic, BYTES("a/b\0c")));
    assert_int_equal(list.entries[1].file.payload.len, 3);
    oversized_list_free(&list);
}

static void change_byte(const struct place *place, const char *name, off_t at)
{
    int fd = openat(place->dir, name, O_RDWR);
    char byte;

    assert_int_equal(pread(fd, &byte, 1, at), 1);
    byte ^= 1;
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    close(fd);
}

static void test_any_damaged_byte_is_noticed(void **state)
{
    const struct place *place = *state;
    struct oversized_file read;
    struct buf bytes = {0};
    struct error err;

    write_one(place, 7, BYTES("payload"));
    for (off_t at = 0; at < 80 + 5 + 7; at++) {
        change_byte(place, SPOOL_ID "-7.oversized", at);
        assert_int_equal(oversized_file_read(place->dir, SPOOL_ID "-7", &read, &bytes, &err),
                         -ERR_FORMAT);
        change_byte(place, SPOOL_ID "-7.oversized", at);
    }
    assert_int_equal(oversized_file_read(place->dir, SPOOL_ID "-7", &read, &bytes, &err), 0);
    buf_free(&bytes);
}

static void test_a_file_that_is_cut_is_listed_as_damaged(void **state)
{
    const struct place *place = *state;
    struct oversized_list list;
    struct error err;

    write_one(place, 7, BYTES("payload"));
    int fd = openat(place->dir, SPOOL_ID "-7.oversized", O_RDWR);
    assert_int_equal(ftruncate(fd, 90), 0);
    close(fd);
    assert_int_equal(oversized_list_read(&list, place->dir, &err), 0);
    assert_int_equal(list.len, 1);
    assert_true(list.entries[0].damaged);
    assert_int_equal(list.entries[0].file.payload.len, 90);
    oversized_list_free(&list);
}

static void test_a_write_that_fails_leaves_nothing(void **state)
{
    const struct place *place = *state;
    struct oversized_file file = message(7, BYTES("payload"));
    struct error err;

    for (int nth = 1; nth <= 3; nth++) {
        sys_fail(SYS_WRITE, nth, 1, ENOSPC);
        assert_int_equal(oversized_file_write(place->dir, &file, true, &err), -ERR_FULL);
        sys_heal();
    }
    sys_fail(SYS_SYNC, 1, 1, EIO);
    assert_int_equal(oversized_file_write(place->dir, &file, true, &err), -ERR_SYSTEM);
    sys_fail(SYS_RENAME, 1, 1, EIO);
    assert_int_equal(oversized_file_write(place->dir, &file, false, &err), -ERR_SYSTEM);
    sys_heal();
    assert_int_equal(oversized_file_remove(place->dir, SPOOL_ID "-7", &err), -ERR_NOT_FOUND);
}

static void test_a_short_write_goes_on(void **state)
{
    const struct place *place = *state;
    struct oversized_file read;
    struct buf bytes = {0};
    struct error err;

    sys_cut_write(3, 2);
    write_one(place, 7, BYTES("payload"));
    sys_heal();
    assert_int_equal(oversized_file_read(place->dir, SPOOL_ID "-7", &read, &bytes, &err), 0);
    assert_true(bytes_equal(read.payload, BYTES("payload")));
    buf_free(&bytes);
}

static void test_other_files_are_none(void **state)
{
    static const char *const NAMES[] = {"",
                                        OVERSIZED_NEW,
                                        "000000000001.segment",
                                        SPOOL_ID ".oversized",
                                        SPOOL_ID "-.oversized",
                                        SPOOL_ID "-1x.oversized",
                                        "g123456789abcdef0123456789abcdef-1.oversized",
                                        SPOOL_ID "-1.oversized.bak"};
    struct bytes id;

    (void)state;
    for (size_t i = 0; i < sizeof(NAMES) / sizeof(NAMES[0]); i++)
        assert_false(oversized_file_parse_name(NAMES[i], &id));
    assert_true(oversized_file_parse_name(SPOOL_ID "-12.oversized", &id));
    assert_true(bytes_equal_text(id, SPOOL_ID "-12"));
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, make_place, clear_place)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_a_message_comes_back_as_it_was),
        CASE(test_a_message_that_comes_again_replaces_its_file),
        CASE(test_any_damaged_byte_is_noticed),
        CASE(test_a_file_that_is_cut_is_listed_as_damaged),
        CASE(test_a_write_that_fails_leaves_nothing),
        CASE(test_a_short_write_goes_on),
        cmocka_unit_test(test_other_files_are_none),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
