#include "cli/verbs.h"
#include "common/base/clock.h"
#include "common/settings/routes.h"
#include "common/settings/settings_table.h"
#include "common/wire/json.h"
#include "common/wire/topic.h"

#include <cjson/cJSON.h>
#include <stdlib.h>

#define EXAMPLE_IDENTITY "EXAMPLE-1"

/* What the routes do with one message. */
struct answer {
    const char *topic;
    const struct settings_route *route; /* NULL: the default of [mercure] */
    struct bytes filter;
    const struct settings_handler *handler; /* NULL: the update is published without a handler */
    int result;                             /* result of routes_update or routes_batch */
    struct update update;
    struct error refused;
};

static void print_field(struct buf *out, const char *name, struct bytes value)
{
    buf_printf(out, "  %-10s ", name);
    json_make_utf8(out, value);
    buf_append_char(out, '\n');
}

static void print_update(struct buf *out, const struct update *update)
{
    print_field(out, "topic", update->topic);
    for (size_t i = 0; i < update->alternates_len; i++)
        print_field(out, "alternate", update->alternates[i]);
    print_field(out, "id", update->id);
    print_field(out, "private", bytes_of(update->private_update ? "yes" : "no"));
    if (update->type.len > 0)
        print_field(out, "type", update->type);
    if (update->retry.len > 0)
        print_field(out, "retry", update->retry);
    print_field(out, "data", update->data);
}

/* True if messages wait for the end of a window. */
static bool gathers(const struct settings_route *route)
{
    return route != NULL && !route->drop && route->publish != PUBLISH_EACH;
}

static void describe_window(struct buf *out, const struct settings_route *route)
{
    if (!gathers(route))
        return;
    buf_printf(out, "  %s, window %lld ms\n",
               route->publish == PUBLISH_LATEST ? "the newest value of the topic"
                                                : "with other messages of the batch topic",
               (long long)route->window_ms);
}

static void describe_handler(struct buf *out, const struct settings_handler *handler)
{
    buf_printf(out, "  given to [handler:%s], which says what is published\n", handler->name);
    print_field(out, "command", bytes_of(handler->command));
}

static void print_text(struct buf *out, const struct answer *answer)
{
    if (answer->route != NULL)
        buf_printf(out, "%s: [route:%s], by its filter %.*s\n", answer->topic, answer->route->name,
                   BYTES_ARG(answer->filter));
    else
        buf_printf(out, "%s: %s, for no route takes it\n", answer->topic,
                   answer->handler != NULL ? "[worker] handler" : "[mercure]");
    if (answer->handler != NULL)
        describe_handler(out, answer->handler);
    else if (answer->result == ROUTES_DROP)
        buf_append_text(out, "  dropped: nothing is published\n");
    else if (answer->result < 0)
        buf_printf(out, "  refused, so it would go to the failure transport: %s\n",
                   answer->refused.text);
    else
        print_update(out, &answer->update);
    describe_window(out, answer->route);
}

static void add_update(cJSON *updates, const struct update *update)
{
    cJSON *object = cJSON_CreateObject();

    cJSON_AddItemToArray(updates, object);
    cli_add_text(object, "topic", update->topic);
    cJSON *alternates = cJSON_AddArrayToObject(object, "alternates");
    for (size_t i = 0; i < update->alternates_len; i++) {
        struct buf text = {0};

        json_make_utf8(&text, update->alternates[i]);
        cJSON_AddItemToArray(alternates, cJSON_CreateString(buf_text(&text)));
        buf_free(&text);
    }
    cli_add_text(object, "id", update->id);
    cJSON_AddBoolToObject(object, "private", update->private_update);
    cli_add_text(object, "type", update->type);
    cli_add_text(object, "retry", update->retry);
    cli_add_text(object, "data", update->data);
}

static void add_handler(cJSON *root, const struct settings_handler *handler)
{
    if (handler == NULL) {
        cJSON_AddNullToObject(root, "handler");
        cJSON_AddNullToObject(root, "command");
        return;
    }
    cJSON_AddStringToObject(root, "handler", handler->name);
    cli_add_text(root, "command", bytes_of(handler->command));
}

/* Adds a value of the route's section as `config` shows it. */
static void add_setting(cJSON *root, const struct settings_route *route, const char *key)
{
    struct buf text = {0};

    setting_format(setting_find(SETTING_ROUTE, bytes_of(key)), route, &text);
    cJSON_AddStringToObject(root, key, buf_text(&text));
    buf_free(&text);
}

static void add_publish(cJSON *root, const struct settings_route *route)
{
    if (route != NULL)
        add_setting(root, route, "publish");
    else
        cJSON_AddStringToObject(root, "publish", "each");
    if (gathers(route))
        add_setting(root, route, "window");
    else
        cJSON_AddNullToObject(root, "window");
}

static void print_json(struct buf *out, const struct answer *answer)
{
    cJSON *root = cJSON_CreateObject();

    cJSON_AddStringToObject(root, "topic", answer->topic);
    if (answer->route != NULL)
        cJSON_AddStringToObject(root, "route", answer->route->name);
    else
        cJSON_AddNullToObject(root, "route");
    cli_add_text(root, "filter", answer->filter);
    add_handler(root, answer->handler);
    add_publish(root, answer->route);
    cJSON_AddBoolToObject(root, "dropped", answer->result == ROUTES_DROP);
    if (answer->handler == NULL && answer->result < 0)
        cJSON_AddStringToObject(root, "refused", answer->refused.text);
    cJSON *updates = cJSON_AddArrayToObject(root, "updates");
    if (answer->handler == NULL && answer->result == ROUTES_PUBLISH)
        add_update(updates, &answer->update);
    char *text = cJSON_PrintUnformatted(root);
    buf_printf(out, "%s\n", text);
    free(text);
    cJSON_Delete(root);
}

static int make_update(struct routes *routes, const struct routes_message *message,
                       const struct settings_route *route, struct update *update, struct error *err)
{
    struct buf document = {0};
    int result;

    if (route == NULL || route->drop || route->publish != PUBLISH_BATCH)
        return routes_update(routes, message, update, err);
    routes_append_document(&document, message);
    result = routes_batch(routes, message, buf_bytes(&document), 1, update, err);
    buf_free(&document);
    return result;
}

int verb_route(struct cli *cli)
{
    const struct settings *settings;
    struct answer answer = {.topic = cli->arguments[0]};
    struct buf out = {0};

    if (topic_name_check(bytes_of(answer.topic), &answer.refused) < 0)
        return cli_fail(CLI_USAGE, "route: %s", answer.refused.text);
    settings = cli_settings(cli);
    if (settings == NULL)
        return CLI_USAGE;
    struct routes *routes = routes_new(settings);
    const struct routes_message message = {
        .identity = BYTES(EXAMPLE_IDENTITY),
        .topic = bytes_of(answer.topic),
        .payload = bytes_of(cli->arguments_len > 1 ? cli->arguments[1] : ""),
        .received_us = clock_wall_us()};
    const struct routes_match *match = routes_match(routes, message.topic);
    answer.filter = match->filter;
    answer.route = match->settings;
    answer.handler = match->handler;
    answer.result = make_update(routes, &message, answer.route, &answer.update, &answer.refused);
    if (cli->json)
        print_json(&out, &answer);
    else
        print_text(&out, &answer);
    routes_free(routes);
    return cli_print_free(&out);
}
