#include "consumer/spool/u64_set.h"

#include "common/base/alloc.h"

#include <stdlib.h>

void u64_set_add(struct u64_set *numbers, uint64_t number)
{
    if (u64_set_have(numbers, number))
        return;
    numbers->at = xrealloc(numbers->at, (numbers->len + 1) * sizeof(*numbers->at));
    numbers->at[numbers->len] = number;
    numbers->len++;
}

bool u64_set_have(const struct u64_set *numbers, uint64_t number)
{
    for (size_t i = 0; i < numbers->len; i++)
        if (numbers->at[i] == number)
            return true;
    return false;
}

static int by_number(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a;
    uint64_t right = *(const uint64_t *)b;

    return left < right ? -1 : left > right;
}

void u64_set_sort(struct u64_set *numbers)
{
    if (numbers->len > 0)
        qsort(numbers->at, numbers->len, sizeof(*numbers->at), by_number);
}

void u64_set_free(struct u64_set *numbers)
{
    free(numbers->at);
    *numbers = (struct u64_set){0};
}
