/* The message handler: an entry in, a Mercure update out. What is published is decided here and in
 * common/wire/update. One thread. */
#ifndef WORKER_HANDLER_H
#define WORKER_HANDLER_H

#include "worker/entry.h"

struct handler;

struct handler *handler_new(const struct settings_mercure *settings);
void handler_free(struct handler *handler);

/* Appends the publish form to `form` and leaves the update's id in *id, valid until the next call.
 * -ERR_REFUSED: the hub would refuse it whoever asks; err says why, and no form was made. */
MUST_CHECK int handler_update(struct handler *handler, const struct entry *entry, struct buf *form,
                              struct bytes *id, struct error *err);
/* A private update to a topic of our own that nobody reads: is the hub there? */
#define HANDLER_PROBE_TOPIC BYTES("urn:mqtt-bridge:probe")
void handler_probe(struct buf *form, struct bytes *id);

#endif
