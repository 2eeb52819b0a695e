/*
 * A buffer in the middle of a page (HARNESS_PAGE_SHARED), mapped for a device, and what else
 * lies on that page.
 */
#ifndef STRATA_DMA_ATTACKS_BUFFER_H
#define STRATA_DMA_ATTACKS_BUFFER_H

#include "vmm/dma/engine.h"

/* Maps it for the cell's device: its address, 0 if that failed. */
uint64_t buffer_map(struct harness *harness, struct matrix_cell *cell,
                    const struct harness_page *page);

/* Unmaps any buffer of the cell's device, and flushes. */
void buffer_unmap(struct harness *harness, struct matrix_cell *cell, uint64_t iova);

/* What lies at `at` of the buffer's page, from where the device sees the buffer. */
struct harness_victim buffer_neighbour(struct harness_page *page, uint64_t iova, uint64_t at,
                                       uint64_t bytes);

#endif
