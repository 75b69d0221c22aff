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

struct place {
    char dir[40];
    char file[80];
};

static int make_place(void **state)
{
    struct place *place = xcalloc(1, sizeof(*place));

    strcpy(place->dir, "/tmp/test-filters-XXXXXX");
    assert_non_null(mkdtemp(place->dir));
    snprintf(place->file, sizeof(place->file), "%s/subscriptions", place->dir);
    *state = place;
    return 0;
}

static int remove_place(void **state)
{
    struct place *place = *state;

    unlink(place->file);
    rmdir(place->dir);
    free(place);
    return 0;
}

static struct subscriptions *open_filters(const struct place *place, const char *topics)
{
    struct settings_mqtt settings = {.topics = (char *)topics, .qos = 1, .share_name = ""};
    struct subscriptions *filters = NULL;
    struct error err = {0};

    if (subscriptions_new(&filters, &settings, place->file, &err) < 0)
        fail_msg("%s", err.text);
    return filters;
}

static void grant_all(struct subscriptions *filters)
{
    for (size_t i = 0; i < subscriptions_count(filters); i++)
        subscriptions_granted(filters, i, subscriptions_at(filters, i)->qos);
}

/* The identifier of a filter. */
static uint32_t id_of(const struct subscriptions *filters, const char *text)
{
    for (size_t i = 0; i < subscriptions_count(filters); i++)
        if (strcmp(subscriptions_at(filters, i)->text, text) == 0)
            return subscriptions_at(filters, i)->id;
    fail_msg("no filter %s", text);
    return 0;
}

static bool keep(const struct subscriptions *filters, const char *topic, const char *filter)
{
    uint32_t id = id_of(filters, filter);

    return subscriptions_keep(filters, bytes_of(topic), &id, 1);
}

/* A set that was subscribed and granted in an earlier life. */
static void remember(const struct place *place, const char *topics)
{
    struct subscriptions *filters = open_filters(place, topics);
    struct error err;

    grant_all(filters);
    assert_int_equal(subscriptions_save(filters, &err), 0);
    subscriptions_free(filters);
}

static void test_each_filter_has_its_own_qos_and_the_highest_comes_first(void **state)
{
    struct subscriptions *filters = open_filters(*state, "a/#@0, b/+ c@2");

    assert_int_equal(subscriptions_count(filters), 3);
    assert_string_equal(subscriptions_at(filters, 0)->text, "c");
    assert_int_equal(subscriptions_at(filters, 0)->qos, 2);
    assert_string_equal(subscriptions_at(filters, 1)->text, "b/+");
    assert_int_equal(subscriptions_at(filters, 1)->qos, 1);
    assert_string_equal(subscriptions_at(filters, 2)->text, "a/#");
    assert_int_equal(subscriptions_at(filters, 2)->qos, 0);
    subscriptions_free(filters);
}

static void test_a_filter_that_is_given_twice_is_subscribed_once_with_the_higher_qos(void **state)
{
    struct subscriptions *filters = open_filters(*state, "a@0 a@2 a@1");

    assert_int_equal(subscriptions_count(filters), 1);
    assert_int_equal(subscriptions_at(filters, 0)->qos, 2);
    subscriptions_free(filters);
}

static void test_a_bad_filter_is_an_error_that_names_it(void **state)
{
    struct place *place = *state;
    struct settings_mqtt settings = {.topics = (char *)"a/#/b", .qos = 1, .share_name = ""};
    struct subscriptions *filters;
    struct error err;

    assert_int_equal(subscriptions_new(&filters, &settings, place->file, &err), -ERR_USAGE);
    assert_non_null(strstr(err.text, "a/#/b"));
    settings.topics = (char *)" , ";
    assert_int_equal(subscriptions_new(&filters, &settings, place->file, &err), -ERR_USAGE);
}

static void test_share_name_makes_every_filter_a_shared_one(void **state)
{
    struct place *place = *state;
    struct settings_mqtt settings = {
        .topics = (char *)"a/# $share/x/b", .qos = 1, .share_name = (char *)"group"};
    struct subscriptions *filters;
    struct error err;

    assert_int_equal(subscriptions_new(&filters, &settings, place->file, &err), 0);
    assert_string_equal(subscriptions_at(filters, 0)->text, "$share/group/a/#");
    assert_string_equal(subscriptions_at(filters, 1)->text, "$share/x/b");
    assert_true(subscriptions_at(filters, 1)->shared);
    subscriptions_free(filters);
}

static void test_of_several_copies_the_one_of_the_first_filter_is_kept(void **state)
{
    struct subscriptions *filters = open_filters(*state, "a/# +/x b/x");

    grant_all(filters);
    assert_true(keep(filters, "a/x", "a/#"));
    assert_false(keep(filters, "a/x", "+/x"));
    assert_true(keep(filters, "b/x", "+/x"));
    assert_false(keep(filters, "b/x", "b/x"));
    assert_true(keep(filters, "c/x", "+/x"));
    subscriptions_free(filters);
}

static void test_one_copy_with_all_identifiers_is_kept(void **state)
{
    struct subscriptions *filters = open_filters(*state, "a/# +/x");
    uint32_t ids[] = {id_of(filters, "+/x"), id_of(filters, "a/#")};

    grant_all(filters);
    assert_true(subscriptions_keep(filters, BYTES("a/x"), ids, 2));
    subscriptions_free(filters);
}

static void test_a_copy_of_higher_qos_is_not_dropped_for_one_of_lower(void **state)
{
    struct subscriptions *filters = open_filters(*state, "a/#@0 +/x@1");

    grant_all(filters);
    assert_true(keep(filters, "a/x", "+/x"));
    assert_false(keep(filters, "a/x", "a/#"));
    subscriptions_free(filters);
}

static void test_a_refused_filter_sends_no_copy_for_which_another_is_dropped(void **state)
{
    struct subscriptions *filters = open_filters(*state, "a/# +/x");

    subscriptions_granted(filters, 0, FILTER_REFUSED);
    subscriptions_granted(filters, 1, 1);
    assert_true(keep(filters, "a/x", "+/x"));
    subscriptions_free(filters);
}

static void test_nothing_is_dropped_before_the_broker_has_granted(void **state)
{
    struct subscriptions *filters = open_filters(*state, "a/# +/x");

    assert_true(keep(filters, "a/x", "a/#"));
    assert_true(keep(filters, "a/x", "+/x"));
    subscriptions_free(filters);
}

static void test_an_unknown_identifier_is_kept(void **state)
{
    struct subscriptions *filters = open_filters(*state, "a/# +/x");
    uint32_t id = id_of(filters, "a/#") + 1000;

    grant_all(filters);
    assert_true(subscriptions_keep(filters, BYTES("a/x"), &id, 1));
    subscriptions_free(filters);
}

static void test_a_shared_filter_neither_drops_nor_is_dropped(void **state)
{
    struct subscriptions *filters = open_filters(*state, "$share/g/a/# +/x $share/g/+/x");

    grant_all(filters);
    assert_true(keep(filters, "a/x", "$share/g/a/#"));
    assert_true(keep(filters, "a/x", "+/x"));
    assert_true(keep(filters, "a/x", "$share/g/+/x"));
    subscriptions_free(filters);
}

static void test_the_same_set_is_known_with_its_identifiers(void **state)
{
    struct subscriptions *first = open_filters(*state, "a/# b");
    struct error err;

    assert_false(subscriptions_are_known(first));
    grant_all(first);
    assert_int_equal(subscriptions_save(first, &err), 0);
    struct subscriptions *second = open_filters(*state, "a/# b");
    assert_true(subscriptions_are_known(second));
    assert_int_equal(id_of(second, "a/#"), id_of(first, "a/#"));
    assert_int_equal(id_of(second, "b"), id_of(first, "b"));
    assert_false(keep(second, "b", "b") && keep(second, "a/x", "b"));
    subscriptions_free(first);
    subscriptions_free(second);
}

static void test_a_set_that_was_not_granted_wholly_is_not_known(void **state)
{
    struct subscriptions *first = open_filters(*state, "a/# b");
    struct error err;

    subscriptions_granted(first, 0, 1);
    subscriptions_granted(first, 1, FILTER_REFUSED);
    assert_int_equal(subscriptions_save(first, &err), 0);
    struct subscriptions *second = open_filters(*state, "a/# b");
    assert_false(subscriptions_are_known(second));
    subscriptions_free(first);
    subscriptions_free(second);
}

static void test_another_qos_is_another_set(void **state)
{
    remember(*state, "a/# b@1");
    struct subscriptions *filters = open_filters(*state, "a/# b@2");

    assert_false(subscriptions_are_known(filters));
    assert_int_equal(subscriptions_stale_count(filters), 0);
    subscriptions_free(filters);
}

static void test_a_changed_set_gets_identifiers_that_no_former_set_had(void **state)
{
    struct subscriptions *first = open_filters(*state, "a/# b");
    struct error err;

    grant_all(first);
    assert_int_equal(subscriptions_save(first, &err), 0);
    struct subscriptions *second = open_filters(*state, "# a/#");
    for (size_t i = 0; i < 2; i++)
        for (size_t j = 0; j < 2; j++)
            assert_int_not_equal(subscriptions_at(first, i)->id, subscriptions_at(second, j)->id);
    /* Queued for a/# alone, before # was subscribed: there is no other copy. */
    uint32_t queued = id_of(first, "a/#");
    grant_all(second);
    assert_true(subscriptions_keep(second, BYTES("a/x"), &queued, 1));
    subscriptions_free(first);
    subscriptions_free(second);
}

static void test_filters_that_the_settings_no_longer_have_are_stale_until_forgotten(void **state)
{
    struct error err;

    remember(*state, "a/# b c");
    struct subscriptions *filters = open_filters(*state, "b");
    assert_int_equal(subscriptions_stale_count(filters), 2);
    assert_int_equal(subscriptions_save(filters, &err), 0);
    subscriptions_free(filters);

    /* Not yet unsubscribed, and one of them wanted again. */
    filters = open_filters(*state, "b c");
    assert_int_equal(subscriptions_stale_count(filters), 1);
    assert_string_equal(subscriptions_stale_at(filters, 0), "a/#");
    subscriptions_forget_stale(filters);
    assert_int_equal(subscriptions_save(filters, &err), 0);
    subscriptions_free(filters);

    filters = open_filters(*state, "b c");
    assert_int_equal(subscriptions_stale_count(filters), 0);
    subscriptions_free(filters);
}

static void test_a_file_that_is_no_such_file_counts_as_none(void **state)
{
    struct place *place = *state;

    static const char *const TEXTS[] = {"",
                                        "other\n",
                                        "mqtt-bridge subscriptions 1\n",
                                        "mqtt-bridge subscriptions 1\nnext x\n",
                                        "mqtt-bridge subscriptions 1\nnext 9\n1 1 1 a\nrubbish\n",
                                        "\xff\xfe\n\n\n"};
    for (size_t i = 0; i < sizeof(TEXTS) / sizeof(TEXTS[0]); i++) {
        FILE *file = fopen(place->file, "w");
        fputs(TEXTS[i], file);
        fclose(file);
        struct subscriptions *filters = open_filters(place, "a");
        assert_false(subscriptions_are_known(filters));
        assert_int_equal(subscriptions_stale_count(filters), 0);
        assert_in_range(subscriptions_at(filters, 0)->id, 1, 268435455);
        subscriptions_free(filters);
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, make_place, remove_place)
    const struct CMUnitTest tests[] = {
        TEST(test_each_filter_has_its_own_qos_and_the_highest_comes_first),
        TEST(test_a_filter_that_is_given_twice_is_subscribed_once_with_the_higher_qos),
        TEST(test_a_bad_filter_is_an_error_that_names_it),
        TEST(test_share_name_makes_every_filter_a_shared_one),
        TEST(test_of_several_copies_the_one_of_the_first_filter_is_kept),
        TEST(test_one_copy_with_all_identifiers_is_kept),
        TEST(test_a_copy_of_higher_qos_is_not_dropped_for_one_of_lower),
        TEST(test_a_refused_filter_sends_no_copy_for_which_another_is_dropped),
        TEST(test_nothing_is_dropped_before_the_broker_has_granted),
        TEST(test_an_unknown_identifier_is_kept),
        TEST(test_a_shared_filter_neither_drops_nor_is_dropped),
        TEST(test_the_same_set_is_known_with_its_identifiers),
        TEST(test_a_set_that_was_not_granted_wholly_is_not_known),
        TEST(test_another_qos_is_another_set),
        TEST(test_a_changed_set_gets_identifiers_that_no_former_set_had),
        TEST(test_filters_that_the_settings_no_longer_have_are_stale_until_forgotten),
        TEST(test_a_file_that_is_no_such_file_counts_as_none),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
