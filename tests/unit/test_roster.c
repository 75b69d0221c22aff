/* Which processes should exist, and whom a changed setting concerns. */
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
    if (settings_load(&settings, path, &faults) < 0)
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
        buf_printf(&text, "%s:%d ", roster.places[i].name, roster.places[i].number);
    assert_string_equal(buf_text(&text), "consumer:0 consumer:garden:0 consumer:house:0 worker:1 "
                                         "worker:2 monitor:0 ");
    buf_free(&text);
    roster_free(&roster);
    settings_free(settings);
}

static void test_the_plan_knows_who_belongs_to_it(void **test)
{
    struct settings *settings = load(PLAIN);
    struct process *second = process_new(PROCESS_WORKER, "worker", 2);
    struct process *garden = process_new(PROCESS_CONSUMER, "consumer:garden", 0);
    struct process *shed = process_new(PROCESS_CONSUMER, "consumer:shed", 0);
    struct roster roster;

    (void)test;
    roster_plan(&roster, settings, 2);
    assert_true(roster_has(&roster, second));
    assert_true(roster_has(&roster, garden));
    assert_false(roster_has(&roster, shed));
    roster_free(&roster);
    roster_plan(&roster, settings, 1);
    assert_false(roster_has(&roster, second));
    roster_free(&roster);
    process_free(second);
    process_free(garden);
    process_free(shed);
    settings_free(settings);
}

/* Whom is concerned when `more` is added to the ini, as letters: c consumer, g consumer:garden, h
 * consumer:house, w worker, m monitor. */
static void assert_concerned(const char *from, const char *to, const char *expected)
{
    static const struct {
        enum process_kind kind;
        const char *name;
        char letter;
    } ALL[] = {{PROCESS_CONSUMER, "consumer", 'c'},
               {PROCESS_CONSUMER, "consumer:garden", 'g'},
               {PROCESS_CONSUMER, "consumer:house", 'h'},
               {PROCESS_WORKER, "worker", 'w'},
               {PROCESS_MONITOR, "monitor", 'm'}};
    struct buf text = {0};
    struct buf found = {0};
    const char *at = strstr(PLAIN, from);

    assert_non_null(at);
    buf_append(&text, (struct bytes){PLAIN, (size_t)(at - PLAIN)});
    buf_append_text(&text, to);
    buf_append_text(&text, at + strlen(from));
    struct settings *before = load(PLAIN);
    struct settings *after = load(buf_text(&text));
    for (size_t i = 0; i < sizeof(ALL) / sizeof(ALL[0]); i++)
        if (roster_concerned(before, after, ALL[i].kind, ALL[i].name))
            buf_append_char(&found, ALL[i].letter);
    if (strcmp(buf_text(&found), expected) != 0)
        fail_msg("%s: concerns \"%s\", not \"%s\"", to, buf_text(&found), expected);
    settings_free(before);
    settings_free(after);
    buf_free(&text);
    buf_free(&found);
}

static void test_a_change_concerns_those_who_read_it(void **test)
{
    (void)test;
    assert_concerned("host = a\n", "host = a\n", "");
    assert_concerned("host = a\n", "host = b\n", "cghm");
    assert_concerned("topics = garden/#\n", "topics = garden/+\n", "gm");
    assert_concerned("count = 3\n", "count = 5\n", "");
    assert_concerned("count = 3\n", "count = 3\nprefetch = 64\n", "wm");
    assert_concerned("level = info\n", "level = debug\n", "cghwm");
    assert_concerned("[log]\n", "[retry]\nmax_retries = 9\n[log]\n", "wm");
    assert_concerned("[log]\n", "[mercure]\nurl = http://h/.well-known/mercure\n[log]\n", "wm");
    assert_concerned("[log]\n", "[spool]\nsize = 512M\n[log]\n", "cghm");
    assert_concerned("[log]\n", "[http]\nlisten = 127.0.0.1:9999\n[log]\n", "m");
    assert_concerned("[log]\n", "[transport:async]\nserializer = json\n[log]\n", "cghwm");
    assert_concerned("[log]\n", "[failure]\nqueue_name = other\n[log]\n", "cghwm");
}

static void test_what_the_supervisor_alone_reads_concerns_nobody(void **test)
{
    (void)test;
    assert_concerned("socket = /tmp/s/c\n", "socket = /tmp/s/d\n", "");
    assert_concerned("socket = /tmp/s/c\n", "socket = /tmp/s/c\nstart_retries = 2\n", "");
    assert_concerned("socket = /tmp/s/c\n", "socket = /tmp/s/c\non_fatal = exit\n", "");
    assert_concerned("socket = /tmp/s/c\n", "socket = /tmp/s/c\npid_file = /tmp/s/p\n", "");
    assert_concerned("socket = /tmp/s/c\n", "socket = /tmp/s/c\nhang_timeout = 5s\n", "cghwm");
}

static void test_a_further_consumer_concerns_no_other(void **test)
{
    (void)test;
    assert_concerned("[worker]\n", "[consumer:shed]\ntopics = shed/#\n[worker]\n", "m");
}

static void test_a_consumer_that_goes_concerns_the_one_that_sends_what_it_leaves(void **test)
{
    (void)test;
    assert_concerned("[consumer:house]\ntopics = house/#\n", "", "chm");
    assert_concerned("topics = garden/#\n", "topics = garden/#\nclient_id = other\n", "cgm");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_plan_lists_consumers_workers_and_the_monitor),
        cmocka_unit_test(test_the_plan_knows_who_belongs_to_it),
        cmocka_unit_test(test_a_change_concerns_those_who_read_it),
        cmocka_unit_test(test_what_the_supervisor_alone_reads_concerns_nobody),
        cmocka_unit_test(test_a_further_consumer_concerns_no_other),
        cmocka_unit_test(test_a_consumer_that_goes_concerns_the_one_that_sends_what_it_leaves),
    };
    return cmocka_run_group_tests_name("roster", tests, NULL, NULL);
}
