/* What a request may name: host, file and query. */
#include "monitor/request.h"

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

static bool allowed(const char *given, const char *hosts)
{
    return request_host_is_allowed(bytes_of(given), hosts, "bridge.lan:9080");
}

static void test_localhost_and_addresses_are_always_allowed(void **state)
{
    const char *const always[] = {"localhost",     "localhost:9080", "LocalHost.", "127.0.0.1",
                                  "10.1.2.3:9080", "[::1]",          "[::1]:9080", "[fe80::1]:80",
                                  "bridge.lan:80", "192.0.2.1:"};

    (void)state;
    for (size_t i = 0; i < LENGTH_OF(always); i++)
        if (!allowed(always[i], ""))
            fail_msg("%s is refused", always[i]);
}

static void test_other_names_must_be_listed(void **state)
{
    (void)state;
    assert_false(allowed("evil.example", ""));
    assert_false(allowed("evil.example:9080", "bridge.example"));
    assert_true(allowed("bridge.example:443", "bridge.example, mqtt-bridge"));
    assert_true(allowed("MQTT-Bridge", "bridge.example, mqtt-bridge"));
    assert_true(allowed("bridge.example.", "Bridge.Example"));
    assert_true(allowed("evil.example", "*"));
}

static void test_host_names_that_resemble_an_allowed_one_are_refused(void **state)
{
    const char *const never[] = {
        "",
        ":",
        ":9080",
        "localhost.evil.example",
        "localhost@",
        "127.0.0.1.evil.example",
        "evil.localhost",
        "xlocalhost",
        "127.1",
        "0x7f.0.0.1",
        "2130706433",
        "::1",
        "[::1",
        "[::1]9080",
        "[::1].evil.example",
        "[]",
        "[127.0]",
        "localhost:x",
        "localhost:99999",
        "localhost ",
        "local\thost",
        "localhost/",
        "bridge.example.evil",
        "localhost:80:80",
        "\xff",
        "[localhost.evil]",
        "bridge.example,",
    };

    (void)state;
    for (size_t i = 0; i < LENGTH_OF(never); i++)
        if (allowed(never[i], "bridge.example"))
            fail_msg("%s is allowed", never[i]);
}

static void test_only_the_name_of_a_well_formed_host_is_returned(void **state)
{
    (void)state;
    assert_true(bytes_equal_text(request_host_name(BYTES("evil.example.:80")), "evil.example"));
    assert_true(bytes_equal_text(request_host_name(BYTES("[2001:db8::1]:80")), "2001:db8::1"));
    assert_int_equal(request_host_name(BYTES("a\x1b]0;x")).len, 0);
    assert_int_equal(request_host_name(BYTES("<b>")).len, 0);
    assert_int_equal(request_host_name(BYTES_NONE).len, 0);
}

static void test_a_name_that_is_too_long_for_one_is_none(void **state)
{
    char name[300];

    (void)state;
    memset(name, 'a', sizeof name);
    assert_int_equal(request_host_name((struct bytes){name, 253}).len, 253);
    assert_int_equal(request_host_name((struct bytes){name, 254}).len, 0);
}

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
    for (size_t i = 0; i < LENGTH_OF(names); i++) {
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
    struct request_files *pages = request_files_new();
    struct request_file page;
    bool found = request_find_file(pages, path, &page);

    if (found)
        close(page.fd);
    request_files_free(pages);
    return found;
}

static void test_the_root_is_the_index(void **state)
{
    struct request_files *pages = request_files_new();
    struct request_file page;
    char text[32] = "";

    (void)state;
    assert_string_equal(request_files_folder(pages), folder);
    assert_true(request_find_file(pages, "/", &page));
    assert_int_equal(page.size, strlen("<p>page</p>"));
    assert_string_equal(page.content_type, "text/html; charset=utf-8");
    assert_false(page.library);
    assert_int_equal(read(page.fd, text, sizeof text - 1), page.size);
    assert_string_equal(text, "<p>page</p>");
    close(page.fd);
    request_files_free(pages);
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
    for (size_t i = 0; i < LENGTH_OF(safe); i++)
        assert_true(request_file_name_is_safe(safe[i]));
    for (size_t i = 0; i < LENGTH_OF(unsafe); i++)
        assert_false(request_file_name_is_safe(unsafe[i]));
}

static void test_content_types_come_from_the_ending(void **state)
{
    (void)state;
    assert_string_equal(request_content_type("a.b.js"), "text/javascript; charset=utf-8");
    assert_string_equal(request_content_type("style.css"), "text/css; charset=utf-8");
    assert_string_equal(request_content_type("icon.svg"), "image/svg+xml");
    assert_string_equal(request_content_type("a.exe"), "application/octet-stream");
    assert_string_equal(request_content_type("none"), "application/octet-stream");
}

static void test_a_folder_without_a_page_serves_nothing(void **state)
{
    (void)state;
    setenv("MQTT_BRIDGE_WEB", "/nonexistent", 1);
    struct request_files *pages = request_files_new();
    struct request_file page;

    assert_null(request_files_folder(pages));
    assert_false(request_find_file(pages, "/", &page));
    request_files_free(pages);
    setenv("MQTT_BRIDGE_WEB", folder, 1);
}

static void expect_filter(const char *given, const char *expected)
{
    struct request_query query;
    struct error err;

    assert_int_equal(request_query_read(&query, given, NULL, &err), 0);
    assert_string_equal(query.filter, expected);
    free(query.filter);
}

static void expect_fault(const char *filter, const char *cursor, const char *about)
{
    struct request_query query;
    struct error err;

    assert_int_equal(request_query_read(&query, filter, cursor, &err), -ERR_USAGE);
    if (strstr(err.text, about) != err.text)
        fail_msg("\"%s\" instead of \"%s…\"", err.text, about);
}

static void test_a_filter_is_percent_decoded_and_its_plus_is_kept(void **state)
{
    (void)state;
    expect_filter("plant/%23", "plant/#");
    expect_filter("plant/+/temp", "plant/+/temp");
    expect_filter("plant/%2B/temp", "plant/+/temp");
    expect_filter("salle%20%C3%A9t%C3%A9", "salle été");
}

static void test_an_invalid_filter_parameter_is_refused_with_the_reason(void **state)
{
    (void)state;
    expect_fault("", NULL, "filter: ");
    expect_fault("a%23", NULL, "filter: ");
    expect_fault("%23/a", NULL, "filter: ");
    expect_fault("a%00b", NULL, "filter: ");
    expect_fault("%FF", NULL, "filter: ");
    expect_fault("$share/g/a", NULL, "filter: ");
}

static void test_a_cursor_is_a_number(void **state)
{
    struct request_query query;
    struct error err;

    (void)state;
    assert_int_equal(request_query_read(&query, NULL, "18446744073709551615", &err), 0);
    assert_true(query.cursor == UINT64_MAX && query.filter == NULL);
    assert_int_equal(request_query_read(&query, NULL, NULL, &err), 0);
    assert_true(query.cursor == 0);
    expect_fault(NULL, "", "cursor: ");
    expect_fault(NULL, "-1", "cursor: ");
    expect_fault(NULL, "18446744073709551616", "cursor: ");
    expect_fault("a", "1 COUNT 5", "cursor: ");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_localhost_and_addresses_are_always_allowed),
        cmocka_unit_test(test_other_names_must_be_listed),
        cmocka_unit_test(test_host_names_that_resemble_an_allowed_one_are_refused),
        cmocka_unit_test(test_only_the_name_of_a_well_formed_host_is_returned),
        cmocka_unit_test(test_a_name_that_is_too_long_for_one_is_none),
        cmocka_unit_test(test_the_root_is_the_index),
        cmocka_unit_test(test_files_in_folders_and_folders_are_not_served),
        cmocka_unit_test(test_no_name_leads_out_of_the_folder),
        cmocka_unit_test(test_hidden_files_and_what_is_no_file_are_not_served),
        cmocka_unit_test(test_links_in_the_folder_are_not_followed),
        cmocka_unit_test(test_safe_names_are_plain),
        cmocka_unit_test(test_content_types_come_from_the_ending),
        cmocka_unit_test(test_a_folder_without_a_page_serves_nothing),
        cmocka_unit_test(test_a_filter_is_percent_decoded_and_its_plus_is_kept),
        cmocka_unit_test(test_an_invalid_filter_parameter_is_refused_with_the_reason),
        cmocka_unit_test(test_a_cursor_is_a_number),
    };

    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
