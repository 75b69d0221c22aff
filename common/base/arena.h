/* Memory that is given back all at once: what an entry needs for its unescaped strings.
 * Zero-initialised is empty and ready. One thread. */
#ifndef COMMON_BASE_ARENA_H
#define COMMON_BASE_ARENA_H

#include "common/base/bytes.h"

struct arena_block;

struct arena {
    struct arena_block *first; /* the newest, which is filled */
    size_t used;               /* of the newest */
    size_t held;               /* bytes handed out */
};

/* A first block of just that size, for an arena that needs no more. */
void arena_reserve(struct arena *arena, size_t size);
char *arena_alloc(struct arena *arena, size_t size);    /* unaligned; for bytes */
void arena_give_back(struct arena *arena, size_t size); /* the end of what was handed out last */
struct bytes arena_copy(struct arena *arena, struct bytes bytes);
void arena_clear(struct arena *arena); /* keeps one block of ordinary size */
void arena_free(struct arena *arena);

#endif
