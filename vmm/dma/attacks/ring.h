/* A queue in the guest's memory (HARNESS_PAGE_RING, HARNESS_PAGE_DATA), as a hostile driver fills
 * it. */
#ifndef STRATA_DMA_ATTACKS_RING_H
#define STRATA_DMA_ATTACKS_RING_H

#include <linux/virtio_ring.h>

#include "devices/core/virtqueue.h"
#include "vmm/dma/engine.h"

#define RING_SIZE     16
#define RING_TABLE_AT 0x600u /* of its page: an indirect table */

struct ring {
    uint64_t iova, data_iova;
    struct vring_desc *descriptor; /* where the device sees them */
    struct vring_desc *table;
    uint16_t *available;
    uint8_t *data;
};

/* Maps both pages for the cell's device: an empty queue that makes descriptor 0 available. */
bool ring_make(struct harness *harness, struct matrix_cell *cell, struct ring *ring);
void ring_drop(struct harness *harness, struct matrix_cell *cell, const struct ring *ring);

/* As the device has it. */
struct virtqueue_state ring_state(const struct ring *ring);

/* Takes the chain as strata's devices do: what virtqueue_pop said. */
int ring_take(struct harness *harness, unsigned device, const struct ring *ring,
              struct virtqueue *queue, struct virtqueue_chain *chain);

#endif
