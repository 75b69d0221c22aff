#include "common/wire/mark.h"

#include <string.h>

bool mark_parse(struct bytes text, struct mark *mark)
{
    struct bytes run, sequence;

    *mark = (struct mark){0};
    if (!bytes_split(text, ':', &run, &sequence) || run.len != 16)
        return false;
    uint64_t parsed = 0;
    for (size_t i = 0; i < run.len; i++) {
        const char *digits = "0123456789abcdef";
        const char *digit = memchr(digits, run.data[i], 16);

        if (digit == NULL)
            return false;
        parsed = parsed << 4 | (uint64_t)(digit - digits);
    }
    if (!bytes_to_u64(sequence, &mark->sequence) || mark->sequence >= MARK_SEQUENCE_MAX) {
        mark->sequence = 0;
        return false;
    }
    mark->run = parsed;
    return true;
}
