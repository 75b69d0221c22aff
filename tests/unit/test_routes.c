#include "common/settings/routes.h"

#include "tests/unit/settings_case.h"

static const char INI[] = "[mercure]\n"
                          "topic_template = default/{topic}\n"
                          "[route:drop]\n"
                          "match = plant/+/secret private/#\n"
                          "drop = yes\n"
                          "[route:temps]\n"
                          "match = plant/+/temp\n"
                          "topic = temps/{1}\n"
                          "alternates = all, {level:-1}/{topic:uri}\n"
                          "data = field:t\n"
                          "private = yes\n"
                          "type = temp\n"
                          "retry = 3s\n"
                          "[route:rest]\n"
                          "match = plant/#\n"
                          "data = payload\n";

static const char HANDLED[] = "[handler:one]\n"
                              "command = one\n"
                              "[handler:rest]\n"
                              "command = 'a b' c\n"
                              "[worker]\n"
                              "handler = rest\n"
                              "[route:a]\n"
                              "match = a/+\n"
                              "topic = as/{1}\n"
                              "alternates = all\n"
                              "private = yes\n"
                              "type = t\n"
                              "retry = 1s\n"
                              "handler = one\n"
                              "[route:b]\n"
                              "match = b\n";

static struct settings *settings;
static struct routes *routes;
static struct update update;
static struct error refused;

static void open_routes(const char *ini)
{
    settings = load(ini);
    routes = routes_new(settings);
}

static void close_routes(void)
{
    routes_free(routes);
    settings_free(settings);
}

static int update_of(const char *topic, const char *payload)
{
    const struct routes_message message = {
        .identity = BYTES("id-1"), .topic = bytes_of(topic), .payload = bytes_of(payload)};

    return routes_update(routes, &message, &update, &refused);
}

static void expect_bytes(struct bytes found, const char *expected)
{
    if (!bytes_equal_text(found, expected))
        fail_msg("%.*s instead of %s", BYTES_ARG(found), expected);
}

static void test_the_first_route_with_a_filter_that_matches_is_taken(void **state)
{
    static const struct {
        const char *topic;
        const char *route;
        const char *filter;
    } rows[] = {
        {"plant/press/secret", "drop", "plant/+/secret"},
        {"private", "drop", "private/#"},
        {"plant/press/temp", "temps", "plant/+/temp"},
        {"plant/press/x/temp", "rest", "plant/#"},
        {"other", NULL, "#"},
    };

    (void)state;
    open_routes(INI);
    for (size_t i = 0; i < LENGTH_OF(rows); i++) {
        const struct routes_match *match = routes_match(routes, bytes_of(rows[i].topic));

        expect_bytes(match->filter, rows[i].filter);
        if (rows[i].route == NULL)
            assert_null(match->settings);
        else
            assert_string_equal(match->settings->name, rows[i].route);
    }
    close_routes();
}

static void test_a_route_sets_every_field_of_the_update(void **state)
{
    (void)state;
    open_routes(INI);
    assert_int_equal(update_of("plant/a b/temp", "{\"t\":21.5}"), ROUTES_PUBLISH);
    expect_bytes(update.topic, "temps/a b");
    assert_int_equal(update.alternates_len, 2);
    expect_bytes(update.alternates[0], "all");
    expect_bytes(update.alternates[1], "temp/plant/a%20b/temp");
    expect_bytes(update.id, "urn:mqtt-bridge:id-1");
    expect_bytes(update.data, "21.5");
    expect_bytes(update.type, "temp");
    expect_bytes(update.retry, "3000");
    assert_true(update.private_update);
    close_routes();
}

static void test_a_topic_without_a_route_is_published_as_mercure_says(void **state)
{
    (void)state;
    open_routes(INI);
    assert_int_equal(update_of("other", "1"), ROUTES_PUBLISH);
    expect_bytes(update.topic, "default/other");
    expect_bytes(update.data, "{\"id\":\"id-1\",\"topic\":\"other\",\"payload\":1}");
    assert_int_equal(update.alternates_len, 0);
    assert_false(update.private_update);
    assert_int_equal(update.type.len, 0);
    assert_int_equal(update.retry.len, 0);
    close_routes();
}

static void test_a_route_has_the_values_of_mercure_that_it_does_not_give(void **state)
{
    (void)state;
    open_routes("[mercure]\ntopic_template=https://x/{topic}\ntopic_encoding=uri\nprivate=yes\n"
                "data=payload\n[route:a]\nmatch=a/#\n[route:b]\nmatch=#\nprivate=no\ntopic={1}\n");
    assert_int_equal(update_of("a/b c", "21"), ROUTES_PUBLISH);
    expect_bytes(update.topic, "https://x/a/b%20c");
    expect_bytes(update.data, "21");
    assert_true(update.private_update);
    assert_int_equal(update_of("b c", "21"), ROUTES_PUBLISH);
    expect_bytes(update.topic, "b%20c");
    assert_false(update.private_update);
    close_routes();
}

static void test_a_dropped_topic_makes_no_update(void **state)
{
    (void)state;
    open_routes(INI);
    assert_int_equal(update_of("private/x", "1"), ROUTES_DROP);
    close_routes();
}

static void test_a_field_is_text_as_it_is_and_else_json(void **state)
{
    static const struct {
        const char *payload;
        const char *data;
    } rows[] = {
        {"{\"t\":\"a\\u00e9\\n\"}", "a\xC3\xA9\n"},
        {"{\"t\":[1, {\"x\":null}]}", "[1, {\"x\":null}]"},
        {" {\"t\" : true } ", "true"},
        {"{\"t\":1,\"t\":\"\"}", ""},
        {"{\"t\":null}", "null"},
    };

    (void)state;
    open_routes(INI);
    for (size_t i = 0; i < LENGTH_OF(rows); i++) {
        if (update_of("plant/x/temp", rows[i].payload) != ROUTES_PUBLISH)
            fail_msg("%s: %s", rows[i].payload, refused.text);
        expect_bytes(update.data, rows[i].data);
    }
    close_routes();
}

static void test_a_payload_without_the_field_is_refused_by_its_route(void **state)
{
    static const char *const payloads[] = {"", "21", "[1]", "{}", "{\"T\":1}", "{\"t\":1", "\xff"};

    (void)state;
    open_routes(INI);
    for (size_t i = 0; i < LENGTH_OF(payloads); i++) {
        assert_int_equal(update_of("plant/x/temp", payloads[i]), -ERR_REFUSED);
        assert_string_equal(refused.text, "[route:temps] data: the payload is no JSON object with "
                                          "a field \"t\"");
    }
    close_routes();
}

static void test_an_update_without_a_topic_is_refused(void **state)
{
    (void)state;
    open_routes("[route:a]\nmatch=a/+\ntopic={1}\nalternates=all\n");
    assert_int_equal(update_of("a/", "1"), -ERR_REFUSED);
    assert_string_equal(refused.text, "the update has an empty topic");
    close_routes();
}

static void test_alternates_that_come_to_nothing_are_left_out(void **state)
{
    const struct routes_message message = {.identity = BYTES("id-1"), .topic = BYTES("h/x")};
    const struct handler_update bare = {.data = BYTES("1")};

    (void)state;
    open_routes("[route:h]\nmatch=h/+/#\nalternates={2} {level:3},all\nhandler=h\n"
                "[route:a]\nmatch=a/+/#\nalternates={2}, all/{1} {level:3} {level:-3} end\n"
                "[handler:h]\ncommand=cat\n");
    assert_int_equal(update_of("a/x", "1"), ROUTES_PUBLISH);
    expect_bytes(update.topic, "a/x");
    assert_int_equal(update.alternates_len, 2);
    expect_bytes(update.alternates[0], "all/x");
    expect_bytes(update.alternates[1], "end");
    assert_int_equal(update_of("a/x/y", "1"), ROUTES_PUBLISH);
    assert_int_equal(update.alternates_len, 5);
    expect_bytes(update.alternates[0], "y");
    expect_bytes(update.alternates[4], "end");
    assert_int_equal(routes_handled(routes, &message, &bare, 1, &update, &refused), 0);
    assert_int_equal(update.alternates_len, 1);
    expect_bytes(update.alternates[0], "all");
    close_routes();
}

static void test_a_wrong_route_is_named_with_its_section_key_and_character(void **state)
{
    (void)state;
    expect_faults(
        "[route:x]\n"
        "match = a/b, $share/x/y, #/a\n"
        "topic = {1}/{foo}\n"
        "alternates = {1} {\n"
        "data = field:\n"
        "[route:y]\n"
        "topic = {1}\n"
        "[mercure]\n"
        "topic_template = {2}\n",
        "x.ini:2: [route:x] match: `$share/x/y`: a route's filter has no $share/NAME/ before it\n"
        "x.ini:2: [route:x] match: the MQTT filter \"#/a\" is not valid: `#` is only allowed alone "
        "in the last level\n"
        "x.ini:3: [route:x] topic: `{1}/{foo}`: character 5: no placeholder is called {foo}; there "
        "are {topic}, {1} for what the first wildcard took, {level:2}, {level:-1}, each also with "
        ":uri, and `{{` for a brace\n"
        "x.ini:4: [route:x] alternates: `{1}`: {1} stands for a wildcard that not every filter of "
        "`match` has\n"
        "x.ini:4: [route:x] alternates: `{`: character 1 opens a placeholder that nothing closes; "
        "`{{` is a brace\n"
        "x.ini:5: [route:x] data: must be message, payload or field:NAME, not `field:`\n"
        "x.ini:6: [route:y] match: must be given: topic filters, such as `plant/+/temp`\n"
        "x.ini:9: [mercure] topic_template: `{2}`: {2} stands for a wildcard that not every filter "
        "of `match` has\n");
}

static void test_a_batch_is_an_array_on_its_topic(void **state)
{
    const struct routes_message first = {
        .identity = BYTES("id-1"), .topic = BYTES("plant/a/temp"), .payload = BYTES("1")};
    const struct routes_message second = {
        .identity = BYTES("id-2"), .topic = BYTES("plant/a/mode"), .payload = BYTES("on")};
    struct buf documents = {0}, topic = {0};

    (void)state;
    open_routes("[route:b]\nmatch=plant/+/#\npublish=batch\nbatch_topic=plants/{1}\ntype=batch\n");
    routes_append_document(&documents, &first);
    routes_append_document(&documents, &second);
    routes_append_batch_topic(routes_match(routes, second.topic), second.topic, &topic);
    expect_bytes(buf_bytes(&topic), "plants/a");
    assert_int_equal(routes_batch(routes, &first, buf_bytes(&documents), 2, &update, &refused), 0);
    expect_bytes(update.topic, "plants/a");
    expect_bytes(update.id, "urn:mqtt-bridge:id-1+1");
    expect_bytes(update.type, "batch");
    expect_bytes(update.data, "[{\"id\":\"id-1\",\"topic\":\"plant/a/temp\",\"payload\":1},"
                              "{\"id\":\"id-2\",\"topic\":\"plant/a/mode\",\"payload\":\"on\"}]");
    buf_free(&documents);
    buf_free(&topic);
    close_routes();
}

static void test_a_batch_is_of_documents_and_has_one_topic(void **state)
{
    (void)state;
    expect_faults(
        "[route:b]\nmatch=a\npublish=batch\ndata=payload\nalternates=x\nbatch_topic={1}\n",
        "x.ini:4: [route:b] data: must be message: a batch is an array of message documents\n"
        "x.ini:5: [route:b] alternates: a batch has one topic, batch_topic\n"
        "x.ini:6: [route:b] batch_topic: `{1}`: {1} stands for a wildcard that not every "
        "filter of `match` has\n");
}

static void expect_shown(const char *topic, bool shown)
{
    if (routes_match(routes, bytes_of(topic))->shows_documents != shown)
        fail_msg("%s: %d", topic, !shown);
}

static void test_documents_are_shown_where_everybody_gets_them(void **state)
{
    (void)state;
    open_routes("[route:p]\nmatch = private/#\nprivate = yes\n"
                "[route:o]\nmatch = open/#\npublish = batch\n"
                "[route:b]\nmatch = bare/#\ndata = payload\n"
                "[route:f]\nmatch = field/#\ndata = field:x\n"
                "[route:d]\nmatch = drop/#\ndrop = yes\n"
                "[route:h]\nmatch = handled/#\nhandler = h\n[handler:h]\ncommand = cat\n");
    expect_shown("any/topic", true);
    expect_shown("open/a", true);
    expect_shown("private/a", false);
    expect_shown("bare/a", false);
    expect_shown("field/a", false);
    expect_shown("drop/a", false);
    expect_shown("handled/a", false);
    close_routes();
    open_routes("[mercure]\nprivate = yes\n[route:o]\nmatch = open/#\nprivate = no\n");
    expect_shown("any/topic", false);
    expect_shown("open/a", true);
    close_routes();
    open_routes("[mercure]\ndata = payload\n[route:o]\nmatch = open/#\ndata = message\n");
    expect_shown("any/topic", false);
    expect_shown("open/a", true);
    close_routes();
}

/* Opens the routes as the monitor does, which does not read all of the settings. */
static void open_monitors_routes(const char *ini)
{
    struct buf packed = {0};
    struct error err;

    open_routes(ini);
    settings_pack(settings, "monitor", &packed);
    close_routes();
    assert_int_equal(settings_unpack(&settings, buf_bytes(&packed), &err), 0);
    routes = routes_new(settings);
    buf_free(&packed);
}

static void test_routes_in_the_monitor_know_which_topics_are_shown(void **state)
{
    (void)state;
    open_monitors_routes(INI);
    expect_shown("plant/x/secret", false);
    expect_shown("plant/x/temp", false);
    expect_shown("other", true);
    close_routes();
    open_monitors_routes(HANDLED);
    expect_shown("a/x", false);
    expect_shown("b", true);
    expect_shown("c", false);
    close_routes();
}

static void test_routes_are_the_same_for_a_child(void **state)
{
    struct buf packed = {0};
    struct error err;

    (void)state;
    open_routes(INI);
    settings_pack(settings, "worker", &packed);
    close_routes();
    assert_int_equal(settings_unpack(&settings, buf_bytes(&packed), &err), 0);
    routes = routes_new(settings);
    assert_int_equal(update_of("plant/x/temp", "{\"t\":1}"), ROUTES_PUBLISH);
    expect_bytes(update.topic, "temps/x");
    assert_int_equal(update_of("private", "1"), ROUTES_DROP);
    close_routes();
    buf_free(&packed);
}

static void expect_handler(const char *topic, const char *expected)
{
    const struct settings_handler *handler = routes_match(routes, bytes_of(topic))->handler;

    if (expected == NULL)
        assert_null(handler);
    else
        assert_string_equal(handler->name, expected);
}

static void test_a_topic_has_the_handler_of_its_route_or_of_the_worker(void **state)
{
    struct buf packed = {0};
    struct error err;

    (void)state;
    open_routes(HANDLED);
    expect_handler("a/x", "one");
    expect_handler("b", NULL);
    expect_handler("c", "rest");
    settings_pack(settings, "worker", &packed);
    close_routes();
    assert_int_equal(settings_unpack(&settings, buf_bytes(&packed), &err), 0);
    routes = routes_new(settings);
    expect_handler("a/x", "one");
    expect_handler("c", "rest");
    close_routes();
    buf_free(&packed);
}

static void test_fields_missing_in_a_handlers_update_come_from_its_route(void **state)
{
    const struct routes_message message = {.identity = BYTES("id-1"), .topic = BYTES("a/x")};
    struct bytes topics[] = {BYTES("one"), BYTES("two")};
    const struct handler_update bare = {.data = BYTES("1")};
    const struct handler_update full = {.topics = topics,
                                        .topics_len = 2,
                                        .data = BYTES("2"),
                                        .has_private = true,
                                        .type = BYTES("u"),
                                        .retry = BYTES("7"),
                                        .id = BYTES("urn:own")};

    (void)state;
    open_routes(HANDLED);
    assert_int_equal(routes_handled(routes, &message, &bare, 1, &update, &refused), 0);
    expect_bytes(update.topic, "as/x");
    assert_int_equal(update.alternates_len, 1);
    expect_bytes(update.alternates[0], "all");
    expect_bytes(update.data, "1");
    assert_true(update.private_update);
    expect_bytes(update.type, "t");
    expect_bytes(update.retry, "1000");
    expect_bytes(update.id, "urn:mqtt-bridge:id-1");
    assert_int_equal(routes_handled(routes, &message, &bare, 3, &update, &refused), 0);
    expect_bytes(update.id, "urn:mqtt-bridge:id-1-3");
    assert_int_equal(routes_handled(routes, &message, &full, 2, &update, &refused), 0);
    expect_bytes(update.topic, "one");
    assert_int_equal(update.alternates_len, 1);
    expect_bytes(update.alternates[0], "two");
    assert_false(update.private_update);
    expect_bytes(update.type, "u");
    expect_bytes(update.retry, "7");
    expect_bytes(update.id, "urn:own");
    topics[0] = BYTES_NONE;
    assert_int_equal(routes_handled(routes, &message, &full, 2, &update, &refused), -ERR_REFUSED);
    close_routes();
}

static void test_a_handler_that_makes_no_sense_is_named(void **state)
{
    (void)state;
    expect_faults(
        "[worker]\nhandler = won\n[handler:one]\npass_env = A, B-C\n"
        "[handler:two]\ncommand = a 'b\n"
        "[route:a]\nmatch = a\nhandler = two\ndrop = yes\npublish = latest\ndata = payload\n"
        "[route:b]\nmatch = b\nhandler = none\n",
        "x.ini:2: [worker] handler: there is no [handler:won]\n"
        "x.ini:3: [handler:one] command: must be given: a program and its arguments\n"
        "x.ini:4: [handler:one] pass_env: `B-C` is no name of a variable\n"
        "x.ini:6: [handler:two] command: a ' is not closed\n"
        "x.ini:10: [route:a] drop: makes no sense with a handler: it may answer with no "
        "update\n"
        "x.ini:11: [route:a] publish: must be each with a handler: several of its updates "
        "are not published as one\n"
        "x.ini:12: [route:a] data: makes no sense with a handler: its updates hold their "
        "data\n"
        "x.ini:15: [route:b] handler: there is no [handler:none]; did you mean `one`?\n");
}

static bool has_variable(char **environment, const char *name)
{
    for (size_t i = 0; environment[i] != NULL; i++)
        if (strncmp(environment[i], name, strlen(name)) == 0 && environment[i][strlen(name)] == '=')
            return true;
    return false;
}

static void test_a_handlers_environment_has_settings_only_by_pass_env(void **state)
{
    struct buf passed = {0};

    (void)state;
    setenv("BRIDGE_TEST", "secret", 1);
    setenv("MQTT_PASSWORD_FILE", "/dev/null", 1);
    setenv("DATABASE_URL", "postgresql://u:p@h/d", 1);
    open_routes("[mercure]\njwt = ${BRIDGE_TEST}\n[handler:a]\ncommand = a\npass_env = "
                "DATABASE_URL, HOME\n");
    char **all = settings_environment(settings, BYTES_NONE);
    settings_passed_variables(settings, &passed);
    char **kept = settings_environment(settings, buf_bytes(&passed));
    assert_true(has_variable(all, "PATH"));
    assert_false(has_variable(all, "BRIDGE_TEST"));
    assert_false(has_variable(all, "MQTT_PASSWORD_FILE"));
    assert_false(has_variable(all, "DATABASE_URL"));
    assert_false(has_variable(all, "HOME"));
    assert_true(has_variable(kept, "DATABASE_URL"));
    assert_true(has_variable(kept, "HOME"));
    assert_false(has_variable(kept, "BRIDGE_TEST"));
    free(all);
    free(kept);
    buf_free(&passed);
    close_routes();
    unsetenv("MQTT_PASSWORD_FILE");
    unsetenv("DATABASE_URL");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_the_first_route_with_a_filter_that_matches_is_taken),
        TEST(test_a_route_sets_every_field_of_the_update),
        TEST(test_a_topic_without_a_route_is_published_as_mercure_says),
        TEST(test_a_route_has_the_values_of_mercure_that_it_does_not_give),
        TEST(test_a_dropped_topic_makes_no_update),
        TEST(test_a_field_is_text_as_it_is_and_else_json),
        TEST(test_a_payload_without_the_field_is_refused_by_its_route),
        TEST(test_an_update_without_a_topic_is_refused),
        TEST(test_alternates_that_come_to_nothing_are_left_out),
        TEST(test_a_wrong_route_is_named_with_its_section_key_and_character),
        TEST(test_a_batch_is_an_array_on_its_topic),
        TEST(test_a_batch_is_of_documents_and_has_one_topic),
        TEST(test_documents_are_shown_where_everybody_gets_them),
        TEST(test_routes_in_the_monitor_know_which_topics_are_shown),
        TEST(test_routes_are_the_same_for_a_child),
        TEST(test_a_topic_has_the_handler_of_its_route_or_of_the_worker),
        TEST(test_fields_missing_in_a_handlers_update_come_from_its_route),
        TEST(test_a_handler_that_makes_no_sense_is_named),
        TEST(test_a_handlers_environment_has_settings_only_by_pass_env),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
