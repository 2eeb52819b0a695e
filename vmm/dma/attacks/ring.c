#include "vmm/dma/attacks/ring.h"

#include <string.h>

#include "vmm/dma/setup.h"

/* Of the ring's page, which begins with the descriptors. */
#define AVAILABLE_AT 0x200u
#define USED_AT      0x400u

bool ring_make(struct harness *harness, struct matrix_cell *cell, struct ring *ring)
{
    unsigned page = harness->first_use + HARNESS_PAGE_RING,
             data = harness->first_use + HARNESS_PAGE_DATA;
    struct abi_harness_command commands[] = {
        harness_map_command(harness, cell->device, page, RULES_BOTH),
        harness_map_command(harness, cell->device, data, RULES_BOTH),
    };
    uint8_t *host;

    if (harness_call(harness, commands, 2))
        return false;
    *ring = (struct ring){ .iova = commands[0].dma.iova, .data_iova = commands[1].dma.iova };
    host = harness_host(harness, cell->device, ring->iova, RING_TABLE_AT + 0x100);
    ring->data = harness_host(harness, cell->device, ring->data_iova, ATTACK_PAGE_BYTES / 2);
    if (!harness_check(cell, !commands[0].result && !commands[1].result && host && ring->data,
                       "map a queue: expected 0 and 0, observed %lld and %lld",
                       (long long)commands[0].result, (long long)commands[1].result))
        return false;
    memset(host, 0, RING_TABLE_AT + 0x100);
    ring->descriptor = (struct vring_desc *)host;
    ring->available = (uint16_t *)(host + AVAILABLE_AT);
    ring->table = (struct vring_desc *)(host + RING_TABLE_AT);
    ring->available[1] = 1;
    return true;
}

void ring_drop(struct harness *harness, struct matrix_cell *cell, const struct ring *ring)
{
    struct abi_harness_command commands[] = {
        harness_command(cell->device, ABI_DMA_UNMAP),
        harness_command(cell->device, ABI_DMA_UNMAP),
        harness_command(cell->device, ABI_DMA_FLUSH),
    };

    commands[0].dma.iova = ring->iova;
    commands[1].dma.iova = ring->data_iova;
    harness_call(harness, commands, 3);
    harness_restore(harness_page(harness, HARNESS_PAGE_RING));
    harness_restore(harness_page(harness, HARNESS_PAGE_DATA));
}

struct virtqueue_state ring_state(const struct ring *ring)
{
    return (struct virtqueue_state){ .size = RING_SIZE,
                                     .ready = true,
                                     .descriptors = ring->iova,
                                     .driver = ring->iova + AVAILABLE_AT,
                                     .device = ring->iova + USED_AT };
}

/* Takes the chain as strata's devices do: what virtqueue_pop said. */
int ring_take(struct harness *harness, unsigned device, const struct ring *ring,
              struct virtqueue *queue, struct virtqueue_chain *chain)
{
    int result;

    dma_lock(harness->dma[device]);
    virtqueue_init(queue, harness->dma[device], RING_SIZE);
    queue->state = ring_state(ring);
    queue->indirect = true;
    result = virtqueue_enable(queue);
    queue->state.ready = true;
    if (!result)
        result = virtqueue_pop(queue, chain);
    dma_unlock(harness->dma[device]);
    return result;
}
