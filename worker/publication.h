/* What is published of an entry: the Mercure update that its route says (common/settings/routes.h). One thread.
 *
 *   entry->match   the route that takes its topic, found once; the publication owns it */
#ifndef WORKER_PUBLICATION_H
#define WORKER_PUBLICATION_H

#include "common/settings/routes.h"
#include "worker/entry.h"

struct publication;

struct publication *publication_new(const struct settings *settings); /* they outlive it */
void publication_free(struct publication *publication);

void publication_match(struct publication *publication, struct entry *entry);
/* Its route has `drop`: nothing is published. */
bool publication_drops(const struct entry *entry);
/* The route that has the entry wait for a window; NULL: it is published by itself. */
const struct settings_route *publication_route(const struct entry *entry);
/* Entries of one lane are published in their order; those of a batch have one. Valid until the next call. */
struct bytes publication_lane(struct publication *publication, const struct entry *entry,
                              const struct settings_route *route);
/* Appends the entry's message document to those of a batch. Returns how many bytes more they hold. */
size_t publication_append_document(const struct entry *entry, struct buf *documents);

/* Of an entry that is not dropped, with what it carries. Appends the publish form to `form` and leaves the update's id
 * in *id, valid until the next call; entry->shown says who sees it. -ERR_REFUSED: the hub would refuse it whoever asks;
 * err says why, and no form was made. */
MUST_CHECK int publication_update(struct publication *publication, struct entry *entry,
                                  const struct settings_route *route, struct buf *form,
                                  struct bytes *id, struct error *err);

#endif
