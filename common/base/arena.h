/* Memory that is freed all at once, as for an entry's unescaped strings. Zero-initialised is empty and ready. One
 * thread. */
#ifndef COMMON_BASE_ARENA_H
#define COMMON_BASE_ARENA_H

#include "common/base/bytes.h"

struct arena_block;

struct arena {
    struct arena_block *first; /* the newest block, which is being filled */
    size_t used;               /* bytes used of the newest block */
    size_t held;               /* bytes handed out */
};

/* Makes the first block of exactly that size, for an arena that needs no more. */
void arena_reserve(struct arena *arena, size_t size);
char *arena_alloc(struct arena *arena, size_t size);    /* unaligned; for bytes */
void arena_give_back(struct arena *arena, size_t size); /* the end of what was handed out last */
struct bytes arena_copy(struct arena *arena, struct bytes bytes);
void arena_clear(struct arena *arena); /* keeps one block of ordinary size */
void arena_free(struct arena *arena);

#endif
