#include "consumer/spool/damaged.h"

#include "common/base/sys.h"

/* More than this many nobody looks at. */
#define KEPT 4

void damaged_recognise(const struct u64_set *damaged, struct segment *first)
{
    for (struct segment *s = first; s != NULL; s = s->next)
        if (u64_set_have(damaged, s->header.number))
            s->damage_end = 1; /* found, but nothing of it counted by this process */
}

static bool is_in_use(const struct segment *first, uint64_t number)
{
    const struct segment *segment = first;

    while (segment != NULL && segment->header.number != number)
        segment = segment->next;
    return segment != NULL;
}

void damaged_prune(struct u64_set *damaged, int dir, const struct segment *first)
{
    char name[SEGMENT_NAME_SIZE];
    size_t kept = 0;

    u64_set_sort(damaged);
    for (size_t i = damaged->len; i > 0; i--) {
        uint64_t number = damaged->at[i - 1];
        if (is_in_use(first, number) || ++kept <= KEPT)
            continue;
        segment_name(number, "damaged", name);
        sys_unlinkat(dir, name);
    }
}
