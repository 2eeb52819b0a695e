/*
 * virtio-rng, the entropy device (virtio 1.2, 5.4): one queue of buffers that it fills
 * with bytes of the host's getrandom(2).
 */
#ifndef STRATA_VIRTIO_RNG_H
#define STRATA_VIRTIO_RNG_H

#include <stdint.h>

#include "devices/core/virtio_device.h"

/* At most so much goes into one buffer: a device may fill less than all of it (5.4.6.2). */
#define VIRTIO_RNG_FILL_MAX 4096u
/* Buffers filled before others get their turn. */
#define VIRTIO_RNG_TURN 32u

struct virtio_rng {
    struct virtio_device device;
    uint64_t bytes; /* handed out */
    struct virtqueue_chain chain;
};

struct rng_config {
    struct dma *dma; /* outlives the device */
};

/* 0 or -ENOMEM. */
int virtio_rng_create(struct virtio_rng **rng, const struct rng_config *config);

/* After the VM has ended. */
void virtio_rng_destroy(struct virtio_rng *rng);

#endif
