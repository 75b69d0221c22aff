#include "common/base/arena.h"

#include "common/base/alloc.h"

#include <stdlib.h>
#include <string.h>

#define BLOCK_SIZE (64 * 1024)

struct arena_block {
    struct arena_block *next;
    size_t size;
    char data[];
};

void arena_reserve(struct arena *arena, size_t size)
{
    struct arena_block *block = xmalloc(sizeof(*block) + size);

    block->next = arena->first;
    block->size = size;
    arena->first = block;
    arena->used = 0;
}

char *arena_alloc(struct arena *arena, size_t size)
{
    if (arena->first == NULL || arena->first->size - arena->used < size)
        arena_reserve(arena, size > BLOCK_SIZE ? size : BLOCK_SIZE);
    char *memory = arena->first->data + arena->used;
    arena->used += size;
    arena->held += size;
    return memory;
}

void arena_give_back(struct arena *arena, size_t size)
{
    arena->used -= size;
    arena->held -= size;
}

struct bytes arena_copy(struct arena *arena, struct bytes bytes)
{
    char *copy = arena_alloc(arena, bytes.len);

    if (bytes.len > 0)
        memcpy(copy, bytes.data, bytes.len);
    return (struct bytes){copy, bytes.len};
}

static void free_blocks(struct arena_block *block)
{
    while (block != NULL) {
        struct arena_block *next = block->next;

        free(block);
        block = next;
    }
}

void arena_clear(struct arena *arena)
{
    if (arena->first == NULL)
        return;
    if (arena->first->size > BLOCK_SIZE) {
        arena_free(arena);
        return;
    }
    free_blocks(arena->first->next);
    arena->first->next = NULL;
    arena->used = 0;
    arena->held = 0;
}

void arena_free(struct arena *arena)
{
    free_blocks(arena->first);
    *arena = (struct arena){0};
}
