/* What children say: their last output and their readiness. */
#include "supervisor/process.h"

#include "common/base/buf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void collect(void *context, const char *line, uint64_t hidden)
{
    buf_printf(context, "[%s]", line);
    if (hidden > 0)
        buf_printf(context, "(+%llu)", (unsigned long long)hidden);
}

static void feed(struct process_output *output, const char *text, int64_t now, struct buf *out)
{
    process_output_feed(output, bytes_of(text), now, collect, out);
}

static void test_lines_are_put_together_from_any_pieces(void **test)
{
    struct process_output output = {0};
    struct buf out = {0};

    (void)test;
    feed(&output, "one\ntw", 0, &out);
    feed(&output, "o\n\n  \nth", 0, &out);
    assert_string_equal(buf_text(&out), "[one][two]");
    process_output_end(&output, 0, collect, &out);
    assert_string_equal(buf_text(&out), "[one][two][th]");
    assert_string_equal(output.last_line, "th");
    buf_free(&out);
}

static void test_a_line_without_end_is_cut(void **test)
{
    struct process_output output = {0};
    struct buf out = {0};

    (void)test;
    for (int i = 0; i < 10000; i++)
        feed(&output, "abc", 0, &out);
    assert_int_equal(out.len, 0);
    feed(&output, "\n", 0, &out);
    assert_int_equal(out.len, PROCESS_LINE_SIZE - 1 + 2);
    buf_free(&out);
}

static void test_output_above_the_limit_is_counted_and_not_shown(void **test)
{
    struct process_output output = {0};
    struct buf out = {0};

    (void)test;
    for (int i = 0; i < 5 * PROCESS_LINES_PER_WINDOW; i++)
        feed(&output, "x\n", 5, &out);
    assert_int_equal(out.len, PROCESS_LINES_PER_WINDOW * 3);
    buf_clear(&out);
    feed(&output, "y\n", 5 + PROCESS_WINDOW_MS, &out);
    assert_string_equal(buf_text(&out), "[y](+400)");
    buf_free(&out);
}

static void test_the_last_output_is_shown_even_above_the_limit(void **test)
{
    struct process_output output = {0};
    struct buf out = {0};

    (void)test;
    for (int i = 0; i < PROCESS_LINES_PER_WINDOW; i++)
        feed(&output, "x\n", 5, &out);
    buf_clear(&out);
    feed(&output, "a\nb\nthe end", 5, &out);
    process_output_end(&output, 5, collect, &out);
    assert_string_equal(buf_text(&out), "[the end](+2)");
    buf_free(&out);
}

static void test_a_nul_does_not_hide_what_follows(void **test)
{
    struct process_output output = {0};
    struct buf out = {0};

    (void)test;
    process_output_feed(&output, BYTES("a\0b\n"), 0, collect, &out);
    assert_string_equal(buf_text(&out), "[a b]");
    buf_free(&out);
}

static void test_ready_is_one_line_in_any_pieces(void **test)
{
    struct process_ready whole = {0};
    struct process_ready pieces = {0};

    (void)test;
    assert_true(process_ready_feed(&whole, BYTES("READY\n")));
    assert_false(process_ready_feed(&whole, BYTES("READY\n")));
    assert_false(process_ready_feed(&pieces, BYTES("REA")));
    assert_false(process_ready_feed(&pieces, BYTES("DY")));
    assert_true(process_ready_feed(&pieces, BYTES("\nmore")));
}

static void test_only_the_exact_line_ready_means_ready(void **test)
{
    static const char *const OTHERS[] = {"ready\n", "READY \n", "READYREADYREADY\n",
                                         "\n",      "READ\n",   "STEADY\n"};

    (void)test;
    for (size_t i = 0; i < LENGTH_OF(OTHERS); i++) {
        struct process_ready line = {0};

        assert_false(process_ready_feed(&line, bytes_of(OTHERS[i])));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines_are_put_together_from_any_pieces),
        cmocka_unit_test(test_a_line_without_end_is_cut),
        cmocka_unit_test(test_output_above_the_limit_is_counted_and_not_shown),
        cmocka_unit_test(test_the_last_output_is_shown_even_above_the_limit),
        cmocka_unit_test(test_a_nul_does_not_hide_what_follows),
        cmocka_unit_test(test_ready_is_one_line_in_any_pieces),
        cmocka_unit_test(test_only_the_exact_line_ready_means_ready),
    };

    return cmocka_run_group_tests_name("process_output", tests, NULL, NULL);
}
