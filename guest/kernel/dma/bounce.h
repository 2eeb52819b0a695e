/*
 * Bounce pools: memory that is always mapped for its devices, and the only memory that
 * is. Buffers are copied into slots of it and back (guest/abi/policy.h).
 */
#ifndef STRATA_KERNEL_DMA_BOUNCE_H
#define STRATA_KERNEL_DMA_BOUNCE_H

#include <stdbool.h>
#include <stdint.h>

#include "guest/abi/policy.h"
#include "guest/kernel/mm/extents.h"

struct bounce_pool;

/* The pool in a region; `meta_inside` as ABI_DEVICE_BOUNCE_META. NULL: no memory. */
struct bounce_pool *bounce_pool_of(uint32_t region, bool meta_inside);

/*
 * Takes slots for a buffer of so many bytes from `va` on, whose pages `memory` lists, and
 * copies it there. The first slot, and *offset of the buffer in the pool; -ABI_ENOMEM.
 */
int64_t bounce_in(struct bounce_pool *pool, const struct extents *memory, uint64_t va,
                  uint64_t bytes, uint32_t rights, uint64_t *offset);

/* All that the pool has room for. */
uint64_t bounce_room(const struct bounce_pool *pool);

/* Copies back what the device wrote (`copy` false: nothing), and frees the slots. */
void bounce_out(struct bounce_pool *pool, uint32_t slot, uint64_t bytes, uint64_t va, bool copy);

#endif
