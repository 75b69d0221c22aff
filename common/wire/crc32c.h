/* CRC-32C (Castagnoli, RFC 3720 appendix B.4), with the processor's instruction where there is one. */
#ifndef COMMON_WIRE_CRC32C_H
#define COMMON_WIRE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* seed 0 begins; a former result goes on from there. */
uint32_t crc32c(uint32_t seed, const void *data, size_t len);

/* The same by table, on any processor: what crc32c falls back to. */
uint32_t crc32c_portable(uint32_t seed, const void *data, size_t len);

#endif
