/* Entries that were read and are left pending in Redis: ids in their order, to be read again. They are ours,
 * and are touched as open entries are. Zero-initialised is empty. */
#ifndef WORKER_IDS_H
#define WORKER_IDS_H

#include "worker/entry.h"

struct left {
    struct source *source;
    struct stream_id id;
    bool redelivered;
    bool alone; /* of a batch that failed: by itself; in place of a refused value: at once */
};

struct ids {
    struct left *ring;
    size_t capacity; /* a power of two */
    size_t first;
    size_t len;
    size_t *total; /* of several, with these; or NULL */
};

void ids_free(struct ids *ids); /* empty again */
struct left *ids_at(const struct ids *ids, size_t number);
void ids_push(struct ids *ids, const struct entry *entry);
void ids_push_left(struct ids *ids, struct left left);
void ids_push_front(struct ids *ids, struct left left);        /* becomes the first one */
void ids_move(struct ids *to, struct ids *from, size_t count); /* the first ones, behind all */
void ids_drop(struct ids *ids, size_t count); /* the first ones; all if there are fewer */
/* How many of the first ones, up to max, are of one source, and alike in the rest; their ids. */
size_t ids_page(const struct ids *ids, struct stream_id *page, size_t max);
void ids_forget(struct ids *ids, const struct source *source);

typedef void ids_visit(void *context, const struct left *left);
void ids_each(const struct ids *ids, const struct source *source, ids_visit *visit, void *context);

#endif
