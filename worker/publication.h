/* Makes an entry's Mercure update, as its route says (common/settings/routes.h). One thread.
 *
 *   entry->match   the route of the entry's topic, found once; the publication owns it */
#ifndef WORKER_PUBLICATION_H
#define WORKER_PUBLICATION_H

#include "common/settings/routes.h"
#include "worker/entry.h"

struct publication;

struct publication *publication_new(const struct settings *settings); /* outlived by the settings */
void publication_free(struct publication *publication);

void publication_match(struct publication *publication, struct entry *entry);
/* The entry's route has `drop`: nothing is published. */
bool publication_drops(const struct entry *entry);
/* The route, if it makes the entry wait for a window (batch, latest); NULL: the entry is published by itself. */
const struct settings_route *publication_route(const struct entry *entry);
/* The key of the entry's lane. Entries of one lane are published in order. Valid until the next call.
 *
 *     <route's name> NUL <batch topic>   the entry is one of a batch
 *     NUL <topic>                        any other entry
 *
 * Another program's topic may have NULs; a route's name has none and is not empty. So no two keys are alike. */
struct bytes publication_lane(struct publication *publication, const struct entry *entry,
                              const struct settings_route *route);
/* Appends the entry's message document to those of a batch. Returns by how many bytes the buffer's memory grew. */
size_t publication_append_document(const struct entry *entry, struct buf *documents);

/* For an entry that is not dropped, and the entries that it carries. Appends the publish form to `form` and sets *id,
 * valid until the next call. entry->shown is set if everybody may see the update, as a message document. -ERR_REFUSED:
 * every hub would refuse the update; err says why, and no form was made. */
MUST_CHECK int publication_update(struct publication *publication, struct entry *entry,
                                  const struct settings_route *route, struct buf *form,
                                  struct bytes *id, struct error *err);

#endif
