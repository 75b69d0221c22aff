#include "common/settings/routes.h"

#include "common/base/alloc.h"
#include "common/wire/json.h"
#include "common/wire/topic.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A larger document's memory is freed, so that one large message does not cost its memory for
 * good. */
#define KEPT_MAX (1024 * 1024)

struct route {
    const struct settings_route *settings; /* NULL: the default route of [mercure] */
    const char *name;
    bool is_handled;                        /* a handler says what is published */
    const struct settings_handler *handler; /* NULL: none, or its section was not packed */
    struct topic_template **topics;         /* the main topic and its alternates */
    size_t topics_len;
    enum update_data data;
    struct bytes field; /* the field's name for UPDATE_DATA_FIELD */
    bool private_updates;
    struct bytes type;
    char retry[24];                     /* "": none */
    struct topic_template *batch_topic; /* NULL: the route makes no batches */
};

struct routes {
    struct route *routes; /* in the file's order; the last is the default of [mercure] */
    size_t len;
    struct routes_match *matches; /* one for each filter; the last is that of the default */
    size_t matches_len;
    struct topic_trie *trie; /* finds the index of a topic's match */
    struct buf id;
    struct buf data;
    struct buf topics;
    struct bytes *expanded; /* slices of `topics`; room for the route with most topics */
    size_t expanded_len;
    struct arena arena;
};

bool routes_read_data(struct bytes text, enum update_data *data, struct bytes *field)
{
    *field = BYTES_NONE;
    if (bytes_starts_with(text, BYTES("field:"))) {
        *data = UPDATE_DATA_FIELD;
        *field = bytes_slice(text, strlen("field:"), text.len);
        return field->len > 0;
    }
    *data = bytes_equal_text(text, "payload") ? UPDATE_DATA_PAYLOAD : UPDATE_DATA_MESSAGE;
    return *data == UPDATE_DATA_PAYLOAD || bytes_equal_text(text, "message");
}

static struct topic_template *make_template(struct bytes text, bool uri)
{
    struct topic_template *template;
    struct error err;

    if (topic_template_new(&template, text, uri, &err) < 0)
        abort(); /* settings_check accepts only valid templates */
    return template;
}

static void add_topic(struct route *route, struct bytes text, bool uri)
{
    route->topics =
        xrealloc(route->topics, (route->topics_len + 1) * sizeof(struct topic_template *));
    route->topics[route->topics_len++] = make_template(text, uri);
}

static void open_route(struct route *route, const struct settings_route *settings, bool uri)
{
    struct bytes list = bytes_of(settings->alternates), item;

    route->settings = settings;
    route->name = settings->name;
    add_topic(route, bytes_of(settings->topic), uri);
    while (bytes_next_item(&list, &item))
        add_topic(route, item, uri);
    if (!routes_read_data(bytes_of(settings->data), &route->data, &route->field))
        abort(); /* settings_check accepts only valid texts */
    if (settings->publish == PUBLISH_BATCH)
        route->batch_topic = make_template(bytes_of(settings->batch_topic), uri);
    route->private_updates = settings->private_updates;
    route->type = bytes_of(settings->type);
    if (settings->retry_ms > 0)
        snprintf(route->retry, sizeof(route->retry), "%" PRId64, settings->retry_ms);
}

static void open_default(struct route *route, const struct settings_mercure *mercure, bool uri)
{
    add_topic(route, bytes_of(mercure->topic_template), uri);
    route->data = mercure->data;
    route->private_updates = mercure->private_updates;
}

/* The monitor knows the names of handlers, but has none of their sections. */
static void set_handler(struct route *route, const struct settings *settings, const char *name)
{
    route->is_handled = name[0] != '\0';
    route->handler = settings_handler(settings, name);
}

static void add_match(struct routes *routes, const struct route *route, struct bytes filter)
{
    bool drops = route->settings != NULL && route->settings->drop;

    routes->matches = xgrow(routes->matches, routes->matches_len, sizeof(*routes->matches));
    routes->matches[routes->matches_len++] = (struct routes_match){
        .filter = filter,
        .settings = route->settings,
        .handler = route->handler,
        .shows_documents = !drops && !route->is_handled && !route->private_updates &&
                           route->data == UPDATE_DATA_MESSAGE,
        .route = route};
}

static void add_filters(struct routes *routes, const struct route *route)
{
    struct bytes list = bytes_of(route->settings->match), item;

    while (bytes_next_item(&list, &item)) {
        topic_trie_add(routes->trie, item, (uint32_t)routes->matches_len);
        add_match(routes, route, item);
    }
}

struct routes *routes_new(const struct settings *settings)
{
    struct routes *routes = xcalloc(1, sizeof(*routes));
    bool uri = settings->mercure.topic_encoding == TOPIC_ENCODING_URI;
    size_t most = 1;

    routes->trie = topic_trie_new();
    routes->len = settings->routes_len + 1;
    routes->routes = xcalloc(routes->len, sizeof(*routes->routes));
    for (size_t i = 0; i < settings->routes_len; i++) {
        open_route(&routes->routes[i], &settings->routes[i], uri);
        set_handler(&routes->routes[i], settings, settings->routes[i].handler);
        add_filters(routes, &routes->routes[i]);
        if (routes->routes[i].topics_len > most)
            most = routes->routes[i].topics_len;
    }
    open_default(&routes->routes[settings->routes_len], &settings->mercure, uri);
    set_handler(&routes->routes[settings->routes_len], settings, settings->worker.handler);
    add_match(routes, &routes->routes[settings->routes_len], BYTES("#"));
    routes->expanded = xcalloc(most, sizeof(*routes->expanded));
    return routes;
}

void routes_free(struct routes *routes)
{
    if (routes == NULL)
        return;
    for (size_t i = 0; i < routes->len; i++) {
        for (size_t j = 0; j < routes->routes[i].topics_len; j++)
            topic_template_free(routes->routes[i].topics[j]);
        free(routes->routes[i].topics);
        topic_template_free(routes->routes[i].batch_topic);
    }
    free(routes->routes);
    free(routes->matches);
    topic_trie_free(routes->trie);
    buf_free(&routes->id);
    buf_free(&routes->data);
    buf_free(&routes->topics);
    free(routes->expanded);
    arena_free(&routes->arena);
    free(routes);
}

/* Without routes the search is skipped: every topic matches the default. */
const struct routes_match *routes_match(struct routes *routes, struct bytes topic)
{
    uint32_t order = routes->len > 1 ? topic_trie_find(routes->trie, topic) : TOPIC_TRIE_NONE;

    return &routes->matches[order != TOPIC_TRIE_NONE ? order : routes->matches_len - 1];
}

static const struct routes_match *match_of(struct routes *routes,
                                           const struct routes_message *message)
{
    return message->match != NULL ? message->match : routes_match(routes, message->topic);
}

/* Leaves out alternates that the topic makes empty: they are no topics, and the message has others. */
static void expand_topics(struct routes *routes, const struct routes_match *match,
                          struct bytes topic)
{
    const struct route *route = match->route;

    buf_clear(&routes->topics);
    routes->expanded_len = 0;
    for (size_t i = 0; i < route->topics_len; i++) {
        size_t from = routes->topics.len;

        topic_template_expand(route->topics[i], topic, match->filter, &routes->topics);
        if (i == 0 || routes->topics.len > from)
            routes->expanded[routes->expanded_len++].len = routes->topics.len - from;
    }
    const char *from = routes->topics.data;
    for (size_t i = 0; i < routes->expanded_len; i++) {
        routes->expanded[i].data = from;
        from += routes->expanded[i].len;
    }
}

/* Appends the value of the payload's field: a string's text, any other value as JSON. */
static int append_field(struct routes *routes, const struct route *route, struct bytes payload,
                        struct error *err)
{
    const char *name = route->field.data; /* NUL-terminated, as the end of a setting's text */
    struct bytes value = BYTES_NONE;

    arena_clear(&routes->arena);
    if (json_is_valid(payload))
        value = json_object_get(payload, name, &routes->arena);
    if (value.len == 0)
        return error_set(err, ERR_REFUSED,
                         "[route:%s] data: the payload is no JSON object with a field \"%s\"",
                         route->name, name);
    if (value.data[0] == '"' && json_unquote(&value, value, &routes->arena) < 0)
        return error_set(err, ERR_REFUSED, "[route:%s] data: the payload's field \"%s\" is no text",
                         route->name, name);
    buf_append(&routes->data, value);
    return 0;
}

static void clear_data(struct routes *routes)
{
    if (routes->data.capacity > KEPT_MAX)
        buf_free(&routes->data);
    buf_clear(&routes->data);
}

static int append_data(struct routes *routes, const struct route *route,
                       const struct routes_message *message, struct error *err)
{
    clear_data(routes);
    switch (route->data) {
    case UPDATE_DATA_MESSAGE:
        update_document(&routes->data, message->identity, message->topic, message->payload,
                        message->received_us);
        return 0;
    case UPDATE_DATA_PAYLOAD:
        buf_append(&routes->data, message->payload);
        return 0;
    case UPDATE_DATA_FIELD:
        return append_field(routes, route, message->payload, err);
    }
    return 0;
}

static void make_id(struct routes *routes, struct bytes identity)
{
    buf_clear(&routes->id);
    buf_append(&routes->id, BYTES("urn:mqtt-bridge:"));
    buf_append(&routes->id, identity);
}

static void fill_update(const struct routes *routes, const struct route *route,
                        struct update *update)
{
    *update = (struct update){.topic = routes->expanded[0],
                              .data = buf_bytes(&routes->data),
                              .private_update = route->private_updates,
                              .id = buf_bytes(&routes->id),
                              .type = route->type,
                              .retry = bytes_of(route->retry)};
}

int routes_update(struct routes *routes, const struct routes_message *message,
                  struct update *update, struct error *err)
{
    const struct routes_match *match = match_of(routes, message);
    const struct route *route = match->route;
    int result;

    if (route->settings != NULL && route->settings->drop)
        return ROUTES_DROP;
    result = update_check_size(message->topic, message->payload, err);
    if (result == 0)
        result = append_data(routes, route, message, err);
    if (result < 0)
        return result;
    make_id(routes, message->identity);
    expand_topics(routes, match, message->topic);
    fill_update(routes, route, update);
    update->alternates = routes->expanded + 1;
    update->alternates_len = routes->expanded_len - 1;
    result = update_check(update, err);
    return result < 0 ? result : ROUTES_PUBLISH;
}

void routes_append_document(struct buf *documents, const struct routes_message *message)
{
    if (documents->len > 0)
        buf_append_char(documents, ',');
    update_document(documents, message->identity, message->topic, message->payload,
                    message->received_us);
}

void routes_append_batch_topic(const struct routes_match *match, struct bytes topic,
                               struct buf *out)
{
    topic_template_expand(match->route->batch_topic, topic, match->filter, out);
}

int routes_batch(struct routes *routes, const struct routes_message *first, struct bytes documents,
                 size_t count, struct update *update, struct error *err)
{
    const struct routes_match *match = match_of(routes, first);

    clear_data(routes);
    buf_append_char(&routes->data, '[');
    buf_append(&routes->data, documents);
    buf_append_char(&routes->data, ']');
    make_id(routes, first->identity);
    buf_printf(&routes->id, "+%zu", count - 1);
    buf_clear(&routes->topics);
    routes_append_batch_topic(match, first->topic, &routes->topics);
    routes->expanded[0] = buf_bytes(&routes->topics);
    fill_update(routes, match->route, update);
    return update_check(update, err);
}

int routes_handled(struct routes *routes, const struct routes_message *message,
                   const struct handler_update *given, size_t number, struct update *update,
                   struct error *err)
{
    const struct routes_match *match = match_of(routes, message);

    make_id(routes, message->identity);
    if (number > 1)
        buf_printf(&routes->id, "-%zu", number);
    expand_topics(routes, match, message->topic);
    fill_update(routes, match->route, update);
    update->alternates = routes->expanded + 1;
    update->alternates_len = routes->expanded_len - 1;
    update->data = given->data;
    if (given->topics_len > 0) {
        update->topic = given->topics[0];
        update->alternates = given->topics + 1;
        update->alternates_len = given->topics_len - 1;
    }
    if (given->has_private)
        update->private_update = given->is_private;
    if (given->type.len > 0)
        update->type = given->type;
    if (given->retry.len > 0)
        update->retry = given->retry;
    if (given->id.len > 0)
        update->id = given->id;
    return update_check(update, err);
}
