#include "monitor/pages.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[] = "/tmp/test_monitor_pages.XXXXXX";
static char outside[sizeof folder + 8];

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");

    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static int make_folder(void **state)
{
    char path[128];

    (void)state;
    if (mkdtemp(folder) == NULL)
        return -1;
    snprintf(path, sizeof path, "%s/index.html", folder);
    write_file(path, "<p>page</p>");
    snprintf(path, sizeof path, "%s/.hidden", folder);
    write_file(path, "secret");
    snprintf(path, sizeof path, "%s/deep", folder);
    mkdir(path, 0700);
    snprintf(path, sizeof path, "%s/deep/app.js", folder);
    write_file(path, "1");
    snprintf(path, sizeof path, "%s/pipe.js", folder);
    mkfifo(path, 0600);
    snprintf(outside, sizeof outside, "%s.secret", folder);
    write_file(outside, "secret");
    snprintf(path, sizeof path, "%s/link.js", folder);
    if (symlink(outside, path) < 0)
        return -1;
    return setenv("MQTT_BRIDGE_WEB", folder, 1);
}

static int remove_folder(void **state)
{
    const char *const names[] = {"index.html", ".hidden", "deep/app.js", "pipe.js", "link.js"};
    char path[128];

    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        unlink(path);
    }
    snprintf(path, sizeof path, "%s/deep", folder);
    rmdir(path);
    unlink(outside);
    return rmdir(folder);
}

static bool is_found(const char *path)
{
    struct pages *pages = pages_new();
    struct page page;
    bool found = pages_find(pages, path, &page);

    if (found)
        close(page.fd);
    pages_free(pages);
    return found;
}

static void test_the_root_is_the_index(void **state)
{
    struct pages *pages = pages_new();
    struct page page;
    char text[32] = "";

    (void)state;
    assert_string_equal(pages_folder(pages), folder);
    assert_true(pages_find(pages, "/", &page));
    assert_int_equal(page.size, strlen("<p>page</p>"));
    assert_string_equal(page.content_type, "text/html; charset=utf-8");
    assert_false(page.library);
    assert_int_equal(read(page.fd, text, sizeof text - 1), page.size);
    assert_string_equal(text, "<p>page</p>");
    close(page.fd);
    pages_free(pages);
}

static void test_files_in_folders_and_folders_are_not_served(void **state)
{
    (void)state;
    assert_false(is_found("/deep/app.js"));
    assert_false(is_found("/deep"));
    assert_false(is_found("/deep/"));
    assert_false(is_found("/nothing.js"));
}

static void test_no_name_leads_out_of_the_folder(void **state)
{
    char path[256];

    (void)state;
    snprintf(path, sizeof path, "/../%s", strrchr(outside, '/') + 1);
    assert_false(is_found(path));
    snprintf(path, sizeof path, "/deep/../../%s", strrchr(outside, '/') + 1);
    assert_false(is_found(path));
    snprintf(path, sizeof path, "/%s", outside);
    assert_false(is_found(path));
    snprintf(path, sizeof path, "/lib/../../../..%s", outside);
    assert_false(is_found(path));
    assert_false(is_found("/./index.html"));
    assert_false(is_found("//index.html"));
    assert_false(is_found(""));
    assert_false(is_found("index.html"));
}

static void test_hidden_files_and_what_is_no_file_are_not_served(void **state)
{
    (void)state;
    assert_false(is_found("/.hidden"));
    assert_false(is_found("/pipe.js"));
}

static void test_links_in_the_folder_are_not_followed(void **state)
{
    (void)state;
    assert_false(is_found("/link.js"));
}

static void test_safe_names_are_plain(void **state)
{
    const char *const safe[] = {"app.js", "dygraph.min.js", "A-b_1.2"};
    const char *const unsafe[] = {"",    "..", ".",    "a/..", "a/b",
                                  "/a",  "a/", "a b",  "a\\b", "a%2e",
                                  "a:b", "~a", "a/.b", "a\nb", "\xc3\xa9.js"};

    (void)state;
    for (size_t i = 0; i < sizeof safe / sizeof safe[0]; i++)
        assert_true(pages_name_is_safe(safe[i]));
    for (size_t i = 0; i < sizeof unsafe / sizeof unsafe[0]; i++)
        assert_false(pages_name_is_safe(unsafe[i]));
}

static void test_content_types_come_from_the_ending(void **state)
{
    (void)state;
    assert_string_equal(pages_content_type("a.b.js"), "text/javascript; charset=utf-8");
    assert_string_equal(pages_content_type("style.css"), "text/css; charset=utf-8");
    assert_string_equal(pages_content_type("icon.svg"), "image/svg+xml");
    assert_string_equal(pages_content_type("a.exe"), "application/octet-stream");
    assert_string_equal(pages_content_type("none"), "application/octet-stream");
}

static void test_a_folder_without_a_page_serves_nothing(void **state)
{
    (void)state;
    setenv("MQTT_BRIDGE_WEB", "/nonexistent", 1);
    struct pages *pages = pages_new();
    struct page page;

    assert_null(pages_folder(pages));
    assert_false(pages_find(pages, "/", &page));
    pages_free(pages);
    setenv("MQTT_BRIDGE_WEB", folder, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_root_is_the_index),
        cmocka_unit_test(test_files_in_folders_and_folders_are_not_served),
        cmocka_unit_test(test_no_name_leads_out_of_the_folder),
        cmocka_unit_test(test_hidden_files_and_what_is_no_file_are_not_served),
        cmocka_unit_test(test_links_in_the_folder_are_not_followed),
        cmocka_unit_test(test_safe_names_are_plain),
        cmocka_unit_test(test_content_types_come_from_the_ending),
        cmocka_unit_test(test_a_folder_without_a_page_serves_nothing),
    };

    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
