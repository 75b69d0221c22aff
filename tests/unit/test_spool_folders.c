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

#define WITH_PLACE(test) cmocka_unit_test_setup_teardown(test, make_place, remove_place)

static int make_place(void **state)
{
    char *place = xstrdup("/tmp/spool-folders-XXXXXX");

    assert_non_null(mkdtemp(place));
    *state = place;
    return 0;
}

static int remove_place(void **state)
{
    char *command = xasprintf("rm -r '%s'", (char *)*state);

    assert_int_equal(system(command), 0);
    free(command);
    free(*state);
    return 0;
}

static void make(const char *place, const char *below)
{
    char *path = xasprintf("%s/%s", place, below);

    assert_int_equal(mkdir(path, 0700), 0);
    free(path);
}

static bool has(const struct spool_folders *folders, const char *place, const char *below)
{
    char *path = xasprintf("%s/spool/%s", place, below);
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
    const char *place = *state;
    struct spool_folders folders;
    struct error err;
    char *spool = xasprintf("%s/spool", place), *link = xasprintf("%s/spool/link", place);

    make(place, "elsewhere");
    assert_int_equal(symlink("elsewhere", spool), 0);
    make(place, "spool/one");
    make(place, "spool/one/redis");
    make(place, "spool/one/redis/deeper");
    make(place, "spool/.hidden");
    make(place, "spool/two");
    assert_int_equal(symlink("one", link), 0);
    assert_int_equal(spool_folders_read(&folders, place, &err), 0);
    assert_int_equal(folders.len, 3);
    assert_true(has(&folders, place, "one"));
    assert_true(has(&folders, place, "one/redis"));
    assert_true(has(&folders, place, "two"));
    spool_folders_free(&folders);
    free(spool);
    free(link);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_PLACE(test_no_folder_is_found_without_a_spool),
        WITH_PLACE(test_folders_are_found_two_deep_and_links_below_are_not_followed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
