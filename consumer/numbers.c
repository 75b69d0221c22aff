#include "consumer/numbers.h"

#include "common/base/alloc.h"

#include <stdlib.h>

void numbers_add(struct numbers *numbers, uint64_t number)
{
    if (numbers_have(numbers, number))
        return;
    numbers->at = xrealloc(numbers->at, (numbers->len + 1) * sizeof(*numbers->at));
    numbers->at[numbers->len] = number;
    numbers->len++;
}

bool numbers_have(const struct numbers *numbers, uint64_t number)
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

void numbers_sort(struct numbers *numbers)
{
    if (numbers->len > 0)
        qsort(numbers->at, numbers->len, sizeof(*numbers->at), by_number);
}

void numbers_free(struct numbers *numbers)
{
    free(numbers->at);
    *numbers = (struct numbers){0};
}
