/* How a handler's process ends, and what is known of that. */
#include "worker/handler_process.h"

#include "common/base/clock.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#define LATER_MS 3000 /* more than a process has after it has closed an end, or was asked to end */

static bool has_pidfds = true;

/* In place of the C library's. */
int pidfd_open(pid_t pid, unsigned flags)
{
    if (has_pidfds)
        return (int)syscall(SYS_pidfd_open, pid, flags);
    errno = ENOSYS;
    return -1;
}

static struct handler_process *process;
static char said[200]; /* its lines, each with a space behind it */

static void take_lines(void)
{
    char *text;
    size_t len;

    while (handler_process_line(process, &text, &len))
        snprintf(said + strlen(said), sizeof(said) - strlen(said), "%.*s ", (int)len, text);
}

/* Turns the loop as the worker does, `ahead_ms` ahead of the clock, until the process has that state. */
static void run_until(enum handler_process_state state, int64_t ahead_ms)
{
    int64_t deadline_ms = clock_monotonic_ms() + 20000;

    while (handler_process_state(process) != state) {
        struct pollfd fds[HANDLER_PROCESS_FDS];

        handler_process_step(process, clock_monotonic_ms() + ahead_ms);
        unsigned len = handler_process_poll(process, fds);
        int64_t next_ms = handler_process_deadline_ms(process);
        if (handler_process_state(process) == state)
            next_ms = 0;
        else
            next_ms = next_ms < 0 ? deadline_ms : next_ms - ahead_ms;
        poll(fds, len, clock_poll_timeout(next_ms, clock_monotonic_ms()));
        handler_process_read(process, fds, len);
        take_lines();
        assert_true(clock_monotonic_ms() < deadline_ms);
    }
}

static void start(const char *script)
{
    static struct settings settings;
    static struct settings_handler handler = {.name = "test", .pass_env = ""};
    static char command[300];
    struct error err;

    snprintf(command, sizeof(command), "sh -c '%s'", script);
    handler.command = command;
    said[0] = '\0';
    process = handler_process_new(&settings, &handler);
    assert_int_equal(handler_process_start(process, &err), 0);
}

static void expect_end(const char *cause, const char *lines)
{
    run_until(HANDLER_DOWN, 0);
    assert_string_equal(handler_process_cause(process), cause);
    assert_string_equal(said, lines);
}

static int clean_up(void **test)
{
    (void)test;
    handler_process_free(process);
    has_pidfds = true;
    return 0;
}

static void test_its_end_is_noticed_while_a_child_holds_its_output(void **test)
{
    (void)test;
    start("sleep 600 & echo one; echo two; exit 7");
    expect_end("exit code 7", "one two ");
}

static void test_its_end_is_noticed_while_another_group_holds_its_output(void **test)
{
    (void)test;
    start("setsid sh -c \"sleep 20\" & echo one; echo bad luck >&2; kill -SEGV $$");
    expect_end("signal SIGSEGV (bad luck)", "one ");
}

static void test_its_end_is_noticed_without_a_pidfd(void **test)
{
    (void)test;
    has_pidfds = false;
    start("sleep 600 & echo one; exit 7");
    expect_end("exit code 7", "one ");
}

static void test_closed_output_is_named_if_it_did_not_end(void **test)
{
    (void)test;
    start("echo one; exec >&-; exec sleep 600");
    run_until(HANDLER_ENDING, 0);
    run_until(HANDLER_DOWN, LATER_MS);
    expect_end("it closed its standard output and did not end: killed after 2000 ms", "one ");
}

static void test_it_has_time_for_an_exit_code_after_closing_its_output(void **test)
{
    (void)test;
    start("echo one; exec >&-; read line; exit 9");
    expect_end("exit code 9", "one ");
}

static void test_a_kill_by_another_is_no_closed_output(void **test)
{
    (void)test;
    start("exec >&-; read line; kill -KILL $$");
    expect_end("signal SIGKILL", "");
}

static void test_closed_input_is_noticed_with_nothing_to_write(void **test)
{
    (void)test;
    start("exec <&-; exec sleep 600");
    run_until(HANDLER_ENDING, 0);
    run_until(HANDLER_DOWN, LATER_MS);
    expect_end("it closed its standard input and did not end: killed after 2000 ms", "");
}

static void test_lines_that_it_writes_after_closing_its_input_count(void **test)
{
    (void)test;
    start("exec <&-; echo one; sleep 0.1; echo two; printf half");
    buf_append(handler_process_out(process), BYTES("line\n"));
    expect_end("exit code 0", "one two ");
}

static void test_nothing_is_taken_once_it_is_killed(void **test)
{
    (void)test;
    start("echo one; trap \"\" TERM; while :; do echo more; done");
    while (said[0] == '\0') {
        handler_process_read(process, NULL, 0);
        take_lines();
    }
    said[0] = '\0';
    handler_process_kill(process, "for a reason");
    expect_end("for a reason", "");
}

static void test_it_is_killed_if_it_does_not_end_when_asked_to(void **test)
{
    (void)test;
    start("trap \"\" TERM; echo one; while :; do sleep 600; done");
    while (said[0] == '\0') {
        handler_process_read(process, NULL, 0);
        take_lines();
    }
    handler_process_finish(process);
    run_until(HANDLER_DOWN, LATER_MS);
    expect_end("it did not end when it was asked to", "one ");
}

static void test_a_program_that_is_not_there_shows_as_an_end(void **test)
{
    (void)test;
    start("exec no-such-program 2>/dev/null");
    expect_end("exit code 127", "");
}

#define TEST(function) cmocka_unit_test_teardown(function, clean_up)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_its_end_is_noticed_while_a_child_holds_its_output),
        TEST(test_its_end_is_noticed_while_another_group_holds_its_output),
        TEST(test_its_end_is_noticed_without_a_pidfd),
        TEST(test_closed_output_is_named_if_it_did_not_end),
        TEST(test_it_has_time_for_an_exit_code_after_closing_its_output),
        TEST(test_a_kill_by_another_is_no_closed_output),
        TEST(test_closed_input_is_noticed_with_nothing_to_write),
        TEST(test_lines_that_it_writes_after_closing_its_input_count),
        TEST(test_nothing_is_taken_once_it_is_killed),
        TEST(test_it_is_killed_if_it_does_not_end_when_asked_to),
        TEST(test_a_program_that_is_not_there_shows_as_an_end),
    };

    signal(SIGPIPE, SIG_IGN); /* as child_start() does */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
