/* "Did you mean …?": the known name that is nearest to a mistyped one. For messages to people. */
#ifndef COMMON_BASE_NEAREST_H
#define COMMON_BASE_NEAREST_H

#include "common/base/bytes.h"

/* Levenshtein distance in which two swapped neighbours count once; both are cut to 63 bytes, and letters
 * compared without case. */
size_t nearest_distance(struct bytes a, struct bytes b);

/* Feed each candidate in turn; `best` is the nearest so far, NULL while none is near enough to be worth
 * naming (a third of the name's length, at least 1). Zero-initialise but for `name`. */
struct nearest {
    struct bytes name;
    const char *best;
    size_t best_distance;
};

void nearest_consider(struct nearest *nearest, const char *candidate);

#endif
