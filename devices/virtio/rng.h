/*
 * virtio-rng, the entropy device (virtio 1.2, 5.4): one queue of buffers that it fills
 * with bytes of the host's getrandom(2).
 */
#ifndef STRATA_VIRTIO_RNG_H
#define STRATA_VIRTIO_RNG_H

#include <stdint.h>

#include "devices/core/virtio_mmio.h"

/* At most so much goes into one buffer: a device may fill less than all of it (5.4.6.2). */
#define VIRTIO_RNG_FILL_MAX 4096u
/* Buffers filled before others get their turn. */
#define VIRTIO_RNG_TURN 32u

struct vm;

struct virtio_rng {
    struct virtio_mmio mmio;
    uint64_t bytes; /* handed out */
    struct virtqueue_chain chain;
};

/*
 * Puts the device on the VM's memory bus (vm NULL: on no bus, no interrupts); `dma` is
 * the caller's and outlives it. 0 or -errno of virtio_mmio_create.
 */
int virtio_rng_create(struct virtio_rng *rng, struct vm *vm, struct dma *dma, uint64_t base,
                      unsigned gsi);

#endif
