/* A command line as words, for execv: split as a shell does, and nothing else that a shell does. No variables, no
 * patterns, no pipes.
 *
 *   white space       ends a word
 *   \x                is x
 *   '…'               is what stands between
 *   "…"               likewise, but \" \\ \$ and \` are the second character
 *
 * Pure. */
#ifndef COMMON_BASE_WORDS_H
#define COMMON_BASE_WORDS_H

#include "common/base/bytes.h"
#include "common/base/error.h"

/* The words with NULL behind the last; one at the least. -ERR_FORMAT: there is none, or a quote does not end. Holds no
 * NUL. */
MUST_CHECK int words_split(char ***words, struct bytes text, struct error *err);
void words_free(char **words); /* NULL is allowed */

#endif
