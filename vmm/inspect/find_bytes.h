/* memmem(3) at the speed of memory. */
#ifndef STRATA_INSPECT_FIND_BYTES_H
#define STRATA_INSPECT_FIND_BYTES_H

#include <stddef.h>
#include <stdint.h>

/*
 * The first place of the `bytes` bytes at `pattern` in `n` bytes from `from` on, NULL if
 * there is none.
 */
const uint8_t *find_bytes(const uint8_t *from, size_t n, const uint8_t *pattern, size_t bytes);

#endif
