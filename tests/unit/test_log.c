/* The log's lines, byte for byte as Monolog 2.9's LineFormatter and JsonFormatter wrote them. */
#include "common/base/log.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define WHEN_US INT64_C(1795514775180279) /* 2026-11-24T10:06:15.180279 */

static char *format(enum log_format format, bool no_extra, const struct log_field *context,
                    struct bytes message)
{
    static char text[1024];
    struct log_options options = {
        .format = format, .process = "worker", .slot = 2, .no_extra = no_extra};
    struct buf line = {0};

    log_format_line(&line, &options, WHEN_US, 4121, LOG_LEVEL_WARNING, context, message);
    snprintf(text, sizeof(text), "%.*s", BYTES_ARG(buf_bytes(&line)));
    buf_free(&line);
    return text;
}

static void test_a_line_is_monologs_line_format(void **state)
{
    (void)state;
    assert_string_equal(format(LOG_FORMAT_LINE, true,
                               LOG_WITH(log_text("topic", "a/é"), log_number("bytes", 12)),
                               BYTES("Message \"a/é\" failed")),
                        "[2026-11-24T10:06:15.180279+00:00] mqtt.WARNING: Message \"a/é\" failed "
                        "{\"topic\":\"a/é\",\"bytes\":12} []\n");
}

static void test_a_json_line_is_monologs_json_format(void **state)
{
    (void)state;
    assert_string_equal(
        format(LOG_FORMAT_JSON, true, LOG_WITH(log_text("topic", "a/é"), log_number("bytes", 12)),
               BYTES("Message \"a/é\" failed")),
        "{\"message\":\"Message \\\"a/é\\\" failed\",\"context\":{\"topic\":\"a/é\",\"bytes\":12},"
        "\"level\":300,\"level_name\":\"WARNING\",\"channel\":\"mqtt\","
        "\"datetime\":\"2026-11-24T10:06:15.180279+00:00\",\"extra\":{}}\n");
}

static void test_an_empty_context_is_a_list_in_a_line_and_an_object_in_json(void **state)
{
    (void)state;
    assert_string_equal(format(LOG_FORMAT_LINE, true, LOG_PLAIN, BYTES("plain")),
                        "[2026-11-24T10:06:15.180279+00:00] mqtt.WARNING: plain [] []\n");
    assert_string_equal(format(LOG_FORMAT_JSON, true, LOG_PLAIN, BYTES("plain")),
                        "{\"message\":\"plain\",\"context\":{},\"level\":300,\"level_name\":"
                        "\"WARNING\",\"channel\":\"mqtt\",\"datetime\":\"2026-11-24T10:06:15."
                        "180279+00:00\",\"extra\":{}}\n");
}

static void test_extra_says_process_slot_and_pid(void **state)
{
    (void)state;
    assert_string_equal(format(LOG_FORMAT_LINE, false, LOG_PLAIN, BYTES("x")),
                        "[2026-11-24T10:06:15.180279+00:00] mqtt.WARNING: x [] "
                        "{\"process\":\"worker\",\"slot\":2,\"pid\":4121}\n");
}

static void test_an_event_stays_on_one_line(void **state)
{
    (void)state;
    assert_string_equal(format(LOG_FORMAT_LINE, true, LOG_WITH(log_text("k", "a\nb\t\"q\"\\ /")),
                               BYTES("two\nlines\r\nx")),
                        "[2026-11-24T10:06:15.180279+00:00] mqtt.WARNING: two lines x "
                        "{\"k\":\"a\\nb\\t\\\"q\\\"\\\\ /\"} []\n");
}

static void test_numbers_and_flags_are_written_as_in_php(void **state)
{
    (void)state;
    assert_string_equal(
        format(LOG_FORMAT_LINE, true,
               LOG_WITH({.kind = LOG_FIELD_SECONDS, .key = "x", .number = 1500},
                        {.kind = LOG_FIELD_SECONDS, .key = "y", .number = 120000},
                        {.kind = LOG_FIELD_SECONDS, .key = "z", .number = 7}, log_flag("t", true),
                        log_flag("f", false), log_number("neg", -7)),
               BYTES("numbers")),
        "[2026-11-24T10:06:15.180279+00:00] mqtt.WARNING: numbers "
        "{\"x\":1.5,\"y\":120.0,\"z\":0.007,\"t\":true,\"f\":false,\"neg\":-7} []\n");
}

static void test_bytes_that_are_not_utf8_are_substituted(void **state)
{
    struct bytes value = BYTES("\xff\x00\x1b");

    (void)state;
    assert_string_equal(format(LOG_FORMAT_LINE, true,
                               LOG_WITH(log_bytes("v", value), log_text("sep", "\xe2\x80\xa8")),
                               BYTES("bad \xff utf")),
                        "[2026-11-24T10:06:15.180279+00:00] mqtt.WARNING: bad \xef\xbf\xbd utf "
                        "{\"v\":\"\xef\xbf\xbd\\u0000\\u001b\",\"sep\":\"\\u2028\"} []\n");
}

static void test_a_terminal_escape_in_a_topic_does_not_reach_the_terminal(void **state)
{
    (void)state;
    assert_null(strchr(format(LOG_FORMAT_LINE, true, LOG_PLAIN, BYTES("a\x1b[2Jb")), 0x1b));
    assert_non_null(strstr(format(LOG_FORMAT_LINE, true, LOG_PLAIN,
                                  BYTES("a\xc2\x9b"
                                        "2Jb")),
                           "a\\x9b2Jb"));
    assert_non_null(strstr(format(LOG_FORMAT_JSON, true, LOG_PLAIN,
                                  BYTES("a\xc2\x9b"
                                        "2Jb")),
                           "a\\u009b2Jb"));
}

static void test_control_characters_of_two_bytes_are_escaped(void **state)
{
    (void)state;
    const char *line = format(LOG_FORMAT_LINE, true, LOG_WITH(log_text("t", "\xc2\x9b\x7f")),
                              BYTES("a\xc2\x9b"
                                    "2Jb \xc2\xa0"));
    assert_non_null(strstr(line, "a\\x9b2Jb \xc2\xa0"));
    assert_non_null(strstr(line, "{\"t\":\"\\u009b\\u007f\"}"));
}

static size_t count_lines(int fd)
{
    char text[4096];
    size_t lines = 0;
    ssize_t got = pread(fd, text, sizeof(text), 0);

    for (ssize_t i = 0; i < got; i++)
        lines += text[i] == '\n';
    return lines;
}

static void test_a_fault_that_repeats_is_logged_at_its_start_and_its_end(void **state)
{
    struct log_fault fault = {0};
    FILE *file = tmpfile();

    (void)state;
    log_open(&(struct log_options){
        .level = LOG_LEVEL_INFO, .fd = fileno(file), .process = "test", .no_extra = true});
    for (int i = 0; i < 1000; i++)
        log_fault(&fault, LOG_LEVEL_ERROR, LOG_PLAIN, "down");
    assert_int_equal(count_lines(fileno(file)), 1);
    log_fault_over(&fault, LOG_PLAIN, "up");
    assert_int_equal(count_lines(fileno(file)), 2);
    log_fault_over(&fault, LOG_PLAIN, "up");
    assert_int_equal(count_lines(fileno(file)), 2);
    log_fault(&fault, LOG_LEVEL_ERROR, LOG_PLAIN, "down again");
    assert_int_equal(count_lines(fileno(file)), 3);
    log_reopen(STDERR_FILENO);
    fclose(file);
}

/* fds: read end, write end, which blocks. */
static void assert_a_full_stream_loses_lines(int fds[2])
{
    static char text[1 << 16];
    size_t lost = 0;
    char *warning = NULL;
    ssize_t got;

    assert_int_equal(fcntl(fds[1], F_GETFL) & O_NONBLOCK, 0);
    fcntl(fds[0], F_SETFL, O_NONBLOCK);
    log_open(&(struct log_options){
        .level = LOG_LEVEL_INFO, .fd = fds[1], .process = "test", .no_extra = true});
    alarm(20); /* a write that blocks ends the test */
    for (int i = 0; i < 20000; i++)
        log_info(LOG_PLAIN, "line of some length, so that every buffer there may be is full soon");
    while (read(fds[0], text, sizeof(text)) > 0)
        continue;
    log_info(LOG_PLAIN, "last");
    alarm(0);
    got = read(fds[0], text, sizeof(text) - 1);
    text[got > 0 ? got : 0] = '\0';
    warning = strstr(text, "mqtt.WARNING: Log lines were lost");
    assert_non_null(warning);
    assert_int_equal(sscanf(strchr(warning, '{'), "{\"lines\":%zu}", &lost), 1);
    assert_in_range(lost, 1, 20000);
    assert_non_null(strstr(warning, "mqtt.INFO: last"));
    log_info(LOG_PLAIN, "next");
    got = read(fds[0], text, sizeof(text) - 1);
    text[got > 0 ? got : 0] = '\0';
    assert_null(strstr(text, "WARNING"));
    log_reopen(STDERR_FILENO);
    close(fds[0]);
    close(fds[1]);
}

static void test_a_pipe_whose_reader_is_frozen_loses_lines_and_counts_them(void **state)
{
    int fds[2];

    (void)state;
    assert_int_equal(pipe(fds), 0);
    assert_a_full_stream_loses_lines(fds);
}

static void test_a_socket_whose_reader_is_frozen_loses_lines_and_counts_them(void **state)
{
    int fds[2];

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    assert_a_full_stream_loses_lines(fds);
}

static void count_line(void *context, const char *line)
{
    (void)line;
    ++*(int *)context;
}

static void test_debug_lines_push_no_others_out_of_what_is_kept(void **state)
{
    int fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
    int taken = 0;

    (void)state;
    log_open(&(struct log_options){.level = LOG_LEVEL_DEBUG, .fd = fd});
    log_give_to(count_line, &taken);
    log_debug(LOG_PLAIN, "a message came");
    assert_int_equal(taken, 0);
    log_info(LOG_PLAIN, "connected");
    assert_int_equal(taken, 1);
    log_give_to(NULL, NULL);
    log_reopen(STDERR_FILENO);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_line_is_monologs_line_format),
        cmocka_unit_test(test_a_json_line_is_monologs_json_format),
        cmocka_unit_test(test_an_empty_context_is_a_list_in_a_line_and_an_object_in_json),
        cmocka_unit_test(test_extra_says_process_slot_and_pid),
        cmocka_unit_test(test_an_event_stays_on_one_line),
        cmocka_unit_test(test_numbers_and_flags_are_written_as_in_php),
        cmocka_unit_test(test_bytes_that_are_not_utf8_are_substituted),
        cmocka_unit_test(test_a_terminal_escape_in_a_topic_does_not_reach_the_terminal),
        cmocka_unit_test(test_control_characters_of_two_bytes_are_escaped),
        cmocka_unit_test(test_a_fault_that_repeats_is_logged_at_its_start_and_its_end),
        cmocka_unit_test(test_a_pipe_whose_reader_is_frozen_loses_lines_and_counts_them),
        cmocka_unit_test(test_a_socket_whose_reader_is_frozen_loses_lines_and_counts_them),
        cmocka_unit_test(test_debug_lines_push_no_others_out_of_what_is_kept),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
