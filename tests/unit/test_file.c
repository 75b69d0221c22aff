#include "common/base/file.h"

#include "common/base/sys.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[64];

static int make_folder(void **state)
{
    (void)state;
    sys_heal();
    strcpy(folder, "/tmp/test-file-XXXXXX");
    return mkdtemp(folder) == NULL ? -1 : 0;
}

static const char *path_of(const char *name)
{
    static char path[128];

    snprintf(path, sizeof(path), "%s/%s", folder, name);
    return path;
}

static void test_folders_are_made_with_their_parents(void **state)
{
    (void)state;
    assert_int_equal(file_make_folders(path_of("a//b/c/")), 0);
    assert_int_equal(file_make_folders(path_of("a/b/c")), 0);
    assert_int_equal(access(path_of("a/b/c"), X_OK), 0);
    assert_int_equal(rmdir(path_of("a/b/c")), 0);
    sys_fail(SYS_SYNC, 1, 1, EIO);
    assert_int_equal(file_make_folders(path_of("a/b/c")), -1);
    assert_int_equal(errno, EIO);
    assert_int_equal(rmdir(path_of("a/b/c")), 0);
    assert_int_equal(rmdir(path_of("a/b")), 0);
    assert_int_equal(rmdir(path_of("a")), 0);
    assert_int_equal(file_make_folders("/dev/null/a"), -1);
    assert_int_equal(errno, ENOTDIR);
}

static void test_an_open_file_is_read_whole_wherever_it_is_positioned(void **state)
{
    int fd = file_in_memory("test", BYTES("settings"));
    struct buf text = {0};
    struct error err;

    (void)state;
    assert_int_equal(lseek(fd, 4, SEEK_SET), 4);
    assert_int_equal(file_read_fd(fd, "memory", 8, &text, &err), 0);
    assert_string_equal(buf_text(&text), "settings");
    assert_int_equal(file_read_fd(fd, "memory", 7, &text, &err), -ERR_TOO_LARGE);
    assert_string_equal(err.text, "memory: larger than 7 bytes");
    close(fd);
    buf_free(&text);
}

static int remove_folder(void **state)
{
    (void)state;
    sys_heal();
    unlink(path_of("name"));
    unlink(path_of("name.new"));
    return rmdir(folder);
}

static void assert_content(const char *wanted)
{
    char text[64] = "";
    FILE *file = fopen(path_of("name"), "re");

    assert_non_null(file);
    text[fread(text, 1, sizeof(text) - 1, file)] = '\0';
    fclose(file);
    assert_string_equal(text, wanted);
    assert_int_equal(access(path_of("name.new"), F_OK), -1);
}

static void test_a_file_is_made_and_replaced(void **state)
{
    (void)state;
    assert_int_equal(file_replace(AT_FDCWD, path_of("name"), BYTES("first"), 0600, true), 0);
    assert_content("first");
    assert_int_equal(file_replace(AT_FDCWD, path_of("name"), BYTES("2nd"), 0600, false), 0);
    assert_content("2nd");
}

static void test_a_short_write_goes_on(void **state)
{
    (void)state;
    sys_cut_write(1, 2);
    assert_int_equal(file_replace(AT_FDCWD, path_of("name"), BYTES("whole"), 0600, true), 0);
    assert_content("whole");
}

static void test_a_failed_replace_leaves_the_previous_file(void **state)
{
    static const enum sys_call CALLS[] = {SYS_OPEN, SYS_WRITE, SYS_SYNC, SYS_RENAME};

    (void)state;
    assert_int_equal(file_replace(AT_FDCWD, path_of("name"), BYTES("former"), 0600, true), 0);
    for (size_t i = 0; i < LENGTH_OF(CALLS); i++) {
        sys_fail(CALLS[i], 1, 1, ENOSPC);
        assert_int_equal(file_replace(AT_FDCWD, path_of("name"), BYTES("later"), 0600, true), -1);
        assert_int_equal(errno, ENOSPC);
        sys_heal();
        assert_content("former");
    }
}

static void test_a_folder_that_can_not_be_synced_is_an_error_but_for_einval(void **state)
{
    (void)state;
    sys_fail(SYS_SYNC, 2, 1, EIO);
    assert_int_equal(file_replace(AT_FDCWD, path_of("name"), BYTES("one"), 0600, true), -1);
    assert_int_equal(errno, EIO);
    sys_fail(SYS_SYNC, 2, 1, EINVAL);
    assert_int_equal(file_replace(AT_FDCWD, path_of("name"), BYTES("two"), 0600, true), 0);
    sys_heal();
    assert_content("two");
}

static void test_a_whole_file_is_read_up_to_the_limit(void **state)
{
    struct buf out = {0};
    struct error err = {0};

    (void)state;
    assert_int_equal(file_replace(AT_FDCWD, path_of("name"), BYTES("12345"), 0600, false), 0);
    buf_append_text(&out, "0");
    assert_int_equal(file_read(path_of("name"), 5, &out, &err), 0);
    assert_string_equal(buf_text(&out), "012345");
    assert_int_equal(file_read(path_of("name"), 4, &out, &err), -ERR_TOO_LARGE);
    assert_int_equal(file_read("/dev/null", 4, &out, &err), 0);
    assert_int_equal(file_read(path_of("other"), 4, &out, &err), -ERR_SYSTEM);
    buf_free(&out);
}

static void test_only_regular_files_are_read(void **state)
{
    struct buf out = {0};
    struct error err = {0};

    (void)state;
    assert_int_equal(mkfifo(path_of("name"), 0600), 0);
    assert_int_equal(file_read(path_of("name"), 4, &out, &err), -ERR_USAGE);
    assert_non_null(strstr(err.text, "must be a regular file"));
    assert_int_equal(file_read("/dev/zero", 4, &out, &err), -ERR_USAGE);
    assert_int_equal(file_read("/tmp", 4, &out, &err), -ERR_USAGE);
    buf_free(&out);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, make_folder, remove_folder)
    const struct CMUnitTest tests[] = {
        CASE(test_an_open_file_is_read_whole_wherever_it_is_positioned),
        CASE(test_a_file_is_made_and_replaced),
        CASE(test_a_short_write_goes_on),
        CASE(test_a_failed_replace_leaves_the_previous_file),
        CASE(test_folders_are_made_with_their_parents),
        CASE(test_a_folder_that_can_not_be_synced_is_an_error_but_for_einval),
        CASE(test_a_whole_file_is_read_up_to_the_limit),
        CASE(test_only_regular_files_are_read),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
