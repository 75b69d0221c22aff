#include "worker/instance.h"

#include "common/base/sys.h"
#include "tests/unit/vectors.h"

#include <errno.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

#define READERS 8

static char dir[64];
static char path[80];

static int setup(void **state)
{
    (void)state;
    snprintf(dir, sizeof(dir), "/tmp/instance-XXXXXX");
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/instance", dir);
    return 0;
}

static int teardown(void **state)
{
    char command[80];

    (void)state;
    sys_heal();
    snprintf(command, sizeof(command), "rm -r %s", dir);
    return system(command);
}

static char *read_instance(void)
{
    struct settings_supervisor settings = {.instance = "", .state_dir = dir};
    char *instance = NULL;
    struct error err;

    if (instance_read(&instance, &settings, &err) < 0)
        return NULL;
    return instance;
}

static void write_file(const char *data, size_t len)
{
    FILE *file = fopen(path, "w");

    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, len, file), len);
    assert_int_equal(fclose(file), 0);
}

static void test_an_instance_is_made_once(void **state)
{
    char *made = read_instance();
    char *again = read_instance();

    (void)state;
    assert_non_null(made);
    assert_int_equal(strlen(made), 16);
    assert_string_equal(made, again);
    free(made);
    free(again);
}

static void test_a_file_without_a_valid_instance_id_gets_a_new_one(void **state)
{
    static const struct bytes broken[] = {BYTES(""), BYTES("\n"), BYTES("\0\0\0\0\0\0\0\0")};

    (void)state;
    for (size_t i = 0; i < LENGTH_OF(broken); i++) {
        write_file(broken[i].data, broken[i].len);
        char *mended = read_instance();
        char *again = read_instance();

        assert_non_null(mended);
        assert_int_equal(strlen(mended), 16);
        assert_string_equal(mended, again);
        free(mended);
        free(again);
    }
}

static void *read_beside_others(void *context)
{
    (void)context;
    return read_instance();
}

static void test_workers_that_start_together_agree_on_one(void **state)
{
    pthread_t threads[READERS];

    void *read[READERS];

    (void)state;
    write_file("", 0);
    for (size_t i = 0; i < READERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, read_beside_others, NULL), 0);
    for (size_t i = 0; i < READERS; i++)
        assert_int_equal(pthread_join(threads[i], &read[i]), 0);
    for (size_t i = 0; i < READERS; i++) {
        assert_non_null(read[i]);
        assert_string_equal(read[i], read[0]);
    }
    for (size_t i = 0; i < READERS; i++)
        free(read[i]);
}

static void test_file_and_directory_are_synced(void **state)
{
    (void)state;
    for (int nth = 1; nth <= 2; nth++) {
        unlink(path);
        sys_fail(SYS_SYNC, nth, 1, EIO);
        assert_null(read_instance());
        assert_int_equal(sys_calls(SYS_SYNC), nth);
        sys_heal();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_an_instance_is_made_once, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_file_without_a_valid_instance_id_gets_a_new_one,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(test_workers_that_start_together_agree_on_one, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_file_and_directory_are_synced, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
