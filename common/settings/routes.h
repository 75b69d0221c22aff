/* What is published: the routes of the settings, made ready. The first [route:NAME] in the file's order with a filter
 * that takes the topic says it, else [mercure]. Pure. One thread. Source: docs/ROUTES.md. */
#ifndef COMMON_SETTINGS_ROUTES_H
#define COMMON_SETTINGS_ROUTES_H

#include "common/settings/settings.h"
#include "common/wire/handler_line.h"
#include "common/wire/update.h"

struct routes;

/* The settings have been checked, and outlive it. */
struct routes *routes_new(const struct settings *settings);
void routes_free(struct routes *routes); /* NULL is allowed */

/* What takes a topic. */
struct routes_match {
    struct bytes filter;                    /* "#" where no section does */
    const struct settings_route *settings;  /* NULL: none does, [mercure] says what is published */
    const struct settings_handler *handler; /* is given the messages; NULL: none is */
    /* They are published to everybody, as message documents: what they hold is no secret of some subscribers, nor replaced
     * by what a handler answers. */
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
    const struct routes_match *match; /* of its topic; NULL: it is looked for */
};

enum routes_result { ROUTES_PUBLISH, ROUTES_DROP };

/* ROUTES_PUBLISH: *update is filled, valid until the next call. ROUTES_DROP: nothing is published. -ERR_REFUSED: it
 * can't be published whoever asks; err says why. */
MUST_CHECK int routes_update(struct routes *routes, const struct routes_message *message,
                             struct update *update, struct error *err);

/* Of a route that publishes in batches. The topic for which messages are gathered; their documents, with commas between;
 * and the update with `count` of them. -ERR_REFUSED as routes_update. */
void routes_append_batch_topic(const struct routes_match *match, struct bytes topic,
                               struct buf *out);
void routes_append_document(struct buf *documents, const struct routes_message *message);
MUST_CHECK int routes_batch(struct routes *routes, const struct routes_message *first,
                            struct bytes documents, size_t count, struct update *update,
                            struct error *err);

/* The update number `number`, from 1, of a handler's answer: what that does not say is as the route has it. The id is
 * `urn:mqtt-bridge:<identity>`, with `-2` behind it for the second, and so on. -ERR_REFUSED as routes_update. */
MUST_CHECK int routes_handled(struct routes *routes, const struct routes_message *message,
                              const struct handler_update *given, size_t number,
                              struct update *update, struct error *err);

/* Reads `message`, `payload` or `field:NAME`; false if it is none of them. */
bool routes_read_data(struct bytes text, enum update_data *data, struct bytes *field);

#endif
