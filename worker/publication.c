#include "worker/publication.h"

#include "common/base/alloc.h"

#include <stdlib.h>

struct publication {
    struct routes *routes;
    struct buf lane;
    struct buf document;
};

struct publication *publication_new(const struct settings *settings)
{
    struct publication *publication = xcalloc(1, sizeof(*publication));

    publication->routes = routes_new(settings);
    return publication;
}

void publication_free(struct publication *publication)
{
    if (publication == NULL)
        return;
    routes_free(publication->routes);
    buf_free(&publication->lane);
    buf_free(&publication->document);
    free(publication);
}

void publication_match(struct publication *publication, struct entry *entry)
{
    entry->match = routes_match(publication->routes, entry->envelope.topic);
}

bool publication_drops(const struct entry *entry)
{
    return entry->match->settings != NULL && entry->match->settings->drop;
}

const struct settings_route *publication_route(const struct entry *entry)
{
    const struct settings_route *route = entry->match->settings;

    return route != NULL && route->publish != PUBLISH_EACH ? route : NULL;
}

struct bytes publication_lane(struct publication *publication, const struct entry *entry,
                              const struct settings_route *route)
{
    bool is_batch = route != NULL && route->publish == PUBLISH_BATCH;

    buf_clear(&publication->lane);
    if (is_batch)
        buf_append_text(&publication->lane, route->name);
    buf_append_char(&publication->lane, '\0');
    if (is_batch)
        routes_append_batch_topic(entry->match, entry->envelope.topic, &publication->lane);
    else
        buf_append(&publication->lane, entry->envelope.topic);
    return buf_bytes(&publication->lane);
}

static struct routes_message message_of(const struct entry *entry)
{
    return (struct routes_message){.identity = entry->identity,
                                   .topic = entry->envelope.topic,
                                   .payload = entry->envelope.payload,
                                   .received_us = entry->envelope.received_us,
                                   .match = entry->match};
}

size_t publication_append_document(const struct entry *entry, struct buf *documents)
{
    const struct routes_message message = message_of(entry);
    size_t before = documents->capacity;

    routes_append_document(documents, &message);
    return documents->capacity - before;
}

/* An entry without documents is a batch of one. */
static int make_batch(struct publication *publication, const struct entry *entry,
                      struct update *update, struct error *err)
{
    const struct routes_message message = message_of(entry);
    const struct buf *documents = &entry->carried.documents;

    if (documents->len == 0) {
        buf_free(&publication->document);
        routes_append_document(&publication->document, &message);
        documents = &publication->document;
    }
    return routes_batch(publication->routes, &message, buf_bytes(documents), entry->carried.len + 1,
                        update, err);
}

/* The next update of the handler's answer. */
static int make_answered(struct publication *publication, const struct entry *entry,
                         struct update *update, struct error *err)
{
    const struct routes_message message = message_of(entry);
    size_t index = entry->answer->published;

    return routes_handled(publication->routes, &message, &entry->answer->line.updates[index],
                          index + 1, update, err);
}

static int make_update(struct publication *publication, const struct entry *entry,
                       const struct settings_route *route, struct update *update, struct error *err)
{
    const struct routes_message message = message_of(entry);

    if (entry->answer != NULL)
        return make_answered(publication, entry, update, err);
    if (route != NULL && route->publish == PUBLISH_BATCH)
        return make_batch(publication, entry, update, err);
    return routes_update(publication->routes, &message, update, err);
}

int publication_update(struct publication *publication, struct entry *entry,
                       const struct settings_route *route, struct buf *form, struct bytes *id,
                       struct error *err)
{
    struct update update;
    int result = make_update(publication, entry, route, &update, err);

    if (result < 0)
        return result;
    entry->shown = entry->match->shows_documents;
    update_form(form, &update);
    *id = update.id;
    return 0;
}
