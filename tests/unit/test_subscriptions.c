#include "common/base/alloc.h"
#include "consumer/mqtt/subscriptions.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

struct folder {
    char dir[40];
    char file[80];
};

static size_t gone_count(const struct subscriptions *filters)
{
    size_t count = 0;

    while (subscriptions_gone_at(filters, count) != NULL)
        count++;
    return count;
}

static int make_folder(void **state)
{
    struct folder *folder = xcalloc(1, sizeof(*folder));

    strcpy(folder->dir, "/tmp/test-filters-XXXXXX");
    assert_non_null(mkdtemp(folder->dir));
    snprintf(folder->file, sizeof(folder->file), "%s/subscriptions", folder->dir);
    *state = folder;
    return 0;
}

static int remove_folder(void **state)
{
    struct folder *folder = *state;

    unlink(folder->file);
    rmdir(folder->dir);
    free(folder);
    return 0;
}

static struct subscriptions *open_filters(const struct folder *folder, const char *topics)
{
    struct settings_mqtt settings = {.topics = (char *)topics,
                                     .former_topics = "#",
                                     .qos = 1,
                                     .server_uris = "",
                                     .host = "localhost"};
    struct subscriptions *filters = NULL;
    struct error err = {0};

    if (subscriptions_new(&filters, &settings, folder->file, &err) < 0)
        fail_msg("%s", err.text);
    return filters;
}

static void save(struct subscriptions *filters)
{
    struct error err;

    if (subscriptions_save(filters, &err) < 0)
        fail_msg("%s", err.text);
}

static void connect_anew(struct subscriptions *filters)
{
    subscriptions_connecting(filters);
    save(filters);
    subscriptions_connected(filters, false);
    save(filters);
}

static void grant_all(struct subscriptions *filters)
{
    for (size_t i = 0; i < subscriptions_count(filters); i++)
        subscriptions_answer(filters, i, subscriptions_at(filters, i)->qos);
    save(filters);
}

/* As a process leaves it that was connected when it ended. */
static void remember(const struct folder *folder, const char *topics)
{
    struct subscriptions *filters = open_filters(folder, topics);

    connect_anew(filters);
    grant_all(filters);
    subscriptions_free(filters);
}

static void check_list(const struct folder *folder, const char *topics, const char *wanted)
{
    struct subscriptions *filters = open_filters(folder, topics);
    struct buf list = {0};

    for (size_t i = 0; i < subscriptions_count(filters); i++)
        buf_printf(&list, "%s@%d ", subscriptions_at(filters, i)->text,
                   subscriptions_at(filters, i)->qos);
    assert_string_equal(buf_text(&list), wanted);
    buf_free(&list);
    subscriptions_free(filters);
}

static void test_filters_that_others_cover_are_left_out(void **state)
{
    static const struct {
        const char *topics, *wanted;
    } CASES[] = {
        {"a/#@0, b/+ c@2", "a/#@0 b/+@1 c@2 "},
        {"a@0 a@2 a@1", "a@2 "},
        {"# a/# b/+/c", "#@1 "},
        {"a/b a/# c", "a/#@1 c@1 "},
        {"a/b@2 a/#@1", "a/b@2 a/#@1 "}, /* of a higher QoS */
        {"a/+ +/b", "a/+@1 +/b@1 "},     /* in part */
        {"# +/#", "#@1 "},
        {"a/# $share/x/a/b", "a/#@1 $share/x/a/b@1 "},
        {"$share/x/a/# $share/x/a/b $share/y/a/b", "$share/x/a/#@1 $share/y/a/b@1 "},
        {"# $SYS/a", "#@1 $SYS/a@1 "},
    };

    for (size_t i = 0; i < LENGTH_OF(CASES); i++)
        check_list(*state, CASES[i].topics, CASES[i].wanted);
}

static void test_a_bad_filter_is_an_error_that_names_it(void **state)
{
    struct folder *folder = *state;
    struct settings_mqtt settings = {.topics = (char *)"a/#/b",
                                     .former_topics = "#",
                                     .qos = 1,
                                     .server_uris = "",
                                     .host = "localhost"};
    struct subscriptions *filters;
    struct error err;

    assert_int_equal(subscriptions_new(&filters, &settings, folder->file, &err), -ERR_USAGE);
    assert_non_null(strstr(err.text, "a/#/b"));
    settings.topics = (char *)" , ";
    assert_int_equal(subscriptions_new(&filters, &settings, folder->file, &err), -ERR_USAGE);
}

static void test_a_shared_filter_is_known_as_one(void **state)
{
    struct subscriptions *filters = open_filters(*state, "a/# $share/x/b");

    assert_false(subscriptions_at(filters, 0)->shared);
    assert_string_equal(subscriptions_at(filters, 1)->text, "$share/x/b");
    assert_true(subscriptions_at(filters, 1)->shared);
    subscriptions_free(filters);
}

static void check_granted(const struct subscriptions *filters, bool first, bool second)
{
    assert_int_equal(subscriptions_at(filters, 0)->granted >= 0, first);
    assert_int_equal(subscriptions_at(filters, 1)->granted >= 0, second);
}

static void test_granted_filters_and_session_are_known_after_a_restart(void **state)
{
    remember(*state, "a b@2");
    struct subscriptions *filters = open_filters(*state, "a b@2");

    assert_true(subscriptions_all_granted(filters));
    assert_int_equal(subscriptions_at(filters, 1)->granted, 2);
    assert_true(subscriptions_has_session(filters));
    subscriptions_free(filters);
}

static void test_without_session_everything_is_forgotten_on_disk_too(void **state)
{
    remember(*state, "a b");
    struct subscriptions *filters = open_filters(*state, "a c");

    subscriptions_connecting(filters);
    subscriptions_connected(filters, false);
    save(filters);
    check_granted(filters, false, false);
    assert_int_equal(gone_count(filters), 0);
    subscriptions_free(filters);
    filters = open_filters(*state, "a b");
    check_granted(filters, false, false);
    subscriptions_free(filters);
}

static void test_an_unanswered_connect_leaves_nothing_granted(void **state)
{
    remember(*state, "a b");
    struct subscriptions *filters = open_filters(*state, "a b");

    subscriptions_connecting(filters);
    save(filters);
    assert_true(subscriptions_all_granted(filters)); /* CONNACK may still come */
    struct subscriptions *next = open_filters(*state, "a b");
    check_granted(next, false, false);
    subscriptions_not_connected(filters, true);
    subscriptions_connected(filters, true);
    check_granted(filters, false, false);
    subscriptions_free(filters);
    subscriptions_free(next);
}

static void test_a_connect_that_was_refused_or_never_sent_changes_nothing(void **state)
{
    remember(*state, "a b");
    struct subscriptions *filters = open_filters(*state, "a b");

    subscriptions_connecting(filters);
    save(filters);
    subscriptions_not_connected(filters, false);
    save(filters);
    check_granted(filters, true, true);
    subscriptions_free(filters);
    filters = open_filters(*state, "a b");
    check_granted(filters, true, true);
    subscriptions_free(filters);
}

static void test_a_filter_is_known_as_asked_before_its_answer(void **state)
{
    struct subscriptions *filters = open_filters(*state, "a b");

    connect_anew(filters);
    subscriptions_answer(filters, 0, 1);
    subscriptions_free(filters);
    filters = open_filters(*state, "a");
    assert_true(subscriptions_at(filters, 0)->granted < 0);
    assert_int_equal(gone_count(filters), 1);
    assert_string_equal(subscriptions_gone_at(filters, 0), "b");
    subscriptions_free(filters);
}

static void test_a_refused_filter_is_not_granted_and_named(void **state)
{
    struct subscriptions *filters = open_filters(*state, "a b");
    int code;

    connect_anew(filters);
    subscriptions_answer(filters, 0, 0);
    subscriptions_answer(filters, 1, 0x87);
    check_granted(filters, true, false);
    assert_string_equal(subscriptions_refused(filters, &code), "b");
    assert_int_equal(code, 0x87);
    subscriptions_answer(filters, 1, 1);
    assert_null(subscriptions_refused(filters, &code));
    check_granted(filters, true, true);
    subscriptions_free(filters);
}

static void test_a_filter_granted_at_another_qos_is_not_granted(void **state)
{
    remember(*state, "a b@1");
    struct subscriptions *filters = open_filters(*state, "a b@2");

    check_granted(filters, true, false);
    assert_int_equal(gone_count(filters), 0);
    subscriptions_free(filters);
}

static void test_filters_removed_from_the_settings_are_gone_until_forgotten(void **state)
{
    remember(*state, "a/# b c");
    struct subscriptions *filters = open_filters(*state, "b");
    assert_int_equal(gone_count(filters), 2);
    save(filters);
    subscriptions_free(filters);

    /* Not yet unsubscribed, and one of them wanted again. */
    filters = open_filters(*state, "b c");
    assert_true(subscriptions_all_granted(filters));
    assert_int_equal(gone_count(filters), 1);
    assert_string_equal(subscriptions_gone_at(filters, 0), "a/#");
    subscriptions_forget_gone(filters, "a/#");
    save(filters);
    subscriptions_free(filters);

    filters = open_filters(*state, "b c");
    assert_int_equal(gone_count(filters), 0);
    subscriptions_free(filters);
}

static void check_gone(struct folder *folder, const char *topics, const char *former,
                       bool session_present, const char *gone)
{
    struct settings_mqtt settings = {.topics = (char *)topics,
                                     .former_topics = (char *)former,
                                     .server_uris = "",
                                     .host = "localhost"};
    struct subscriptions *filters = NULL;
    struct buf list = {0};
    struct error err;

    assert_int_equal(subscriptions_new(&filters, &settings, folder->file, &err), 0);
    subscriptions_connected(filters, session_present);
    save(filters);
    while (gone_count(filters) > 0) {
        buf_printf(&list, "%s ", subscriptions_gone_at(filters, 0));
        subscriptions_forget_gone(filters, subscriptions_gone_at(filters, 0));
    }
    save(filters);
    assert_string_equal(buf_text(&list), gone);
    buf_free(&list);
    subscriptions_free(filters);
}

static void test_former_topics_are_gone_once_where_a_session_is_present(void **state)
{
    check_gone(*state, "a/# b", "#, b a/+ a/+", true, "# a/+ ");
    check_gone(*state, "a/# b", "#, b a/+ a/+", true, "");
    check_gone(*state, "a/# b", "# c", true, "# c "); /* a user who has named one more */
    check_gone(*state, "a/# b", "d", false, "");
    check_gone(*state, "a/# b", "d", true, "");
    check_gone(*state, "a/# b", "", true, "");
}

static void test_former_topics_that_were_not_unsubscribed_yet_stay_gone(void **state)
{
    struct subscriptions *filters = open_filters(*state, "a b");

    assert_false(subscriptions_has_session(filters));
    subscriptions_connected(filters, true);
    save(filters);
    subscriptions_free(filters);
    filters = open_filters(*state, "a b");
    assert_true(subscriptions_has_session(filters));
    assert_int_equal(gone_count(filters), 1);
    subscriptions_free(filters);
    filters = open_filters(*state, "a b #@0"); /* which is wanted now */
    assert_int_equal(gone_count(filters), 0);
    subscriptions_free(filters);
}

static void test_a_server_that_accepted_mqtt_5_is_remembered(void **state)
{
    struct subscriptions *filters = open_filters(*state, "a b");

    assert_false(subscriptions_accepted_5(filters));
    subscriptions_note_5(filters);
    save(filters);
    subscriptions_free(filters);
    filters = open_filters(*state, "a b");
    assert_true(subscriptions_accepted_5(filters));
    subscriptions_free(filters);
}

static void test_a_topic_matches_any_filter(void **state)
{
    struct subscriptions *filters = open_filters(*state, "a/+ $share/g/b/#");

    assert_true(subscriptions_match(filters, BYTES("a/x")));
    assert_true(subscriptions_match(filters, BYTES("b/x/y")));
    assert_false(subscriptions_match(filters, BYTES("a/x/y")));
    subscriptions_free(filters);
}

static void test_a_malformed_subscriptions_file_grants_nothing(void **state)
{
    struct folder *folder = *state;
    static const char *const TEXTS[] = {
        "",
        "other\n",
        "mqtt-bridge subscriptions 1\nnext 9\n1 1 1 a\n",
        "mqtt-bridge subscriptions 2\nformer #\ngranted 1 1 a\nrubbish\n",
        "mqtt-bridge subscriptions 2\ngranted 1 1\n",
        "\xff\xfe\n\n\n"};

    for (size_t i = 0; i < LENGTH_OF(TEXTS); i++) {
        FILE *file = fopen(folder->file, "w");

        fputs(TEXTS[i], file);
        fclose(file);
        struct subscriptions *filters = open_filters(folder, "a b");
        check_granted(filters, false, false);
        assert_int_equal(gone_count(filters), 0);
        /* By the heading the file is ours, and so is the session. */
        bool ours = bytes_starts_with(bytes_of(TEXTS[i]), BYTES("mqtt-bridge subscriptions "));
        assert_int_equal(subscriptions_has_session(filters), ours);
        subscriptions_free(filters);
    }
}

static void test_grants_of_another_broker_do_not_count(void **state)
{
    struct folder *folder = *state;
    struct settings_mqtt settings = {.topics = "a b",
                                     .former_topics = "#",
                                     .qos = 1,
                                     .server_uris = "",
                                     .host = "other",
                                     .port = 1883};
    struct subscriptions *filters = NULL;
    struct error err;

    remember(folder, "a b");
    assert_int_equal(subscriptions_new(&filters, &settings, folder->file, &err), 0);
    check_granted(filters, false, false);
    assert_false(subscriptions_has_session(filters));
    assert_false(subscriptions_accepted_5(filters));
    subscriptions_connected(filters, true);
    assert_int_equal(gone_count(filters), 1); /* of former_topics */
    subscriptions_free(filters);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, make_folder, remove_folder)
    const struct CMUnitTest tests[] = {
        TEST(test_filters_that_others_cover_are_left_out),
        TEST(test_a_bad_filter_is_an_error_that_names_it),
        TEST(test_a_shared_filter_is_known_as_one),
        TEST(test_granted_filters_and_session_are_known_after_a_restart),
        TEST(test_without_session_everything_is_forgotten_on_disk_too),
        TEST(test_an_unanswered_connect_leaves_nothing_granted),
        TEST(test_a_connect_that_was_refused_or_never_sent_changes_nothing),
        TEST(test_a_filter_is_known_as_asked_before_its_answer),
        TEST(test_a_refused_filter_is_not_granted_and_named),
        TEST(test_a_filter_granted_at_another_qos_is_not_granted),
        TEST(test_filters_removed_from_the_settings_are_gone_until_forgotten),
        TEST(test_former_topics_are_gone_once_where_a_session_is_present),
        TEST(test_former_topics_that_were_not_unsubscribed_yet_stay_gone),
        TEST(test_a_server_that_accepted_mqtt_5_is_remembered),
        TEST(test_a_topic_matches_any_filter),
        TEST(test_a_malformed_subscriptions_file_grants_nothing),
        TEST(test_grants_of_another_broker_do_not_count),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
