#include "consumer/spool/spool.h"

#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void test_a_client_id_becomes_one_folder_s_name(void **state)
{
    static const struct {
        const char *client_id, *path;
    } CASES[] = {{"mqtt-bridge", "/s/spool/mqtt-bridge"},
                 {"a.b_C9", "/s/spool/a.b_C9"},
                 {"../../etc", "/s/spool/%2E.%2F..%2Fetc"},
                 {".", "/s/spool/%2E"},
                 {"\xc3\xa9 %", "/s/spool/%C3%A9%20%25"}};
    struct settings settings = {.supervisor = {.state_dir = (char *)"/s"}};

    (void)state;
    for (size_t i = 0; i < LENGTH_OF(CASES); i++) {
        char *path = spool_path(&settings, CASES[i].client_id, NULL);

        assert_string_equal(path, CASES[i].path);
        free(path);
    }
}

static void test_a_spool_lies_in_the_folder_of_its_client_id(void **state)
{
    struct settings settings = {.supervisor = {.state_dir = (char *)"/s"}};
    char *path = spool_path(&settings, "a b", "redis://h:6379/messages");

    (void)state;
    assert_string_equal(path, "/s/spool/a%20b/redis%3A%2F%2Fh%3A6379%2Fmessages");
    free(path);
}

static char *path_of(size_t first_len, const char *end)
{
    struct settings settings = {.supervisor = {.state_dir = (char *)"/s"}};
    char client_id[200];

    memset(client_id, '+', first_len);
    strcpy(client_id + first_len, end);
    return spool_path(&settings, client_id, NULL);
}

static void test_a_client_id_too_long_for_a_folder_s_name_gets_one_of_its_own(void **state)
{
    const size_t above = strlen("/s/spool/");
    char *longest = path_of(85, ""), *a = path_of(127, "a"), *b = path_of(127, "b");

    (void)state;
    assert_int_equal(strlen(longest) - above, NAME_MAX);
    assert_null(strchr(longest, '~'));
    assert_int_equal(strlen(a) - above, NAME_MAX);
    assert_string_equal(a + above + NAME_MAX - 17, "~94201dfd691c6717");
    assert_string_not_equal(a, b);
    free(longest);
    free(a);
    free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_client_id_becomes_one_folder_s_name),
        cmocka_unit_test(test_a_spool_lies_in_the_folder_of_its_client_id),
        cmocka_unit_test(test_a_client_id_too_long_for_a_folder_s_name_gets_one_of_its_own),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
