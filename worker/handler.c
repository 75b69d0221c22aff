#include "worker/handler.h"

#include "common/base/alloc.h"
#include "common/settings/routes.h"

#include <stdlib.h>

struct handler {
    struct routes *routes;
    struct buf lane;
    struct buf document;
};

struct handler *handler_new(const struct settings *settings)
{
    struct handler *handler = xcalloc(1, sizeof(*handler));

    handler->routes = routes_new(settings);
    return handler;
}

void handler_free(struct handler *handler)
{
    if (handler == NULL)
        return;
    routes_free(handler->routes);
    buf_free(&handler->lane);
    buf_free(&handler->document);
    free(handler);
}

bool handler_drops(struct handler *handler, const struct entry *entry)
{
    const struct settings_route *route = routes_find(handler->routes, entry->envelope.topic, NULL);

    return route != NULL && route->drop;
}

const struct settings_route *handler_route(struct handler *handler, const struct entry *entry)
{
    const struct settings_route *route = routes_find(handler->routes, entry->envelope.topic, NULL);

    return route != NULL && route->publish != PUBLISH_EACH ? route : NULL;
}

struct bytes handler_lane(struct handler *handler, const struct entry *entry,
                          const struct settings_route *route)
{
    if (route == NULL || route->publish != PUBLISH_BATCH)
        return entry->envelope.topic;
    buf_clear(&handler->lane);
    buf_append_char(&handler->lane, '\0'); /* no topic begins like this */
    buf_append_text(&handler->lane, route->name);
    buf_append_char(&handler->lane, '\0');
    routes_append_batch_topic(handler->routes, entry->envelope.topic, &handler->lane);
    return buf_bytes(&handler->lane);
}

static struct routes_message message_of(const struct entry *entry)
{
    return (struct routes_message){.identity = entry->identity,
                                   .topic = entry->envelope.topic,
                                   .payload = entry->envelope.payload,
                                   .received_us = entry->envelope.received_us};
}

size_t handler_append_document(const struct entry *entry, struct buf *documents)
{
    const struct routes_message message = message_of(entry);
    size_t before = documents->capacity;

    routes_append_document(documents, &message);
    return documents->capacity - before;
}

/* One that carries no documents is a batch of one. */
static int make_batch(struct handler *handler, const struct entry *entry, struct update *update,
                      struct error *err)
{
    const struct routes_message message = message_of(entry);
    const struct buf *documents = &entry->carried.documents;

    if (documents->len == 0) {
        buf_free(&handler->document);
        routes_append_document(&handler->document, &message);
        documents = &handler->document;
    }
    return routes_batch(handler->routes, &message, buf_bytes(documents), entry->carried.len + 1,
                        update, err);
}

int handler_update(struct handler *handler, const struct entry *entry,
                   const struct settings_route *route, struct buf *form, struct bytes *id,
                   struct error *err)
{
    const struct routes_message message = message_of(entry);
    struct update update;
    int result = route != NULL && route->publish == PUBLISH_BATCH
                     ? make_batch(handler, entry, &update, err)
                     : routes_update(handler->routes, &message, &update, err);

    if (result < 0)
        return result;
    update_form(form, &update);
    *id = update.id;
    return 0;
}
