/* How much memory a process has. */
#ifndef COMMON_RUNTIME_MEMORY_H
#define COMMON_RUNTIME_MEMORY_H

#include <stdint.h>
#include <sys/types.h>

/* Bytes that would be free without this process, with its share of what several have (PSS); -1 if the kernel does
 * not say: it is another user's, or gone. */
int64_t memory_of_process(pid_t pid);

#endif
