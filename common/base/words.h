/* What people type: a command line, and a name that may be mistyped. Pure. */
#ifndef COMMON_BASE_WORDS_H
#define COMMON_BASE_WORDS_H

#include "common/base/bytes.h"
#include "common/base/error.h"

/* A command line as words, for execv: split as a shell does, and nothing else that a shell does. No variables, no
 * patterns, no pipes.
 *
 *   white space       ends a word
 *   \x                is x
 *   '…'               is what stands between
 *   "…"               likewise, but \" \\ \$ and \` are the second character
 *
 * The words with NULL behind the last; one at the least. -ERR_FORMAT: there is none, or a quote does not end. Holds no
 * NUL. */
MUST_CHECK int words_split(char ***words, struct bytes text, struct error *err);
void words_free(char **words); /* NULL is allowed */

/* "Did you mean …?": the known name that is nearest to a mistyped one. Feed each candidate in turn; `best` is the
 * nearest so far, NULL while none is near enough to be worth naming (a third of the name's length, at least 1).
 * Zero-initialise but for `name`. */
struct words_nearest {
    struct bytes name;
    const char *best;
    size_t best_distance;
};

void words_consider(struct words_nearest *nearest, const char *candidate);

/* Levenshtein distance in which two swapped neighbours count once; both are cut to 63 bytes, and letters
 * compared without case. */
size_t words_distance(struct bytes a, struct bytes b);

#endif
