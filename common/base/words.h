/* Texts that people type: a command line, and a name that may be mistyped. Pure. */
#ifndef COMMON_BASE_WORDS_H
#define COMMON_BASE_WORDS_H

#include "common/base/bytes.h"
#include "common/base/error.h"

/* Splits a command line into words for execv, with a shell's quoting only: no variables, no patterns, no pipes.
 *
 *   white space       ends a word
 *   \x                is x
 *   '…'               is the text between the quotes
 *   "…"               is the text between, where \" \\ \$ and \` are the second character
 *
 * *words ends with NULL and has one word at the least. -ERR_FORMAT: there is no word, a quote does not end, or the text
 * holds a NUL. */
MUST_CHECK int words_split(char ***words, struct bytes text, struct error *err);
void words_free(char **words); /* NULL is allowed */

/* "Did you mean …?": finds the known name that is nearest to a mistyped one. Call words_consider for each candidate.
 * `best` is the nearest so far; NULL: none is near enough (a third of the name's length, at least 1). Zero-initialise
 * but for `name`. */
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
