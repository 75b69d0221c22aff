/* Memory allocation that never fails: these functions abort the process when there is no memory. So no caller has to
 * handle a case that can't be tested. Free with free(). */
#ifndef COMMON_BASE_ALLOC_H
#define COMMON_BASE_ALLOC_H

#include <stddef.h>

void *xmalloc(size_t size);
void *xcalloc(size_t count, size_t size);
void *xrealloc(void *old, size_t size);
char *xstrdup(const char *text);
char *xstrndup(const char *text, size_t len); /* exactly len bytes and a NUL */
char *xasprintf(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Makes room for one more item of a list with len of them. Its memory doubles, so always grow a list by this
 * function alone. */
void *xgrow(void *items, size_t len, size_t item_size);

/* For programs that sometimes hold something large: from now on, freed memory above a MiB is returned to the system. By
 * default malloc adapts and keeps such memory, and small allocations within it then keep it from being returned. */
void alloc_give_back_large(void);

#endif
