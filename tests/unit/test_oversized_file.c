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

#define SPOOL_ID ((unsigned char[16]){0x01, 0x23, 0x45})
#define NAME     "00000000000000000008.oversized"

struct folder {
    char path[40];
    int dir;
};

static int make_folder(void **state)
{
    struct folder *folder = xcalloc(1, sizeof(*folder));

    snprintf(folder->path, sizeof(folder->path), "/tmp/oversized-XXXXXX");
    assert_non_null(mkdtemp(folder->path));
    folder->dir = open(folder->path, O_RDONLY | O_DIRECTORY);
    assert_true(folder->dir >= 0);
    *state = folder;
    return 0;
}

struct listed {
    size_t len;
    uint64_t sequences[8];
    size_t bytes[8];
};

static void note(void *context, const char *name, const struct oversized_message *message)
{
    struct listed *listed = context;

    assert_int_equal(strlen(name), strlen(NAME));
    listed->sequences[listed->len] = message->record.sequence;
    listed->bytes[listed->len++] = message->record.payload.len;
}

static struct listed list(const struct folder *folder)
{
    struct listed listed = {0};
    struct error err;

    int count = oversized_file_list(folder->dir, note, &listed, &err);
    assert_int_equal(count, (int)listed.len);
    return listed;
}

static int clear_folder(void **state)
{
    struct folder *folder = *state;
    struct error err;

    sys_heal();
    for (uint64_t sequence = 8; sequence <= 11; sequence++)
        (void)!oversized_file_remove(folder->dir, sequence, &err);
    close(folder->dir);
    assert_int_equal(rmdir(folder->path), 0); /* nothing else was left */
    free(folder);
    return 0;
}

static struct oversized_message message(uint64_t identity, struct bytes payload)
{
    struct oversized_message made = {.for_redis = true,
                                     .record = {.sequence = identity + 1,
                                                .identity = identity,
                                                .received_us = 1700000000123456,
                                                .qos = 2,
                                                .retained = true,
                                                .packet_id = 77,
                                                .topic = BYTES("a/b\0c"),
                                                .payload = payload}};

    memcpy(made.spool_id, SPOOL_ID, sizeof(made.spool_id));
    return made;
}

static void write_one(const struct folder *folder, uint64_t identity, struct bytes payload)
{
    struct oversized_message file = message(identity, payload);
    struct error err;

    assert_int_equal(oversized_file_write(folder->dir, &file, true, &err), 0);
}

static void test_a_message_comes_back_as_it_was(void **state)
{
    const struct folder *folder = *state;
    struct oversized_message read;
    struct buf bytes = {0};
    struct error err;

    write_one(folder, 7, BYTES("\0\xff payload"));
    assert_int_equal(oversized_file_read(folder->dir, 8, &read, &bytes, &err), 0);
    assert_memory_equal(read.spool_id, SPOOL_ID, 16);
    assert_int_equal(read.record.sequence, 8);
    assert_int_equal(read.record.identity, 7);
    assert_int_equal(read.record.received_us, 1700000000123456);
    assert_true(read.for_redis);
    assert_int_equal(read.record.packet_id, 77);
    assert_int_equal(read.record.qos, 2);
    assert_true(read.record.retained);
    assert_true(bytes_equal(read.record.topic, BYTES("a/b\0c")));
    assert_true(bytes_equal(read.record.payload, BYTES("\0\xff payload")));
    buf_free(&bytes);
}

static void test_a_message_that_comes_again_replaces_its_file(void **state)
{
    const struct folder *folder = *state;

    write_one(folder, 10, BYTES("ten"));
    write_one(folder, 10, BYTES("and ten"));
    struct listed listed = list(folder);
    assert_int_equal(listed.len, 1);
    assert_int_equal(listed.sequences[0], 11);
    assert_int_equal(listed.bytes[0], 7);
}

static void change_byte(const struct folder *folder, const char *name, off_t at)
{
    int fd = openat(folder->dir, name, O_RDWR);
    char byte;

    assert_int_equal(pread(fd, &byte, 1, at), 1);
    byte ^= 1;
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    close(fd);
}

static void test_any_damaged_byte_is_noticed(void **state)
{
    const struct folder *folder = *state;
    struct oversized_message read;
    struct buf bytes = {0};
    struct error err;

    write_one(folder, 7, BYTES("payload"));
    for (off_t at = 0; at < 64 + 5 + 7; at++) {
        change_byte(folder, NAME, at);
        assert_int_equal(oversized_file_read(folder->dir, 8, &read, &bytes, &err), -ERR_FORMAT);
        change_byte(folder, NAME, at);
    }
    assert_int_equal(oversized_file_read(folder->dir, 8, &read, &bytes, &err), 0);
    buf_free(&bytes);
}

static void test_a_file_that_is_cut_is_listed_as_damaged(void **state)
{
    const struct folder *folder = *state;

    write_one(folder, 7, BYTES("payload"));
    int fd = openat(folder->dir, NAME, O_RDWR);
    assert_int_equal(ftruncate(fd, 70), 0);
    close(fd);
    struct listed listed = list(folder);
    assert_int_equal(listed.len, 1);
    assert_int_equal(listed.sequences[0], 0);
    assert_int_equal(listed.bytes[0], 70);
}

static void test_a_write_that_fails_leaves_no_file(void **state)
{
    const struct folder *folder = *state;
    struct oversized_message file = message(7, BYTES("payload"));
    struct error err;

    for (int nth = 1; nth <= 3; nth++) {
        sys_fail(SYS_WRITE, nth, 1, ENOSPC);
        assert_int_equal(oversized_file_write(folder->dir, &file, true, &err), -ERR_SYSTEM);
        sys_heal();
    }
    sys_fail(SYS_SYNC, 1, 1, EIO);
    assert_int_equal(oversized_file_write(folder->dir, &file, true, &err), -ERR_SYSTEM);
    sys_fail(SYS_RENAME, 1, 1, EIO);
    assert_int_equal(oversized_file_write(folder->dir, &file, false, &err), -ERR_SYSTEM);
    sys_heal();
    assert_int_equal(oversized_file_remove(folder->dir, 8, &err), -ERR_NOT_FOUND);
}

static void test_a_short_write_goes_on(void **state)
{
    const struct folder *folder = *state;
    struct oversized_message read;
    struct buf bytes = {0};
    struct error err;

    sys_cut_write(3, 2);
    write_one(folder, 7, BYTES("payload"));
    sys_heal();
    assert_int_equal(oversized_file_read(folder->dir, 8, &read, &bytes, &err), 0);
    assert_true(bytes_equal(read.record.payload, BYTES("payload")));
    buf_free(&bytes);
}

static void test_files_of_other_names_are_not_listed(void **state)
{
    static const char *const NAMES[] = {"000000000001.segment", NAME ".half", NAME ".bak",
                                        "8.oversized"};
    const struct folder *folder = *state;

    for (size_t i = 0; i < LENGTH_OF(NAMES); i++)
        close(openat(folder->dir, NAMES[i], O_CREAT | O_WRONLY, 0600));
    assert_int_equal(list(folder).len, 0);
    for (size_t i = 0; i < LENGTH_OF(NAMES); i++)
        unlinkat(folder->dir, NAMES[i], 0);
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, make_folder, clear_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_a_message_comes_back_as_it_was),
        CASE(test_a_message_that_comes_again_replaces_its_file),
        CASE(test_any_damaged_byte_is_noticed),
        CASE(test_a_file_that_is_cut_is_listed_as_damaged),
        CASE(test_a_write_that_fails_leaves_no_file),
        CASE(test_a_short_write_goes_on),
        CASE(test_files_of_other_names_are_not_listed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
