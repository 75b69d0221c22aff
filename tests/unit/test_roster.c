/* Which processes should exist, and which a changed setting affects. */
#include "supervisor/roster.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static const char PLAIN[] = "[mqtt]\nhost = a\n"
                            "[consumer:garden]\ntopics = garden/#\n"
                            "[consumer:house]\ntopics = house/#\n"
                            "[worker]\ncount = 3\n"
                            "[supervisor]\nstate_dir = /tmp/s\nsocket = /tmp/s/c\n"
                            "[log]\nlevel = info\n";

static struct settings *load(const char *text)
{
    char path[] = "/tmp/test-roster-XXXXXX";
    int fd = mkstemp(path);
    struct settings *settings = NULL;
    struct buf faults = {0};

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
    if (settings_load(&settings, path, false, &faults) < 0)
        fail_msg("%s", buf_text(&faults));
    unlink(path);
    buf_free(&faults);
    return settings;
}

static void test_the_plan_lists_consumers_workers_and_the_monitor(void **test)
{
    struct settings *settings = load(PLAIN);
    struct roster roster;
    struct buf text = {0};

    (void)test;
    roster_plan(&roster, settings, 2);
    for (size_t i = 0; i < roster.len; i++)
        buf_printf(&text, "%s:%d ", roster.entries[i].name, roster.entries[i].number);
    assert_string_equal(buf_text(&text), "consumer:0 consumer:garden:0 consumer:house:0 worker:1 "
                                         "worker:2 monitor:0 ");
    buf_free(&text);
    roster_free(&roster);
    settings_free(settings);
}

static bool has(const struct roster *roster, const struct process *process)
{
    bool found = false;

    for (size_t i = 0; i < roster->len && !found; i++)
        found = roster_is(&roster->entries[i], process);
    return found;
}

static void test_the_plan_knows_which_processes_belong_to_it(void **test)
{
    struct settings *settings = load(PLAIN);
    struct process *second = process_new(NULL, PROCESS_WORKER, "worker", 2);
    struct process *garden = process_new(NULL, PROCESS_CONSUMER, "consumer:garden", 0);
    struct process *shed = process_new(NULL, PROCESS_CONSUMER, "consumer:shed", 0);
    struct roster roster;

    (void)test;
    roster_plan(&roster, settings, 2);
    assert_true(has(&roster, second));
    assert_true(has(&roster, garden));
    assert_false(has(&roster, shed));
    roster_free(&roster);
    roster_plan(&roster, settings, 1);
    assert_false(has(&roster, second));
    roster_free(&roster);
    process_free(second);
    process_free(garden);
    process_free(shed);
    settings_free(settings);
}

/* Which processes are affected when `from` in the ini becomes `to`, as letters: c consumer, g consumer:garden, h
 * consumer:house, w worker, m monitor. */
static void assert_affected(const char *from, const char *to, const char *expected)
{
    static const struct {
        const char *name;
        char letter;
    } ALL[] = {{"consumer", 'c'},
               {"consumer:garden", 'g'},
               {"consumer:house", 'h'},
               {"worker", 'w'},
               {"monitor", 'm'}};
    struct buf text = {0};
    struct buf found = {0};
    const char *at = strstr(PLAIN, from);

    assert_non_null(at);
    buf_append(&text, (struct bytes){PLAIN, (size_t)(at - PLAIN)});
    buf_append_text(&text, to);
    buf_append_text(&text, at + strlen(from));
    struct settings *before = load(PLAIN);
    struct settings *after = load(buf_text(&text));
    for (size_t i = 0; i < LENGTH_OF(ALL); i++)
        if (roster_is_affected(before, after, ALL[i].name))
            buf_append_char(&found, ALL[i].letter);
    if (strcmp(buf_text(&found), expected) != 0)
        fail_msg("%s: affects \"%s\", not \"%s\"", to, buf_text(&found), expected);
    settings_free(before);
    settings_free(after);
    buf_free(&text);
    buf_free(&found);
}

static void test_a_changed_setting_affects_the_processes_that_read_it(void **test)
{
    (void)test;
    assert_affected("host = a\n", "host = a\n", "");
    assert_affected("host = a\n", "host = b\n", "cgh");
    assert_affected("topics = garden/#\n", "topics = garden/+\n", "g");
    assert_affected("count = 3\n", "count = 3\nprefetch = 64\n", "w");
    assert_affected("level = info\n", "level = info\nfile = /tmp/s/log\n", "cghwm");
    assert_affected("[log]\n", "[retry]\nmax_retries = 9\n[log]\n", "w");
    assert_affected("[log]\n", "[mercure]\nurl = http://h/.well-known/mercure\n[log]\n", "wm");
    assert_affected("[log]\n", "[mercure]\npublic_url = http://h/m\n[log]\n", "m");
    assert_affected("[log]\n", "[spool]\nsize = 512M\n[log]\n", "cgh");
    assert_affected("[log]\n", "[http]\nlisten = 127.0.0.1:9999\n[log]\n", "m");
    assert_affected("[log]\n", "[transport:async]\nserializer = json\n[log]\n", "cghw");
    assert_affected("[log]\n", "[transport:other]\ndsn = redis://h/o\n[log]\n", "w");
    assert_affected("[log]\n", "[failure]\nqueue_name = other\n[log]\n", "wm");
    assert_affected("socket = /tmp/s/c\n", "socket = /tmp/s/c\nhang_timeout = 5s\n", "cghwm");
}

static void test_settings_of_the_supervisor_alone_affect_no_child(void **test)
{
    (void)test;
    assert_affected("count = 3\n", "count = 5\n", "");
    assert_affected("level = info\n", "level = debug\n", "");
    assert_affected("socket = /tmp/s/c\n", "socket = /tmp/s/d\n", "");
    assert_affected("socket = /tmp/s/c\n", "socket = /tmp/s/c\nstart_retries = 2\n", "");
    assert_affected("socket = /tmp/s/c\n", "socket = /tmp/s/c\non_fatal = exit\n", "");
    assert_affected("socket = /tmp/s/c\n", "socket = /tmp/s/c\npid_file = /tmp/s/p\n", "");
}

static void test_a_further_consumer_affects_no_other_consumer(void **test)
{
    (void)test;
    assert_affected("[worker]\n", "[consumer:shed]\ntopics = shed/#\n[worker]\n", "m");
}

static void test_a_removed_consumer_affects_the_one_that_drains_its_spool(void **test)
{
    (void)test;
    assert_affected("[consumer:house]\ntopics = house/#\n", "", "chm");
    assert_affected("topics = garden/#\n", "topics = garden/#\nclient_id = other\n", "cg");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_plan_lists_consumers_workers_and_the_monitor),
        cmocka_unit_test(test_the_plan_knows_which_processes_belong_to_it),
        cmocka_unit_test(test_a_changed_setting_affects_the_processes_that_read_it),
        cmocka_unit_test(test_settings_of_the_supervisor_alone_affect_no_child),
        cmocka_unit_test(test_a_further_consumer_affects_no_other_consumer),
        cmocka_unit_test(test_a_removed_consumer_affects_the_one_that_drains_its_spool),
    };

    return cmocka_run_group_tests_name("roster", tests, NULL, NULL);
}
