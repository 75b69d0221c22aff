/* The routes of the settings, prepared for use: they say what is published for a message. The first [route:NAME] in the
 * file's order with a filter that matches the topic applies, else [mercure]. Pure. One thread. Source:
 * docs/ROUTES.md. */
#ifndef COMMON_SETTINGS_ROUTES_H
#define COMMON_SETTINGS_ROUTES_H

#include "common/settings/settings.h"
#include "common/wire/handler_line.h"
#include "common/wire/update.h"

struct routes;

/* The settings have been checked, and outlive it. */
struct routes *routes_new(const struct settings *settings);
void routes_free(struct routes *routes); /* NULL is allowed */

/* The route of a topic. */
struct routes_match {
    struct bytes filter;                    /* the filter that matches; "#" if no route does */
    const struct settings_route *settings;  /* NULL: no route matches, [mercure] applies */
    const struct settings_handler *handler; /* gets the messages; NULL: none */
    /* Messages are published to everybody, as message documents: neither private nor replaced by a handler's answer. */
    bool shows_documents;
    const struct route *route;
};

/* Valid as long as the routes. */
const struct routes_match *routes_match(struct routes *routes, struct bytes topic);

struct routes_message {
    struct bytes identity;
    struct bytes topic;
    struct bytes payload;
    int64_t received_us;              /* since 1970; 0: not known */
    const struct routes_match *match; /* of the topic; NULL: it is looked up */
};

enum routes_result { ROUTES_PUBLISH, ROUTES_DROP };

/* ROUTES_PUBLISH: *update is filled, valid until the next call. ROUTES_DROP: nothing is published. -ERR_REFUSED: every
 * hub would refuse the update; err says why. */
MUST_CHECK int routes_update(struct routes *routes, const struct routes_message *message,
                             struct update *update, struct error *err);

/* For a route that publishes batches: appends the topic for which messages are gathered. */
void routes_append_batch_topic(const struct routes_match *match, struct bytes topic,
                               struct buf *out);
/* Appends the message's document, after a comma if it is not the first. */
void routes_append_document(struct buf *documents, const struct routes_message *message);
/* Makes the update of `count` documents. -ERR_REFUSED as routes_update. */
MUST_CHECK int routes_batch(struct routes *routes, const struct routes_message *first,
                            struct bytes documents, size_t count, struct update *update,
                            struct error *err);

/* Makes the update number `number`, from 1, of a handler's answer. The route gives what the answer does not. The id is
 * `urn:mqtt-bridge:<identity>`, followed by `-2` for the second, and so on. -ERR_REFUSED as routes_update. */
MUST_CHECK int routes_handled(struct routes *routes, const struct routes_message *message,
                              const struct handler_update *given, size_t number,
                              struct update *update, struct error *err);

/* Reads `message`, `payload` or `field:NAME`; false for any other text. */
bool routes_read_data(struct bytes text, enum update_data *data, struct bytes *field);

#endif
