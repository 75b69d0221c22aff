#include "common/base/sys.h"

#include "common/base/alloc.h"
#include "common/base/buf.h"
#include "common/base/file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char root[64];

static int make_root(void **state)
{
    (void)state;
    strcpy(root, "/tmp/test-cpus-XXXXXX");
    return mkdtemp(root) == NULL ? -1 : 0;
}

static int remove_root(void **state)
{
    char *command = xasprintf("rm -r %s", root);
    int result = system(command);

    (void)state;
    free(command);
    return result;
}

static void write_group(const char *folder, const char *name, const char *text)
{
    char *path = xasprintf("%s%s", root, folder);
    char *file = xasprintf("%s/%s", path, name);

    assert_int_equal(file_make_folders(path), 0);
    assert_int_equal(file_replace(AT_FDCWD, file, bytes_of(text), 0600, false), 0);
    free(path);
    free(file);
}

static int64_t quota(const char *membership)
{
    return sys_cpus_quota(root, bytes_of(membership));
}

static void test_without_a_valid_cpu_limit_the_quota_is_0(void **state)
{
    (void)state;
    assert_int_equal(quota(""), 0);
    assert_int_equal(quota("0::/\n"), 0);
    assert_int_equal(quota("nonsense\n:::\n"), 0);
    write_group("", "cpu.max", "max 100000\n");
    assert_int_equal(quota("0::/\n"), 0);
    write_group("", "cpu.max", "none\n");
    assert_int_equal(quota("0::/\n"), 0);
}

static void test_a_quota_of_version_2_is_rounded_up(void **state)
{
    (void)state;
    write_group("", "cpu.max", "150000 100000\n");
    assert_int_equal(quota("0::/\n"), 2);
    write_group("", "cpu.max", "50000 100000\n");
    assert_int_equal(quota("0::/\n"), 1);
    assert_int_equal(quota("0::/a/path/of/the/host\n"), 1);
}

static void test_the_least_quota_of_the_groups_above_counts(void **state)
{
    (void)state;
    write_group("/a.slice", "cpu.max", "200000 100000\n");
    write_group("/a.slice/b.service", "cpu.max", "400000 100000\n");
    assert_int_equal(quota("0::/a.slice/b.service\n"), 2);
    write_group("/a.slice/b.service", "cpu.max", "100000 100000\n");
    assert_int_equal(quota("0::/a.slice/b.service\n"), 1);
}

static void test_a_quota_of_version_1_is_seen(void **state)
{
    (void)state;
    write_group("/cpu/docker/1", "cpu.cfs_quota_us", "300000\n");
    write_group("/cpu/docker/1", "cpu.cfs_period_us", "100000\n");
    assert_int_equal(quota("9:memory:/docker/1\n4:cpuset:/docker/1\n3:cpu,cpuacct:/docker/1\n"), 3);
    write_group("/cpu/docker/1", "cpu.cfs_quota_us", "-1\n");
    assert_int_equal(quota("3:cpu,cpuacct:/docker/1\n"), 0);
}

static void test_sys_cpus_is_at_least_one(void **state)
{
    (void)state;
    assert_true(sys_cpus() >= 1);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, make_root, remove_root)
    const struct CMUnitTest tests[] = {
        CASE(test_without_a_valid_cpu_limit_the_quota_is_0),
        CASE(test_a_quota_of_version_2_is_rounded_up),
        CASE(test_the_least_quota_of_the_groups_above_counts),
        CASE(test_a_quota_of_version_1_is_seen),
        CASE(test_sys_cpus_is_at_least_one),
    };

    return cmocka_run_group_tests_name("cpus", tests, NULL, NULL);
}
