#include "common/client/spool_folders.h"

#include "common/base/alloc.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <setjmp.h> /* before cmocka.h, as that asks */

#include <cmocka.h>

#define WITH_ROOT(test) cmocka_unit_test_setup_teardown(test, make_root, remove_root)

static int make_root(void **state)
{
    char *root = xstrdup("/tmp/spool-folders-XXXXXX");

    assert_non_null(mkdtemp(root));
    *state = root;
    return 0;
}

static int remove_root(void **state)
{
    char *command = xasprintf("rm -r '%s'", (char *)*state);

    assert_int_equal(system(command), 0);
    free(command);
    free(*state);
    return 0;
}

static void make(const char *root, const char *below)
{
    char *path = xasprintf("%s/%s", root, below);

    assert_int_equal(mkdir(path, 0700), 0);
    free(path);
}

static bool has(const struct spool_folders *folders, const char *root, const char *below)
{
    char *path = xasprintf("%s/spool/%s", root, below);
    bool found = false;

    for (size_t i = 0; i < folders->len; i++)
        found = found || strcmp(folders->paths[i], path) == 0;
    free(path);
    return found;
}

static void test_no_folder_is_found_without_a_spool(void **state)
{
    struct spool_folders folders;
    struct error err;

    assert_int_equal(spool_folders_read(&folders, *state, &err), 0);
    assert_int_equal(folders.len, 0);
    spool_folders_free(&folders);
}

static void test_folders_are_found_two_deep_and_links_below_are_not_followed(void **state)
{
    const char *root = *state;
    struct spool_folders folders;
    struct error err;
    char *spool = xasprintf("%s/spool", root), *link = xasprintf("%s/spool/link", root);

    make(root, "elsewhere");
    assert_int_equal(symlink("elsewhere", spool), 0);
    make(root, "spool/one");
    make(root, "spool/one/redis");
    make(root, "spool/one/redis/deeper");
    make(root, "spool/.hidden");
    make(root, "spool/two");
    assert_int_equal(symlink("one", link), 0);
    assert_int_equal(spool_folders_read(&folders, root, &err), 0);
    assert_int_equal(folders.len, 3);
    assert_true(has(&folders, root, "one"));
    assert_true(has(&folders, root, "one/redis"));
    assert_true(has(&folders, root, "two"));
    spool_folders_free(&folders);
    free(spool);
    free(link);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_ROOT(test_no_folder_is_found_without_a_spool),
        WITH_ROOT(test_folders_are_found_two_deep_and_links_below_are_not_followed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
