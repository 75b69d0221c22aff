#include "worker/ids.h"

#include "common/base/alloc.h"

#include <stdlib.h>

static void set_len(struct ids *ids, size_t len)
{
    if (ids->total != NULL)
        *ids->total += len - ids->len;
    ids->len = len;
}

void ids_free(struct ids *ids)
{
    set_len(ids, 0);
    free(ids->ring);
    *ids = (struct ids){.total = ids->total};
}

struct left *ids_at(const struct ids *ids, size_t number)
{
    return &ids->ring[(ids->first + number) & (ids->capacity - 1)];
}

static void make_room(struct ids *ids)
{
    size_t capacity = ids->capacity == 0 ? 16 : 2 * ids->capacity;

    if (ids->len < ids->capacity)
        return;
    struct left *ring = xcalloc(capacity, sizeof(*ring));
    for (size_t i = 0; i < ids->len; i++)
        ring[i] = *ids_at(ids, i);
    free(ids->ring);
    ids->ring = ring;
    ids->capacity = capacity;
    ids->first = 0;
}

void ids_push_left(struct ids *ids, struct left left)
{
    make_room(ids);
    set_len(ids, ids->len + 1);
    *ids_at(ids, ids->len - 1) = left;
}

void ids_push(struct ids *ids, const struct entry *entry)
{
    ids_push_left(ids, (struct left){entry->source, entry->id, entry->redelivered, false});
}

void ids_push_front(struct ids *ids, struct left left)
{
    make_room(ids);
    ids->first = (ids->first - 1) & (ids->capacity - 1);
    set_len(ids, ids->len + 1);
    *ids_at(ids, 0) = left;
}

void ids_move(struct ids *to, struct ids *from, size_t count)
{
    for (size_t i = 0; i < count; i++)
        ids_push_left(to, *ids_at(from, i));
    ids_drop(from, count);
}

void ids_drop(struct ids *ids, size_t count)
{
    if (count >= ids->len) {
        ids_free(ids);
        return;
    }
    ids->first = (ids->first + count) & (ids->capacity - 1);
    set_len(ids, ids->len - count);
}

size_t ids_page(const struct ids *ids, struct stream_id *page, size_t max)
{
    size_t len = 0;

    for (; len < ids->len && len < max; len++) {
        const struct left *left = ids_at(ids, len);

        if (left->source != ids_at(ids, 0)->source ||
            left->redelivered != ids_at(ids, 0)->redelivered ||
            left->alone != ids_at(ids, 0)->alone)
            break;
        page[len] = left->id;
    }
    return len;
}

void ids_forget(struct ids *ids, const struct source *source)
{
    size_t kept = 0;

    for (size_t i = 0; i < ids->len; i++)
        if (ids_at(ids, i)->source != source)
            *ids_at(ids, kept++) = *ids_at(ids, i);
    set_len(ids, kept);
    if (kept == 0)
        ids_free(ids);
}

void ids_each(const struct ids *ids, const struct source *source, ids_visit *visit, void *context)
{
    for (size_t i = 0; i < ids->len; i++)
        if (ids_at(ids, i)->source == source)
            visit(context, ids_at(ids, i));
}
