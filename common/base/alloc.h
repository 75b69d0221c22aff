/* Memory that is there: each of these ends the process (abort) when there is none, so that no caller
 * has to write a branch that can't be tested. Free with free(). */
#ifndef COMMON_BASE_ALLOC_H
#define COMMON_BASE_ALLOC_H

#include <stddef.h>

void *xmalloc(size_t size);
void *xcalloc(size_t count, size_t size);
void *xrealloc(void *old, size_t size);
char *xstrdup(const char *text);
char *xstrndup(const char *text, size_t len); /* exactly len bytes and a NUL */
char *xasprintf(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* For programs that now and then hold something large: from now on what is over a MiB goes back to the
 * system when it is freed. By default malloc learns from it to keep such memory, and small things that are
 * made meanwhile pin it down. */
void alloc_give_back_large(void);

#endif
