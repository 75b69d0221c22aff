/* The message handler: an entry in, a Mercure update out, as its route says (common/settings/routes.h). One thread. */
#ifndef WORKER_HANDLER_H
#define WORKER_HANDLER_H

#include "common/settings/settings.h"
#include "worker/entry.h"

struct handler;

struct handler *handler_new(const struct settings *settings); /* they outlive it */
void handler_free(struct handler *handler);

/* Its route has `drop`: nothing is published. */
bool handler_drops(struct handler *handler, const struct entry *entry);

/* The route that has the entry wait for a window; NULL: it is published by itself. */
const struct settings_route *handler_route(struct handler *handler, const struct entry *entry);
/* Entries of one lane are published in their order; those of a batch have one. Valid until the next call. */
struct bytes handler_lane(struct handler *handler, const struct entry *entry,
                          const struct settings_route *route);
/* Appends the entry's message document to those of a batch. Returns how many bytes more they hold. */
size_t handler_append_document(const struct entry *entry, struct buf *documents);

/* Of an entry that is not dropped, with what it carries. Appends the publish form to `form` and leaves the update's id
 * in *id, valid until the next call. -ERR_REFUSED: the hub would refuse it whoever asks; err says why, and no form was
 * made. */
MUST_CHECK int handler_update(struct handler *handler, const struct entry *entry,
                              const struct settings_route *route, struct buf *form,
                              struct bytes *id, struct error *err);

#endif
