#include "vmm/dma/attacks/buffer.h"

#include "vmm/dma/setup.h"

#define BUFFER_AT    0x400u
#define BUFFER_BYTES 0x200u

/* Maps the buffer on the shared page for the device: its address, 0 if that failed. */
uint64_t buffer_map(struct lab *lab, struct lab_cell *cell, const struct lab_page *page)
{
    struct abi_dma dma = { .va = page->va + BUFFER_AT,
                           .bytes = BUFFER_BYTES,
                           .rights = RULES_BOTH };
    int64_t result = lab_dma(lab, cell->device, ABI_DMA_MAP, &dma);

    lab_check(cell, result == 0, "map a buffer: expected 0, observed %lld", (long long)result);
    return result ? 0 : dma.iova;
}

void buffer_unmap(struct lab *lab, struct lab_cell *cell, uint64_t iova)
{
    struct abi_dma dma = { .iova = iova };
    int64_t result = lab_dma(lab, cell->device, ABI_DMA_UNMAP, &dma);

    /* Where a fault has had consequences, it is unmapped already. */
    if (rules_device(lab->policy, cell->device)->fault_action == ABI_FAULT_REPORT)
        lab_check(cell, result == 0, "unmap a buffer: expected 0, observed %lld",
                  (long long)result);
    lab_dma(lab, cell->device, ABI_DMA_FLUSH, &dma);
}

/* What lies at `at` of the buffer's page, from where the device sees the buffer. */
struct lab_victim buffer_neighbour(struct lab_page *page, uint64_t iova, uint64_t at,
                                   uint64_t bytes)
{
    struct lab_victim victim = {
        .truth = page->truth + at, .len = bytes, .place = { page->host + at }, .nplaces = 1
    };

    lab_victim_add(&victim, iova / ATTACK_PAGE_BYTES * ATTACK_PAGE_BYTES + at, LAB_NOBODY);
    lab_victim_add(&victim, iova - BUFFER_AT + at, LAB_NOBODY);
    lab_victim_add(&victim, page->gpa + at, LAB_NOBODY);
    return victim;
}
