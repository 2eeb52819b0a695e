#include "vmm/dma/attacks/buffer.h"

#include "vmm/dma/setup.h"

#define BUFFER_AT    0x400u
#define BUFFER_BYTES 0x200u

/* Maps the buffer on the shared page for the device: its address, 0 if that failed. */
uint64_t buffer_map(struct harness *harness, struct matrix_cell *cell,
                    const struct harness_page *page)
{
    struct abi_dma dma = { .va = page->va + BUFFER_AT,
                           .bytes = BUFFER_BYTES,
                           .rights = RULES_BOTH };
    int64_t result = harness_dma(harness, cell->device, ABI_DMA_MAP, &dma);

    harness_check(cell, result == 0, "map a buffer: expected 0, observed %lld", (long long)result);
    return result ? 0 : dma.iova;
}

void buffer_unmap(struct harness *harness, struct matrix_cell *cell, uint64_t iova)
{
    struct abi_dma dma = { .iova = iova };
    int64_t result = harness_dma(harness, cell->device, ABI_DMA_UNMAP, &dma);

    /* Where a fault has had consequences, it is unmapped already. */
    if (rules_device(harness->policy, cell->device)->fault_action == ABI_FAULT_REPORT)
        harness_check(cell, result == 0, "unmap a buffer: expected 0, observed %lld",
                      (long long)result);
    harness_dma(harness, cell->device, ABI_DMA_FLUSH, &dma);
}

/* What lies at `at` of the buffer's page, from where the device sees the buffer. */
struct harness_victim buffer_neighbour(struct harness_page *page, uint64_t iova, uint64_t at,
                                       uint64_t bytes)
{
    struct harness_victim victim = { .expected_bytes = page->expected_bytes + at,
                                     .len = bytes,
                                     .place = { page->host + at },
                                     .nplaces = 1 };

    harness_victim_add(&victim, iova / ATTACK_PAGE_BYTES * ATTACK_PAGE_BYTES + at, HARNESS_NOBODY);
    harness_victim_add(&victim, iova - BUFFER_AT + at, HARNESS_NOBODY);
    harness_victim_add(&victim, page->gpa + at, HARNESS_NOBODY);
    return victim;
}
