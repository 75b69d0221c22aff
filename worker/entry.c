#include "worker/entry.h"

#include "common/base/alloc.h"

#include <stdlib.h>

struct batch *batch_new(size_t entries)
{
    struct batch *batch = xcalloc(1, sizeof(*batch));

    batch->entries = xcalloc(entries, sizeof(struct entry));
    batch->open = entries;
    for (size_t i = 0; i < entries; i++)
        batch->entries[i].batch = batch;
    return batch;
}

void entry_release(struct entry *entry)
{
    struct batch *batch = entry->batch;

    if (--batch->open > 0)
        return;
    arena_free(&batch->arena);
    free(batch->entries);
    free(batch);
}
