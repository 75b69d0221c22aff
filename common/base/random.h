/* Random numbers from the kernel: identities and jitter. Not for the hot path. */
#ifndef COMMON_BASE_RANDOM_H
#define COMMON_BASE_RANDOM_H

#include <stddef.h>
#include <stdint.h>

void random_bytes(void *data, size_t len); /* aborts if the kernel has none, which it always has */
uint64_t random_u64(void);

#endif
